//! What to answer: a pure function of the request, the object and the faults.

use bytes::Bytes;

use super::Object;
use super::fault::{Fault, Gate};
use super::request::Request;
use crate::contents::Contents;

/// Every object has the same date: contents never change.
const LAST_MODIFIED: &str = "Thu, 15 Jan 2026 12:00:00 GMT";

/// A response that is ready to be sent.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Body,
    /// The offsets of the body that are sent.
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) flip_at: Option<u64>,
    pub(super) stop: Option<(u64, Stop)>,
    pub(super) rate_bytes_per_s: Option<u64>,
    pub(super) close: bool,
}

/// Where the octets come from.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Generated(Contents),
    Bytes(Bytes),
}

/// What happens when the sending stops early.
#[derive(Debug, Clone)]
pub(super) enum Stop {
    Close,
    Reset,
    Silence,
    Gate(Gate),
}

impl Body {
    fn size_bytes(&self) -> u64 {
        match self {
            Self::Generated(contents) => contents.size_bytes(),
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Up to `max_bytes` at `offset`; beyond the end there are zeros.
    pub(super) fn chunk_at(&self, offset: u64, max_bytes: usize) -> Bytes {
        let chunk = match self {
            Self::Generated(contents) => contents.chunk_at(offset, max_bytes),
            Self::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                bytes.slice(start..start.saturating_add(max_bytes).min(bytes.len()))
            }
        };
        if chunk.is_empty() { Bytes::from(vec![0; max_bytes]) } else { chunk }
    }

    fn etag(&self) -> String {
        use blake2::Digest as _;
        let digest = blake2::Blake2b512::digest(self.chunk_at(0, 4096));
        format!("\"{}-{}\"", hex::encode(&digest[..8]), self.size_bytes())
    }
}

/// `None`: never answer.
pub(super) fn decide(request: &Request, object: Option<&Object>, faults: &[Fault]) -> Option<Answer> {
    if faults.iter().any(|fault| matches!(fault, Fault::SilentHead)) {
        return None;
    }
    for fault in faults {
        if let Fault::Status(status) = fault {
            return Some(text(*status, "as asked for\n"));
        }
        if let Fault::Redirect { to } = fault {
            return Some(redirect(to));
        }
    }
    if request.method != "GET" && request.method != "HEAD" {
        return Some(text(405, "GET and HEAD only\n"));
    }
    let body = match object {
        None => return Some(text(404, "not here\n")),
        Some(Object::Redirect(to)) => return Some(redirect(to)),
        Some(Object::Generated(contents)) => Body::Generated(*contents),
        Some(Object::Bytes(bytes)) => Body::Bytes(bytes.clone()),
    };
    Some(serve(request, body, faults))
}

fn serve(request: &Request, body: Body, faults: &[Fault]) -> Answer {
    let etag = body.etag();
    let size = body.size_bytes();
    let mut answer = Answer { end: size, ..empty(200, body) };
    answer.headers.push(("ETag", etag.clone()));
    answer.headers.push(("Last-Modified", LAST_MODIFIED.to_owned()));
    answer.headers.push(("Accept-Ranges", "bytes".to_owned()));
    answer.headers.push(("Content-Type", "application/octet-stream".to_owned()));
    let unchanged = match request.header("if-none-match") {
        Some(tags) => tags.contains(&etag),
        None => request.header("if-modified-since") == Some(LAST_MODIFIED),
    };
    if unchanged {
        answer.status = 304;
        answer.end = 0;
        return answer;
    }
    let conditional = request.header("if-range").is_some_and(|value| value != etag && value != LAST_MODIFIED);
    let ignores = faults.iter().any(|fault| matches!(fault, Fault::IgnoresRange));
    if let Some(range) = request.range().filter(|_| !conditional && !ignores) {
        apply_range(&mut answer, range, size, faults);
    }
    if answer.status != 416 {
        apply_faults(&mut answer, faults);
    }
    answer
}

fn apply_range(answer: &mut Answer, range: (Option<u64>, Option<u64>), size: u64, faults: &[Fault]) {
    let (start, end) = match range {
        (Some(first), Some(last)) => (first, last.saturating_add(1).min(size)),
        (Some(first), None) => (first, size),
        (None, last) => (size.saturating_sub(last.unwrap_or(0)), size),
    };
    if start >= end {
        answer.status = 416;
        answer.end = 0;
        answer.headers.push(("Content-Range", format!("bytes */{size}")));
        answer.headers.push(("Content-Length", "0".to_owned()));
        return;
    }
    let shift = |fault: &Fault| if let Fault::WrongRangeStart { shift } = fault { *shift } else { 0 };
    let start = start.saturating_add(faults.iter().map(shift).sum()).min(end - 1);
    answer.status = 206;
    answer.start = start;
    answer.end = end;
    let off_by = |fault: &Fault| if let Fault::WrongRangeTotal { off_by } = fault { *off_by } else { 0 };
    let total = size.saturating_add(faults.iter().map(off_by).sum());
    answer.headers.push(("Content-Range", format!("bytes {start}-{}/{total}", end - 1)));
}

fn apply_faults(answer: &mut Answer, faults: &[Fault]) {
    let mut off_by = 0;
    let mut length_known = true;
    for fault in faults {
        match fault {
            Fault::RateLimit { bytes_per_second } => {
                answer.rate_bytes_per_s = Some((*bytes_per_second).max(1));
            }
            Fault::SilentBody { after_bytes } => answer.stop = Some((*after_bytes, Stop::Silence)),
            Fault::Gated { after_bytes, gate } => {
                answer.stop = Some((*after_bytes, Stop::Gate(gate.clone())));
            }
            Fault::Truncated { after_bytes } => answer.stop = Some((*after_bytes, Stop::Close)),
            Fault::Reset { after_bytes } => answer.stop = Some((*after_bytes, Stop::Reset)),
            Fault::CleanShort { missing_bytes } => {
                answer.end = answer.end.saturating_sub(*missing_bytes).max(answer.start);
            }
            Fault::Overlong { extra_bytes } => answer.end = answer.end.saturating_add(*extra_bytes),
            Fault::WrongByte { at } => answer.flip_at = Some(*at),
            Fault::WrongLength { off_by: octets } => off_by = *octets,
            Fault::NoLength => length_known = false,
            // Decided before there was a body.
            Fault::IgnoresRange
            | Fault::WrongRangeStart { .. }
            | Fault::WrongRangeTotal { .. }
            | Fault::Redirect { .. }
            | Fault::Status(_)
            | Fault::SilentHead => {}
        }
    }
    answer.close = off_by != 0 || !length_known;
    if length_known {
        let length = (answer.end - answer.start).saturating_add_signed(off_by);
        answer.headers.push(("Content-Length", length.to_string()));
    }
}

fn text(status: u16, text: &'static str) -> Answer {
    let body = Body::Bytes(Bytes::from_static(text.as_bytes()));
    let mut answer = Answer { end: text.len() as u64, ..empty(status, body) };
    answer.headers.push(("Content-Length", text.len().to_string()));
    answer
}

fn redirect(to: &str) -> Answer {
    let mut answer = text(302, "elsewhere\n");
    answer.headers.push(("Location", to.to_owned()));
    answer
}

fn empty(status: u16, body: Body) -> Answer {
    Answer {
        status,
        headers: Vec::new(),
        body,
        start: 0,
        end: 0,
        flip_at: None,
        stop: None,
        rate_bytes_per_s: None,
        close: false,
    }
}
