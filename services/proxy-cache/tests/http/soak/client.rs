//! One connection of one client, from its first octet to its end.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};

use super::model::{Asked, Body, Expected, World};
use crate::replica::DEADLINE;

/// What happened.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) connections: u64,
    pub(super) answers: u64,
    pub(super) octets: u64,
    pub(super) refusals: u64,
    pub(super) closes: u64,
    /// Clients that went in the middle.
    pub(super) left: u64,
}

impl Tally {
    pub(super) fn and(self, other: &Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            answers: self.answers + other.answers,
            octets: self.octets + other.octets,
            refusals: self.refusals + other.refusals,
            closes: self.closes + other.closes,
            left: self.left + other.left,
        }
    }
}

/// How octets go out.
#[derive(Debug, Clone, Copy)]
enum Writing {
    Whole,
    OctetByOctet,
    Pieces,
}

pub(super) async fn run(world: &World, random: &mut StdRng, tally: &mut Tally) {
    tally.connections += 1;
    let asked: Vec<Asked> = (0..random.random_range(1..9)).map(|_| world.ask(random)).collect();
    // Behind the last answer: never read, or never whole.
    let junk: &[u8] = [&b""[..], b"\x16\x03\x01", b"GET /x HTT", b"\r\n"][random.random_range(0..4)];
    let closes = asked.iter().any(|asked| asked.expected.closes);
    let mut octets: Vec<u8> = asked.iter().flat_map(|asked| &asked.octets).copied().collect();
    if closes {
        octets.extend_from_slice(junk);
    }
    let writing = match random.random_range(0..8) {
        0 => Writing::OctetByOctet,
        1 | 2 => Writing::Pieces,
        _ => Writing::Whole,
    };
    let says_all = random.random_ratio(1, 4);
    let leaves_after = random.random_ratio(1, 6).then(|| random.random_range(0..300_000_u64));
    let is_slow = random.random_ratio(1, 6);
    let (reader, writer) = connect(world, is_slow).await.into_split();
    let (mut of_writer, told) = (random.clone(), describe(&octets));
    let write = write(writer, octets, writing, says_all, &mut of_writer);
    let read = async {
        let mut reader = Reader { socket: reader, buffer: Vec::new(), came: 0, leaves_after, is_slow };
        reader.all(&asked, tally, closes || says_all).await
    };
    let both = async { tokio::join!(write, read) };
    let (_writer, read) =
        tokio::time::timeout(DEADLINE * 3, both).await.unwrap_or_else(|_| panic!("it hangs: {told}"));
    match read {
        Ok(()) => {}
        Err(Wrong::Left) => tally.left += 1,
        Err(Wrong::Answer(what)) => {
            panic!("{what}; {writing:?}, says all: {says_all}, slow: {is_slow}: {told}")
        }
    }
}

fn describe(octets: &[u8]) -> String {
    octets.escape_ascii().to_string()
}

async fn connect(world: &World, is_slow: bool) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    if is_slow {
        socket.set_recv_buffer_size(1).unwrap();
    }
    socket.connect(world.address).await.unwrap()
}

/// A connection that the other side has ended takes no more: what came of it tells.
async fn write(
    mut socket: OwnedWriteHalf,
    octets: Vec<u8>,
    how: Writing,
    says_all: bool,
    random: &mut StdRng,
) -> OwnedWriteHalf {
    let mut rest = octets.as_slice();
    while !rest.is_empty() {
        let size = match how {
            Writing::Whole => rest.len(),
            Writing::OctetByOctet => 1,
            Writing::Pieces => random.random_range(1..200).min(rest.len()),
        };
        let (piece, behind) = rest.split_at(size);
        if socket.write_all(piece).await.is_err() {
            return socket;
        }
        rest = behind;
        tokio::task::yield_now().await;
    }
    if says_all {
        drop(socket.shutdown().await);
    }
    socket
}

enum Wrong {
    Left,
    Answer(String),
}

fn wrong<T>(what: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong::Answer(what.into()))
}

struct Reader {
    socket: OwnedReadHalf,
    buffer: Vec<u8>,
    came: u64,
    leaves_after: Option<u64>,
    is_slow: bool,
}

