//! Connections on which a lone LF ends no line. Only what goes through a tunnel is of no head, and is left as it is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_wire::line_ends::LineEnds;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whose lone LFs are no line ends.
#[derive(Debug)]
pub(crate) struct Strict<S> {
    socket: S,
    line_ends: LineEnds,
}

impl<S> Strict<S> {
    pub(crate) fn new(socket: S) -> Self {
        Self { socket, line_ends: LineEnds::default() }
    }

    /// The connection without that: what comes is no head any more.
    pub(crate) fn into_inner(self) -> S {
        self.socket
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buf);
        if let Some(new) = buf.filled_mut().get_mut(before..) {
            self.line_ends.spoil_bare(new);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
