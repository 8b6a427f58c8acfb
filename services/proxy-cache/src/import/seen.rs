//! Files whose times say nothing, and since when each is as it is: those of a clock that was ahead, or is on another host.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use cache_policy::import::SETTLED_AFTER_MS;

use crate::beneath::State;

/// What is not found any more in a night and a day is forgotten.
const KEPT_FOR: Duration = Duration::from_hours(48);
/// Files beyond this wait until others are forgotten.
const FILES_MAX: usize = 100_000;

/// What earlier imports of this process saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    files: HashMap<State, Span>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    first: Instant,
    last: Instant,
}

impl Seen {
    /// Forgets what was not seen for long.
    pub(super) fn forget_before(&mut self, now: Instant) {
        self.files.retain(|_, span| now.saturating_duration_since(span.last) <= KEPT_FOR);
    }

    /// Whether the file was as it is for long enough.
    pub(super) fn is_settled(&mut self, state: State, now: Instant) -> bool {
        if let Some(span) = self.files.get_mut(&state) {
            span.last = now;
            let unchanged_ms = now.saturating_duration_since(span.first).as_millis();
            return unchanged_ms >= u128::from(SETTLED_AFTER_MS);
        }
        if self.files.len() < FILES_MAX {
            self.files.insert(state, Span { first: now, last: now });
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_what_is_gone_is_forgotten() {
        let (mut seen, begun) = (Seen::default(), Instant::now());
        let file = tempfile::tempfile().unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        let state = |number: usize| {
            let mut stat = stat;
            stat.st_size = i64::try_from(number).unwrap();
            State::of(&stat)
        };
        let minute = begun + Duration::from_mins(1);
        for number in 0..=FILES_MAX {
            assert!(!seen.is_settled(state(number), begun));
        }
        assert!(seen.is_settled(state(0), minute) && !seen.is_settled(state(FILES_MAX), minute));
        seen.forget_before(minute + KEPT_FOR);
        assert_eq!(seen.files.len(), 1, "the others were last seen earlier");
        assert!(!seen.is_settled(state(FILES_MAX), minute + KEPT_FOR), "there is room for it");
        assert_eq!(seen.files.len(), 2);
    }
}
