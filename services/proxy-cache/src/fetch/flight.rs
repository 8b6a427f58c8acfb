//! Single flight: one download per distfile, owned by the cache, followed by any number of clients.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blob_store::{PartReader, PartState};
use gentoo_repo::DistfileName;
use http::StatusCode;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::catalogue::KnownDistfile;

/// Identity of what is fetched: name and contents.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FlightKey {
    name: DistfileName,
    digest: Vec<u8>,
}

impl FlightKey {
    pub(crate) fn of(known: &KnownDistfile) -> Self {
        let digest = known.distfile.digests.best().map(|(_, digest)| digest.to_vec()).unwrap_or_default();
        Self { name: known.distfile.name.clone(), digest }
    }
}

/// Where a flight is.
#[derive(Debug, Clone)]
pub(crate) enum FlightState {
    /// Nothing that a client may see yet.
    Starting,
    /// Bytes arrive, or all are there; for small files: all are there and right.
    Ready(PartReader),
    /// Over.
    Failed(Failure),
}

/// Why a flight gave nothing.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// For the client and the log.
    pub(crate) why: String,
}

/// Kinds of failure, by what follows from each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// Every source failed; the client is told this.
    Sources(StatusCode),
    /// All came and was wrong. The next flight asks others first.
    WrongDigest,
    /// There is no room to store it: it can only pass through.
    NoRoom,
    /// No digest that we can check: it can only pass through.
    Unverifiable,
    /// The disk failed or is full under way.
    Disk,
    /// Everybody had left, or the task ended: ask again, for a new flight.
    Deserted,
    /// Another flight landed after the caller had looked into the store: look again.
    Stored,
}

impl FailureKind {
    /// For logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Sources(_) => "sources",
            Self::WrongDigest => "wrong_digest",
            Self::NoRoom => "no_room",
            Self::Unverifiable => "unverifiable",
            Self::Disk => "disk",
            Self::Deserted => "deserted",
            Self::Stored => "stored",
        }
    }
}

/// Those who wait for a flight.
#[derive(Debug, Clone, Copy)]
struct Followers {
    count: usize,
    /// There was nobody once, and the task goes no further: who joins now waits for the next flight.
    is_given_up: bool,
}

/// One download and those who wait for it.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) key: FlightKey,
    state: watch::Sender<FlightState>,
    followers: watch::Sender<Followers>,
    /// Whether a byte has come in this flight.
    has_arrived: watch::Sender<bool>,
    /// Another replica is fetching it, and we wait for that one.
    is_elsewhere: AtomicBool,
    /// What the source that is read answered; 0 before one did.
    source_status: AtomicU16,
    /// Set when it is out of the way: committed, or failed.
    over: CancellationToken,
}

impl Flight {
    /// Shows the bytes to everybody who waits.
    pub(crate) fn publish(&self, reader: PartReader) {
        self.state.send_replace(FlightState::Ready(reader));
    }

    /// True once a client may have seen bytes.
    pub(crate) fn is_published(&self) -> bool {
        matches!(*self.state.borrow(), FlightState::Ready(_))
    }

    /// A byte has come.
    pub(crate) fn note_arrival(&self) {
        self.has_arrived.send_if_modified(|arrived| !std::mem::replace(arrived, true));
    }

    /// A source is about to be read.
    pub(crate) fn note_status(&self, status: StatusCode) {
        self.source_status.store(status.as_u16(), Ordering::Relaxed);
    }

    /// Another replica is fetching it for us, or is not any more.
    pub(crate) fn set_elsewhere(&self, is_elsewhere: bool) {
        self.is_elsewhere.store(is_elsewhere, Ordering::Relaxed);
    }

    pub(crate) fn followers(&self) -> usize {
        self.followers.borrow().count
    }

