//! Clients that take too little of what is ready for them.
//!
//! A connection whose client stops reading would hold its blob, or a whole download, for ever. There is no
//! limit on the whole: 17 GB over a slow line are legitimate. What is limited is the time during which the
//! client's side is full: in each such window it must take some bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// What is asked of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PaceMin {
    /// Time of waiting for the client, added up.
    pub(crate) window: Duration,
    /// What it must take in it, at least 1.
    pub(crate) bytes: u64,
}

impl PaceMin {
    /// So many bytes a second, looked at after each `window`.
    pub(crate) fn new(bytes_per_s: u64, window: Duration) -> Self {
        let millis = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        Self { window, bytes: (bytes_per_s.saturating_mul(millis) / 1000).max(1) }
    }
}

/// How one client does. It is told the time.
#[derive(Debug, Clone, Copy)]
struct Pace {
    min: PaceMin,
    waited: Duration,
    waits_since: Option<Instant>,
    taken_bytes: u64,
}

impl Pace {
    fn new(min: PaceMin) -> Self {
        Self { min, waited: Duration::ZERO, waits_since: None, taken_bytes: 0 }
    }

    /// Asks for the time only if the client was waited for: most never are.
    fn take(&mut self, bytes: usize, now: impl FnOnce() -> Instant) {
        if let Some(since) = self.waits_since.take() {
            self.waited += now().saturating_duration_since(since);
        }
        self.taken_bytes = self.taken_bytes.saturating_add(bytes as u64);
    }

    /// The client takes nothing at this moment. When to look again; `None` if it took too little.
    fn wait(&mut self, now: Instant) -> Option<Instant> {
        let since = *self.waits_since.get_or_insert(now);
        if self.waited + now.saturating_duration_since(since) >= self.min.window {
            if self.taken_bytes < self.min.bytes {
                return None;
            }
            *self = Self { waits_since: Some(now), ..Self::new(self.min) };
        }
        let since = self.waits_since.unwrap_or(now);
        Some(since + self.min.window.saturating_sub(self.waited))
    }
}

/// A connection that breaks when its client takes too little.
#[derive(Debug)]
pub(crate) struct Paced<S> {
    socket: S,
    pace: Pace,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    pub(crate) fn new(socket: S, min: PaceMin) -> Self {
        Self { socket, pace: Pace::new(min), alarm: None }
    }

    /// The connection without that.
    pub(crate) fn into_inner(self) -> S {
        self.socket
    }

    pub(crate) fn get_ref(&self) -> &S {
        &self.socket
    }

    /// Writes by another way than the socket's own, and judges by what that comes to.
    pub(crate) fn poll_by(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut S, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let written = write(&mut self.socket, cx);
        self.judge(cx, written, |&octets| octets)
    }

    fn judge<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
        bytes_of: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(result) = written {
            self.alarm = None;
            self.pace.take(result.as_ref().map_or(0, bytes_of), Instant::now);
            return Poll::Ready(result);
        }
        loop {
            let Some(look_again) = self.pace.wait(Instant::now()) else {
                let why = "the client took too little of what was ready for it";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
            };
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(look_again)));
            if alarm.deadline() != look_again {
                alarm.as_mut().reset(look_again);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.judge(cx, written, |&bytes| bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.judge(cx, written, |&bytes| bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.judge(cx, flushed, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.socket).poll_shutdown(cx);
        self.judge(cx, shut, |()| 0)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    const MIN: PaceMin = PaceMin { window: Duration::from_secs(10), bytes: 100 };

    #[test]
    fn only_time_of_waiting_counts_and_each_window_anew() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut pace = Pace::new(MIN);
        // An hour in which we had nothing to send.
        pace.take(1000, || at(0));
        assert_eq!(pace.wait(at(3600)), Some(at(3610)));
        // The first window has the bytes from before; the next one has none.
        assert_eq!(pace.wait(at(3610)), Some(at(3620)));
        assert_eq!(pace.wait(at(3619)), Some(at(3620)));
        assert_eq!(pace.wait(at(3620)), None);
    }

    #[test]
    fn who_takes_just_enough_may_go_on_for_ever_and_who_drips_may_not() {
        let start = Instant::now();
        let lasts = |bytes: usize| {
            let mut pace = Pace::new(MIN);
            (0..1000_u64).all(|second| {
                let now = start + Duration::from_secs(second);
                pace.take(bytes, || now);
                pace.wait(now).is_some()
            })
        };
        assert!(lasts(10));
        assert!(!lasts(9));
    }

    #[test]
    fn no_rate_still_means_some_byte() {
        assert_eq!(PaceMin::new(0, Duration::from_mins(1)).bytes, 1);
        assert_eq!(PaceMin::new(1024, Duration::from_mins(1)).bytes, 61_440);
    }

    #[tokio::test]
    async fn a_reader_that_stops_breaks_the_connection() {
        let (near, _far) = tokio::io::duplex(64);
        let mut near = Paced::new(near, PaceMin { window: Duration::from_millis(50), bytes: 1 });
        let error = near.write_all(&[0; 1000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
