//! Pauses that double, with jitter, so that a farm does not come back all at once.

use std::time::Duration;

/// The next pause of something that failed.
#[derive(Debug, Clone)]
pub(super) struct Retry {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Retry {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min }
    }

    /// Between half of the pause that is due and all of it.
    pub(super) fn next_pause(&mut self) -> Duration {
        let due = self.next;
        self.next = due.saturating_mul(2).min(self.max);
        due.mul_f64(rand::random_range(0.5..=1.0))
    }

    pub(super) fn reset(&mut self) {
        self.next = self.min;
    }
}