impl Reader {
    async fn all(&mut self, asked: &[Asked], tally: &mut Tally, is_ended: bool) -> Result<(), Wrong> {
        for asked in asked {
            self.answer(&asked.expected).await?;
            tally.answers += 1;
            tally.octets += std::mem::take(&mut self.came);
            tally.refusals += u64::from(asked.expected.is_refused);
            if asked.expected.closes {
                tally.closes += 1;
                break;
            }
        }
        if is_ended && self.more().await? {
            return wrong(format!("something behind the last answer: {}", describe(&self.buffer)));
        }
        if self.buffer.is_empty() { Ok(()) } else { wrong(format!("too much: {}", describe(&self.buffer))) }
    }

    /// False at the end of the connection.
    async fn more(&mut self) -> Result<bool, Wrong> {
        if self.leaves_after.is_some_and(|after| self.came >= after) {
            return Err(Wrong::Left);
        }
        let mut piece = vec![0; if self.is_slow { 3000 } else { 64 << 10 }];
        if self.is_slow {
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        match self.socket.read(&mut piece).await {
            Ok(0) => Ok(false),
            Ok(octets) => {
                self.came += octets as u64;
                self.buffer.extend_from_slice(&piece[..octets]);
                Ok(true)
            }
            Err(error) => wrong(format!("the connection broke: {error}")),
        }
    }

    async fn answer(&mut self, expected: &Expected) -> Result<(), Wrong> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more().await? {
                return wrong(format!("it ended before an answer's head: {}", describe(&self.buffer)));
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = Head::read(&head).or_else(wrong)?;
        let told = || format!("{head:?}, expected one of {:?}", expected.statuses);
        let length = head.length().or_else(wrong)?;
        if !expected.statuses.contains(&head.status)
            || head.is_old != expected.is_old
            || head.closes() != expected.closes
            || expected.length.is_some_and(|expected| length != Some(expected))
            || (head.status == 304 && length.is_some())
            || head.field("transfer-encoding").is_some()
            || head.field("set-cookie").is_some()
        {
            return wrong(told());
        }
        let octets = match expected.body {
            Body::None => 0,
            Body::Words | Body::Part(..) | Body::Parts(..) => {
                usize::try_from(length.ok_or_else(|| Wrong::Answer(told()))?).unwrap()
            }
        };
        while self.buffer.len() < octets {
            if !self.more().await? {
                return wrong(format!("it ended after {} octets: {}", self.buffer.len(), told()));
            }
        }
        let body: Vec<u8> = self.buffer.drain(..octets).collect();
        let is_right = match &expected.body {
            Body::None | Body::Words => true,
            Body::Part(bytes, part) => body == bytes[part.clone()],
            Body::Parts(bytes, parts) => are_parts(&head, &body, bytes, parts).unwrap_or(false),
        };
        if is_right { Ok(()) } else { wrong(format!("other octets: {}", told())) }
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
        let range = format!("bytes {}-{}/{}", part.start, part.end - 1, bytes.len());
        if !String::from_utf8_lossy(&rest[..end])
            .to_lowercase()
            .contains(&format!("content-range: {range}\r\n"))
        {
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
    fn read(octets: &[u8]) -> Result<Self, String> {
        let mut fields = [httparse::EMPTY_HEADER; 40];
        let mut head = httparse::Response::new(&mut fields);
        let read = head.parse(octets).map_err(|error| format!("{error}: {}", describe(octets)))?;
        if read != httparse::Status::Complete(octets.len()) {
            return Err(format!("no head: {}", describe(octets)));
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

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(listed, _)| listed == name).map(|(_, value)| value.as_str())
    }

    fn closes(&self) -> bool {
        match self.field("connection") {
            Some(connection) => connection == "close",
            None => self.is_old,
        }
    }

    fn length(&self) -> Result<Option<u64>, String> {
        let lengths: Vec<_> = self.fields.iter().filter(|(name, _)| name == "content-length").collect();
        match lengths.as_slice() {
            [] => Ok(None),
            [(_, length)] => length.parse().map(Some).map_err(|_| format!("{self:?}")),
            _ => Err(format!("two lengths: {self:?}")),
        }
    }
}
