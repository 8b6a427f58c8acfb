//! The farm-wide right to fetch one object, as a state machine without a clock or a store.
//!
//! A [`LeaseSlot`] is what is remembered of one object. A caller loads it, calls one method with its
//! `now`, and stores it again, all in one transaction. The rules:
//!
//! - Every grant takes a [`Fence`] above all fences granted before. Whoever shows an older one is stale:
//!   it may have a verified blob to commit, but it has no right to go on.
//! - A renewal makes the time longer only if the bytes grew since the last one, and never beyond
//!   [`Terms::hold_ms_max`] after the grant. So a holder that is stuck, or that drips for ever, loses the
//!   lease to whoever asks next.
//! - A lease that ran out stays its holder's until somebody asks: taking it away from a slow holder that
//!   nobody waits behind would only waste what it has fetched.
//! - A clock that jumps back can't make a lease longer than its terms: see `LeaseSlot::clamp`.

use crate::UnixMs;

/// The number of one grant. Only grows, over all objects together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(u64);

impl Fence {
    /// The fence with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Where fences come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FenceCounter {
    last: u64,
}

impl FenceCounter {
    /// Goes on after `last`.
    #[must_use]
    pub const fn new(last: u64) -> Self {
        Self { last }
    }

    /// The last number given out, which the caller stores.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }

    fn next(&mut self) -> Fence {
        self.last = self.last.saturating_add(1);
        Fence(self.last)
    }
}

/// How long leases last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How long a lease lasts after its grant, and after a renewal with progress.
    pub lease_ms: u64,
    /// How long after its grant renewals still make it last.
    pub hold_ms_max: u64,
}

/// What became of the last grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Given out and not given back.
    Held,
    /// Given back with a blob.
    Committed,
    /// Given back without one.
    Released,
    /// Ran out, and the holder was not heard of for a whole lease after that.
    Abandoned,
}

impl Phase {
    /// The phase's name in the index and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Committed => "committed",
            Self::Released => "released",
            Self::Abandoned => "abandoned",
        }
    }

    /// The phase of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Held, Self::Committed, Self::Released, Self::Abandoned]
            .into_iter()
            .find(|phase| phase.as_str() == name)
    }
}

/// The last grant for one object. `H` names holders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease<H> {
    /// Who got it.
    pub holder: H,
    /// Its number.
    pub fence: Fence,
    /// What became of it.
    pub phase: Phase,
    /// What the holder last said to have.
    pub bytes_so_far: u64,
    /// When it was granted.
    pub granted: UnixMs,
    /// From when on somebody else may have it.
    pub expires: UnixMs,
}

/// How a grant came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grant {
    /// Nobody held it.
    Free,
    /// The asker holds it already: same lease, same fence.
    Again,
    /// The holder before made no progress for the length of a lease.
    TakenOver,
}

impl Grant {
    /// The grant's name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Again => "again",
            Self::TakenOver => "taken_over",
        }
    }
}

/// The answer to somebody who wants to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquired<H> {
    /// The asker may fetch.
    Granted {
        /// Number of its lease.
        fence: Fence,
        /// Time left on it.
        expires_in_ms: u64,
        /// How it came about.
        grant: Grant,
    },
    /// Somebody else is fetching.
    Held {
        /// Who.
        holder: H,
        /// How much the holder has.
        bytes_so_far: u64,
        /// When asking again may have another answer.
        retry_in_ms: u64,
    },
}

/// The fence that was shown is not the newest one, or its lease was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stale;

/// What is remembered of one object's leases: the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseSlot<H> {
    last: Option<Lease<H>>,
}

impl<H> Default for LeaseSlot<H> {
    fn default() -> Self {
        Self { last: None }
    }
}

impl<H: Clone + PartialEq> LeaseSlot<H> {
    /// The slot whose last grant is `lease`.
    #[must_use]
    pub const fn with_last(lease: Lease<H>) -> Self {
        Self { last: Some(lease) }
    }

    /// The last grant, whatever became of it.
    #[must_use]
    pub const fn last(&self) -> Option<&Lease<H>> {
        self.last.as_ref()
    }

