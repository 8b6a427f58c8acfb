//! One flight, from the right to fetch to the blob in place.

use std::sync::Arc;
use std::time::Duration;

use blob_store::{BeginError, Committed, Expected, FinishError, Part, PartState, Scope};
use cache_policy::standing::Standing;
use http::StatusCode;
use http_wire::via::Via;
use tokio::time::Instant;
use tracing::{Instrument as _, info, info_span, warn};

use super::candidate::{self, Candidate};
use super::download::{Download, Stop};
use super::fault::{SourceFault, status_of};
use super::flight::{Failure, FailureKind, Flight, FlightKey, Follower, Pilot};
use super::upstream::redacted;
use crate::app::App;
use crate::catalogue::KnownDistfile;
use crate::farm::{Acquired, CommittedBlob, LeaseHold};
use crate::http::lookup::{self, Lookup};
use crate::http::window::VERIFIED_FIRST_BYTES_MAX;

/// Bounds of the pause between two questions for a lease that another replica holds.
const HELD_PAUSE_MIN: Duration = Duration::from_millis(50);
const HELD_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a replica is not tried that could not be reached.
const PEER_REST: Duration = Duration::from_secs(5);
/// How many wrong files one flight takes before it gives up.
const WRONG_FILES_MAX: usize = 16;
/// How often a part that somebody else writes is waited for.
const BUSY_ROUNDS_MAX: usize = 50;

/// Follows the flight for a distfile, starting it if nobody did. `asked` is tried last; `via` are the
/// caches through which the request came.
pub(crate) fn follow(
    app: &Arc<App>,
    known: &Arc<KnownDistfile>,
    asked: Option<&url::Url>,
    via: &Via,
) -> Follower {
    let (follower, pilot) = app.flights.join(&FlightKey::of(known));
    if let Some(pilot) = pilot {
        let span = info_span!(
            "fetch",
            name = known.distfile.name.as_str(),
            module = known.module,
            size = known.distfile.size_bytes
        );
        let candidates = candidate::for_distfile(&known.distfile, &app.config.mirrors, asked, &app.demotions);
        let fetch = Fetch {
            app: Arc::clone(app),
            flight: Arc::clone(pilot.flight()),
            known: Arc::clone(known),
            candidates,
            via: via.clone(),
        };
        // The client's task may end before this one does.
        drop(app.tasks.spawn("fetch", fetch.run(pilot).instrument(span)));
    }
    follower
}

struct Fetch {
    app: Arc<App>,
    flight: Arc<Flight>,
    known: Arc<KnownDistfile>,
    candidates: Vec<Candidate>,
    via: Via,
}

/// The right to fetch, or why it can be done without.
enum Right {
    Lease(LeaseHold),
    /// Nobody to ask, or nobody else does it.
    None,
    /// These replicas have it.
    Peers(Vec<String>),
}

/// How a part was filled.
enum Filled {
    /// Nothing is missing.
    Whole(Option<LeaseHold>),
    /// With bytes that are not to be gone on with.
    InVain,
}

/// Who is asked next, and what was wrong so far.
struct Plan {
    candidates: Vec<Candidate>,
    /// Gave bytes of no use in this flight.
    spent: Vec<Candidate>,
    /// One source has to give all: several of them gave a wrong file together lately.
    is_alone: bool,
    faults: Vec<SourceFault>,
}

impl Plan {
    fn new(fetch: &Fetch) -> Self {
        let mut candidates = fetch.candidates.clone();
        let first = fetch.app.demotions.mixed(&fetch.known.distfile.name);
        if let Some(first) = &first {
            candidates.sort_by_key(|candidate| candidate.url != *first);
        }
        Self { candidates, spent: Vec::new(), is_alone: first.is_some(), faults: Vec::new() }
    }
}

/// Removes a part whose bytes are of no use.
async fn discard(part: Part) -> Result<(), Failure> {
    match tokio::task::spawn_blocking(move || part.discard()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failure(FailureKind::Disk, error.to_string())),
        Err(_) => Err(failure(FailureKind::Disk, "the store failed")),
    }
}

fn failure(kind: FailureKind, why: impl Into<String>) -> Failure {
    Failure { kind, why: why.into() }
}

impl Fetch {
    async fn run(self, pilot: Pilot) {
        let outcome = self.fetch().await;
        if let Err(failure) = &outcome
            && failure.kind != FailureKind::Stored
        {
            warn!(kind = failure.kind.as_str(), "not fetched: {}", failure.why);
        }
        pilot.land(outcome);
    }

