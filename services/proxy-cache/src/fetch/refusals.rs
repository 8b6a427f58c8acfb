//! Clients that hold bytes which turned out wrong.
//!
//! wget keeps what it got, asks for the rest by Range and reports success. So a client that was given
//! unverified bytes of a name gets 404 for ranges of that name for a while after they turned out wrong.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gentoo_repo::DistfileName;

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
}

impl Refusals {
    pub(crate) fn new(refuse_for: Duration) -> Self {
        Self { refuse_for, notes: Mutex::default() }
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
        let refusals = Refusals::new(Duration::from_mins(1));
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
        let refusals = Refusals::new(Duration::ZERO);
        let name: DistfileName = "a".parse().unwrap();
        refusals.note_unverified(&name, IpAddr::from([10, 0, 0, 1]));
        refusals.note_wrong(&name);
        assert!(!refusals.is_refused(&name, IpAddr::from([10, 0, 0, 1])));
    }
}
