//! Whether a module's catalogue that lost distfiles is believed.
//!
//! A generation that drops too much is easy to see. One that drops a little less, and the next one again, ends in the
//! same place; so every generation is also compared with the most that the module had lately ([`Heights`]). That mark
//! sinks with time, or because the operator agrees: never because a small loss was believed.

use std::collections::BTreeMap;

use super::brake::{BrakeLimits, Excess, excess};
use crate::UnixMs;

/// What a new generation does to a module's catalogue, in distfiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogueChange {
    /// So many it had until now.
    pub before: u64,
    /// So many of these it no longer refers to.
    pub removed: u64,
    /// So many it has now.
    pub after: u64,
    /// What it was not believed for until now.
    pub doubted: Option<Loss>,
}

/// What a module lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// In how many steps.
    pub pace: Pace,
    /// When it last had as many as before.
    pub since: UnixMs,
    /// Distfiles that it had then.
    pub before: u64,
    /// How many of them are gone.
    pub lost: u64,
}

/// In how many steps something was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pace {
    /// One generation dropped it.
    AtOnce,
    /// Several did, and none of them too much.
    Gradual,
}

impl Pace {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::AtOnce, Self::Gradual];

    /// Its name in logs and in the index.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AtOnce => "at_once",
            Self::Gradual => "gradual",
        }
    }
}

/// Whether nobody needs to be asked about a catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belief {
    /// It is what the module refers to.
    Believed,
    /// The operator has to agree first.
    Doubted(Loss, Excess),
}

/// Judges a generation. `heights` are those [after](Heights::after) it.
///
/// What is doubted stays so until enough has come back: neither another look at the same tree nor time is a proof.
#[must_use]
pub fn judge_catalogue(
    change: &CatalogueChange,
    heights: &Heights,
    limits: BrakeLimits,
    now: UnixMs,
) -> Belief {
    let fallen = |mark: Loss| Loss { lost: mark.before.saturating_sub(change.after), ..mark };
    let step = change
        .doubted
        .map_or(Loss { pace: Pace::AtOnce, since: now, before: change.before, lost: change.removed }, fallen);
    let since_highest = heights.highest().map(fallen);
    // Whatever is doubted is measured from its highest mark.
    let losses = match since_highest {
        Some(highest) if change.doubted.is_some_and(|doubted| highest.before > doubted.before) => {
            [Some(highest), None]
        }
        highest => [Some(step), highest],
    };
    let doubt = |loss: Loss| {
        let excess = excess(loss.before, loss.lost, limits.catalogue_percent_max, limits.files_min)?;
        Some(Belief::Doubted(loss, excess))
    };
    losses.into_iter().flatten().find_map(doubt).unwrap_or(Belief::Believed)
}

/// The most that a module had lately: one number for a day at most, and only days after which it never had as many
/// again. Empty for a module that is new or that the operator has just agreed to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heights {
    days: BTreeMap<i64, u64>,
}

impl Heights {
    /// From what [`Self::days`] gave.
    #[must_use]
    pub fn new(days: impl IntoIterator<Item = (i64, u64)>) -> Self {
        Self { days: days.into_iter().collect() }
    }

    /// Days since 1 January 1970, UTC, with the most distfiles that it had on each.
    pub fn days(&self) -> impl Iterator<Item = (i64, u64)> {
        self.days.iter().map(|(day, distfiles)| (*day, *distfiles))
    }

    /// With the catalogue that the module had until `now`, and without what lies further back than
    /// `catalogue_within_ms`; nothing if that is 0.
    ///
    /// A day that is still to come was noted by a clock that was ahead. What was noted had been so before, hence it
    /// counts as today's: kept with its own day, it would hold for years.
    #[must_use]
    pub fn after(&self, before: u64, limits: BrakeLimits, now: UnixMs) -> Self {
        if limits.catalogue_within_ms == 0 {
            return Self::default();
        }
        let today = day(now);
        let oldest = day(now.before_ms(limits.catalogue_within_ms));
        let mut days = BTreeMap::new();
        for (day, distfiles) in self.days().chain([(today, before)]) {
            let highest: &mut u64 = days.entry(day.min(today)).or_default();
            *highest = distfiles.max(*highest);
        }
        let mut above = 0;
        let mut falling = BTreeMap::new();
        for (day, distfiles) in days.into_iter().rev() {
            if day >= oldest && distfiles > above {
                above = distfiles;
                falling.insert(day, distfiles);
            }
        }
        Self { days: falling }
    }

    /// The highest, as what nothing was lost of yet.
    #[must_use]
    pub fn highest(&self) -> Option<Loss> {
        let (day, before) = self.days.iter().max_by_key(|(_, distfiles)| **distfiles)?;
        let since = UnixMs::new(day.saturating_mul(DAY_MS));
        Some(Loss { pace: Pace::Gradual, since, before: *before, lost: 0 })
    }
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn day(at: UnixMs) -> i64 {
    at.get().div_euclid(DAY_MS)
}
