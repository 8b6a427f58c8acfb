//! Clients that hold bytes which turned out wrong.
//!
//! wget keeps what it got, asks for the rest by Range and reports success. So a client that was given
//! unverified bytes of a name gets 404 for ranges of that name for a while after they turned out wrong. Who
//! was given what is only in memory; that a name is in doubt is on disk, so after a restart everybody is
//! refused where it is not known who has to be.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gentoo_repo::DistfileName;
use tracing::warn;

use super::doubts::{Doubt, Doubts};
use crate::app::now_ms;

/// How long unverified bytes are remembered that are neither known right nor known wrong.
const UNVERIFIED_FOR: Duration = Duration::from_mins(30);
/// (client, name) pairs remembered.
const PAIRS_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy)]
enum Note {
    /// Was given bytes that nobody had verified, at that time.
    Unverified(Instant),
    /// They were wrong; no ranges until then.
    RefusedUntil(Instant),
}

type Notes = HashMap<(DistfileName, IpAddr), Note>;

/// What each client was given.
#[derive(Debug)]
pub(crate) struct Refusals {
    refuse_for: Duration,
    notes: Mutex<Notes>,
    /// Names of which it is not known who holds wrong bytes, and until when.
    everyone: Mutex<HashMap<DistfileName, Instant>>,
    /// Names of which an earlier process gave out bytes that nobody has verified.
    before: Mutex<HashSet<DistfileName>>,
    doubts: Doubts,
}

impl Refusals {
    /// With what an earlier process of this slot left. Blocks.
    pub(crate) fn open(refuse_for: Duration, slot_dir: &Path) -> Self {
        let (doubts, found) = Doubts::open(slot_dir);
        let (now, now_ms) = (Instant::now(), now_ms());
        let (mut everyone, mut before) = (HashMap::new(), HashSet::new());
        for (name, doubt) in found {
            match doubt {
                Doubt::Unverified => {
                    before.insert(name);
                }
                Doubt::WrongUntilMs(until_ms) => {
                    let left = Duration::from_millis(u64::try_from(until_ms - now_ms).unwrap_or(0));
                    everyone.insert(name, now + left.min(refuse_for));
                }
            }
        }
        let (everyone, before) = (Mutex::new(everyone), Mutex::new(before));
        Self { refuse_for, notes: Mutex::default(), everyone, before, doubts }
    }

    /// Bytes of `name` are about to be shown that nobody has verified. Blocks.
    pub(crate) fn record_unverified(&self, name: &DistfileName) {
        if let Err(error) = self.doubts.note_unverified(name) {
            warn!(%error, name = name.as_str(), "a restart will forget who was given unverified bytes");
        }
    }

    /// What was shown of `name` was wrong: not even a restart forgets that. Blocks.
    pub(crate) fn record_wrong(&self, name: &DistfileName) {
        let for_ms = i64::try_from(self.refuse_for.as_millis()).unwrap_or(i64::MAX);
        if let Err(error) = self.doubts.note_wrong(name, now_ms().saturating_add(for_ms)) {
            warn!(%error, name = name.as_str(), "a restart will forget who was given wrong bytes");
        }
    }

    /// What was shown of `name` was right. Blocks.
    pub(crate) fn record_right(&self, name: &DistfileName) {
        self.before.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        if let Err(error) = self.doubts.note_right(name, now_ms()) {
            warn!(%error, name = name.as_str(), "a note about unverified bytes could not be removed");
        }
    }

    /// Whether an earlier process gave out bytes of `name` that nobody has verified. Only the first who
    /// asks is told.
    pub(crate) fn take_doubt(&self, name: &DistfileName) -> bool {
        self.before.lock().unwrap_or_else(PoisonError::into_inner).remove(name)
    }

