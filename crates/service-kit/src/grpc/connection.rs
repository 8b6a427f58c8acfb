//! Connections to a gRPC server: so many at a time, and none that says nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// The pause after a failed `accept`, which mostly says that there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection that counts against the limit, and fails once it was silent for too long. A peer that
/// speaks HTTP/2 answers our pings, so that only strangers and dead peers are silent.
pub(super) struct Connection {
    stream: TcpStream,
    silence_max: Duration,
    silent: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

/// Accepts at most `connections_max` at a time; further ones wait in the system's backlog. Failures to
/// accept are logged and waited out.
pub(super) fn accept(
    listener: TcpListener,
    connections_max: usize,
    silence_max: Duration,
) -> impl Stream<Item = io::Result<Connection>> {
    let free = Arc::new(Semaphore::new(connections_max));
    unfold((listener, free), move |(listener, free)| async move {
        let permit = Arc::clone(&free).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let connection = Connection::new(stream, silence_max, permit);
                    return Some((Ok(connection), (listener, free)));
                }
                Err(error) => {
                    tracing::warn!(%error, "a gRPC connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

impl Connection {
    fn new(stream: TcpStream, silence_max: Duration, permit: OwnedSemaphorePermit) -> Self {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        Self { stream, silence_max, silent: Box::pin(sleep(silence_max)), _permit: permit }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let ready @ Poll::Ready(_) = Pin::new(&mut self.stream).poll_read(context, buffer) {
            let until = Instant::now() + self.silence_max;
            self.silent.as_mut().reset(until);
            return ready;
        }
        self.silent.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn silence_ends_a_connection_and_speech_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let silence_max = Duration::from_millis(500);
        let mut accepted = std::pin::pin!(accept(listener, 1, silence_max));
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut server = accepted.next().await.unwrap().unwrap();
        // Longer than the limit altogether, never silent for so long.
        let mut ticks = tokio::time::interval(silence_max / 5);
        for _ in 0..8 {
            ticks.tick().await;
            client.write_all(b"x").await.unwrap();
            assert_eq!(server.read_u8().await.unwrap(), b'x');
        }
        let error = server.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_closed_connection_makes_room() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut accepted = std::pin::pin!(accept(listener, 3, Duration::from_mins(1)));
        let mut held = Vec::new();
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(TcpStream::connect(address).await.unwrap());
            held.push(accepted.next().await.unwrap().unwrap());
        }
        clients.push(TcpStream::connect(address).await.unwrap());
        let mut next = accepted.next();
        assert!(futures_util::poll!(&mut next).is_pending());
        held.pop();
        assert!(next.await.is_some());
    }
}