    async fn fetch(&self) -> Result<(), Failure> {
        let distfile = &self.known.distfile;
        let expected = Expected::new(distfile.name.clone(), distfile.size_bytes, distfile.digests.clone())
            .map_err(|error| failure(FailureKind::Unverifiable, error.to_string()))?;
        let scope = self.scope().await;
        // Whoever made this flight looked into the store before, and the last flight may have landed
        // between the two.
        if let Ok(Lookup::Hit(..)) = lookup::of_known(&self.app, Arc::clone(&self.known), scope.clone()).await
        {
            return Err(failure(FailureKind::Stored, "it has just come"));
        }
        let mut plan = Plan::new(self);
        // Every round but the last one ends with bytes that are of no use.
        for _ in 0..WRONG_FILES_MAX {
            let part = self.begin(expected.clone()).await?;
            let resumed_bytes = part.resumed_bytes();
            if self.app.refusals.take_doubt(&distfile.name) && resumed_bytes == 0 {
                // Somebody was given bytes that we have not any more.
                self.note_wrong(true).await?;
            }
            if plan.is_alone && resumed_bytes > 0 {
                // Nobody knows who gave these, and nobody will know whether they were right.
                discard(part).await?;
                self.note_wrong(true).await?;
                continue;
            }
            let (app, flight) = (Arc::clone(&self.app), Arc::clone(&self.flight));
            let mut download = Download::new(app, flight, part, plan.is_alone, self.via.clone());
            let filled = self.download(&mut download, &mut plan, &scope).await?;
            let (contributors, upstream_bytes) = (download.contributors.clone(), download.upstream_bytes);
            let Some(part) = download.into_part() else {
                return Err(failure(FailureKind::Disk, "the part was lost"));
            };
            let Filled::Whole(lease) = filled else {
                discard(part).await?;
                self.again("a source ended early", resumed_bytes).await?;
                continue;
            };
            match self.finish(part, &scope).await {
                Ok(committed) => {
                    self.note_right();
                    for source in &contributors {
                        source.note(&self.app.farm, None);
                    }
                    self.report(&committed, lease, contributors.last(), upstream_bytes);
                    return Ok(());
                }
                Err(FinishError::Mismatch { algorithm, .. }) => {
                    if let Some(lease) = lease {
                        lease.release("wrong digest");
                    }
                    plan.faults.push(SourceFault::WrongDigest(algorithm));
                    self.learn(&mut plan, &contributors, resumed_bytes, algorithm);
                    self.again(&format!("{algorithm} differs from the tree's"), resumed_bytes).await?;
                }
                Err(FinishError::Short { have_bytes, size_bytes }) => {
                    return Err(failure(FailureKind::Disk, format!("{have_bytes} of {size_bytes} bytes")));
                }
                Err(FinishError::Store(error)) => {
                    return Err(failure(FailureKind::Disk, error.to_string()));
                }
            }
        }
        Err(failure(FailureKind::Sources(status_of(&plan.faults)), "every file that came was wrong"))
    }

    fn note_right(&self) {
        let (app, name) = (Arc::clone(&self.app), self.known.distfile.name.clone());
        if self.known.distfile.size_bytes > VERIFIED_FIRST_BYTES_MAX {
            // Whether it is removed now or at the next download makes no difference to anybody.
            drop(tokio::task::spawn_blocking(move || app.refusals.record_right(&name)));
        }
    }

    /// What a wrong file says about those who gave it: only who gave all of it is certainly at fault.
    fn learn(
        &self,
        plan: &mut Plan,
        contributors: &[Candidate],
        resumed_bytes: u64,
        algorithm: &'static str,
    ) {
        match contributors {
            [culprit] if resumed_bytes == 0 => {
                warn!(url = redacted(&culprit.url), "gave a wrong file; asked last for it for some minutes");
                culprit.note(&self.app.farm, Some(&SourceFault::WrongDigest(algorithm)));
                self.spend(plan, culprit);
            }
            [.., last] => {
                info!("several sources gave a wrong file together; each is asked alone now");
                self.app.demotions.note_mixed(&self.known.distfile.name, &last.url);
                plan.is_alone = true;
                plan.candidates.sort_by_key(|candidate| candidate.url != last.url);
            }
            // All of it was here before.
            [] => {}
        }
    }

    /// Not asked again in this flight, and last in the next ones.
    fn spend(&self, plan: &mut Plan, culprit: &Candidate) {
        self.app.demotions.demote(&culprit.origin(), &self.known.distfile.name);
        plan.candidates.retain(|candidate| candidate != culprit);
        plan.spent.push(culprit.clone());
    }