    /// Somebody holds wrong bytes of `name`, and nobody knows who.
    pub(crate) fn note_wrong_for_all(&self, name: &DistfileName) {
        let until = Instant::now() + self.refuse_for;
        let mut everyone = self.everyone.lock().unwrap_or_else(PoisonError::into_inner);
        everyone.retain(|_, until| *until > Instant::now());
        if everyone.len() < PAIRS_MAX {
            everyone.insert(name.clone(), until);
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client is about to be given bytes that nobody has verified.
    pub(crate) fn note_unverified(&self, name: &DistfileName, client: IpAddr) {
        let now = Instant::now();
        let mut notes = self.notes();
        if notes.len() >= PAIRS_MAX {
            notes.retain(|_, note| match note {
                Note::Unverified(since) => now.duration_since(*since) < UNVERIFIED_FOR,
                Note::RefusedUntil(until) => *until > now,
            });
        }
        let key = (name.clone(), client);
        if notes.len() < PAIRS_MAX || notes.contains_key(&key) {
            notes.entry(key).or_insert(Note::Unverified(now));
        }
    }

    /// All that the client was given of it was right. That ends no refusal: another client at the same
    /// address may still hold what was wrong.
    pub(crate) fn note_right(&self, name: &DistfileName, client: IpAddr) {
        let mut notes = self.notes();
        let key = (name.clone(), client);
        if matches!(notes.get(&key), Some(Note::Unverified(_))) {
            notes.remove(&key);
        }
    }

    /// What came for `name` was wrong.
    pub(crate) fn note_wrong(&self, name: &DistfileName) {
        let until = Instant::now() + self.refuse_for;
        for ((noted, _), note) in self.notes().iter_mut() {
            if noted == name {
                *note = Note::RefusedUntil(until);
            }
        }
    }

    /// Whether this client's ranges of that name are refused now.
    pub(crate) fn is_refused(&self, name: &DistfileName, client: IpAddr) -> bool {
        let everyone = self.everyone.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied();
        if everyone.is_some_and(|until| until > Instant::now()) {
            return true;
        }
        match self.notes().get(&(name.clone(), client)) {
            Some(Note::RefusedUntil(until)) => *until > Instant::now(),
            Some(Note::Unverified(_)) | None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_was_given_wrong_bytes_is_refused() {
        let slot = tempfile::tempdir().unwrap();
        let refusals = Refusals::open(Duration::from_mins(1), slot.path());
        let (name, other): (DistfileName, DistfileName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let client = |last: u8| IpAddr::from([10, 0, 0, last]);
        refusals.note_unverified(&name, client(1));
        refusals.note_unverified(&name, client(2));
        refusals.note_unverified(&other, client(1));
        refusals.note_right(&name, client(2));
        refusals.note_wrong(&name);
        assert!(refusals.is_refused(&name, client(1)));
        assert!(!refusals.is_refused(&name, client(2)));
        assert!(!refusals.is_refused(&name, client(3)));
        assert!(!refusals.is_refused(&other, client(1)));
    }

    #[test]
    fn a_refusal_ends() {
        let slot = tempfile::tempdir().unwrap();
        let refusals = Refusals::open(Duration::ZERO, slot.path());
        let name: DistfileName = "a".parse().unwrap();
        refusals.note_unverified(&name, IpAddr::from([10, 0, 0, 1]));
        refusals.note_wrong(&name);
        assert!(!refusals.is_refused(&name, IpAddr::from([10, 0, 0, 1])));
    }

    #[test]
    fn a_restart_refuses_everybody_what_was_wrong_and_knows_what_is_in_doubt() {
        let slot = tempfile::tempdir().unwrap();
        let open = || Refusals::open(Duration::from_mins(1), slot.path());
        let [wrong, doubtful, right]: [DistfileName; 3] = ["a", "b", "c"].map(|name| name.parse().unwrap());
        let refusals = open();
        for name in [&wrong, &doubtful, &right] {
            refusals.record_unverified(name);
        }
        refusals.record_wrong(&wrong);
        refusals.record_right(&right);
        let refusals = open();
        let client = IpAddr::from([10, 0, 0, 9]);
        assert!(refusals.is_refused(&wrong, client));
        assert!(!refusals.is_refused(&doubtful, client) && !refusals.is_refused(&right, client));
        assert!(refusals.take_doubt(&doubtful) && !refusals.take_doubt(&doubtful));
        assert!(!refusals.take_doubt(&wrong) && !refusals.take_doubt(&right));
    }
}
