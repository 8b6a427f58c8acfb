//! A clock that jumped ahead: to it everything is old, and what is old goes.
//!
//! [`Watch`] is about what such a clock wrote; this is about what is decided while it is ahead. What can know of a jump:
//! how long the process ran between two looks, and over a restart the last time that was believed. Both also see a jump
//! where there was none: a virtual machine was paused, a host was switched off for months. So a jump is a doubt, and
//! what ends it is that the clock is put right; that a tree was made shortly before, somewhere else; an operator; or, as
//! the last resort, that the clock ran on for days without any of these.

use crate::UnixMs;
use crate::ahead::{Look, Watch};

/// A jump by no more takes no more than this from any grace, and a host that is off for a day is no news.
const JUMP_MS_MAX: u64 = 2 * DAY_MS;
/// A clock that is ahead of a tree by no more is right: mirrors are pulled once or twice a day. One that is so much
/// behind a tree is wrong, unless the tree is.
const TREE_APART_MS_MAX: u64 = 2 * DAY_MS;
/// A doubt ends by itself after so much time in which the process ran.
const DOUBT_MS_MAX: u64 = 3 * DAY_MS;
/// What is remembered may be so old: not each look is worth a write.
const REMEMBER_EVERY_MS: u64 = 60 * 60 * 1000;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// What is known at a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// What the clock says.
    pub now: UnixMs,
    /// How long this process ran, the host's sleep included, whatever happened to the clock.
    pub ran_ms: u64,
    /// When the newest tree was made, as it says itself; `None` if that is not known.
    pub tree: Option<UnixMs>,
}

/// What outlives the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    /// The last time that was believed, and what processes ran since.
    pub believed: UnixMs,
    /// How long processes ran that doubted what came after it.
    pub doubted_ms: u64,
}

/// Whether what is old by the clock is old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Believed(Belief),
    /// It may be new: nothing is to be deleted for its age.
    Doubted(Doubt),
}

/// Why a clock is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Belief {
    /// It did not go ahead of the time that passed.
    WentOn,
    /// It jumped, and a tree was made shortly before.
    Tree,
    /// It jumped, and nobody put it right for days.
    Outlasted,
}

impl Belief {
    /// For logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WentOn => "went_on",
            Self::Tree => "tree",
            Self::Outlasted => "outlasted",
        }
    }
}

/// A jump that nothing confirms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Doubt {
    /// What the clock would say, had it gone on from the last time that was believed while the process ran.
    pub expected: UnixMs,
    /// How far ahead of that it is.
    pub ahead_ms: u64,
    /// After so much more time it is believed.
    pub left_ms: u64,
}

/// What changed with a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looked {
    /// What it says of the times that are stored.
    pub look: Look,
    /// What it says of the clock.
    pub verdict: Verdict,
    /// The verdict is not the one of the look before.
    pub is_news: bool,
    /// What is to be written down, if it is worth it.
    pub remember: Option<Remembered>,
}

/// Judges a clock by the looks at it and by what was believed before the process began.
#[derive(Debug, Clone, Copy)]
pub struct Trust {
    watch: Watch,
    /// What the last reading should have been; what an earlier process believed counts as read when this one began.
    believed: UnixMs,
    believed_at_ms: u64,
    /// Before `doubted_at_ms`.
    doubted_ms: u64,
    /// When this process last saw a doubt that goes on.
    doubted_at_ms: Option<u64>,
    written: Remembered,
}

impl Trust {
    /// Of a process that begins now, `ran_ms`.
    #[must_use]
    pub fn resume(remembered: Remembered, ran_ms: u64) -> Self {
        Self {
            watch: Watch::default(),
            believed: remembered.believed,
            believed_at_ms: ran_ms,
            doubted_ms: remembered.doubted_ms,
            doubted_at_ms: None,
            written: remembered,
        }
    }

