//! Pauses between attempts to reach a peer again.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Doubles the pause with each failure up to a limit, and spreads it randomly over its upper half, so that
/// many clients of one restarted server don't come back in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    failures: u32,
}

impl Default for Backoff {
    /// From 250 ms to 15 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(250), Duration::from_secs(15))
    }
}

impl Backoff {
    /// Pauses from `first` up to `limit`.
    #[must_use]
    pub fn new(first: Duration, limit: Duration) -> Self {
        Self { first: first.min(limit), limit, failures: 0 }
    }

    /// The attempt succeeded: the next pause is the first one again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How often in a row it failed.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The pause after one more failure.
    pub fn next_pause(&mut self) -> Duration {
        let whole = self.first.saturating_mul(2_u32.saturating_pow(self.failures)).min(self.limit);
        self.failures = self.failures.saturating_add(1);
        let half = whole / 2;
        half + half.mul_f64(rand::random::<f64>())
    }

    /// Waits that pause; `false` if `stop` was cancelled meanwhile.
    pub async fn wait(&mut self, stop: &CancellationToken) -> bool {
        let pause = self.next_pause();
        stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_start_again() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for whole_ms in [100, 200, 400, 800, 1000, 1000] {
            let pause = backoff.next_pause();
            let whole = Duration::from_millis(whole_ms);
            assert!(pause >= whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
        }
        for _ in 0..100 {
            assert!(backoff.next_pause() <= Duration::from_secs(1));
        }
        backoff.reset();
        assert!(backoff.next_pause() <= Duration::from_millis(100));
    }

    #[tokio::test]
    async fn a_stop_ends_the_pause() {
        let mut backoff = Backoff::new(Duration::from_hours(1), Duration::from_hours(1));
        let stop = CancellationToken::new();
        stop.cancel();
        assert!(!backoff.wait(&stop).await);
        assert_eq!(backoff.failures(), 1);
    }
}
