//! How long a call may take: the `grpc-timeout` header, and a body that keeps to it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

const HEADER: HeaderName = HeaderName::from_static("grpc-timeout");

/// The header's limit: eight digits.
const DIGITS_VALUE_MAX: u128 = 99_999_999;

/// What the caller set by itself (`Request::set_timeout`).
pub(super) fn read(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(HEADER)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => number.checked_mul(3600).map(Duration::from_secs),
        "M" => number.checked_mul(60).map(Duration::from_secs),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Tells the server how long we will wait (gRPC over HTTP/2, "Timeout").
pub(super) fn write(headers: &mut HeaderMap, timeout: Duration) {
    let ms = timeout.as_millis();
    let text = if ms <= DIGITS_VALUE_MAX { format!("{ms}m") } else { format!("{}S", timeout.as_secs()) };
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(HEADER, value);
    }
}

/// What a call that took too long gets.
pub(super) fn exceeded(timeout: Duration) -> Status {
    Status::deadline_exceeded(format!("no answer within {timeout:?}"))
}

/// An answer that must be complete at a point in time.
pub(super) struct Bounded {
    inner: tonic::body::Body,
    timeout: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl Bounded {
    pub(super) fn new(inner: tonic::body::Body, timeout: Duration, deadline: Instant) -> Self {
        Self { inner, timeout, sleep: Box::pin(sleep_until(deadline)) }
    }
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let ready @ Poll::Ready(_) = Pin::new(&mut self.inner).poll_frame(context) {
            return ready;
        }
        match self.sleep.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err(exceeded(self.timeout)))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes_and_what_tonic_writes() {
        for timeout in [Duration::from_millis(1), Duration::from_secs(5), Duration::from_secs(400_000)] {
            let mut headers = HeaderMap::new();
            write(&mut headers, timeout);
            assert_eq!(read(&headers), Some(timeout));
            let mut request = tonic::Request::new(());
            request.set_timeout(timeout);
            assert_eq!(read(request.metadata().as_ref()), Some(timeout));
        }
        for wrong in ["", "5", "m", "xS", "5s", "-1S", "18446744073709551615H"] {
            let headers = HeaderMap::from_iter([(HEADER, HeaderValue::from_static(wrong))]);
            assert_eq!(read(&headers), None, "{wrong}");
        }
    }
}
