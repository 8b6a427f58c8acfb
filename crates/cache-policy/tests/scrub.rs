//! Night after night, every copy is read in time.

use std::collections::BTreeMap;

use cache_policy::UnixMs;
use cache_policy::eviction::BlobKey;
use cache_policy::scrub::{Copy, plan_scrub};
use proptest::prelude::*;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn key(number: u32) -> BlobKey {
    let mut octets = [0; 64];
    octets[..4].copy_from_slice(&number.to_be_bytes());
    BlobKey::new(octets)
}

proptest! {
    /// However many come each night, and although some nights are missed, nothing is read later than the
    /// first night on which it could be.
    #[test]
    fn every_copy_is_read_within_so_many_nights(
        nights in 1u32..12,
        arrivals in proptest::collection::vec((0u32..30, any::<bool>()), 1..60),
    ) {
        let mut copies: BTreeMap<BlobKey, UnixMs> = BTreeMap::new();
        let mut now = UnixMs::new(1_700_000_000_000);
        let mut came = 0;
        for (arriving, missed) in arrivals {
            now = now.after_ms(DAY_MS);
            for _ in 0..arriving {
                came += 1;
                copies.insert(key(came), now.before_ms(DAY_MS / 3));
            }
            if missed && nights > 1 {
                continue;
            }
            let rows: Vec<_> = copies
                .iter()
                .map(|(blob, verified)| Copy { blob: *blob, verified: *verified, size_bytes: 1 })
                .collect();
            for copy in plan_scrub(&rows, now, DAY_MS, nights) {
                copies.insert(copy.blob, now);
            }
            let too_old = now.before_ms(u64::from(nights - 1) * DAY_MS);
            prop_assert!(nights == 1 || copies.values().all(|verified| *verified > too_old));
        }
    }

    /// Also where runs are days apart and late, and reading takes its time, nothing gets older than it may.
    #[test]
    fn no_copy_gets_older_than_so_many_days(
        (nights, step) in (2u32..40).prop_flat_map(|nights| (Just(nights), 1..nights.min(9))),
        runs in proptest::collection::vec((0u32..20, 0u64..=6, 0u64..=6), 1..60),
    ) {
        const HOUR_MS: u64 = 60 * 60 * 1000;
        let mut copies: BTreeMap<BlobKey, UnixMs> = BTreeMap::new();
        let mut due = UnixMs::new(1_700_000_000_000);
        let mut came = 0;
        for (arriving, late_hours, reading_hours) in runs {
            let now = due.after_ms(late_hours * HOUR_MS);
            due = due.after_ms(u64::from(step) * DAY_MS);
            for _ in 0..arriving {
                came += 1;
                copies.insert(key(came), now.before_ms(DAY_MS / 3));
            }
            let rows: Vec<_> = copies
                .iter()
                .map(|(blob, verified)| Copy { blob: *blob, verified: *verified, size_bytes: 1 })
                .collect();
            let read = now.after_ms(reading_hours * HOUR_MS);
            for copy in plan_scrub(&rows, now, due.since_ms(now), nights) {
                prop_assert!(read.since_ms(copy.verified) <= u64::from(nights) * DAY_MS);
                copies.insert(copy.blob, read);
            }
            let oldest = read.before_ms(u64::from(nights) * DAY_MS);
            prop_assert!(copies.values().all(|verified| *verified >= oldest));
        }
    }
}

#[test]
fn what_a_wrong_clock_read_is_read_again_and_not_all_in_one_night() {
    let now = UnixMs::new(1_700_000_000_000);
    let copy = |number: u32, verified: UnixMs| Copy { blob: key(number), verified, size_bytes: 1 };
    let ahead = now.after_ms(20_000 * DAY_MS);
    let mut rows: Vec<_> = (0..300).map(|number| copy(number, ahead)).collect();
    rows.extend((300..600).map(|number| copy(number, now.before_ms(DAY_MS))));
    rows.push(copy(600, now.before_ms(40 * DAY_MS)));
    let tonight = plan_scrub(&rows, now, DAY_MS, 30);
    assert_eq!((tonight.len(), tonight[0].blob), (21, key(600)), "what is surely too old comes first");
    assert!(tonight[1..].iter().all(|copy| copy.verified == ahead));
}

#[test]
fn the_share_of_a_night_is_even_and_the_oldest_come_first() {
    let now = UnixMs::new(1_700_000_000_000);
    let copy = |number: u32, days: u64| Copy {
        blob: key(number),
        verified: now.before_ms(days * DAY_MS),
        size_bytes: 1,
    };
    let rows: Vec<_> = (0..300).map(|number| copy(number, 1 + u64::from(number % 3))).collect();
    let tonight = plan_scrub(&rows, now, DAY_MS, 30);
    assert_eq!(tonight.len(), 10);
    assert!(tonight.iter().all(|copy| copy.verified == now.before_ms(3 * DAY_MS)));
    assert_eq!(plan_scrub(&[], now, DAY_MS, 30), []);
    assert_eq!(plan_scrub(&[copy(1, 0)], now, DAY_MS, 30), [], "it was read today");
}
