//! A catalogue that loses too much brakes, in however many steps it does; one that shrinks slowly doesn't.

use cache_policy::UnixMs;
use cache_policy::eviction::brake::{BrakeLimits, Excess};
use cache_policy::eviction::catalogue::{Belief, CatalogueChange, Heights, Loss, Pace, judge_catalogue};
use proptest::prelude::*;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const HOUR_MS: u64 = 60 * 60 * 1000;
const WITHIN_DAYS: u64 = 30;
const NOW: UnixMs = UnixMs::new(1_700_000_000_000);
const BRAKES: BrakeLimits = BrakeLimits {
    share_percent_max: 25,
    catalogue_percent_max: 30,
    catalogue_within_ms: WITHIN_DAYS * DAY_MS,
    files_min: 3,
};

/// A module, as an index keeps it.
#[derive(Debug, Clone)]
struct Module {
    distfiles: u64,
    doubted: Option<Loss>,
    heights: Heights,
}

impl Module {
    fn new(distfiles: u64) -> Self {
        Self { distfiles, doubted: None, heights: Heights::default() }
    }

    fn becomes(&mut self, after: u64, now: UnixMs) -> Belief {
        self.drops(self.distfiles.saturating_sub(after), after, now)
    }

    fn drops(&mut self, removed: u64, after: u64, now: UnixMs) -> Belief {
        let change = CatalogueChange { before: self.distfiles, removed, after, doubted: self.doubted };
        self.heights = self.heights.after(change.before, BRAKES, now);
        let belief = judge_catalogue(&change, &self.heights, BRAKES, now);
        self.distfiles = after;
        self.doubted = match belief {
            Belief::Believed => None,
            Belief::Doubted(loss, _) => Some(loss),
        };
        belief
    }

    /// The operator believes what it has.
    fn is_agreed(&mut self) {
        (self.doubted, self.heights) = (None, Heights::default());
    }
}

fn day(number: u64) -> UnixMs {
    NOW.after_ms(number * DAY_MS)
}

fn percent(belief: Belief) -> Option<(Pace, u64, u8)> {
    match belief {
        Belief::Believed => None,
        Belief::Doubted(loss, Excess { percent, percent_max: 30 }) => Some((loss.pace, loss.before, percent)),
        Belief::Doubted(_, excess) => panic!("{excess:?}"),
    }
}

#[test]
fn one_generation_that_lost_too_much_is_not_believed() {
    let at_once = |before, removed, after| percent(Module::new(before).drops(removed, after, NOW));
    assert_eq!(at_once(1000, 300, 700), None);
    assert_eq!(at_once(1000, 301, 699), Some((Pace::AtOnce, 1000, 31)));
    assert_eq!(at_once(1000, 900, 100), Some((Pace::AtOnce, 1000, 90)));
    assert_eq!(at_once(1000, 301, 1000), Some((Pace::AtOnce, 1000, 31)), "others came in their place");
    assert_eq!(at_once(2, 2, 0), None, "so few are never too many");
    assert_eq!(at_once(0, 0, 0), None);
    assert_eq!(at_once(0, 0, 1000), None, "the first import");
}

#[test]
fn several_generations_that_each_lose_a_little_less_are_one_loss() {
    let mut module = Module::new(1000);
    assert_eq!(percent(module.becomes(710, day(0))), None, "29 %");
    assert_eq!(percent(module.becomes(505, day(1))), Some((Pace::Gradual, 1000, 50)), "29 % again");
    let Some(loss) = module.doubted else { panic!("{module:?}") };
    assert_eq!((loss.since.get(), loss.lost), (NOW.get() / 86_400_000 * 86_400_000, 495));
    // Neither another look nor time is a proof; what comes back is.
    assert_eq!(percent(module.becomes(505, day(90))), Some((Pace::Gradual, 1000, 50)));
    assert_eq!(percent(module.becomes(700, day(91))), None);
    // What is lost after that is measured from the highest of the last days again, not from a year ago.
    assert_eq!(percent(module.becomes(500, day(92))), None);
    assert_eq!(percent(module.becomes(489, day(93))), Some((Pace::Gradual, 700, 31)));
}

#[test]
fn what_the_operator_agreed_to_is_the_new_measure() {
    let mut module = Module::new(1000);
    module.becomes(710, day(0));
    assert!(percent(module.becomes(505, day(1))).is_some());
    module.is_agreed();
    assert_eq!(percent(module.becomes(505, day(2))), None);
    assert_eq!(percent(module.becomes(354, day(3))), None, "70 % of it");
    assert_eq!(percent(module.becomes(353, day(4))), Some((Pace::Gradual, 505, 31)));
}

