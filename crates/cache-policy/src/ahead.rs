//! Times that were written by a clock that was ahead.
//!
//! A host without a battery, before it was told the time, may have written times that lie years ahead. Nothing that is
//! counted from such a time ends. To take it for now whenever it is read begins the count anew with each look, so it is
//! put back once, where it is stored.
//!
//! A clock that is behind looks the same: then what is stored is right and the clock is not, and to put it back would
//! make all of it old when the clock is put right. A host that has just begun is told the time within minutes; so
//! nobody's times are put back before the clock has run on for a while.

use crate::UnixMs;

/// By so much may two readings of clocks that are right differ: a time that lies further ahead was never now.
const TOLERANCE_MS: u64 = 60 * 60 * 1000;

/// Looks, a minute or more apart, after which a clock is believed.
const LOOKS_MIN: u32 = 10;

/// What a stored time is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stored {
    /// It may have been now once.
    Past,
    /// A clock that was ahead wrote it: when that was is not known.
    Ahead,
}

impl Stored {
    /// What `at` is, `now`.
    #[must_use]
    pub fn judge(at: UnixMs, now: UnixMs) -> Self {
        if at > latest_past(now) { Self::Ahead } else { Self::Past }
    }
}

/// The latest time that is [`Stored::Past`]: for who has many to judge.
#[must_use]
pub fn latest_past(now: UnixMs) -> UnixMs {
    now.after_ms(TOLERANCE_MS)
}

/// What a look at the clock found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Look {
    /// Nobody has looked at it for long enough.
    Begun,
    /// It was put back a short while ago, or is behind.
    SetBack,
    /// It is believed from now on: what lies ahead is to be put back.
    Proven,
    /// It is believed as before.
    Steady,
}

/// Judges a clock by the looks at it. Another one for each process: nobody looked at the clock before it began.
#[derive(Debug, Clone, Copy, Default)]
pub struct Watch {
    last: Option<UnixMs>,
    was_set_back: bool,
    /// Since it began or was put back.
    looks: u32,
}

impl Watch {
    /// One more look.
    pub fn look(&mut self, now: UnixMs) -> Look {
        if self.last.is_some_and(|last| Stored::judge(last, now) == Stored::Ahead) {
            self.set_back(now);
        }
        self.last = Some(now);
        self.looks = self.looks.saturating_add(1);
        match self.looks {
            ..LOOKS_MIN if self.was_set_back => Look::SetBack,
            ..LOOKS_MIN => Look::Begun,
            LOOKS_MIN => Look::Proven,
            _ => Look::Steady,
        }
    }

    /// It is known to be behind: it has to run on from here, once it was put right.
    pub fn set_back(&mut self, now: UnixMs) -> Look {
        (self.last, self.was_set_back, self.looks) = (Some(now), true, 0);
        Look::SetBack
    }

    /// Whether what lies ahead of `now` is to be put back. Not if the clock went back since the last look.
    #[must_use]
    pub fn believes(&self, now: UnixMs) -> bool {
        self.looks >= LOOKS_MIN && self.last.is_some_and(|last| Stored::judge(last, now) == Stored::Past)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIN_MS: u64 = 60_000;
    const YEAR_MS: u64 = 365 * 24 * 60 * MIN_MS;
    const NOW: UnixMs = UnixMs::new(1_700_000_000_000);

    #[test]
    fn a_clock_is_believed_once_it_has_run_on_and_anew_after_it_was_put_back() {
        let mut watch = Watch::default();
        let mut looks = |from: UnixMs, count: u64| -> Vec<Look> {
            (0..count).map(|minute| watch.look(from.after_ms(minute * MIN_MS))).collect()
        };
        let ahead = NOW.after_ms(10 * YEAR_MS);
        let mut begun = vec![Look::Begun; 9];
        begun.extend([Look::Proven, Look::Steady]);
        assert_eq!(looks(ahead, 11), begun);
        let mut set_back = vec![Look::SetBack; 9];
        set_back.extend([Look::Proven, Look::Steady, Look::Steady]);
        assert_eq!(looks(NOW, 12), set_back);
        // Put back by little, as a clock is that runs too fast, or put forward, it goes on.
        assert_eq!(looks(NOW, 2), [Look::Steady; 2]);
        assert_eq!(looks(ahead, 2), [Look::Steady; 2]);
        assert!(watch.believes(ahead.after_ms(YEAR_MS)) && !watch.believes(NOW));
        assert!(!Watch::default().believes(NOW));
    }

    #[test]
    fn an_hour_ahead_is_a_difference_between_clocks() {
        let judge = |ahead_ms| Stored::judge(NOW.after_ms(ahead_ms), NOW);
        assert_eq!(
            [judge(0), judge(TOLERANCE_MS), judge(TOLERANCE_MS + 1)],
            [Stored::Past, Stored::Past, Stored::Ahead]
        );
    }

    proptest! {
        #[test]
        fn what_is_put_back_is_past_then_and_stays_so(at in any::<i64>(), now in any::<i64>(), later in any::<u64>()) {
            let (at, now) = (UnixMs::new(at), UnixMs::new(now));
            let put_back = if Stored::judge(at, now) == Stored::Ahead { now } else { at };
            prop_assert_eq!(Stored::judge(put_back, now.after_ms(later)), Stored::Past);
            prop_assert!(put_back <= at);
        }

        #[test]
        fn a_clock_that_only_goes_on_is_proven_once(steps in proptest::collection::vec(0..YEAR_MS, 0..40)) {
            let (mut watch, mut now) = (Watch::default(), NOW);
            let mut proven = 0;
            for step in &steps {
                now = now.after_ms(*step);
                let look = watch.look(now);
                prop_assert_ne!(look, Look::SetBack);
                proven += usize::from(look == Look::Proven);
                prop_assert_eq!(watch.believes(now), proven > 0);
            }
            prop_assert_eq!(proven, usize::from(steps.len() >= 10));
        }
    }
}