    /// Ends when nobody follows any more. The flight is given up then: its task must not go on.
    pub(crate) async fn deserted(&self) {
        let mut followers = self.followers.subscribe();
        loop {
            // We hold the sender, so this can't fail.
            drop(followers.wait_for(|followers| followers.count == 0).await);
            let mut is_given_up = false;
            self.followers.send_if_modified(|followers| {
                // Somebody may have come meanwhile.
                followers.is_given_up |= followers.count == 0;
                is_given_up = followers.is_given_up;
                false
            });
            if is_given_up {
                return;
            }
        }
    }

    /// One more follower, and whether that is too late for him.
    fn enter(&self) -> bool {
        let mut is_given_up = false;
        self.followers.send_modify(|followers| {
            followers.count += 1;
            is_given_up = followers.is_given_up;
        });
        is_given_up
    }
}

/// A client's place in a flight. The flight goes on while somebody has one.
#[derive(Debug)]
pub(crate) struct Follower {
    flight: Arc<Flight>,
    /// False for whoever made the flight start.
    pub(crate) is_late: bool,
    /// It had been given up before.
    is_too_late: bool,
}

impl Follower {
    fn late(flight: &Arc<Flight>) -> Self {
        Self { is_too_late: flight.enter(), flight: Arc::clone(flight), is_late: true }
    }

    /// Waits until there is something to see.
    pub(crate) async fn ready(&self) -> Result<PartReader, Failure> {
        if self.is_too_late {
            // What it shows will not be completed; and before it is over the next one can't have the part.
            self.over().await;
            return Err(Failure { kind: FailureKind::Deserted, why: "the download was given up".to_owned() });
        }
        let mut state = self.flight.state.subscribe();
        loop {
            match &*state.borrow_and_update() {
                FlightState::Starting => {}
                FlightState::Ready(reader) => return Ok(reader.clone()),
                FlightState::Failed(failure) => return Err(failure.clone()),
            }
            if state.changed().await.is_err() {
                return Err(Failure { kind: FailureKind::Deserted, why: "the download ended".to_owned() });
            }
        }
    }
}

impl Follower {
    /// What the source answered; `None` if nobody was asked.
    pub(crate) fn source_status(&self) -> Option<u16> {
        Some(self.flight.source_status.load(Ordering::Relaxed)).filter(|&status| status > 0)
    }

