//! Every candidate gets one verdict, no protection is ever overruled, and no more goes than must.

use std::collections::BTreeSet;

use cache_policy::UnixMs;
use cache_policy::eviction::brake::{BrakeLimits, Excess, plan_excess, vanished_excess};
use cache_policy::eviction::{
    BlobKey, Candidate, Limits, Plan, Protection, Reason, Standing, Usage, Verdict, decide, plan_eviction,
};
use proptest::prelude::*;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const LIMITS: Limits = Limits {
    unreferenced_grace_ms: 7 * DAY_MS,
    quarantine_grace_ms: 3 * DAY_MS,
    keep_accessed_ms: 10 * DAY_MS,
    high_water_percent: 90,
    low_water_percent: 80,
};
const NOW: UnixMs = UnixMs::new(1_700_000_000_000);
const ROOMY: Usage = Usage { used_bytes: 10, capacity_bytes: 1000 };

fn days_ago(days: u64) -> UnixMs {
    NOW.before_ms(days * DAY_MS)
}

fn blob(key: u8, size_bytes: u64, standing: Standing, last_use_days: u64) -> Candidate {
    Candidate {
        blob: BlobKey::new([key; 64]),
        size_bytes,
        standing,
        added: days_ago(last_use_days),
        last_access: None,
        leased: false,
        being_read: false,
        pinned: false,
        refetchable: true,
        decided: false,
    }
}

fn stale(days: u64) -> Candidate {
    blob(1, 10, Standing::Unreferenced { since: days_ago(days) }, 99)
}

fn kept(candidate: Candidate) -> Protection {
    match decide(&candidate, NOW, LIMITS) {
        Verdict::Keep(protection) => protection,
        Verdict::Evict(reason) | Verdict::Spare(reason, _) => panic!("may go as {}", reason.as_str()),
    }
}

fn keys(plan: &Plan) -> Vec<u8> {
    plan.evict.iter().map(|one| one.blob.as_bytes()[0]).collect()
}

#[test]
fn unreferenced_blob_goes_at_the_end_of_its_grace_and_not_a_millisecond_before() {
    assert_eq!(decide(&stale(7), NOW, LIMITS), Verdict::Evict(Reason::Unreferenced { since: days_ago(7) }));
    let since = days_ago(7).after_ms(1);
    let early = Candidate { standing: Standing::Unreferenced { since }, ..stale(7) };
    assert_eq!(kept(early), Protection::WithinGrace);
}

#[test]
fn each_protection_overrules_and_names_itself() {
    let old = stale(30);
    assert_eq!(kept(Candidate { leased: true, ..old }), Protection::Leased);
    assert_eq!(kept(Candidate { being_read: true, ..old }), Protection::BeingRead);
    assert_eq!(kept(Candidate { pinned: true, ..old }), Protection::Pinned);
    assert_eq!(kept(Candidate { refetchable: false, ..old }), Protection::NotRefetchable);
    let accessed = Candidate { last_access: Some(days_ago(9)), ..old };
    assert_eq!(kept(accessed), Protection::RecentlyAccessed);
    assert_eq!(kept(Candidate { added: days_ago(9), ..old }), Protection::RecentlyAccessed);
    assert_eq!(kept(stale(1)), Protection::WithinGrace);
    let names: BTreeSet<_> = Protection::ALL.iter().map(Protection::as_str).collect();
    assert_eq!(names.len(), Protection::ALL.len());
}

#[test]
fn a_referenced_blob_goes_only_above_the_high_water_and_only_down_to_the_low_one() {
    let old = |key| blob(key, 100, Standing::Referenced, 50);
    let rows: Vec<_> = (0..9).map(old).collect();
    let at = |used_bytes| plan_eviction(Usage { used_bytes, capacity_bytes: 1000 }, &rows, NOW, LIMITS);
    assert_eq!(at(900).evict, []);
    let plan = at(901);
    assert_eq!((plan.evict.len(), plan.usage_after.used_bytes, plan.short_bytes), (2, 701, 0));
    let unknown = plan_eviction(Usage { used_bytes: 901, capacity_bytes: 0 }, &rows, NOW, LIMITS);
    assert_eq!(unknown.evict, [], "without a capacity there is no water");
}

