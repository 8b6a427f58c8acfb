//! The wall clock, in one place.
//!
//! Whatever goes into a message, an index or a log asks here; pure crates are handed the result as `now_ms`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01T00:00:00Z; 0 if the clock stands before that.
#[must_use]
pub fn now_ms() -> u64 {
    since_epoch_ms(SystemTime::now())
}

/// A time (of a file, for instance) in the same milliseconds.
#[must_use]
pub fn since_epoch_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The time at `ms` milliseconds since 1970.
#[must_use]
pub fn from_epoch_ms(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms)
}