    /// Whether this flight may start again at 0: not if a client may have seen what was wrong. Those
    /// that saw none of it get into the next flight.
    async fn again(&self, why: &str, resumed_bytes: u64) -> Result<(), Failure> {
        // Who was given what an earlier flight, or an earlier process, left is not known.
        self.note_wrong(resumed_bytes > 0).await?;
        if self.flight.is_published() {
            return Err(failure(FailureKind::WrongDigest, why));
        }
        Ok(())
    }

    /// What came was wrong: its ranges are refused for a while, to all if it is not known who holds it.
    async fn note_wrong(&self, is_for_all: bool) -> Result<(), Failure> {
        let (app, name) = (Arc::clone(&self.app), self.known.distfile.name.clone());
        app.refusals.note_wrong(&name);
        if is_for_all {
            app.refusals.note_wrong_for_all(&name);
        }
        if self.known.distfile.size_bytes <= VERIFIED_FIRST_BYTES_MAX {
            return Ok(());
        }
        let recorded = tokio::task::spawn_blocking(move || app.refusals.record_wrong(&name)).await;
        recorded.map_err(|_| failure(FailureKind::Disk, "the store failed"))
    }

    /// Under which name the blob is found: the module's own if modules disagree about it.
    async fn scope(&self) -> Scope {
        let first = self.app.catalogue.resolve(&self.known.distfile.name, None).await.ok().flatten();
        let agrees = first.is_none_or(|first| {
            first.module == self.known.module || FlightKey::of(&first) == FlightKey::of(&self.known)
        });
        let own = if agrees { None } else { Scope::module(&self.known.module) };
        own.unwrap_or(Scope::DISTFILES)
    }

