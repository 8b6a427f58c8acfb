//! Medians with their spread, ratios and goals, as Markdown.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::super::median::{ratio, spread};

/// Which daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Rookery,
    Stock,
}

impl Side {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rookery => "rookery",
            Self::Stock => "stock rsyncd",
        }
    }

    /// How many connections stall for the figure of one: a thread's share is small, a process's is not.
    pub(super) fn stalled(self) -> u32 {
        match self {
            Self::Rookery => 1000,
            Self::Stock => 20,
        }
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    NoChangeCpu,
    NoChangeWall,
    FullCpu,
    FullWall,
    ProbeLatency,
    ProbeCpu,
    AtOnceWall,
    StalledMemory,
}

impl Work {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::NoChangeCpu => "no-change sync: processor time of the daemon",
            Self::NoChangeWall => "no-change sync: time at the client",
            Self::FullCpu => "full sync: processor time of the daemon",
            Self::FullWall => "full sync: time at the client",
            Self::ProbeLatency => "probe of timestamp.chk: latency",
            Self::ProbeCpu => "probe of timestamp.chk: processor time of the daemon",
            Self::AtOnceWall => "20 no-change syncs at once: time until the last is done",
            Self::StalledMemory => "anonymous memory of a connection in mid-list",
        }
    }

    /// The ratio that is aimed at, at most.
    fn goal(self) -> Option<f64> {
        match self {
            Self::NoChangeCpu => Some(1.0 / 50.0),
            Self::NoChangeWall => Some(0.75),
            Self::FullCpu => Some(1.0 / 20.0),
            Self::FullWall => Some(0.95),
            Self::ProbeLatency => Some(1.0 / 3.0),
            Self::ProbeCpu => None,
            Self::AtOnceWall => Some(0.6),
            Self::StalledMemory => Some(1.0 / 40.0),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
    Kibibytes,
}

/// A number of something.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figure(pub(super) f64, pub(super) Unit);

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, unit) = *self;
        match unit {
            Unit::Seconds => write!(f, "{value:.3} s"),
            Unit::Milliseconds => write!(f, "{value:.2} ms"),
            Unit::Kibibytes => write!(f, "{value:.0} KiB"),
        }
    }
}

/// All figures.
#[derive(Debug, Default)]
pub(super) struct Rounds(BTreeMap<Work, BTreeMap<Side, Vec<Figure>>>);

impl Rounds {
    pub(super) fn add(&mut self, work: Work, side: Side, figure: Figure) {
        self.0.entry(work).or_default().entry(side).or_default().push(figure);
    }
}

pub(super) fn render(rounds: &Rounds) -> String {
    let mut text =
        "| work | rookery | stock rsyncd | ratio | goal |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for (work, sides) in &rounds.0 {
        let (Some(ours), Some(theirs)) = (sides.get(&Side::Rookery), sides.get(&Side::Stock)) else {
            continue;
        };
        let goal = work.goal().map(|goal| format!("{goal:.3}")).unwrap_or_default();
        let ratio = ratio(&values(ours), &values(theirs));
        // Writing to a string can't fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {ratio:.4} | {goal} |",
            work.title(),
            shown(ours),
            shown(theirs)
        );
    }
    text
}

fn values(figures: &[Figure]) -> Vec<f64> {
    figures.iter().map(|figure| figure.0).collect()
}

/// Median, least and most.
fn shown(figures: &[Figure]) -> String {
    let unit = figures.first().map_or(Unit::Seconds, |figure| figure.1);
    let spread = spread(values(figures));
    let [median, least, most] = [spread.median, spread.least, spread.most].map(|value| Figure(value, unit));
    format!("{median} ({least} to {most})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_spreads_and_ratios_stand_beside_the_goal() {
        let mut rounds = Rounds::default();
        for value in [0.03, 0.01, 0.02] {
            rounds.add(Work::NoChangeCpu, Side::Rookery, Figure(value, Unit::Seconds));
            rounds.add(Work::NoChangeCpu, Side::Stock, Figure(value * 100.0, Unit::Seconds));
        }
        let line = "| no-change sync: processor time of the daemon | 0.020 s (0.010 s to 0.030 s) \
                    | 2.000 s (1.000 s to 3.000 s) | 0.0100 | 0.020 |\n";
        assert!(render(&rounds).ends_with(line), "{}", render(&rounds));
    }
}
