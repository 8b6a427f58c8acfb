//! The one place that asks what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use cache_policy::UnixMs;
use rustix::time::{ClockId, clock_gettime};

/// Tells the time.
pub trait Clock: std::fmt::Debug + Send + Sync {
    /// Now.
    fn now(&self) -> UnixMs;

    /// Milliseconds since a moment before the process began. They go on while the host sleeps, and nobody sets them.
    fn ran_ms(&self) -> u64;
}

/// A clock that several parts read.
pub type SharedClock = Arc<dyn Clock>;

/// The host's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMs {
        UnixMs::new(jiff::Timestamp::now().as_millisecond())
    }

    fn ran_ms(&self) -> u64 {
        // Monotonic alone would stand still while the host sleeps, so that each waking would be a jump.
        let ran = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(ran.tv_sec).unwrap_or(0);
        seconds.saturating_mul(1000).saturating_add(u64::try_from(ran.tv_nsec / 1_000_000).unwrap_or(0))
    }
}

/// A clock that stands still until it is moved: what tests use.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_ms: AtomicI64,
    ran_ms: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub const fn new(now: UnixMs) -> Self {
        Self { now_ms: AtomicI64::new(now.get()), ran_ms: AtomicU64::new(0) }
    }

    /// Lets time pass; sets it back if `ms` is negative.
    pub fn advance_ms(&self, ms: i64) {
        self.ran_ms.fetch_add(u64::try_from(ms).unwrap_or(0), Ordering::SeqCst);
        self.set_by_ms(ms);
    }

    /// Sets it, while no time passes.
    pub fn set_by_ms(&self, ms: i64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixMs {
        UnixMs::new(self.now_ms.load(Ordering::SeqCst))
    }

    fn ran_ms(&self) -> u64 {
        self.ran_ms.load(Ordering::SeqCst)
    }
}
