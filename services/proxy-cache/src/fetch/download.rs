//! From candidates to a complete part.

use std::collections::HashSet;
use std::sync::Arc;

use blob_store::{Part, StoreError};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue};
use reqwest::Response;
use tracing::{Instrument as _, info_span};

use super::candidate::{Candidate, Kind};
use super::fault::SourceFault;
use super::flight::Flight;
use super::upstream::redacted;
use crate::app::{App, HOP_HEADER};
use crate::farm::LeaseHold;
use crate::http::range::parse_content_range;
use crate::http::window::VERIFIED_FIRST_BYTES_MAX;
use crate::via::Via;

/// Rounds over all candidates; another one follows only if the last one brought bytes.
const ROUNDS_MAX: usize = 8;
/// Bytes that are written and hashed in one go.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// A download that lacks no more than this goes on although everybody left.
const NEARLY_DONE_BYTES: u64 = 4 << 20;

/// Why a download stopped before it was complete.
#[derive(Debug)]
pub(super) enum Stop {
    /// Every candidate failed, for these reasons.
    Sources(Vec<SourceFault>),
    /// This one ended cleanly, without having announced a length, before the file did: what it gave is
    /// as likely an error page as a part of the file.
    Tainted(Box<Candidate>),
    /// Nobody waits for it any more.
    Deserted,
    /// The part can't be written.
    Disk(String),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Disk(error.to_string())
    }
}

/// One part being filled.
pub(super) struct Download {
    app: Arc<App>,
    flight: Arc<Flight>,
    /// `None` only while it is being written.
    part: Option<Part>,
    /// Who gave the bytes of this process, in the order of their first one.
    pub(super) contributors: Vec<Candidate>,
    /// Body bytes that came from outside the farm, wanted or not.
    pub(super) upstream_bytes: u64,
    /// All bytes have to come from one source.
    is_alone: bool,
    /// The caches before the request that made the flight start.
    via: Via,
}

impl Download {
    pub(super) fn new(app: Arc<App>, flight: Arc<Flight>, part: Part, is_alone: bool, via: Via) -> Self {
        let (contributors, upstream_bytes) = (Vec::new(), 0);
        Self { app, flight, part: Some(part), contributors, upstream_bytes, is_alone, via }
    }

    /// The part, complete or not.
    pub(super) fn into_part(self) -> Option<Part> {
        self.part
    }

    pub(super) fn missing_bytes(&self) -> u64 {
        self.part.as_ref().map_or(0, Part::missing_bytes)
    }

    fn bytes(&self) -> u64 {
        self.part.as_ref().map_or(0, Part::bytes)
    }

    fn size_bytes(&self) -> u64 {
        self.part.as_ref().map_or(0, |part| part.expected().size_bytes())
    }

