//! The memory that maintenance is away, so that an outage costs one client a wait and not each of them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use service_kit::backoff::Backoff;
use tokio::time::Instant;

/// Closed while calls succeed. A failure opens it for a pause that grows; then one caller may try while
/// the others are still turned away.
#[derive(Debug)]
pub(super) struct Circuit {
    state: Mutex<State>,
    probe_timeout: Duration,
}

#[derive(Debug)]
struct State {
    away_until: Option<Instant>,
    /// Somebody was let through after the pause, and has not come back.
    is_probed: bool,
    retry: Backoff,
}

impl Circuit {
    pub(super) fn new(retry: Backoff, probe_timeout: Duration) -> Self {
        Self { state: Mutex::new(State { away_until: None, is_probed: false, retry }), probe_timeout }
    }

    /// Whether a call that a client waits for may be tried.
    pub(super) fn admits(&self, now: Instant) -> bool {
        let mut state = self.lock();
        match state.away_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                state.away_until = Some(now + self.probe_timeout);
                state.is_probed = true;
                true
            }
        }
    }

    pub(super) fn note_answer(&self) {
        let mut state = self.lock();
        state.away_until = None;
        state.is_probed = false;
        state.retry.reset();
    }

    pub(super) fn note_failure(&self, now: Instant) {
        let mut state = self.lock();
        // Of calls that were under way together, only the first one tells something new.
        if !state.is_probed && state.away_until.is_some_and(|until| now < until) {
            return;
        }
        let pause = state.retry.next_pause();
        state.away_until = Some(now + pause);
        state.is_probed = false;
    }

    pub(super) fn is_away(&self) -> bool {
        self.lock().away_until.is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn after_a_failure_only_one_caller_a_pause_tries() {
        let circuit = Circuit::new(Backoff::new(SECOND, 8 * SECOND), 2 * SECOND);
        let start = Instant::now();
        assert!(circuit.admits(start) && circuit.admits(start));
        circuit.note_failure(start);
        assert!(!circuit.admits(start));
        let later = start + 2 * SECOND;
        assert!(circuit.admits(later), "the pause is over");
        assert!(!circuit.admits(later), "somebody is trying");
        circuit.note_failure(later);
        assert!(!circuit.admits(later));
        circuit.note_answer();
        assert!(circuit.admits(later) && circuit.admits(later) && !circuit.is_away());
    }

    #[test]
    fn calls_that_fail_together_are_one_failure() {
        let circuit = Circuit::new(Backoff::new(SECOND, 64 * SECOND), 2 * SECOND);
        let start = Instant::now();
        for _ in 0..100 {
            circuit.note_failure(start);
        }
        assert!(circuit.admits(start + SECOND), "no pause but the first one");
        circuit.note_failure(start + SECOND);
        assert!(!circuit.admits(start + SECOND + SECOND / 2), "the second pause is longer");
        assert!(circuit.admits(start + 3 * SECOND));
    }

    #[test]
    fn a_caller_that_vanished_while_trying_is_followed_by_another() {
        let circuit = Circuit::new(Backoff::new(SECOND, 8 * SECOND), 2 * SECOND);
        let start = Instant::now();
        circuit.note_failure(start);
        assert!(circuit.admits(start + 2 * SECOND));
        assert!(circuit.admits(start + 5 * SECOND));
    }
}
