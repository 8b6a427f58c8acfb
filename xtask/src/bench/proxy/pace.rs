//! A client that asks for a file at a given pace, with one thread.
//!
//! Its timer is that of `ppoll` without slack. With one of a millisecond all connections that fell due meanwhile would ask
//! at once, and what is measured is how long their answers wait for one another at the client.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::peers::Target;

const CONNECTIONS: u32 = 16;
const BUFFER_OCTETS: usize = 256 << 10;
const HEAD_OCTETS_MAX: usize = 4 << 10;
/// So long without any answer is an error.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks `rate` times a second for `time`, whether the last ones are answered or not. How long each took in milliseconds,
/// from when it was due if the one before it on its connection was late: a timer that rings late is nobody's fault, a
/// server that is late is.
pub(super) fn pace(target: &Target, rate: f64, time: Duration) -> Result<Vec<f64>> {
    // Nanoseconds. The default, 50 µs, is about as long as it is from one request to the next.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", target.path, target.address);
    let every = Duration::from_secs_f64(f64::from(CONNECTIONS) / rate);
    let began = Instant::now();
    let end = began + time;
    let mut connections = (0..CONNECTIONS)
        .map(|number| Connection::new(target, began + every * number / CONNECTIONS))
        .collect::<Result<Vec<_>>>()?;
    let (mut taken, mut buffer) = (Vec::new(), vec![0; BUFFER_OCTETS]);
    while connections.iter().any(|one| one.is_asking() || one.due < end) {
        for connection in connections.iter_mut().filter(|one| !one.is_asking() && one.due < end) {
            let now = Instant::now();
            if connection.due <= now {
                connection.ask(&request, now)?;
            }
        }
        let next =
            connections.iter().filter(|one| !one.is_asking() && one.due < end).map(|one| one.due).min();
        for index in ready(&connections, next)? {
            let connection = &mut connections[index];
            let Some(took) = connection.read(&mut buffer)? else { continue };
            taken.push(took.as_secs_f64() * 1e3);
            connection.due += every;
            if connection.due <= Instant::now() && connection.due < end {
                connection.ask(&request, connection.due)?;
            }
        }
    }
    Ok(taken)
}

/// Which of those that were asked have something to read; none if one falls due before.
fn ready(connections: &[Connection], next: Option<Instant>) -> Result<Vec<usize>> {
    let (indices, mut polled): (Vec<usize>, Vec<PollFd<'_>>) = connections
        .iter()
        .enumerate()
        .filter(|(_, one)| one.is_asking())
        .map(|(index, one)| (index, PollFd::new(&one.socket, PollFlags::IN)))
        .unzip();
    let wait = next.map_or(PATIENCE, |next| next.saturating_duration_since(Instant::now()));
    let found = poll(&mut polled, Some(&Timespec::try_from(wait)?))?;
    ensure!(found > 0 || next.is_some(), "no answer within {} s", PATIENCE.as_secs());
    Ok(indices
        .into_iter()
        .zip(&polled)
        .filter(|(_, one)| !one.revents().is_empty())
        .map(|(index, _)| index)
        .collect())
}

#[derive(Debug)]
struct Connection {
    socket: TcpStream,
    /// When it asks next, or was to ask.
    due: Instant,
    /// From when on it waits, and what has come of the answer.
    asking: Option<(Instant, Answer)>,
}

impl Connection {
    fn new(target: &Target, due: Instant) -> Result<Self> {
        let socket = TcpStream::connect(&target.address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, due, asking: None })
    }

    fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    fn ask(&mut self, request: &str, from: Instant) -> Result<()> {
        self.asking = Some((from, Answer::default()));
        // It fits: nothing else is in the socket.
        Ok(self.socket.write_all(request.as_bytes())?)
    }

    /// How long the answer took, once it is whole.
    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<Duration>> {
        let Some((from, answer)) = &mut self.asking else { return Ok(None) };
        loop {
            let octets = match self.socket.read(buffer) {
                Ok(octets) => octets,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            ensure!(octets > 0, "the connection ended");
            if answer.take(&buffer[..octets])? {
                let took = from.elapsed();
                self.asking = None;
                return Ok(Some(took));
            }
        }
    }
}

/// What has come of an answer of 200 with its length.
#[derive(Debug, Default)]
struct Answer {
    head: Vec<u8>,
    /// Octets of the body that are still to come; `None` before the head is whole.
    left: Option<usize>,
}

impl Answer {
    /// True if it is whole with these octets.
    fn take(&mut self, octets: &[u8]) -> Result<bool> {
        let (left, body) = if let Some(left) = self.left {
            (left, octets.len())
        } else {
            let before = self.head.len();
            self.head.extend_from_slice(&octets[..octets.len().min(HEAD_OCTETS_MAX - before)]);
            let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else {
                ensure!(self.head.len() < HEAD_OCTETS_MAX, "a head without an end");
                return Ok(false);
            };
            (length(&self.head[..end])?, before + octets.len() - (end + 4))
        };
        let left = left.checked_sub(body).context("more than the body")?;
        self.left = Some(left);
        Ok(left == 0)
    }
}

fn length(head: &[u8]) -> Result<usize> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    ensure!(head.starts_with("http/1.1 200"), "{head}");
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")).context("no Content-Length")?;
    Ok(length.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_last_octet_however_it_is_cut() {
        let whole = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\nabcde";
        for cut in 1..whole.len() {
            let mut answer = Answer::default();
            assert!(!answer.take(&whole[..cut]).unwrap(), "{cut}");
            assert!(answer.take(&whole[cut..]).unwrap(), "{cut}");
        }
        assert!(Answer::default().take(&[whole.as_slice(), b"f"].concat()).is_err());
        assert!(Answer::default().take(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").is_err());
        assert!(Answer::default().take(&[b'a'; HEAD_OCTETS_MAX]).is_err());
    }
}
