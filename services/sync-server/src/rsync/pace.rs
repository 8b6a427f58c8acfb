//! `--bwlimit`: no more octets a second than the client wants.

use std::time::{Duration, Instant};

/// When the next octets may go, and how many.
#[derive(Debug)]
pub(super) struct Pace {
    octets_per_s: Option<u64>,
    open_at: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { octets_per_s: None, open_at: now }
    }

    pub(super) fn set(&mut self, kib_per_s: Option<u32>) {
        self.octets_per_s = kib_per_s.map(|kib| u64::from(kib) * 1024);
    }

    /// When it is open again, if it is shut now.
    pub(super) fn shut_until(&self, now: Instant) -> Option<Instant> {
        Some(self.open_at).filter(|&at| self.octets_per_s.is_some() && at > now)
    }

    /// How many octets may go at once: a tenth of a second's worth.
    pub(super) fn portion(&self) -> usize {
        let tenth = self.octets_per_s.map_or(u64::MAX, |rate| (rate / 10).max(512));
        usize::try_from(tenth).unwrap_or(usize::MAX)
    }

    pub(super) fn written(&mut self, octets: usize, now: Instant) {
        if let Some(rate) = self.octets_per_s {
            let micros = (octets as u64).saturating_mul(1_000_000) / rate.max(1);
            self.open_at = self.open_at.max(now) + Duration::from_micros(micros);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_shuts_for_as_long_as_the_octets_take() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        pace.written(1 << 20, now);
        assert_eq!((pace.shut_until(now), pace.portion()), (None, usize::MAX));
        pace.set(Some(100));
        assert_eq!(pace.portion(), 10_240);
        pace.written(10_240, now);
        assert_eq!(pace.shut_until(now), Some(now + Duration::from_millis(100)));
        assert_eq!(pace.shut_until(now + Duration::from_millis(100)), None);
    }
}
