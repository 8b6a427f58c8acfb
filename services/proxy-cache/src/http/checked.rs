//! A known distfile that passes through: its end is withheld until its size and digests are right.

use std::collections::VecDeque;
use std::io;

use blob_store::{Expected, PartState, Progress, Verifier};
use bytes::Bytes;
use futures_util::stream;
use reqwest::Response;

use super::body::{self, ResponseBody, Witness};
use super::window::visible_end;
use crate::catalogue::KnownDistfile;
use crate::fetch::upstream::Upstreams;

/// A body on its way from one source to one client.
struct Passing {
    upstreams: Upstreams,
    response: Response,
    size_bytes: u64,
    /// `None` if no listed digest is one that we check: then only the size is.
    verifier: Option<Verifier>,
    /// Came and was not sent yet.
    held: VecDeque<Bytes>,
    came_bytes: u64,
    sent_bytes: u64,
    is_right: bool,
    witness: Box<dyn Witness>,
}

/// The body of `known` as `response` gives it. It ends complete and right, or breaks the connection.
pub(crate) fn body_of(
    upstreams: Upstreams,
    response: Response,
    known: &KnownDistfile,
    witness: Box<dyn Witness>,
) -> ResponseBody {
    let distfile = &known.distfile;
    let expected = Expected::new(distfile.name.clone(), distfile.size_bytes, distfile.digests.clone());
    let passing = Passing {
        upstreams,
        response,
        size_bytes: distfile.size_bytes,
        verifier: expected.ok().map(Verifier::new),
        held: VecDeque::new(),
        came_bytes: 0,
        sent_bytes: 0,
        is_right: false,
        witness,
    };
    body::stream(stream::unfold(Some(passing), |passing| async move {
        let mut passing = passing?;
        match passing.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(passing))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    }))
}

impl Passing {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(bytes) = self.take_visible() {
                return Ok(Some(bytes));
            }
            if self.is_right {
                self.witness.right();
                return Ok(None);
            }
            let chunk = self.upstreams.chunk(&mut self.response).await;
            match chunk.map_err(|fault| io::Error::other(fault.to_string()))? {
                Some(chunk) => self.take_in(chunk).await?,
                None => self.end()?,
            }
        }
    }

    async fn take_in(&mut self, chunk: Bytes) -> io::Result<()> {
        self.came_bytes += chunk.len() as u64;
        if self.came_bytes > self.size_bytes {
            return Err(self.wrong());
        }
        if let Some(mut verifier) = self.verifier.take() {
            let hashed = chunk.clone();
            let hashing = tokio::task::spawn_blocking(move || {
                verifier.update(&hashed);
                verifier
            });
            self.verifier = Some(hashing.await.map_err(io::Error::other)?);
        }
        self.held.push_back(chunk);
        Ok(())
    }

    /// The source ended cleanly.
    fn end(&mut self) -> io::Result<()> {
        let is_whole = self.came_bytes == self.size_bytes;
        if !is_whole || self.verifier.as_ref().is_some_and(|verifier| !verifier.is_right()) {
            return Err(self.wrong());
        }
        self.is_right = true;
        Ok(())
    }

    /// The next bytes that the client may see.
    fn take_visible(&mut self) -> Option<Bytes> {
        let state = if self.is_right { PartState::Right } else { PartState::Growing };
        let end = visible_end(Progress { bytes: self.came_bytes, state }, self.size_bytes)?;
        let room = usize::try_from(end.saturating_sub(self.sent_bytes)).unwrap_or(usize::MAX);
        if room == 0 {
            return None;
        }
        let mut bytes = self.held.pop_front()?;
        if bytes.len() > room {
            self.held.push_front(bytes.split_off(room));
        }
        if !self.is_right && self.sent_bytes == 0 {
            self.witness.unverified();
        }
        self.sent_bytes += bytes.len() as u64;
        Some(bytes)
    }

    fn wrong(&self) -> io::Error {
        self.witness.wrong();
        io::Error::new(io::ErrorKind::InvalidData, "the file that came is not the one that the tree names")
    }
}