#[test]
fn classes_go_in_their_order_and_the_heaviest_first() {
    let rows = [
        blob(1, 10, Standing::Referenced, 90),
        blob(2, 100, Standing::Referenced, 20),
        blob(3, 10, Standing::Superseded { since: days_ago(5) }, 20),
        blob(4, 10, Standing::Superseded { since: days_ago(95) }, 90),
        blob(5, 10, Standing::Unreferenced { since: days_ago(8) }, 20),
        blob(6, 10, Standing::Quarantined { since: days_ago(1) }, 20),
        blob(7, 10, Standing::Referenced, 1),
        blob(8, 0, Standing::Referenced, 90),
    ];
    let full = plan_eviction(Usage { used_bytes: 1000, capacity_bytes: 1000 }, &rows, NOW, LIMITS);
    // 4 was asked for after the newer file came: it is in use, whatever came since.
    assert_eq!(keys(&full), [6, 5, 3, 2, 1, 4]);
    assert_eq!(full.short_bytes, 50, "everything that may go is not enough");
    let protections: Vec<_> = full.kept.iter().map(|kept| kept.protection).collect();
    assert_eq!(protections, [Protection::RecentlyAccessed, Protection::Referenced]);
    let roomy = plan_eviction(ROOMY, &rows, NOW, LIMITS);
    assert_eq!(keys(&roomy), [5], "a file in quarantine stays for its grace while there is room");
}

#[test]
fn what_is_decided_already_counts_before_others_are_taken() {
    let mut rows: Vec<_> = (0..9).map(|key| blob(key, 100, Standing::Referenced, 50)).collect();
    rows[7].decided = true;
    rows[7].added = days_ago(11);
    let usage = Usage { used_bytes: 901, capacity_bytes: 1000 };
    assert!(keys(&plan_eviction(usage, &rows, NOW, LIMITS)).contains(&7));
}

const BRAKES: BrakeLimits = BrakeLimits {
    share_percent_max: 25,
    catalogue_percent_max: 30,
    catalogue_within_ms: 30 * DAY_MS,
    files_min: 3,
};

#[test]
fn a_plan_that_deletes_too_much_stops_and_the_operator_may_agree() {
    let plan_of = |evicted: u8, kept: u8| {
        let row = |key| {
            if key < evicted {
                Candidate { blob: BlobKey::new([key; 64]), ..stale(30) }
            } else {
                blob(key, 10, Standing::Referenced, 50)
            }
        };
        plan_eviction(ROOMY, &(0..evicted + kept).map(row).collect::<Vec<_>>(), NOW, LIMITS)
    };
    let excess = |evicted, kept, agreed| plan_excess(&plan_of(evicted, kept), ROOMY, BRAKES, agreed);
    assert_eq!(excess(5, 15, 0), None, "25 % are allowed");
    assert_eq!(excess(6, 15, 0), Some(Excess { percent: 29, percent_max: 25 }));
    assert_eq!(excess(6, 15, 29), None);
    assert_eq!(excess(6, 15, 28), Some(Excess { percent: 29, percent_max: 28 }));
    assert_eq!(
        excess(6, 15, 3),
        Some(Excess { percent: 29, percent_max: 25 }),
        "agreeing to less is no limit"
    );
    assert_eq!(excess(2, 0, 0), None, "so few files are never too many");
    assert_eq!(excess(0, 0, 0), None);
}

#[test]
fn a_module_may_vanish_unasked_only_if_it_was_tiny() {
    assert_eq!(vanished_excess(2, BRAKES), None);
    assert_eq!(vanished_excess(3, BRAKES), Some(Excess { percent: 100, percent_max: 30 }));
    assert_eq!(vanished_excess(0, BRAKES), None);
}

#[test]
fn grace_of_zero_evicts_at_once_but_not_before_its_time() {
    let limits = Limits { unreferenced_grace_ms: 0, ..LIMITS };
    assert!(matches!(decide(&stale(0), NOW, limits), Verdict::Evict(_)));
    let ahead = Candidate { standing: Standing::Unreferenced { since: NOW.after_ms(1) }, ..stale(0) };
    assert_eq!(decide(&ahead, NOW, limits), Verdict::Keep(Protection::WithinGrace));
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (0u8..4, 0u64..1 << 20, 0u64..40, 0u64..40, any::<Option<u8>>(), any::<[u8; 5]>());
    proptest::collection::vec(one, 0..60).prop_map(|rows| {
        let row = |(at, (kind, size_bytes, since, added, access, flags)): (usize, _)| {
            let since = days_ago(since);
            let _: (u8, u64, u64, Option<u8>, [u8; 5]) = (kind, size_bytes, added, access, flags);
            let standing = match kind {
                0 => Standing::Referenced,
                1 => Standing::Superseded { since },
                2 => Standing::Unreferenced { since },
                _ => Standing::Quarantined { since },
            };
            // Rare enough that most plans have something to choose from.
            let [leased, being_read, pinned, by_hand, decided] = flags.map(|flag| flag < 32);
            let mut key = [0; 64];
            key[..8].copy_from_slice(&(at as u64).to_be_bytes());
            Candidate {
                blob: BlobKey::new(key),
                size_bytes,
                standing,
                added: days_ago(added),
                last_access: access.map(|days| days_ago(u64::from(days % 40))),
                leased,
                being_read,
                pinned,
                refetchable: !by_hand,
                decided,
            }
        };
        rows.into_iter().enumerate().map(row).collect()
    })
}

