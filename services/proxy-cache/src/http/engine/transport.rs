//! The connection: octets both ways, and files out of it without a copy where there is a plain socket.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::SendFlags;
use service_kit::proxy_protocol::Socket;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::http::pace::Paced;

/// What the kernel is asked for at once: others have their turn in between.
pub(super) const SENT_OCTETS_MAX: u64 = 1 << 20;

/// What carries HTTP.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug {
    /// The socket, if what is written to it is what the client gets.
    fn plain(&self) -> Option<&TcpStream>;

    /// The socket, whatever goes through it.
    fn socket(&self) -> &TcpStream;
}

impl Transport for Socket {
    fn plain(&self) -> Option<&TcpStream> {
        Some(self.get_ref())
    }

    fn socket(&self) -> &TcpStream {
        self.get_ref()
    }
}

impl Transport for TlsStream<Socket> {
    fn plain(&self) -> Option<&TcpStream> {
        None
    }

    fn socket(&self) -> &TcpStream {
        self.get_ref().0.get_ref()
    }
}

/// A transport whose client must take something of what is ready for it.
pub(crate) type Connection = Paced<Box<dyn Transport>>;

/// Makes the end of a connection one that no client takes for the end of what it gets.
pub(super) fn reset_when_dropped(connection: &Connection) {
    // Through TLS its own end is missing, which is told in the same way.
    if let Some(socket) = connection.get_ref().plain()
        && let Err(error) = SockRef::from(socket).set_linger(Some(Duration::ZERO))
    {
        tracing::debug!(%error, "SO_LINGER");
    }
}

/// Waits until a connection is reset, or breaks in another way, without reading of it.
pub(super) async fn broken(socket: &TcpStream) -> io::Error {
    match socket.ready(Interest::ERROR).await {
        Err(error) => error,
        // Whoever wrote may have been told already.
        Ok(_) => socket.take_error().ok().flatten().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()),
    }
}

/// Writes some of `octets`; more is to follow at once, so the kernel holds back what fills no packet.
pub(super) async fn send_more(connection: &mut Connection, mut octets: &[u8]) -> io::Result<()> {
    while !octets.is_empty() {
        let call = |socket: &TcpStream| {
            Ok(rustix::net::send(socket, octets, SendFlags::MORE | SendFlags::NOSIGNAL)?)
        };
        let sent = write_by(connection, call).await?;
        octets = &octets[sent..];
    }
    Ok(())
}

/// Sends some of `part` of a file from the page cache.
pub(super) async fn send_file(
    connection: &mut Connection,
    file: &File,
    part: &Range<u64>,
) -> io::Result<u64> {
    let octets = usize::try_from((part.end - part.start).min(SENT_OCTETS_MAX)).map_err(io::Error::other)?;
    let call = |socket: &TcpStream| {
        let mut from = part.start;
        Ok(rustix::fs::sendfile(socket, file, Some(&mut from), octets)?)
    };
    match write_by(connection, call).await? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file became shorter while it was sent")),
        sent => Ok(sent as u64),
    }
}

async fn write_by(
    connection: &mut Connection,
    mut call: impl FnMut(&TcpStream) -> io::Result<usize>,
) -> io::Result<usize> {
    poll_fn(|cx| connection.poll_by(cx, |transport, cx| poll_call(transport.plain(), cx, &mut call))).await
}

fn poll_call(
    socket: Option<&TcpStream>,
    cx: &mut Context<'_>,
    call: &mut impl FnMut(&TcpStream) -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    let Some(socket) = socket else {
        return Poll::Ready(Err(io::Error::from(io::ErrorKind::Unsupported)));
    };
    loop {
        // Mostly there is room.
        match socket.try_io(Interest::WRITABLE, || call(socket)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            done => return Poll::Ready(done),
        }
        match socket.poll_write_ready(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
}
