//! One connection of one client, from its first octet to its end.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpSocket, TcpStream};

use super::answers::{Answers, Pace, Wrong, describe};
use super::model::{Asked, World};

/// A conversation that goes on takes less: eight answers of four megabytes, two kilobytes at a time, on a busy machine.
const LONGEST: Duration = Duration::from_mins(10);

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
    /// An answer came whole and right.
    fn add(&mut self, asked: &Asked, octets: u64) {
        self.answers += 1;
        self.octets += octets;
        self.refusals += u64::from(asked.expected.is_refused);
        self.closes += u64::from(asked.expected.closes);
    }

    /// Enough has happened for it to mean something.
    pub(super) fn has_all(&self) -> bool {
        self.answers > 100 && self.left > 0 && self.closes > 0 && self.refusals > 0
    }

    pub(super) fn and(&self, other: &Self) -> Self {
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
        let pace = Pace { leaves_after, is_slow };
        let mut answers = Answers::new(reader, pace);
        answers.all(&asked, closes || says_all, |asked, octets| tally.add(asked, octets)).await
    };
    let both = async { tokio::join!(write, read) };
    let (_writer, read) =
        tokio::time::timeout(LONGEST, both).await.unwrap_or_else(|_| panic!("it never ends: {told}"));
    match read {
        Ok(()) => {}
        Err(Wrong::Left) => tally.left += 1,
        Err(Wrong::Hangs) => panic!("it hangs; {writing:?}, says all: {says_all}, slow: {is_slow}: {told}"),
        Err(Wrong::Answer(fault, what)) => {
            panic!("{fault:?}: {what}; {writing:?}, says all: {says_all}, slow: {is_slow}: {told}")
        }
    }
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