    /// Whether another replica is fetching it for us now.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.flight.is_elsewhere.load(Ordering::Relaxed)
    }

    /// Ends when not one byte has come for `wait`; never once one did.
    pub(crate) async fn starved(&self, wait: Duration) {
        let mut arrived = self.flight.has_arrived.subscribe();
        if tokio::time::timeout(wait, arrived.wait_for(|&arrived| arrived)).await.is_ok() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the flight is out of the way: what came is in the store under its name, or the next flight
    /// can start.
    pub(crate) async fn over(&self) {
        self.flight.over.cancelled().await;
    }

    /// Waits until all of it is here and right.
    pub(crate) async fn finished(&self) -> Result<(), Failure> {
        let reader = self.ready().await?;
        let mut progress = reader.progress();
        let last =
            progress.wait_for(|progress| progress.state != PartState::Growing).await.map(|last| last.state);
        match last {
            Ok(PartState::Right) => Ok(()),
            Ok(PartState::Wrong | PartState::Growing) | Err(_) => {
                Err(Failure { kind: FailureKind::Deserted, why: "the download failed".to_owned() })
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.flight.followers.send_modify(|followers| followers.count -= 1);
    }
}

type Map = HashMap<FlightKey, Arc<Flight>>;

/// All flights of this replica.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flights(Arc<Mutex<Map>>);

/// The task's hold on its flight: however the task ends, the flight is over then.
#[derive(Debug)]
pub(crate) struct Pilot {
    flights: Flights,
    flight: Arc<Flight>,
    outcome: Result<(), Failure>,
}

impl Flights {
    fn map(&self) -> MutexGuard<'_, Map> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the flight for `key`; if there is none, makes one and hands out the pilot's seat.
    pub(crate) fn join(&self, key: &FlightKey) -> (Follower, Option<Pilot>) {
        let mut map = self.map();
        if let Some(flight) = map.get(key) {
            return (Follower::late(flight), None);
        }
        let flight = Arc::new(Flight {
            key: key.clone(),
            state: watch::Sender::new(FlightState::Starting),
            followers: watch::Sender::new(Followers { count: 1, is_given_up: false }),
            has_arrived: watch::Sender::new(false),
            is_elsewhere: AtomicBool::new(false),
            source_status: AtomicU16::new(0),
            over: CancellationToken::new(),
        });
        map.insert(key.clone(), Arc::clone(&flight));
        let outcome =
            Err(Failure { kind: FailureKind::Deserted, why: "the download was stopped".to_owned() });
        let pilot = Pilot { flights: self.clone(), flight: Arc::clone(&flight), outcome };
        (Follower { flight, is_late: false, is_too_late: false }, Some(pilot))
    }

    /// Joins only if somebody is fetching it already.
    pub(crate) fn join_running(&self, key: &FlightKey) -> Option<Follower> {
        Some(Follower::late(self.map().get(key)?)).filter(|follower| !follower.is_too_late)
    }
}

impl Pilot {
    pub(crate) fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// Ends the flight.
    pub(crate) fn land(mut self, outcome: Result<(), Failure>) {
        self.outcome = outcome;
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        self.flights.map().remove(&self.flight.key);
        if let Err(failure) = std::mem::replace(&mut self.outcome, Ok(())) {
            self.flight.state.send_replace(FlightState::Failed(failure));
        }
        self.flight.over.cancel();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn key() -> FlightKey {
        FlightKey { name: "a".parse().unwrap(), digest: vec![1] }
    }

    #[tokio::test]
    async fn the_second_client_joins_and_the_last_one_deserts() {
        let flights = Flights::default();
        let (first, pilot) = flights.join(&key());
        let pilot = pilot.unwrap();
        let (second, none) = flights.join(&key());
        assert!(none.is_none() && second.is_late && !first.is_late);
        assert_eq!(pilot.flight().followers(), 2);
        drop((first, second));
        pilot.flight().deserted().await;
    }

    #[tokio::test]
    async fn who_comes_after_a_flight_was_given_up_waits_for_its_end() {
        let flights = Flights::default();
        let (first, pilot) = flights.join(&key());
        let pilot = pilot.unwrap();
        let flight = Arc::clone(pilot.flight());
        drop(first);
        // Before the task has seen it, it goes on for whoever comes.
        let second = flights.join_running(&key()).unwrap();
        let mut deserted = std::pin::pin!(flight.deserted());
        assert!(deserted.as_mut().now_or_never().is_none());
        drop(second);
        deserted.await;
        assert!(flights.join_running(&key()).is_none());
        let (third, none) = flights.join(&key());
        assert!(none.is_none(), "the part is still that flight's");
        let mut ready = std::pin::pin!(third.ready());
        assert!(ready.as_mut().now_or_never().is_none());
        drop(pilot);
        assert_eq!(ready.await.unwrap_err().kind, FailureKind::Deserted);
        assert!(flights.join(&key()).1.is_some());
    }

    #[tokio::test]
    async fn who_waits_for_the_end_hears_of_it_after_the_flight_has_landed() {
        let flights = Flights::default();
        let (follower, pilot) = flights.join(&key());
        let mut over = std::pin::pin!(follower.over());
        assert!(over.as_mut().now_or_never().is_none(), "nothing has landed yet");
        pilot.unwrap().land(Ok(()));
        over.await;
        assert!(flights.join_running(&key()).is_none());
    }

    #[tokio::test]
    async fn a_flight_whose_task_dies_is_over() {
        let flights = Flights::default();
        let (follower, pilot) = flights.join(&key());
        drop(pilot);
        follower.over().await;
        assert_eq!(follower.ready().await.unwrap_err().kind, FailureKind::Deserted);
        assert!(flights.join_running(&key()).is_none());
        assert!(flights.join(&key()).1.is_some());
    }
}