fn is_protected(row: &Candidate) -> bool {
    let quarantined = matches!(row.standing, Standing::Quarantined { .. });
    let asked = NOW.since_ms(row.last_use()) < LIMITS.keep_accessed_ms;
    let grace = matches!(row.standing, Standing::Unreferenced { since }
        if NOW.since_ms(since) < LIMITS.unreferenced_grace_ms);
    row.leased || row.being_read || row.pinned || (!quarantined && (!row.refetchable || asked || grace))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn plans_keep_every_promise(rows in candidates(), used in 0u64..1 << 25, capacity in 0u64..1 << 25) {
        let usage = Usage { used_bytes: used, capacity_bytes: capacity };
        let plan = plan_eviction(usage, &rows, NOW, LIMITS);
        prop_assert_eq!(plan.evict.len() + plan.kept.len(), rows.len(), "a verdict each");
        let gone: BTreeSet<_> = plan.evict.iter().map(|one| one.blob).collect();
        for row in &rows {
            prop_assert!(!(is_protected(row) && gone.contains(&row.blob)), "protected: {:?}", row);
        }
        prop_assert_eq!(plan.usage_after.used_bytes, used.saturating_sub(plan.freed_bytes()));
        prop_assert!(plan.evict.is_sorted_by_key(|one| match one.reason {
            Reason::Quarantined { .. } => 0,
            Reason::Unreferenced { .. } => 1,
            Reason::Superseded { .. } => 2,
            Reason::Referenced { .. } => 3,
        }), "class by class");
        // Not one more than is needed: without the last one for room, it would not be enough.
        let by_itself = |row: &&Candidate| matches!(decide(row, NOW, LIMITS), Verdict::Evict(_));
        let freed_anyway = rows.iter().filter(by_itself).fold(0u64, |sum, row| sum + row.size_bytes);
        let for_room: Vec<_> = plan.evict.iter().filter(|one| {
            !rows.iter().filter(by_itself).any(|row| row.blob == one.blob)
        }).collect();
        let smallest = for_room.iter().map(|one| one.size_bytes).min();
        if let Some(smallest) = smallest {
            let before = used.saturating_sub(freed_anyway);
            prop_assert!(before > usage.share_bytes(LIMITS.high_water_percent), "without need");
            let freed = for_room.iter().fold(0u64, |sum, one| sum + one.size_bytes);
            let low = usage.share_bytes(LIMITS.low_water_percent);
            let largest = for_room.iter().map(|one| one.size_bytes).max().unwrap_or(0);
            prop_assert!(smallest > 0 && before.saturating_sub(freed - largest) > low, "more than is needed");
        }
        // If it is not enough, nothing that may go is left.
        if plan.short_bytes > 0 {
            for row in rows.iter().filter(|row| !gone.contains(&row.blob) && row.size_bytes > 0) {
                prop_assert!(matches!(decide(row, NOW, LIMITS), Verdict::Keep(_)), "left: {:?}", row);
            }
        }
    }

    #[test]
    fn plans_do_not_depend_on_the_order_of_what_they_are_made_from(
        rows in candidates(), used in 0u64..1 << 25, turn in any::<prop::sample::Index>(),
    ) {
        let usage = Usage { used_bytes: used, capacity_bytes: 1 << 23 };
        let mut other = rows.clone();
        if !other.is_empty() {
            let by = turn.index(other.len());
            other.rotate_left(by);
            other.reverse();
        }
        prop_assert_eq!(plan_eviction(usage, &rows, NOW, LIMITS), plan_eviction(usage, &other, NOW, LIMITS));
    }
}
