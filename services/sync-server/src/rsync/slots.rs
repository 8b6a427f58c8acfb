//! Connections wait here for their turn: the effects around [`Turns`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Limits;
use super::turns::{Answer, Caps, Claim, Limit, Ticket, Turns};

/// The turns of all modules.
#[derive(Clone)]
pub(super) struct Slots {
    shared: Arc<Mutex<Shared>>,
    total_max: usize,
    queue_timeout: Duration,
}

struct Shared {
    turns: Turns,
    /// Whom to tell; a ticket that is not here any more was given up.
    waiting: HashMap<Ticket, (Claim, oneshot::Sender<Slot>)>,
}

/// A turn; it ends when this is dropped.
pub(super) struct Slot {
    slots: Slots,
    claim: Claim,
}

/// A place in the queue; it is left when this is dropped.
struct Place<'a> {
    slots: &'a Slots,
    claim: Claim,
    ticket: Ticket,
}

/// What stands for "any number" where sockets are counted.
const UNLIMITED: usize = 1 << 20;

impl Slots {
    pub(super) fn new(limits: &Limits) -> Self {
        let caps = Caps { total: limits.max_connections, address: limits.connections_per_address };
        let shared = Shared { turns: Turns::new(caps), waiting: HashMap::new() };
        let total_max = if caps.total == 0 { UNLIMITED } else { caps.total.min(UNLIMITED) };
        Self { shared: Arc::new(Mutex::new(shared)), total_max, queue_timeout: limits.queue_timeout }
    }

    /// The most that the daemon has at a time.
    pub(super) fn max(&self) -> usize {
        self.total_max
    }

    /// Waits for a turn, or says which limit it waited for in vain. Who gives up leaves the queue by dropping this.
    pub(super) async fn acquire(&self, claim: Claim) -> Result<Slot, Limit> {
        let (place, granted) = {
            let mut shared = self.lock();
            match shared.turns.claim(claim) {
                Answer::Granted => return Ok(Slot { slots: self.clone(), claim }),
                Answer::Refused(limit) => return Err(limit),
                Answer::Waits(ticket) => {
                    let (sender, granted) = oneshot::channel();
                    shared.waiting.insert(ticket, (claim, sender));
                    (Place { slots: self, claim, ticket }, granted)
                }
            }
        };
        if let Ok(Ok(slot)) = tokio::time::timeout(self.queue_timeout, granted).await {
            return Ok(slot);
        }
        let limit = self.lock().turns.limit(&place.claim);
        Err(limit.unwrap_or(Limit::Total(self.total_max)))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut shared = self.slots.lock();
        if shared.waiting.remove(&self.ticket).is_some() {
            shared.turns.give_up(&self.claim, self.ticket);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut shared = self.slots.lock();
        let granted = shared.turns.release(&self.claim);
        let waiting: Vec<_> = granted.iter().filter_map(|ticket| shared.waiting.remove(ticket)).collect();
        drop(shared);
        for (claim, sender) in waiting {
            // Who has just left drops it, and the turn goes on to the next.
            drop(sender.send(Self { slots: self.slots.clone(), claim }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_turn_that_ends_goes_to_who_waits_and_past_who_has_left() {
        let limits =
            Limits { max_connections: 1, queue_timeout: Duration::from_mins(1), ..Limits::default() };
        let slots = Slots::new(&limits);
        let claim = |host| Claim { address: IpAddr::from([10, 13, 18, host]), module: 0, module_max: 0 };
        let Ok(slot) = slots.acquire(claim(1)).await else { panic!() };
        let mut gives_up = Box::pin(slots.acquire(claim(2)));
        let mut leaves = Box::pin(slots.acquire(claim(3)));
        let mut stays = Box::pin(slots.acquire(claim(4)));
        for waiting in [&mut gives_up, &mut leaves, &mut stays] {
            assert!(waiting.now_or_never().is_none());
        }
        drop(gives_up);
        drop(slot);
        // It was granted its turn and never took it.
        drop(leaves);
        assert!(stays.await.is_ok());
        assert!(slots.acquire(claim(5)).now_or_never().is_some_and(|slot| slot.is_ok()));
    }

    #[tokio::test]
    async fn who_waited_in_vain_is_told_why() {
        let limits = Limits { max_connections: 1, queue_timeout: Duration::ZERO, ..Limits::default() };
        let slots = Slots::new(&limits);
        let claim = Claim { address: IpAddr::from([10, 13, 18, 1]), module: 0, module_max: 0 };
        let Ok(_slot) = slots.acquire(claim).await else { panic!() };
        assert_eq!(slots.acquire(claim).await.err(), Some(Limit::Total(1)));
    }
}