    /// What the clock is at this reading. Changes nothing.
    #[must_use]
    pub fn judge(&self, reading: Reading) -> Verdict {
        let expected = self.expected(reading.ran_ms);
        let ahead_ms = reading.now.since_ms(expected);
        if ahead_ms <= JUMP_MS_MAX {
            return Verdict::Believed(Belief::WentOn);
        }
        if reading.tree.is_some_and(|made| reading.now.since_ms(made) <= TREE_APART_MS_MAX) {
            return Verdict::Believed(Belief::Tree);
        }
        match DOUBT_MS_MAX.saturating_sub(self.doubted_until(reading.ran_ms)) {
            0 => Verdict::Believed(Belief::Outlasted),
            left_ms => Verdict::Doubted(Doubt { expected, ahead_ms, left_ms }),
        }
    }

    /// One more look, a minute or more after the last.
    pub fn look(&mut self, reading: Reading) -> Looked {
        let look =
            if is_behind(reading) { self.watch.set_back(reading.now) } else { self.watch.look(reading.now) };
        let verdict = self.judge(reading);
        let was_doubted = self.doubted_at_ms.is_some();
        match verdict {
            Verdict::Doubted(_) => {
                self.doubted_ms = self.doubted_until(reading.ran_ms);
                self.doubted_at_ms = Some(reading.ran_ms);
                // That time did pass, and the next process can't know it from elsewhere.
                self.believed = self.expected(reading.ran_ms);
                self.believed_at_ms = reading.ran_ms;
            }
            Verdict::Believed(_) => self.believe(reading),
        }
        let is_news = was_doubted != self.doubted_at_ms.is_some() || is_jump(verdict);
        let remember = Remembered { believed: self.believed, doubted_ms: self.doubted_ms };
        let remember = (is_news || self.is_worth_writing(remember)).then_some(remember);
        self.written = remember.unwrap_or(self.written);
        Looked { look, verdict, is_news, remember }
    }

    /// An operator says that the clock is right; answers what is to be written down.
    pub fn agree(&mut self, reading: Reading) -> Remembered {
        self.begin_from(reading);
        self.written = Remembered { believed: self.believed, doubted_ms: 0 };
        self.written
    }

    /// Whether stored times that lie ahead of the clock are to be put back to it.
    #[must_use]
    pub fn may_put_back(&self, reading: Reading) -> bool {
        self.watch.believes(reading.now) && !is_behind(reading)
    }

    fn expected(&self, ran_ms: u64) -> UnixMs {
        self.believed.after_ms(ran_ms.saturating_sub(self.believed_at_ms))
    }

    fn doubted_until(&self, ran_ms: u64) -> u64 {
        let more_ms = self.doubted_at_ms.map_or(0, |at_ms| ran_ms.saturating_sub(at_ms));
        self.doubted_ms.saturating_add(more_ms)
    }

    fn believe(&mut self, reading: Reading) {
        // A clock that is behind for a while after a start must not make of the right time a jump.
        if reading.now < self.believed && !self.may_put_back(reading) {
            (self.doubted_ms, self.doubted_at_ms) = (0, None);
        } else {
            self.begin_from(reading);
        }
    }

    fn begin_from(&mut self, reading: Reading) {
        (self.believed, self.believed_at_ms) = (reading.now, reading.ran_ms);
        (self.doubted_ms, self.doubted_at_ms) = (0, None);
    }

    fn is_worth_writing(&self, new: Remembered) -> bool {
        let went_ms = new.believed.since_ms(self.written.believed);
        new.believed < self.written.believed
            || went_ms >= REMEMBER_EVERY_MS
            || new.doubted_ms.abs_diff(self.written.doubted_ms) >= REMEMBER_EVERY_MS
    }
}

/// The newest tree is still to be made, so the clock is wrong, or the tree.
#[must_use]
pub fn is_behind(reading: Reading) -> bool {
    reading.tree.is_some_and(|made| made.since_ms(reading.now) > TREE_APART_MS_MAX)
}

fn is_jump(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Believed(Belief::Tree | Belief::Outlasted))
}

#[cfg(test)]
mod tests;