    /// The lease that protects its object at `now`: held, and its time not over.
    #[must_use]
    pub fn current(&self, now: UnixMs) -> Option<&Lease<H>> {
        self.last.as_ref().filter(|lease| lease.phase == Phase::Held && now < lease.expires)
    }

    /// `asker` wants to fetch.
    pub fn acquire(
        &mut self,
        asker: &H,
        now: UnixMs,
        terms: Terms,
        fences: &mut FenceCounter,
    ) -> Acquired<H> {
        self.clamp(now, terms);
        if let Some(lease) = self.current(now) {
            let left_ms = lease.expires.since_ms(now);
            return if lease.holder == *asker {
                Acquired::Granted { fence: lease.fence, expires_in_ms: left_ms, grant: Grant::Again }
            } else {
                Acquired::Held {
                    holder: lease.holder.clone(),
                    bytes_so_far: lease.bytes_so_far,
                    retry_in_ms: left_ms,
                }
            };
        }
        let held = self.last.as_ref().is_some_and(|lease| lease.phase == Phase::Held);
        let fence = fences.next();
        self.last = Some(Lease {
            holder: asker.clone(),
            fence,
            phase: Phase::Held,
            bytes_so_far: 0,
            granted: now,
            expires: now.after_ms(terms.lease_ms),
        });
        let grant = if held { Grant::TakenOver } else { Grant::Free };
        Acquired::Granted { fence, expires_in_ms: terms.lease_ms, grant }
    }

    /// The holder says how far it is. Answers the time that is left, 0 if anybody may take over.
    ///
    /// # Errors
    /// [`Stale`]: the holder must stop.
    pub fn renew(
        &mut self,
        fence: Fence,
        bytes_so_far: u64,
        now: UnixMs,
        terms: Terms,
    ) -> Result<u64, Stale> {
        self.clamp(now, terms);
        let lease = self.held(fence).ok_or(Stale)?;
        if bytes_so_far > lease.bytes_so_far {
            let end = lease.granted.after_ms(terms.hold_ms_max);
            let longer = now.after_ms(terms.lease_ms).min(end);
            lease.expires = lease.expires.max(longer);
        }
        // A holder that starts over with another source counts from 0 again.
        lease.bytes_so_far = bytes_so_far;
        Ok(lease.expires.since_ms(now))
    }

    /// The holder has the blob. Answers whether `fence` was the newest: repeating a commit answers the
    /// same, a stale one changes nothing here.
    pub fn commit(&mut self, fence: Fence) -> bool {
        if let Some(lease) = self.held(fence) {
            lease.phase = Phase::Committed;
            return true;
        }
        self.last.as_ref().is_some_and(|lease| lease.fence == fence && lease.phase == Phase::Committed)
    }

    /// The holder gives up. Answers whether it was the holder.
    pub fn release(&mut self, fence: Fence) -> bool {
        let Some(lease) = self.held(fence) else { return false };
        lease.phase = Phase::Released;
        true
    }

    /// Ends a lease whose holder is gone for good: it ran out, and another whole lease has passed since.
    /// Answers whether it did.
    pub fn expire(&mut self, now: UnixMs, terms: Terms) -> bool {
        self.clamp(now, terms);
        let Some(lease) = self.last.as_mut().filter(|lease| lease.phase == Phase::Held) else {
            return false;
        };
        let gone = now >= lease.expires.after_ms(terms.lease_ms);
        if gone {
            lease.phase = Phase::Abandoned;
        }
        gone
    }

    fn held(&mut self, fence: Fence) -> Option<&mut Lease<H>> {
        self.last.as_mut().filter(|lease| lease.fence == fence && lease.phase == Phase::Held)
    }

    /// After the clock jumped back, a lease would seem to last for the length of the jump. No lease can
    /// have more left than its terms give, nor have been granted in the future.
    fn clamp(&mut self, now: UnixMs, terms: Terms) {
        if let Some(lease) = &mut self.last {
            lease.expires = lease.expires.min(now.after_ms(terms.lease_ms));
            lease.granted = lease.granted.min(now);
        }
    }
}
