//! The machine under test, and three that have a bug.

use cache_policy::UnixMs;
use cache_policy::lease::{Acquired, Fence, FenceCounter, Grant, Lease, LeaseSlot, Terms};

pub(crate) const TERMS: Terms = Terms { lease_ms: 30_000, hold_ms_max: 300_000 };

/// What the index does with one object's lease.
pub(crate) trait Leases: Default {
    fn acquire(&mut self, asker: u8, now: UnixMs) -> Acquired<u8>;
    /// Whether the lease is still the caller's.
    fn renew(&mut self, fence: Fence, bytes: u64, now: UnixMs) -> bool;
    fn commit(&mut self, fence: Fence) -> bool;
    fn release(&mut self, fence: Fence) -> bool;
    fn expire(&mut self, now: UnixMs) -> bool;
}

/// As it is.
pub(crate) struct Sound {
    slot: LeaseSlot<u8>,
    fences: FenceCounter,
}

impl Default for Sound {
    fn default() -> Self {
        Self { slot: LeaseSlot::default(), fences: FenceCounter::new(0) }
    }
}

impl Sound {
    fn last(&self) -> Option<Lease<u8>> {
        self.slot.last().cloned()
    }
}

impl Leases for Sound {
    fn acquire(&mut self, asker: u8, now: UnixMs) -> Acquired<u8> {
        self.slot.acquire(&asker, now, TERMS, &mut self.fences)
    }

    fn renew(&mut self, fence: Fence, bytes: u64, now: UnixMs) -> bool {
        self.slot.renew(fence, bytes, now, TERMS).is_ok()
    }

    fn commit(&mut self, fence: Fence) -> bool {
        self.slot.commit(fence)
    }

    fn release(&mut self, fence: Fence) -> bool {
        self.slot.release(fence)
    }

    fn expire(&mut self, now: UnixMs) -> bool {
        self.slot.expire(now, TERMS)
    }
}

macro_rules! as_sound {
    ($($method:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {$(
        fn $method(&mut self, $($argument: $kind),*) -> $answer {
            self.0.$method($($argument),*)
        }
    )*};
}

/// Whoever renews, commits or releases is taken for the holder.
#[derive(Default)]
pub(crate) struct FenceCheckDropped(Sound);

impl FenceCheckDropped {
    fn whatever(&self, shown: Fence) -> Fence {
        self.0.last().map_or(shown, |lease| lease.fence)
    }
}

impl Leases for FenceCheckDropped {
    as_sound! {
        acquire(asker: u8, now: UnixMs) -> Acquired<u8>;
        expire(now: UnixMs) -> bool;
    }

    fn renew(&mut self, fence: Fence, bytes: u64, now: UnixMs) -> bool {
        let fence = self.whatever(fence);
        self.0.renew(fence, bytes, now)
    }

    fn commit(&mut self, fence: Fence) -> bool {
        let fence = self.whatever(fence);
        self.0.commit(fence)
    }

    fn release(&mut self, fence: Fence) -> bool {
        let fence = self.whatever(fence);
        self.0.release(fence)
    }
}

/// A renewal is answered as if it had made the lease longer, and doesn't.
#[derive(Default)]
pub(crate) struct RenewalDropped(Sound);

impl Leases for RenewalDropped {
    as_sound! {
        acquire(asker: u8, now: UnixMs) -> Acquired<u8>;
        commit(fence: Fence) -> bool;
        release(fence: Fence) -> bool;
        expire(now: UnixMs) -> bool;
    }

    fn renew(&mut self, fence: Fence, bytes: u64, now: UnixMs) -> bool {
        let before = self.0.last();
        let answer = self.0.renew(fence, bytes, now);
        if let Some(before) = before {
            self.0.slot = LeaseSlot::with_last(before);
        }
        answer
    }
}

/// The next holder gets the number of the one before.
#[derive(Default)]
pub(crate) struct TakeoverWithoutFence(Sound);

impl Leases for TakeoverWithoutFence {
    as_sound! {
        renew(fence: Fence, bytes: u64, now: UnixMs) -> bool;
        commit(fence: Fence) -> bool;
        release(fence: Fence) -> bool;
        expire(now: UnixMs) -> bool;
    }

    fn acquire(&mut self, asker: u8, now: UnixMs) -> Acquired<u8> {
        let before = self.0.last();
        let answer = self.0.acquire(asker, now);
        let (Acquired::Granted { expires_in_ms, grant: Grant::TakenOver, .. }, Some(before)) =
            (answer.clone(), before)
        else {
            return answer;
        };
        let lease = self.0.last().expect("just granted");
        self.0.slot = LeaseSlot::with_last(Lease { fence: before.fence, ..lease });
        Acquired::Granted { fence: before.fence, expires_in_ms, grant: Grant::TakenOver }
    }
}
