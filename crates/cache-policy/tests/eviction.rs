//! Every candidate gets one verdict, and no protection is ever overruled.

use cache_policy::UnixMs;
use cache_policy::eviction::{
    BlobKey, Candidate, Limits, Protection, Reason, Reference, Usage, Verdict, decide, plan_eviction,
};
use proptest::prelude::*;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const LIMITS: Limits = Limits { unreferenced_grace_ms: 7 * DAY_MS };
const NOW: UnixMs = UnixMs::new(1_700_000_000_000);

fn stale(days: u64) -> Candidate {
    Candidate {
        blob: BlobKey::new([1; 64]),
        size_bytes: 10,
        reference: Reference::Unreferenced { since: NOW.before_ms(days * DAY_MS) },
        last_access: None,
        leased: false,
        pinned: false,
        refetchable: true,
    }
}

fn kept(candidate: Candidate) -> Protection {
    match decide(&candidate, NOW, LIMITS) {
        Verdict::Keep(protection) => protection,
        Verdict::Evict(reason) => panic!("evicted as {}", reason.as_str()),
    }
}

#[test]
fn unreferenced_blob_goes_at_the_end_of_its_grace_and_not_a_millisecond_before() {
    assert_eq!(
        decide(&stale(7), NOW, LIMITS),
        Verdict::Evict(Reason::Unreferenced { since: NOW.before_ms(7 * DAY_MS) })
    );
    let early =
        Candidate { reference: Reference::Unreferenced { since: NOW.before_ms(7 * DAY_MS - 1) }, ..stale(7) };
    assert_eq!(kept(early), Protection::WithinGrace);
}

#[test]
fn each_protection_overrules_and_names_itself() {
    let old = stale(30);
    assert_eq!(kept(Candidate { reference: Reference::Referenced, ..old }), Protection::Referenced);
    assert_eq!(kept(Candidate { leased: true, ..old }), Protection::Leased);
    assert_eq!(kept(Candidate { pinned: true, ..old }), Protection::Pinned);
    assert_eq!(kept(Candidate { refetchable: false, ..old }), Protection::NotRefetchable);
    let accessed = Candidate { last_access: Some(NOW.before_ms(6 * DAY_MS)), ..old };
    assert_eq!(kept(accessed), Protection::RecentlyAccessed);
    assert_eq!(kept(stale(1)), Protection::WithinGrace);
    let names: std::collections::BTreeSet<_> = Protection::ALL.iter().map(Protection::as_str).collect();
    assert_eq!(names.len(), Protection::ALL.len());
}

#[test]
fn grace_of_zero_evicts_at_once_but_not_before_its_time() {
    let limits = Limits { unreferenced_grace_ms: 0 };
    assert!(matches!(decide(&stale(0), NOW, limits), Verdict::Evict(_)));
    let ahead = Candidate { reference: Reference::Unreferenced { since: NOW.after_ms(1) }, ..stale(0) };
    assert_eq!(decide(&ahead, NOW, limits), Verdict::Keep(Protection::WithinGrace));
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (any::<[u8; 2]>(), 0u64..1 << 40, 0u64..30, any::<Option<u8>>(), any::<[bool; 4]>());
    proptest::collection::vec(one, 0..40).prop_map(|rows| {
        rows.into_iter()
            .map(|(key, size_bytes, days, access, [referenced, leased, pinned, refetchable])| Candidate {
                blob: BlobKey::new(std::array::from_fn(|at| key[at % 2])),
                size_bytes,
                reference: if referenced { Reference::Referenced } else { stale(days).reference },
                last_access: access.map(|days| NOW.before_ms(u64::from(days % 30) * DAY_MS)),
                leased,
                pinned,
                refetchable,
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn plan_is_a_partition_and_never_touches_the_protected(rows in candidates(), used in any::<u64>()) {
        let usage = Usage { used_bytes: used, capacity_bytes: 1 };
        let plan = plan_eviction(usage, &rows, NOW, LIMITS);
        prop_assert_eq!(plan.evict.len() + plan.kept.len(), rows.len());
        let freed = plan.evict.iter().fold(0u64, |sum, one| sum.saturating_add(one.size_bytes));
        prop_assert_eq!(plan.usage_after.used_bytes, used.saturating_sub(freed));
        let takable = rows.iter().filter(|row| {
            let unreferenced = matches!(row.reference, Reference::Unreferenced { since }
                if NOW.since_ms(since) >= LIMITS.unreferenced_grace_ms);
            let quiet = row.last_access.is_none_or(|last| NOW.since_ms(last) >= LIMITS.unreferenced_grace_ms);
            unreferenced && quiet && !row.leased && !row.pinned && row.refetchable
        });
        prop_assert_eq!(takable.count(), plan.evict.len());
        let sorted = plan.evict.is_sorted_by_key(|one| {
            let Reason::Unreferenced { since } = one.reason;
            since
        });
        prop_assert!(sorted);
    }
}
