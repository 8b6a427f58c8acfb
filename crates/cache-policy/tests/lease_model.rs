//! Random replicas, clocks and duplicates against what a lease promises.

use cache_policy::UnixMs;
use cache_policy::lease::{Acquired, Fence, FenceCounter, Grant, Lease, LeaseSlot, Phase, Stale, Terms};
use proptest::prelude::*;

const TERMS: Terms = Terms { lease_ms: 30_000, hold_ms_max: 600_000 };

#[derive(Debug, Clone)]
enum Step {
    Acquire(u8),
    /// One of the fences that the replica ever got, counted from its newest, and how the bytes change.
    Renew(u8, usize, i8),
    Commit(u8, usize),
    Release(u8, usize),
    Expire,
    Advance(u32),
    JumpBack(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let replica = 0u8..3;
    let step = prop_oneof![
        4 => replica.clone().prop_map(Step::Acquire),
        6 => (replica.clone(), 0usize..3, -2i8..6).prop_map(|(who, back, grow)| Step::Renew(who, back, grow)),
        1 => (replica.clone(), 0usize..3).prop_map(|(who, back)| Step::Commit(who, back)),
        1 => (replica, 0usize..3).prop_map(|(who, back)| Step::Release(who, back)),
        1 => Just(Step::Expire),
        5 => (0u32..40_000).prop_map(Step::Advance),
        1 => (0u32..4_000_000).prop_map(Step::JumpBack),
    ];
    proptest::collection::vec(step, 1..120)
}

/// What the outside may rely on, kept apart from the machine under test.
#[derive(Default)]
struct World {
    now_ms: i64,
    slot: LeaseSlot<u8>,
    last_fence: u64,
    granted: [Vec<(Fence, u64)>; 3],
    /// Highest fence ever granted, and whether it was given back.
    newest: Option<Fence>,
    newest_open: bool,
    /// The clock has only gone forward since the newest grant or its last renewal with progress.
    since_progress_ms: u64,
    since_grant_ms: u64,
}

impl World {
    fn now(&self) -> UnixMs {
        UnixMs::new(self.now_ms)
    }

    fn fence(&self, who: u8, back: usize) -> Option<(usize, Fence)> {
        let mine = &self.granted[usize::from(who)];
        let at = mine.len().checked_sub(back + 1)?;
        Some((at, mine[at].0))
    }

    fn acquire(&mut self, who: u8) -> Result<(), TestCaseError> {
        let mut fences = FenceCounter::new(self.last_fence);
        let answer = self.slot.acquire(&who, self.now(), TERMS, &mut fences);
        self.last_fence = fences.last();
        match answer {
            Acquired::Granted { fence, grant: Grant::Again, expires_in_ms } => {
                prop_assert_eq!(Some(fence), self.newest);
                prop_assert!(self.newest_open && expires_in_ms > 0);
            }
            Acquired::Granted { fence, grant, .. } => {
                prop_assert!(self.newest.is_none_or(|newest| fence > newest), "fences strictly grow");
                if grant == Grant::TakenOver {
                    let stuck = self.since_progress_ms >= TERMS.lease_ms;
                    prop_assert!(
                        stuck || self.since_grant_ms >= TERMS.hold_ms_max,
                        "taken from a live holder"
                    );
                } else {
                    prop_assert!(!self.newest_open, "granted beside an open lease");
                }
                self.granted[usize::from(who)].push((fence, 0));
                (self.newest, self.newest_open) = (Some(fence), true);
                (self.since_progress_ms, self.since_grant_ms) = (0, 0);
            }
            Acquired::Held { holder, retry_in_ms, .. } => {
                prop_assert!(self.newest_open && holder != who);
                prop_assert!(retry_in_ms > 0 && retry_in_ms <= TERMS.lease_ms, "a bounded wait");
            }
        }
        Ok(())
    }

    fn renew(&mut self, who: u8, back: usize, grow: i8) -> Result<(), TestCaseError> {
        let Some((at, fence)) = self.fence(who, back) else { return Ok(()) };
        let before = self.granted[usize::from(who)][at].1;
        let bytes = before.saturating_add_signed(i64::from(grow));
        let left_before = self.slot.current(self.now()).map_or(0, |lease| lease.expires.since_ms(self.now()));
        let answer = self.slot.renew(fence, bytes, self.now(), TERMS);
        let holds = self.newest == Some(fence) && self.newest_open;
        prop_assert_eq!(answer.is_ok(), holds, "only the newest fence renews");
        if let Ok(left) = answer {
            self.granted[usize::from(who)][at].1 = bytes;
            prop_assert!(left <= TERMS.lease_ms);
            if bytes > before {
                self.since_progress_ms = 0;
            } else {
                prop_assert!(left <= left_before, "longer without progress");
            }
        }
        Ok(())
    }

