//! HTTP/1.1 to clients (RFC 9112): heads in, answers out, files by the kernel's own hands.
//!
//! `http_wire::received` makes heads of octets, `http_wire::framing` heads of answers, [`transport`] is
//! the connection, [`send`] puts an answer on it. What is answered is none of this module's business. Requests here have
//! no body: whoever answers refuses those that announce one, with an answer that closes.
//!
//! Why not the library that reads upstreams: between the page cache and the socket its body is a copy and a turn of
//! another thread for each piece. `docs/benchmarks.md` has the table that decided it.

mod send;
#[cfg(test)]
pub(super) mod tests;
mod transport;

use std::time::Duration;

use bytes::BytesMut;
use http::{Method, StatusCode, request};
use http_wire::framing::{Asked, DateText};
use http_wire::received::{self, Awaited, HeadFault};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub(crate) use transport::{Connection, Transport};

use transport::broken;

use super::reply::{self, Reply};

/// What is read of a client at once.
const READ_OCTETS: usize = 4 << 10;
/// How long a client is given to read the last answer.
const LINGER: Duration = Duration::from_secs(2);

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) head: received::Limits,
    /// For a whole head, from the end of the answer before it.
    pub(crate) head_timeout: Duration,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// One side had said that this is the last answer, or the client closed.
    #[error("closed")]
    Closed,
    /// No whole head came in time.
    #[error("no request came in time")]
    Idle,
    /// The replica stops.
    #[error("the replica stops")]
    Stopping,
    /// It became a tunnel.
    #[error("it is a tunnel now")]
    TakenOver,
    /// What came is no head of a request.
    #[error("{0}")]
    Refused(HeadFault),
    /// It broke, or the answer did.
    #[error("{0}")]
    Broken(#[from] std::io::Error),
}

/// The right to have the connection once the request is answered.
#[derive(Debug)]
pub(crate) struct Takeover(oneshot::Receiver<Taken>);

/// A connection that is HTTP no longer.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) transport: Box<dyn Transport>,
    /// What the client sent before it could know.
    pub(crate) early: BytesMut,
}

impl Takeover {
    /// Waits until the answer is out; `None` if that failed.
    pub(crate) async fn taken(self) -> Option<Taken> {
        self.0.await.ok()
    }
}

/// Answers one request after the other until one side has enough, or until the soft stop.
pub(crate) async fn serve<A: Future<Output = Reply>>(
    connection: Connection,
    limits: Limits,
    soft: &CancellationToken,
    answer: impl Fn(request::Parts, Option<Takeover>) -> A,
) -> Ended {
    let mut talk = Talk {
        connection,
        limits,
        received: BytesMut::new(),
        has_said_all: false,
        out: Vec::new(),
        date: DateText::default(),
    };
    loop {
        let head = match talk.hear(soft).await {
            Ok(head) => head,
            Err(Ended::Refused(fault)) => return talk.refuse(fault).await,
            Err(ended) => return ended,
        };
        let asked = Asked::of(&head);
        let (giving, takeover) = (asked.method == Method::CONNECT).then(oneshot::channel).unzip();
        // Pinned where it is: what is moved about is moved for each hit, and has room for what no hit needs.
        let answering = std::pin::pin!(answer(head, takeover.map(Takeover)));
        let Some(reply) = talk.unless_gone(answering).await else {
            return Ended::Closed;
        };
        let giving = giving.filter(|_| reply.status().is_success());
        match (talk.send(reply, &asked, soft.is_cancelled()).await, giving) {
            (Err(ended), _) => return ended,
            (Ok(_), Some(giving)) => {
                let taken = Taken { transport: talk.connection.into_inner(), early: talk.received };
                // Whoever wanted it may be gone.
                drop(giving.send(taken));
                return Ended::TakenOver;
            }
            (Ok(Next::Close), None) => return talk.close().await,
            (Ok(Next::Request), None) => {}
        }
    }
}

/// What follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Request,
    Close,
}

/// One connection.
struct Talk {
    connection: Connection,
    limits: Limits,
    /// Came and was not looked at.
    received: BytesMut,
    /// Nothing more comes of the client.
    has_said_all: bool,
    /// Of one answer; here so that the next one need not ask for memory.
    out: Vec<u8>,
    date: DateText,
}

impl Talk {
    /// The next request's head.
    async fn hear(&mut self, soft: &CancellationToken) -> Result<request::Parts, Ended> {
        let until = tokio::time::Instant::now() + self.limits.head_timeout;
        let mut awaited = Awaited::default();
        loop {
            if let Some(head) = awaited.look(&mut self.received, self.limits.head).map_err(Ended::Refused)? {
                return Ok(head);
            }
            self.received.reserve(READ_OCTETS);
            let is_idle = self.received.is_empty();
            let read = tokio::select! {
                biased;
                read = self.connection.read_buf(&mut self.received) => read?,
                // A request that has begun is heard to its end.
                () = soft.cancelled(), if is_idle => return Err(Ended::Stopping),
                () = tokio::time::sleep_until(until) => return Err(Ended::Idle),
            };
            if read == 0 {
                return Err(Ended::Closed);
            }
        }
    }

    /// The answer, unless the client goes: then it takes its request with it.
    async fn unless_gone(&mut self, answer: impl Future<Output = Reply>) -> Option<Reply> {
        tokio::select! {
            biased;
            reply = answer => Some(reply),
            _broken = self.gone() => None,
        }
    }

    /// Ends when the connection breaks. What the client sends meanwhile is kept, up to a head's length.
    ///
    /// That it sends no more (RFC 9112, section 9.6) says nothing of what it still reads: `nc -N` waits for its answer.
    /// Who has gone for good looks the same at first, and resets the connection as soon as something is sent to it.
    async fn gone(&mut self) -> std::io::Error {
        while !self.has_said_all && self.received.len() < self.limits.head.octets_max {
            self.received.reserve(READ_OCTETS);
            match self.connection.read_buf(&mut self.received).await {
                Ok(0) => self.has_said_all = true,
                Ok(_) => {}
                Err(error) => return error,
            }
        }
        let socket = self.connection.get_ref().socket();
        broken(socket).await
    }

    /// Says what is wrong with a head, and closes.
    async fn refuse(mut self, fault: HeadFault) -> Ended {
        let reply = reply::closing(reply::text(status_of(fault), &fault.to_string()));
        match self.send(reply, &Asked::unknown(), true).await {
            Ok(_) => {
                self.close().await;
                Ended::Refused(fault)
            }
            Err(ended) => ended,
        }
    }

    /// Closed with something unread, a connection is reset, and the answer may be lost.
    async fn close(mut self) -> Ended {
        let closing = async {
            self.connection.shutdown().await?;
            while self.connection.read_buf(&mut self.received).await? > 0 {
                self.received.clear();
            }
            Ok::<_, std::io::Error>(())
        };
        match tokio::time::timeout(LINGER, closing).await {
            Ok(Err(error)) => Ended::Broken(error),
            Ok(Ok(())) | Err(_) => Ended::Closed,
        }
    }
}

const fn status_of(fault: HeadFault) -> StatusCode {
    match fault {
        HeadFault::Malformed | HeadFault::LoneLineFeed | HeadFault::Target => StatusCode::BAD_REQUEST,
        HeadFault::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        HeadFault::TooManyHeaders | HeadFault::TooLong => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    }
}
