//! Bare line feeds in what clients send.
//!
//! A parser that takes a lone LF for a line's end, behind or before one that doesn't, reads other requests
//! than its neighbour does (RFC 9112, section 2.2). Ours takes it, and can't be told otherwise. No request
//! here has a body, so every octet that a client sends is of a head, and no head has a lone LF. Only what goes through
//! a tunnel is of none.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What the parser gets instead: no octet that a head may have, so it answers 400.
const REFUSED: u8 = 0;

/// Whether the octet before was a CR.
#[derive(Debug, Clone, Copy, Default)]
struct LineEnds {
    after_cr: bool,
}

impl LineEnds {
    /// Spoils every lone LF, wherever the octets were cut.
    fn spoil_bare(&mut self, octets: &mut [u8]) {
        for octet in octets {
            if *octet == b'\n' && !self.after_cr {
                *octet = REFUSED;
            }
            self.after_cr = *octet == b'\r';
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lone_line_feed_is_spoilt_wherever_the_octets_are_cut() {
        let sent = b"\nGET / HTTP/1.1\r\nA: b\nC: d\r\r\n\n\r\n";
        let expected = b"\0GET / HTTP/1.1\r\nA: b\0C: d\r\r\n\0\r\n";
        for cut in 0..=sent.len() {
            let mut line_ends = LineEnds::default();
            let mut got = sent.to_vec();
            let (first, second) = got.split_at_mut(cut);
            line_ends.spoil_bare(first);
            line_ends.spoil_bare(second);
            assert_eq!(got, expected, "cut at {cut}");
        }
    }
}