    fn apply(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Acquire(who) => self.acquire(who)?,
            Step::Renew(who, back, grow) => self.renew(who, back, grow)?,
            Step::Commit(who, back) => {
                let Some((_, fence)) = self.fence(who, back) else { return Ok(()) };
                let first = self.slot.commit(fence);
                prop_assert_eq!(first, self.slot.commit(fence), "a repeated commit answers the same");
                prop_assert!(!first || self.newest == Some(fence), "a stale fence was current");
                self.newest_open &= self.newest != Some(fence);
            }
            Step::Release(who, back) => {
                let Some((_, fence)) = self.fence(who, back) else { return Ok(()) };
                let was_holder = self.newest == Some(fence) && self.newest_open;
                prop_assert_eq!(self.slot.release(fence), was_holder);
                self.newest_open &= !was_holder;
            }
            Step::Expire => {
                if self.slot.expire(self.now(), TERMS) {
                    let stuck = self.since_progress_ms >= 2 * TERMS.lease_ms;
                    prop_assert!(stuck || self.since_grant_ms >= TERMS.hold_ms_max);
                    self.newest_open = false;
                }
            }
            Step::Advance(ms) => {
                self.now_ms += i64::from(ms);
                self.since_progress_ms += u64::from(ms);
                self.since_grant_ms += u64::from(ms);
            }
            Step::JumpBack(ms) => self.now_ms -= i64::from(ms),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn one_holder_and_growing_fences(steps in steps()) {
        let mut world = World { now_ms: 1_000_000_000, ..World::default() };
        for step in &steps {
            world.apply(step)?;
        }
        // Whatever happened, somebody who keeps asking gets it within one lease.
        world.acquire(2)?;
        world.now_ms += i64::try_from(TERMS.lease_ms).unwrap();
        world.since_progress_ms += TERMS.lease_ms;
        let mut fences = FenceCounter::new(world.last_fence);
        let answer = world.slot.acquire(&1, world.now(), TERMS, &mut fences);
        prop_assert!(matches!(answer, Acquired::Granted { .. }), "a lease for ever: {:?}", answer);
    }

    /// A holder with progress in every renewal keeps the lease, but not for ever.
    #[test]
    fn a_dripping_holder_loses_it_in_the_end(period_ms in 1_000u64..30_000) {
        let mut slot = LeaseSlot::default();
        let mut fences = FenceCounter::new(0);
        let mut now = UnixMs::new(0);
        slot.acquire(&0u8, now, TERMS, &mut fences);
        let mut bytes = 0;
        while matches!(slot.acquire(&1, now, TERMS, &mut fences), Acquired::Held { .. }) {
            now = now.after_ms(period_ms);
            bytes += 1;
            if slot.renew(Fence::new(1), bytes, now, TERMS).is_err() {
                break;
            }
        }
        let held_ms = now.since_ms(UnixMs::new(0));
        prop_assert!((TERMS.hold_ms_max..TERMS.hold_ms_max + TERMS.lease_ms).contains(&held_ms));
    }
}

fn granted(answer: &Acquired<&'static str>) -> Fence {
    match answer {
        Acquired::Granted { fence, .. } => *fence,
        Acquired::Held { holder, .. } => panic!("held by {holder}"),
    }
}

#[test]
fn takeover_leaves_the_old_holder_with_nothing_but_its_blob() {
    let mut slot = LeaseSlot::default();
    let mut fences = FenceCounter::new(41);
    let start = UnixMs::new(0);
    let old = granted(&slot.acquire(&"a", start, TERMS, &mut fences));
    assert_eq!(old, Fence::new(42));
    assert_eq!(slot.renew(old, 10, start.after_ms(20_000), TERMS), Ok(30_000));
    let at = start.after_ms(49_999);
    assert!(matches!(slot.acquire(&"b", at, TERMS, &mut fences), Acquired::Held { retry_in_ms: 1, .. }));
    let new = granted(&slot.acquire(&"b", start.after_ms(50_000), TERMS, &mut fences));
    assert!(new > old);
    assert_eq!(slot.renew(old, 99, start.after_ms(50_001), TERMS), Err(Stale));
    assert!(!slot.release(old));
    assert!(!slot.commit(old));
    assert_eq!(slot.last().map(|lease| (lease.holder, lease.phase)), Some(("b", Phase::Held)));
    assert!(slot.commit(new));
}

#[test]
fn late_holder_that_nobody_waits_behind_goes_on() {
    let mut slot = LeaseSlot::default();
    let mut fences = FenceCounter::new(0);
    let fence = granted(&slot.acquire(&"a", UnixMs::new(0), TERMS, &mut fences));
    assert_eq!(slot.renew(fence, 0, UnixMs::new(31_000), TERMS), Ok(0));
    assert_eq!(slot.renew(fence, 5, UnixMs::new(32_000), TERMS), Ok(30_000));
}

#[test]
fn stored_lease_goes_on_where_it_was() {
    let lease = Lease {
        holder: "a",
        fence: Fence::new(7),
        phase: Phase::Held,
        bytes_so_far: 3,
        granted: UnixMs::new(0),
        expires: UnixMs::new(30_000),
    };
    let mut slot = LeaseSlot::with_last(lease);
    assert_eq!(slot.renew(Fence::new(7), 4, UnixMs::new(10_000), TERMS), Ok(30_000));
    for phase in [Phase::Held, Phase::Committed, Phase::Released, Phase::Abandoned] {
        assert_eq!(Phase::from_name(phase.as_str()), Some(phase));
    }
}
