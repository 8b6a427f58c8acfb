//! From candidates to a complete part.

use std::collections::HashSet;
use std::sync::Arc;

use blob_store::Part;
use bytes::Bytes;
use cache_policy::score::Observed;
use futures_util::FutureExt as _;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue};
use http_wire::range::parse_content_range;
use http_wire::via::Via;
use reqwest::Response;
use tokio::time::{Duration, Instant};
use tracing::{Instrument as _, Span, info_span};

use super::candidate::{Candidate, Kind};
use super::fault::SourceFault;
use super::flight::Flight;
use super::upstream::redacted;
use super::writer::Writer;
use crate::app::{App, HOP_HEADER};
use crate::farm::LeaseHold;
use crate::http::window::{VERIFIED_FIRST_BYTES_MAX, visible_end};

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

/// One part being filled.
pub(super) struct Download {
    app: Arc<App>,
    flight: Arc<Flight>,
    writer: Writer,
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
        Self { app, flight, writer: Writer::new(part), contributors, upstream_bytes, is_alone, via }
    }

    /// The part, complete or not.
    pub(super) fn into_part(self) -> Option<Part> {
        self.writer.into_part()
    }

    pub(super) fn missing_bytes(&self) -> u64 {
        self.writer.missing_bytes()
    }

    fn bytes(&self) -> u64 {
        self.writer.bytes()
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
            for (at, named) in candidates.iter().enumerate() {
                if self.missing_bytes() == 0 {
                    return Ok(());
                }
                let mut origin = named.origin();
                let is_pointless = dead_hosts.contains(&origin)
                    || (self.is_alone && self.contributors.iter().any(|other| other != named))
                    || (named.kind == Kind::FlatMirror && missing_at.as_ref() != Some(&origin));
                if is_pointless {
                    continue;
                }
                let (candidate, tried) =
                    self.try_one(named, self.hedge(named, &candidates[at + 1..]), lease).await?;
                match tried {
                    Ok(()) => {}
                    Err(fault) => {
                        origin = candidate.origin();
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

    /// Who is asked, too, if `first` keeps us waiting.
    fn hedge<'c>(&self, first: &Candidate, others: &'c [Candidate]) -> Option<&'c Candidate> {
        if self.app.config.hedge_after.0.is_zero() || self.is_alone || first.kind == Kind::Peer {
            return None;
        }
        let is_another = |other: &&Candidate| {
            matches!(other.kind, Kind::Mirror | Kind::Source) && other.origin() != first.origin()
        };
        others.iter().find(is_another)
    }

    /// Asks `first`, and `second` too when that keeps us waiting: whose answer it was, and what came of it.
    async fn try_one<'c>(
        &mut self,
        first: &'c Candidate,
        second: Option<&'c Candidate>,
        lease: Option<&LeaseHold>,
    ) -> Result<(&'c Candidate, Result<(), SourceFault>), Stop> {
        let (candidate, span, started) = tokio::select! {
            started = self.first_to_start(first, second) => started,
            () = self.abandoned() => return Err(Stop::Deserted),
        };
        let (mut response, skip) = match started {
            Ok(started) => started,
            Err(fault) => return Ok((candidate, Err(fault))),
        };
        let (before, has_length) = (self.bytes(), response.headers().contains_key(CONTENT_LENGTH));
        let drained = self.drain(&mut response, skip, candidate, lease).instrument(span).await?;
        let is_tainted = drained == Err(SourceFault::Short) && !has_length && self.bytes() > before;
        if is_tainted { Err(Stop::Tainted(Box::new(candidate.clone()))) } else { Ok((candidate, drained)) }
    }

    async fn first_to_start<'c>(
        &self,
        first: &'c Candidate,
        second: Option<&'c Candidate>,
    ) -> (&'c Candidate, Span, Result<(Response, u64), SourceFault>) {
        let (span, began) = (self.span(first), Instant::now());
        let asking = self.start(first).instrument(span.clone());
        let Some(second) = second else { return (first, span, asking.await) };
        tokio::pin!(asking);
        if let Ok(started) = tokio::time::timeout(self.app.config.hedge_after.0, asking.as_mut()).await {
            return (first, span, started);
        }
        let second_span = self.span(second);
        let asking_too = self.start(second).instrument(second_span.clone());
        tokio::pin!(asking_too);
        tokio::select! {
            started = asking.as_mut() => match started {
                Ok(_) => (first, span, started),
                Err(fault) => {
                    first.note(&self.app.farm, Some(&fault));
                    (second, second_span, asking_too.await)
                }
            },
            started = asking_too.as_mut() => match started {
                Ok(_) => {
                    // It would have taken longer still.
                    let after_ms = elapsed_ms(began);
                    self.app.demotions.observe(first, Observed::FirstByte { after_ms });
                    (second, second_span, started)
                }
                Err(fault) => {
                    second.note(&self.app.farm, Some(&fault));
                    (first, span, asking.await)
                }
            },
        }
    }

    fn span(&self, candidate: &Candidate) -> Span {
        info_span!("fetch_source", otel.kind = "client", url = redacted(&candidate.url), start = self.bytes())
    }

    /// Ends when nobody waits and it is not worth finishing for its own sake.
    async fn abandoned(&self) {
        let mostly_done = self.missing_bytes() <= NEARLY_DONE_BYTES.max(self.writer.size_bytes() / 2);
        if mostly_done && self.bytes() > 0 {
            std::future::pending::<()>().await;
        }
        self.flight.deserted().await;
    }

    /// Sends the request and checks that what will come belongs where we are; the number is how many
    /// bytes of it to skip.
    async fn start(&self, candidate: &Candidate) -> Result<(Response, u64), SourceFault> {
        let began = Instant::now();
        let started = self.request(candidate).await;
        match &started {
            Ok((response, _)) => {
                self.flight.note_status(response.status());
                let after_ms = elapsed_ms(began);
                self.app.demotions.observe(candidate, Observed::FirstByte { after_ms });
            }
            // That it has not this file says nothing about others.
            Err(SourceFault::Missing(_)) => {}
            Err(_) => self.app.demotions.observe(candidate, Observed::Failed),
        }
        started
    }

    async fn request(&self, candidate: &Candidate) -> Result<(Response, u64), SourceFault> {
        let (start, size) = (self.bytes(), self.writer.size_bytes());
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

    /// Moves the body into the part, and remembers how fast it came. All that came is written when it ends.
    async fn drain(
        &mut self,
        response: &mut Response,
        skip: u64,
        candidate: &Candidate,
        lease: Option<&LeaseHold>,
    ) -> Result<Result<(), SourceFault>, Stop> {
        let (mut came, before) = (Duration::ZERO, self.bytes());
        let drained = self.drain_timed(response, skip, candidate, lease, &mut came).await;
        self.settle(lease).await?;
        let (bytes, in_ms) = (self.bytes() - before, u64::try_from(came.as_millis()).unwrap_or(u64::MAX));
        self.app.demotions.observe(candidate, Observed::Body { bytes, in_ms });
        if let Ok(Err(_)) = &drained {
            self.app.demotions.observe(candidate, Observed::Failed);
        }
        drained
    }

    /// `came` grows by the time that is spent waiting for bytes; not by that for which we held them back.
    ///
    /// While one batch is written and hashed, the next one is read.
    async fn drain_timed(
        &mut self,
        response: &mut Response,
        mut skip: u64,
        candidate: &Candidate,
        lease: Option<&LeaseHold>,
        came: &mut Duration,
    ) -> Result<Result<(), SourceFault>, Stop> {
        let is_paced = candidate.kind != Kind::Peer;
        while self.missing_bytes() > 0 {
            if is_paced {
                tokio::select! {
                    () = self.app.upstreams.wait_for_bandwidth() => {}
                    () = self.abandoned() => return Err(Stop::Deserted),
                }
            }
            let began = Instant::now();
            let chunk = self.first_chunk(response, lease).await?;
            *came += began.elapsed();
            let first = match chunk {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(Err(SourceFault::Short)),
                Err(fault) => return Ok(Err(fault)),
            };
            let mut batch = Vec::new();
            let mut batch_bytes = 0;
            let mut next = Some(first);
            while let Some(mut chunk) = next.take() {
                if is_paced {
                    self.app.upstreams.took(chunk.len());
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
                self.append(batch, candidate, lease).await?;
            }
        }
        Ok(Ok(()))
    }

    /// The next chunk; what is written meanwhile is shown as soon as it is there.
    async fn first_chunk(
        &mut self,
        response: &mut Response,
        lease: Option<&LeaseHold>,
    ) -> Result<Result<Option<Bytes>, SourceFault>, Stop> {
        let app = Arc::clone(&self.app);
        let mut chunk = std::pin::pin!(app.upstreams.chunk_at_once(response));
        if self.writer.is_adding() {
            tokio::select! {
                chunk = chunk.as_mut() => return Ok(chunk),
                settled = self.settle(lease) => settled?,
            }
        }
        tokio::select! {
            chunk = chunk => Ok(chunk),
            () = self.abandoned() => Err(Stop::Deserted),
        }
    }

    /// Hands a batch to the disk as soon as that has taken the last one.
    async fn append(
        &mut self,
        batch: Vec<Bytes>,
        candidate: &Candidate,
        lease: Option<&LeaseHold>,
    ) -> Result<(), Stop> {
        self.settle(lease).await?;
        let is_first = !self.flight.is_published() && self.writer.size_bytes() > VERIFIED_FIRST_BYTES_MAX;
        let app = Arc::clone(&self.app);
        let record = move |part: &Part| {
            if is_first {
                app.refusals.record_unverified(part.expected().name());
            }
        };
        if !self.contributors.contains(candidate) {
            self.contributors.push(candidate.clone());
        }
        self.writer.add(batch, record).await.map_err(Stop::Disk)
    }

    /// Waits until what came is written, and shows it: to clients, to whoever waits for its first byte, to maintenance.
    async fn settle(&mut self, lease: Option<&LeaseHold>) -> Result<(), Stop> {
        if !self.writer.is_adding() {
            return Ok(());
        }
        let settled = self.writer.settled().await;
        if let Some(part) = self.writer.part().filter(|part| part.bytes() > 0) {
            let seen_to = visible_end(part.progress(), part.expected().size_bytes());
            if !self.flight.is_published() && seen_to > Some(0) {
                self.flight.publish(part.reader());
            }
            self.flight.note_arrival();
            if let Some(lease) = lease {
                lease.progress(part.bytes());
            }
        }
        settled.map_err(Stop::Disk)
    }
}

fn elapsed_ms(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}
