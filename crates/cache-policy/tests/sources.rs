//! The order of sources, and the rate of all of them together.

use cache_policy::UnixMs;
use cache_policy::bandwidth::Bucket;
use cache_policy::score::{Observed, Scores, Terms};
use proptest::prelude::*;

const TERMS: Terms = Terms { places_max: 4, ..Terms::DEFAULT };

fn at(ms: i64) -> UnixMs {
    UnixMs::new(1_000_000 + ms)
}

fn scores(seen: &[(&str, Observed)]) -> Scores {
    let mut scores = Scores::new(TERMS);
    for (place, observed) in seen {
        scores.note(place, *observed, at(0));
    }
    scores
}

const QUICK: Observed = Observed::FirstByte { after_ms: 10 };
const SLOW: Observed = Observed::FirstByte { after_ms: 8_000 };
const FAST: Observed = Observed::Body { bytes: 10_000_000, in_ms: 100 };
const CRAWLING: Observed = Observed::Body { bytes: 1_000_000, in_ms: 60_000 };

#[test]
fn the_operators_order_stays_while_nobody_is_much_better() {
    assert_eq!(scores(&[]).order(&["a", "b", "c"], at(0)), [0, 1, 2]);
    let alike =
        scores(&[("a", Observed::FirstByte { after_ms: 300 }), ("b", Observed::FirstByte { after_ms: 200 })]);
    assert_eq!(alike.order(&["a", "b"], at(0)), [0, 1]);
}

#[test]
fn first_byte_rate_and_failures_each_put_a_place_back() {
    for bad in [SLOW, CRAWLING, Observed::Failed] {
        let scores = scores(&[("a", bad), ("b", QUICK), ("b", FAST)]);
        assert_eq!(scores.order(&["a", "b", "c"], at(0)), [1, 2, 0], "{bad:?}");
    }
}

#[test]
fn what_was_bad_is_forgotten() {
    let bad = scores(&[("a", Observed::Failed), ("a", SLOW)]);
    assert_eq!(bad.order(&["a", "b"], at(0)), [1, 0]);
    let later = i64::try_from(TERMS.half_life_ms).unwrap_or(i64::MAX) * 8;
    assert_eq!(bad.order(&["a", "b"], at(later)), [0, 1]);
}

#[test]
fn a_few_bytes_say_nothing_about_a_rate() {
    let few = scores(&[("a", Observed::Body { bytes: 100, in_ms: 60_000 })]);
    assert_eq!(few.order(&["a", "b"], at(0)), [0, 1]);
}

#[test]
fn a_limit_of_nothing_is_none() {
    let mut bucket = Bucket::new(0, 0, at(0));
    assert_eq!(bucket.take(u64::MAX, at(0)), 0);
}

fn observed() -> impl Strategy<Value = Observed> {
    prop_oneof![
        any::<u64>().prop_map(|after_ms| Observed::FirstByte { after_ms }),
        (any::<u64>(), any::<u64>()).prop_map(|(bytes, in_ms)| Observed::Body { bytes, in_ms }),
        Just(Observed::Failed),
    ]
}

proptest! {
    /// Whatever was seen: each place once, costs that can be compared, and who is asked before one that was
    /// named earlier is much better than that one.
    #[test]
    fn an_order_is_a_permutation_with_reasons(
        seen in prop::collection::vec((0_u8..6, observed(), 0_i64..10_000_000), 0..40), now in 0_i64..20_000_000,
    ) {
        let mut scores = Scores::new(TERMS);
        for (place, observed, ms) in seen {
            scores.note(&place.to_string(), observed, at(ms));
        }
        let places = ["0", "1", "2", "3", "4", "5"];
        let order = scores.order(&places, at(now));
        let mut sorted = order.clone();
        sorted.sort_unstable();
        prop_assert_eq!(sorted, [0, 1, 2, 3, 4, 5]);
        for place in places {
            prop_assert!(scores.cost_ms(place, at(now)).is_finite());
            prop_assert!(scores.cost_ms(place, at(now)) >= 0.0);
        }
        for (turn, &first) in order.iter().enumerate() {
            for &second in order[turn + 1..].iter().filter(|&&second| second < first) {
                // Somebody who is much better than `second` came before or is `first` itself.
                let cost = scores.cost_ms(places[second], at(now));
                let better = (0..places.len()).any(|other| {
                    scores.cost_ms(places[other], at(now)) * TERMS.margin < cost
                });
                prop_assert!(better, "{first} before {second} for no reason");
            }
        }
    }

    /// A better observation never makes a place look worse than a worse one does.
    #[test]
    fn a_quicker_first_byte_never_costs_more(
        before in prop::collection::vec(observed(), 0..10), quick in 0_u64..10_000, more in 0_u64..10_000,
    ) {
        let with = |after_ms| {
            let mut scores = Scores::new(TERMS);
            for observed in &before {
                scores.note("a", *observed, at(0));
            }
            scores.note("a", Observed::FirstByte { after_ms }, at(1));
            scores.cost_ms("a", at(2))
        };
        prop_assert!(with(quick) <= with(quick + more) + 1e-6);
    }

    /// Takers that wait as they are told never get more than the rate and one burst.
    #[test]
    fn the_rate_is_never_exceeded(
        rate in 1_u64..10_000_000, burst in 0_u64..1_000_000,
        takes in prop::collection::vec((0_u64..2_000_000, 0_u64..1000), 1..60),
    ) {
        let mut bucket = Bucket::new(rate, burst, at(0));
        let (mut now, mut taken) = (0_u64, 0_u128);
        for (bytes, pause) in takes {
            let wait = bucket.take(bytes, at(i64::try_from(now).unwrap_or(i64::MAX)));
            taken += u128::from(bytes);
            now += wait + pause;
            // By when the next one may be taken, so much could have come.
            let most = u128::from(rate) * u128::from(now) / 1000 + u128::from(burst) + 1;
            prop_assert!(taken <= most, "{taken} of {most} bytes after {now} ms");
        }
    }
}