    /// Asks the candidates in order until nothing is missing. Each goes on where the last one stopped:
    /// the final digest covers all of it.
    pub(super) async fn fill(
        &mut self,
        candidates: &[Candidate],
        lease: Option<&LeaseHold>,
    ) -> Result<(), Stop> {
        let mut faults = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let before = self.bytes();
            let mut dead_hosts = HashSet::new();
            let mut missing_at = None;
            for candidate in candidates {
                if self.missing_bytes() == 0 {
                    return Ok(());
                }
                let origin = candidate.origin();
                let is_pointless = dead_hosts.contains(&origin)
                    || (self.is_alone && self.contributors.iter().any(|other| other != candidate))
                    || (candidate.kind == Kind::FlatMirror && missing_at.as_ref() != Some(&origin));
                if is_pointless {
                    continue;
                }
                match self.try_one(candidate, lease).await? {
                    Ok(()) => {}
                    Err(fault) => {
                        tracing::info!(
                            url = redacted(&candidate.url),
                            fault = fault.as_str(),
                            "a source failed: {fault}"
                        );
                        candidate.note(&self.app.farm, Some(&fault));
                        if matches!(fault, SourceFault::Missing(_)) {
                            missing_at = Some(origin);
                        } else if fault.is_of_the_host() {
                            dead_hosts.insert(origin);
                        }
                        faults.push(fault);
                    }
                }
            }
            if self.missing_bytes() == 0 {
                return Ok(());
            }
            if self.bytes() == before {
                break;
            }
        }
        Err(Stop::Sources(faults))
    }

    async fn try_one(
        &mut self,
        candidate: &Candidate,
        lease: Option<&LeaseHold>,
    ) -> Result<Result<(), SourceFault>, Stop> {
        let span = info_span!(
            "fetch_source",
            otel.kind = "client",
            url = redacted(&candidate.url),
            start = self.bytes()
        );
        let started = self.start(candidate).instrument(span.clone());
        let (mut response, skip) = tokio::select! {
            started = started => match started {
                Ok(started) => started,
                Err(fault) => return Ok(Err(fault)),
            },
            () = self.abandoned() => return Err(Stop::Deserted),
        };
        let (before, has_length) = (self.bytes(), response.headers().contains_key(CONTENT_LENGTH));
        let drained = self.drain(&mut response, skip, candidate, lease).instrument(span).await?;
        let is_tainted = drained == Err(SourceFault::Short) && !has_length && self.bytes() > before;
        if is_tainted { Err(Stop::Tainted(Box::new(candidate.clone()))) } else { Ok(drained) }
    }

    /// Ends when nobody waits and it is not worth finishing for its own sake.
    async fn abandoned(&self) {
        let mostly_done = self.missing_bytes() <= NEARLY_DONE_BYTES.max(self.size_bytes() / 2);
        if mostly_done && self.bytes() > 0 {
            std::future::pending::<()>().await;
        }
        self.flight.deserted().await;
    }

    /// Sends the request and checks that what will come belongs where we are; the number is how many
    /// bytes of it to skip.
    async fn start(&self, candidate: &Candidate) -> Result<(Response, u64), SourceFault> {
        let (start, size) = (self.bytes(), self.size_bytes());
        let mut extra = HeaderMap::new();
        if candidate.kind == Kind::Peer
            && let Ok(value) = HeaderValue::from_str(self.app.store.replica_id())
        {
            extra.insert(HOP_HEADER, value);
        }
        service_kit::telemetry::propagation::inject(&mut extra);
        let response =
            self.app.upstreams.get(&candidate.url, candidate.trust, start, &extra, &self.via).await?;
        if response.status() == http::StatusCode::PARTIAL_CONTENT {
            let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
            return match range.and_then(parse_content_range) {
                Some((range, total))
                    if range.start == start
                        && range.end == size
                        && total.is_none_or(|total| total == size) =>
                {
                    Ok((response, 0))
                }
                _ => Err(SourceFault::WrongRange),
            };
        }
        let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        match length.and_then(|length| length.parse::<u64>().ok()) {
            Some(length) if length != size => Err(SourceFault::WrongLength(length)),
            _ => Ok((response, start)),
        }
    }

    /// Moves the body into the part.
    async fn drain(
        &mut self,
        response: &mut Response,
        mut skip: u64,
        candidate: &Candidate,
        lease: Option<&LeaseHold>,
    ) -> Result<Result<(), SourceFault>, Stop> {
        while self.missing_bytes() > 0 {
            let chunk = tokio::select! {
                chunk = self.app.upstreams.chunk(response) => chunk,
                () = self.abandoned() => return Err(Stop::Deserted),
            };
            let first = match chunk {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(Err(SourceFault::Short)),
                Err(fault) => return Ok(Err(fault)),
            };
            let mut batch = Vec::new();
            let mut batch_bytes = 0;
            let mut next = Some(first);
            while let Some(mut chunk) = next.take() {
                if candidate.kind != Kind::Peer {
                    self.upstream_bytes += chunk.len() as u64;
                }
                let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
                skip -= skipped as u64;
                let chunk = chunk.split_off(skipped);
                batch_bytes += chunk.len();
                if !chunk.is_empty() {
                    batch.push(chunk);
                }
                if batch_bytes < BATCH_BYTES_MAX {
                    // What is here already; an error or the end shows at the next read.
                    next = response.chunk().now_or_never().and_then(Result::ok).flatten();
                }
            }
            if !batch.is_empty() {
                self.append(batch, candidate).await?;
                if let Some(lease) = lease {
                    lease.progress(self.bytes());
                }
            }
        }
        Ok(Ok(()))
    }

    async fn append(&mut self, batch: Vec<Bytes>, candidate: &Candidate) -> Result<(), Stop> {
        let lost = || Stop::Disk("the part was lost".to_owned());
        let mut part = self.part.take().ok_or_else(lost)?;
        let is_first = !self.flight.is_published() && part.expected().size_bytes() > VERIFIED_FIRST_BYTES_MAX;
        let app = Arc::clone(&self.app);
        let written = tokio::task::spawn_blocking(move || {
            if is_first {
                app.refusals.record_unverified(part.expected().name());
            }
            let written = batch.iter().try_for_each(|chunk| part.append(chunk).map(drop));
            (part, written)
        });
        let (part, written) = written.await.map_err(|_| lost())?;
        if is_first && part.bytes() > 0 {
            self.flight.publish(part.reader());
        }
        self.part = Some(part);
        self.flight.note_arrival();
        if !self.contributors.contains(candidate) {
            self.contributors.push(candidate.clone());
        }
        Ok(written?)
    }
}
