//! How fast bytes may be taken, all takers together: a token bucket, without a clock.

use crate::UnixMs;

/// So many bytes a second, and what may come at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    bytes_per_second: u64,
    burst_bytes: u64,
    /// What may be taken now, in thousandths of a byte; below 0 is what was taken ahead.
    level_millis: i128,
    at: UnixMs,
}

impl Bucket {
    /// Full. A rate of 0 is no limit.
    #[must_use]
    pub fn new(bytes_per_second: u64, burst_bytes: u64, now: UnixMs) -> Self {
        let level_millis = i128::from(burst_bytes) * 1000;
        Self { bytes_per_second, burst_bytes, level_millis, at: now }
    }

    /// Bytes have been taken; how many milliseconds to wait before more are. Whoever comes meanwhile waits
    /// longer, so the order is kept and nobody is starved.
    #[must_use]
    pub fn take(&mut self, bytes: u64, now: UnixMs) -> u64 {
        if self.bytes_per_second == 0 {
            return 0;
        }
        // A clock that was set back gives nothing, and takes nothing away.
        let passed_ms = i128::from(now.since_ms(self.at));
        self.at = now;
        let most = i128::from(self.burst_bytes) * 1000;
        let refilled = self.level_millis.saturating_add(passed_ms * i128::from(self.bytes_per_second));
        self.level_millis = refilled.min(most).saturating_sub(i128::from(bytes) * 1000);
        if self.level_millis >= 0 {
            return 0;
        }
        let missing = self.level_millis.unsigned_abs();
        u64::try_from(missing.div_ceil(u128::from(self.bytes_per_second))).unwrap_or(u64::MAX)
    }
}
