//! What came back on a connection, held against what must.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::model::{Asked, Body, Expected, Selected};
use crate::replica::DEADLINE;

/// How a client reads.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// It goes when that many octets of an answer have come.
    pub(super) leaves_after: Option<u64>,
    pub(super) is_slow: bool,
}

/// What is wrong with an answer. `planted` shows that each of them is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// The connection broke.
    Broken,
    /// It ended before the answer did.
    Short,
    /// Octets that belong to no answer.
    Unasked,
    /// A head that is none, or the same field twice.
    Head,
    Status,
    Version,
    /// It says another thing of the connection's end than is so.
    Connection,
    /// `Content-Length` is wrong, missing or out of place, or there is another framing.
    Framing,
    ContentRange,
    ETag,
    LastModified,
    Date,
    /// Fields that have no business there.
    Foreign,
    /// Other octets than the file's.
    Octets,
    /// The layout of several parts, or what is in them.
    Parts,
}

pub(super) enum Wrong {
    /// The client went, as it wanted to.
    Left,
    /// Nothing comes, and no end.
    Hangs,
    Answer(Fault, String),
}

fn wrong<T>(fault: Fault, what: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong::Answer(fault, what.into()))
}

pub(super) fn describe(octets: &[u8]) -> String {
    const SHOWN_OCTETS_MAX: usize = 4000;
    octets[..octets.len().min(SHOWN_OCTETS_MAX)].escape_ascii().to_string()
}

/// Answers, one after the other.
pub(super) struct Answers<S> {
    socket: S,
    pace: Pace,
    buffer: Vec<u8>,
    came: u64,
}

impl<S: AsyncRead + Unpin> Answers<S> {
    pub(super) fn new(socket: S, pace: Pace) -> Self {
        Self { socket, pace, buffer: Vec::new(), came: 0 }
    }

    /// Reads the answers to `asked` up to the one that is the last, and to the connection's end if it is to end.
    pub(super) async fn all(
        &mut self,
        asked: &[Asked],
        is_ended: bool,
        mut came: impl FnMut(&Asked, u64),
    ) -> Result<(), Wrong> {
        for asked in asked {
            self.answer(&asked.expected).await?;
            came(asked, std::mem::take(&mut self.came));
            if asked.expected.closes {
                break;
            }
        }
        if (is_ended && self.more().await?) || !self.buffer.is_empty() {
            return wrong(Fault::Unasked, format!("behind the last answer: {}", describe(&self.buffer)));
        }
        Ok(())
    }