    async fn begin(&self, expected: Expected) -> Result<Part, Failure> {
        for _ in 0..BUSY_ROUNDS_MAX {
            let (store, expected) = (self.app.store.clone(), expected.clone());
            let begun = tokio::task::spawn_blocking(move || store.begin(expected)).await;
            let begun = begun.map_err(|_| failure(FailureKind::Disk, "the store failed"))?;
            match begun {
                Ok(part) => return Ok(part),
                // The last flight's part is about to be closed.
                Err(BeginError::Busy) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error @ BeginError::Full { .. }) => {
                    return Err(failure(FailureKind::NoRoom, error.to_string()));
                }
                Err(BeginError::Store(error)) => {
                    let kind = if error.is_full() { FailureKind::NoRoom } else { FailureKind::Disk };
                    return Err(failure(kind, error.to_string()));
                }
            }
        }
        Err(failure(FailureKind::Disk, "the part is being written by somebody else"))
    }

    /// Fills the part, by right of a lease if there is somebody who gives one.
    async fn download(
        &self,
        download: &mut Download,
        plan: &mut Plan,
        scope: &Scope,
    ) -> Result<Filled, Failure> {
        if download.missing_bytes() == 0 {
            return Ok(Filled::Whole(None));
        }
        let mut all = Vec::new();
        let right = self.right(download, scope).await;
        self.flight.set_elsewhere(false);
        let lease = match right? {
            Right::Lease(lease) => Some(lease),
            Right::None => None,
            Right::Peers(peers) => {
                all.extend(peers.iter().filter_map(|peer| self.peer(peer, scope)));
                None
            }
        };
        all.retain(|peer| !plan.spent.contains(peer));
        all.extend(plan.candidates.iter().cloned());
        let stop = match download.fill(&all, lease.as_ref()).await {
            Ok(()) => return Ok(Filled::Whole(lease)),
            Err(stop) => stop,
        };
        let ended = match stop {
            Stop::Tainted(culprit) => {
                plan.faults.push(SourceFault::Short);
                culprit.note(&self.app.farm, Some(&SourceFault::Short));
                self.spend(plan, &culprit);
                Ok(Filled::InVain)
            }
            Stop::Sources(more) if plan.is_alone && !download.contributors.is_empty() => {
                plan.faults.extend(more);
                for culprit in &download.contributors {
                    self.spend(plan, culprit);
                }
                Ok(Filled::InVain)
            }
            stop @ (Stop::Sources(_) | Stop::Deserted | Stop::Disk(_)) => {
                Err(self.stopped(stop, &mut plan.faults))
            }
        };
        if let Some(lease) = lease {
            lease.release(ended.as_ref().map_or_else(|failed| failed.kind.as_str(), |_| "ended early"));
        }
        ended
    }

    /// Asks for the lease. While another replica holds it, its growing file is followed; if that one can't
    /// be reached, its progress is waited for. Maintenance is the judge of that: a lease without progress
    /// goes to whoever asks next, so this loop needs no bound of its own. Clients have theirs.
    async fn right(&self, download: &mut Download, scope: &Scope) -> Result<Right, Failure> {
        let mut peer_from = Instant::now();
        let mut told_of = None;
        loop {
            let (advertise, bytes_so_far, retry_in) = match self.app.farm.acquire(&self.known).await {
                Acquired::Granted(lease) => return Ok(Right::Lease(lease)),
                Acquired::Away => return Ok(Right::None),
                Acquired::Present { advertise } => return Ok(Right::Peers(advertise)),
                Acquired::Held { advertise, bytes_so_far, retry_in } => (advertise, bytes_so_far, retry_in),
            };
            self.flight.set_elsewhere(true);
            let peer = advertise.and_then(|peer| self.peer(&peer, scope));
            if let Some(peer) = peer.filter(|_| Instant::now() >= peer_from) {
                match download.fill(&[peer], None).await {
                    Ok(()) => return Ok(Right::None),
                    Err(Stop::Sources(faults)) => {
                        if faults.iter().any(SourceFault::is_of_the_host) {
                            peer_from = Instant::now() + PEER_REST;
                        }
                    }
                    Err(Stop::Tainted(_)) => {}
                    Err(stop) => return Err(self.stopped(stop, &mut Vec::new())),
                }
            }
            if told_of.replace(bytes_so_far) != Some(bytes_so_far) {
                info!(bytes_so_far, "another replica is fetching it; its progress is waited for");
            }
            tokio::select! {
                () = tokio::time::sleep(retry_in.clamp(HELD_PAUSE_MIN, HELD_PAUSE_MAX)) => {}
                () = self.flight.deserted() => return Err(self.stopped(Stop::Deserted, &mut Vec::new())),
            }
        }
    }

    /// Another replica as a candidate, unless it gave wrong files lately.
    fn peer(&self, advertise: &str, scope: &Scope) -> Option<Candidate> {
        let name = &self.known.distfile.name;
        let peer = candidate::from_peer(advertise, name, scope.as_module())?;
        (self.app.demotions.standing(&peer.origin(), name) == Standing::Good).then_some(peer)
    }

    fn stopped(&self, stop: Stop, faults: &mut Vec<SourceFault>) -> Failure {
        match stop {
            Stop::Sources(more) => {
                faults.extend(more);
                let why = match faults.last() {
                    Some(last) => format!("{} faults, the last: {last}", faults.len()),
                    None if self.known.distfile.lacks_source() => {
                        "no mirror and no source is known".to_owned()
                    }
                    None => "nobody may be asked for it".to_owned(),
                };
                failure(FailureKind::Sources(status_of(faults)), why)
            }
            Stop::Tainted(_) => failure(FailureKind::Sources(StatusCode::BAD_GATEWAY), "it ended early"),
            Stop::Deserted => failure(FailureKind::Deserted, "nobody waits for it; the part is kept"),
            Stop::Disk(why) => failure(FailureKind::Disk, why),
        }
    }

    /// Verifies and commits. Clients see the end as soon as it is known to be right.
    async fn finish(&self, part: Part, scope: &Scope) -> Result<Committed, FinishError> {
        let reader = part.reader();
        let scopes = [scope.clone()];
        let finishing = tokio::task::spawn_blocking(move || part.finish(&scopes));
        let mut progress = reader.progress();
        let state = progress.wait_for(|progress| progress.state != PartState::Growing).await;
        let is_right = state.is_ok_and(|progress| progress.state == PartState::Right);
        if is_right && !self.flight.is_published() {
            self.flight.publish(reader.clone());
        }
        match finishing.await {
            Ok(finished) => finished,
            Err(_) => Err(FinishError::Short { have_bytes: 0, size_bytes: 0 }),
        }
    }

    fn report(
        &self,
        committed: &Committed,
        lease: Option<LeaseHold>,
        source: Option<&Candidate>,
        upstream_bytes: u64,
    ) {
        let source = source.map(|source| redacted(&source.url)).unwrap_or_default();
        info!(source, upstream_bytes, blob = %committed.digest, "stored");
        let names = self.app.store.info(&committed.digest).map(|info| info.names).unwrap_or_default();
        let is_wanted = self.flight.followers() > 0;
        let blob = CommittedBlob {
            known: Arc::clone(&self.known),
            blake2b: *committed.digest.as_bytes(),
            names: names.iter().map(|name| name.as_str().to_owned()).collect(),
            last_access_ms: if is_wanted { crate::app::now_ms() } else { 0 },
            source,
            upstream_bytes,
        };
        match lease {
            Some(lease) => lease.commit(blob),
            None => self.app.farm.report_commit(blob),
        }
        if is_wanted {
            let (store, digest) = (self.app.store.clone(), committed.digest);
            // Opening a blob is what says that a client asked for it.
            drop(tokio::task::spawn_blocking(move || store.read(&digest).map(drop)));
        }
    }
}
