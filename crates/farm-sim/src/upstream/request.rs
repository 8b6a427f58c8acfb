//! Reading a request's head.

use std::io;

use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// No head of an honest client is longer.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// A request's head.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) path: String,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// First and last octet of a single range; `None` in first place stands for the last N.
    pub(super) fn range(&self) -> Option<(Option<u64>, Option<u64>)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        let number = |text: &str| if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) };
        let range = (number(first)?, number(last)?);
        if range == (None, None) { None } else { Some(range) }
    }
}

/// Reads the next request of a connection. `buffer` keeps what came after its head. `None` when the peer
/// has closed, or doesn't speak HTTP.
pub(super) async fn read<R: AsyncRead + Unpin>(
    socket: &mut R,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<Request>> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if buffer.len() > HEAD_BYTES_MAX || socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let rest = buffer.split_off(end + 4);
    let head = std::mem::replace(buffer, rest);
    Ok(parse(&String::from_utf8_lossy(&head[..end])))
}

fn parse(head: &str) -> Option<Request> {
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if !version.starts_with("HTTP/1.") {
        return None;
    }
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let raw_path = target.split(['?', '#']).next().unwrap_or_default();
    let path = percent_decode_str(raw_path).decode_utf8_lossy().into_owned();
    Some(Request { method: method.to_owned(), target: target.to_owned(), path, headers })
}