#[test]
fn a_doubt_about_a_part_becomes_one_about_all_that_was_lost() {
    let mut module = Module::new(1000);
    module.becomes(800, day(0));
    assert_eq!(percent(module.becomes(500, day(1))), Some((Pace::AtOnce, 800, 38)));
    assert_eq!(percent(module.becomes(600, day(2))), Some((Pace::Gradual, 1000, 40)));
    assert_eq!(percent(module.becomes(700, day(3))), None);
}

#[test]
fn days_of_a_clock_that_was_ahead_are_over_in_time() {
    let mut module = Module::new(1000);
    let ahead = day(4000);
    module.becomes(800, ahead);
    assert_eq!(module.heights.days().count(), 1);
    // The clock is right again: it counts as today's, and is forgotten like any other.
    assert_eq!(percent(module.becomes(600, day(0))), Some((Pace::Gradual, 1000, 40)));
    module.is_agreed();
    module.becomes(600, ahead);
    module.becomes(500, day(0));
    module.becomes(500, day(WITHIN_DAYS + 1));
    assert_eq!(percent(module.becomes(400, day(WITHIN_DAYS + 2))), None, "20 % of 500");
}

/// Hours since the last one, and what is left of each 1000.
fn steps(left: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Vec<(u64, u64)>> {
    proptest::collection::vec((0u64..24 * 20, left), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever came between: what is lost of any count that the module had within the time is not believed.
    #[test]
    fn no_sequence_of_steps_gets_past_the_brake(
        first in 0u64..100_000, steps in steps(0..=1100), agreed in proptest::collection::vec(0u8..20, 40),
    ) {
        let mut module = Module::new(first);
        let mut now = NOW;
        // Each count with the time until which it was so.
        let mut had: Vec<(u64, UnixMs)> = Vec::new();
        for ((hours, left), agreed) in steps.into_iter().zip(agreed) {
            now = now.after_ms(hours * HOUR_MS);
            had.push((module.distfiles, now));
            let after = module.distfiles * left / 1000;
            let removed = module.distfiles.saturating_sub(after);
            let at_once = too_much(module.distfiles, removed);
            let doubted = module.doubted;
            let belief = module.becomes(after, now);
            let lost_since = |days: u64| {
                had.iter().any(|(count, until)| {
                    now.since_ms(*until) <= days * DAY_MS && too_much(*count, count.saturating_sub(after))
                })
            };
            if belief == Belief::Believed {
                prop_assert!(!lost_since(WITHIN_DAYS), "{had:?} {after}");
            } else if doubted.is_none() {
                // The day on which the time begins counts as a whole.
                prop_assert!(at_once || lost_since(WITHIN_DAYS + 1), "{had:?} {after}: {belief:?}");
            }
            prop_assert!(module.heights.days().count() as u64 <= WITHIN_DAYS + 1);
            if agreed == 0 {
                module.is_agreed();
                had.clear();
            }
        }
    }

    /// However much is lost in the end, and in whatever steps.
    #[test]
    fn a_slow_shrink_never_brakes(
        first in 1u64..100_000, steps in proptest::collection::vec((20u64..48, 0u64..=9), 1..300),
    ) {
        let mut module = Module::new(first);
        let mut now = NOW;
        for (hours, permille) in steps {
            now = now.after_ms(hours * HOUR_MS);
            // At most 38 of these within the time and the day that it begins on: 0.9 % each are 29.1 %.
            let after = module.distfiles - module.distfiles * permille / 1000;
            prop_assert_eq!(module.becomes(after, now), Belief::Believed, "{:?}", module);
        }
    }

    /// The order in which days were stored is nothing that counts.
    #[test]
    fn heights_are_what_they_were_when_they_are_read_again(
        first in 0u64..1000, steps in steps(500..=1100),
    ) {
        let mut module = Module::new(first);
        let mut now = NOW;
        for (hours, left) in steps {
            now = now.after_ms(hours * HOUR_MS);
            module.becomes(module.distfiles * left / 1000, now);
            let mut stored: Vec<_> = module.heights.days().collect();
            prop_assert!(stored.windows(2).all(|two| two[0].1 > two[1].1), "falling: {stored:?}");
            stored.reverse();
            prop_assert_eq!(&Heights::new(stored), &module.heights);
        }
    }
}

fn too_much(before: u64, lost: u64) -> bool {
    lost >= BRAKES.files_min && u128::from(lost) * 100 > u128::from(before) * 30
}