    /// False at the end of the connection.
    async fn more(&mut self) -> Result<bool, Wrong> {
        if self.pace.leaves_after.is_some_and(|after| self.came >= after) {
            return Err(Wrong::Left);
        }
        let mut piece = vec![0; if self.pace.is_slow { 3000 } else { 64 << 10 }];
        if self.pace.is_slow {
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        let Ok(read) = tokio::time::timeout(DEADLINE, self.socket.read(&mut piece)).await else {
            return Err(Wrong::Hangs);
        };
        match read {
            Ok(0) => Ok(false),
            Ok(octets) => {
                self.came += octets as u64;
                self.buffer.extend_from_slice(&piece[..octets]);
                Ok(true)
            }
            Err(error) => wrong(Fault::Broken, error.to_string()),
        }
    }

    async fn answer(&mut self, expected: &Expected) -> Result<(), Wrong> {
        const BEGINNING: &[u8] = b"HTTP/1.";
        let end = loop {
            if !self.buffer.starts_with(&BEGINNING[..self.buffer.len().min(BEGINNING.len())]) {
                return wrong(Fault::Unasked, format!("before a head: {}", describe(&self.buffer)));
            }
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more().await? {
                return wrong(Fault::Short, format!("no whole head: {}", describe(&self.buffer)));
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = Head::read(&head)?;
        let told = |fault| Wrong::Answer(fault, format!("{head:?}, expected {expected:?}"));
        head.check(expected).map_err(told)?;
        let octets = match expected.body {
            Body::None => 0,
            Body::Words | Body::Part(..) | Body::Parts(..) => {
                head.length().map_err(told)?.ok_or_else(|| told(Fault::Framing))?
            }
        };
        while self.buffer.len() < octets {
            if !self.more().await? {
                return Err(told(Fault::Short));
            }
        }
        let body: Vec<u8> = self.buffer.drain(..octets).collect();
        match &expected.body {
            Body::Part(bytes, part) if body != bytes[part.clone()] => Err(told(Fault::Octets)),
            Body::Parts(bytes, parts) if are_parts(&head, &body, bytes, parts) != Some(true) => {
                Err(told(Fault::Parts))
            }
            Body::None | Body::Words | Body::Part(..) | Body::Parts(..) => Ok(()),
        }
    }
}

/// Whether a body is exactly these parts, in the layout of RFC 9110, section 14.6.
fn are_parts(head: &Head, body: &[u8], bytes: &[u8], parts: &[std::ops::Range<usize>]) -> Option<bool> {
    let boundary = head.field("content-type")?.strip_prefix("multipart/byteranges; boundary=")?;
    let boundary = format!("--{}", boundary.trim_matches('"'));
    let mut rest = body;
    for part in parts {
        rest = rest.strip_prefix(b"\r\n").unwrap_or(rest).strip_prefix(boundary.as_bytes())?;
        let end = rest.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let range = format!("\r\ncontent-range: bytes {}-{}/{}\r\n", part.start, part.end - 1, bytes.len());
        let fields = String::from_utf8_lossy(&rest[..end]).to_lowercase();
        if !fields.contains(&range) || fields.matches("content-range").count() != 1 {
            return Some(false);
        }
        rest = rest[end..].strip_prefix(&bytes[part.clone()])?;
    }
    let rest = rest.strip_prefix(b"\r\n")?.strip_prefix(boundary.as_bytes())?;
    Some(matches!(rest, b"--" | b"--\r\n"))
}

/// An answer's head.
#[derive(Debug)]
struct Head {
    status: u16,
    is_old: bool,
    fields: Vec<(String, String)>,
}

impl Head {
    fn read(octets: &[u8]) -> Result<Self, Wrong> {
        let mut fields = [httparse::EMPTY_HEADER; 40];
        let mut head = httparse::Response::new(&mut fields);
        let no_head = || Wrong::Answer(Fault::Head, describe(octets));
        let read = head.parse(octets).map_err(|_| no_head())?;
        // The parser takes lines that end otherwise, as clients need not.
        let has_lone_feed = octets.windows(2).any(|pair| pair[1] == b'\n' && pair[0] != b'\r');
        if read != httparse::Status::Complete(octets.len()) || has_lone_feed {
            return Err(no_head());
        }
        let field = |field: &httparse::Header<'_>| {
            (field.name.to_lowercase(), String::from_utf8_lossy(field.value).into_owned())
        };
        Ok(Self {
            status: head.code.unwrap_or_default(),
            is_old: head.version == Some(0),
            fields: head.headers.iter().map(field).collect(),
        })
    }

    /// What is said before the body.
    fn check(&self, expected: &Expected) -> Result<(), Fault> {
        let is = |right: bool, fault| if right { Ok(()) } else { Err(fault) };
        is(self.status == expected.status, Fault::Status)?;
        is(self.is_old == expected.is_old, Fault::Version)?;
        is(self.closes() == expected.closes, Fault::Connection)?;
        let length = self.length()?;
        is(
            expected.length.is_none_or(|wanted| length.map(|length| length as u64) == Some(wanted)),
            Fault::Framing,
        )?;
        // RFC 9110, section 8.6: of a 304 it would be the length of what is not sent.
        is(self.status != 304 || length.is_none(), Fault::Framing)?;
        is(self.field("transfer-encoding").is_none(), Fault::Framing)?;
        is(self.once("content-range")? == expected.content_range.as_deref(), Fault::ContentRange)?;
        self.check_selected(expected.selected.as_ref())?;
        let date = self.once("date")?.ok_or(Fault::Date)?;
        let is_date = jiff::civil::DateTime::strptime("%a, %d %b %Y %H:%M:%S GMT", date).is_ok();
        is(is_date, Fault::Date)?;
        let foreign = ["set-cookie", "content-encoding"];
        is(foreign.iter().all(|name| self.field(name).is_none()), Fault::Foreign)
    }

    fn check_selected(&self, selected: Option<&Selected>) -> Result<(), Fault> {
        let (etag, modified) = (self.once("etag")?, self.once("last-modified")?);
        let is_right = |told: Option<&str>, right: &dyn Fn(&Selected) -> &str| match (told, selected) {
            (told, None) => told.is_none(),
            (None, Some(selected)) => !selected.is_told,
            (Some(told), Some(selected)) => told == right(selected),
        };
        if !is_right(etag, &|selected| &selected.etag) {
            return Err(Fault::ETag);
        }
        if !is_right(modified, &|selected| &selected.modified) {
            return Err(Fault::LastModified);
        }
        Ok(())
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(listed, _)| listed == name).map(|(_, value)| value.as_str())
    }

    /// A field that there can be only one of.
    fn once(&self, name: &str) -> Result<Option<&str>, Fault> {
        match self.fields.iter().filter(|(listed, _)| listed == name).count() {
            0 | 1 => Ok(self.field(name)),
            _ => Err(Fault::Head),
        }
    }

    fn closes(&self) -> bool {
        let mut says = self.fields.iter().filter(|(name, _)| name == "connection").peekable();
        if says.peek().is_none() { self.is_old } else { says.any(|(_, connection)| connection == "close") }
    }

    fn length(&self) -> Result<Option<usize>, Fault> {
        let length = self.once("content-length")?;
        length.map(|length| length.parse().map_err(|_| Fault::Framing)).transpose()
    }
}
