//! Who may use a module next: counts, and the order of those who wait. No clock, no sockets.
//!
//! A turn goes to the address that has the fewest; among those, to the one that had its last turn (or came, if it had
//! none) longest ago. So one address that opens connections without end waits for itself and not for others.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// How many connections at a time; 0 for any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caps {
    pub(super) total: usize,
    pub(super) address: usize,
}

/// Who asks, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) address: IpAddr,
    /// The module's place in the list of modules.
    pub(super) module: usize,
    /// The module's own limit: 0 for any number, below 0 for none at all.
    pub(super) module_max: i32,
}

/// The limit that keeps a connection out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// The module grants nobody anything.
    Closed(i32),
    /// The module's own.
    Module(i32),
    /// That of one address.
    Address(usize),
    /// That of the daemon.
    Total(usize),
}

impl Limit {
    /// The number that the client is told.
    pub(super) fn number(self) -> i64 {
        match self {
            Self::Closed(max) | Self::Module(max) => max.into(),
            Self::Address(max) | Self::Total(max) => i64::try_from(max).unwrap_or(i64::MAX),
        }
    }

    /// For the log.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Closed(_) => "module_closed",
            Self::Module(_) => "module",
            Self::Address(_) => "address",
            Self::Total(_) => "total",
        }
    }
}

/// What becomes of a claim at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Granted,
    /// It waits under this number.
    Waits(Ticket),
    /// Waiting would not help.
    Refused(Limit),
}

/// One that waits.
pub(super) type Ticket = u64;

#[derive(Debug)]
struct Address {
    in_use: usize,
    /// When it had its last turn, or came.
    order: u64,
    waiting: VecDeque<(Ticket, Claim)>,
}

/// The connections that use a module now, and those that wait.
#[derive(Debug)]
pub(super) struct Turns {
    caps: Caps,
    total: usize,
    modules: BTreeMap<usize, usize>,
    addresses: BTreeMap<IpAddr, Address>,
    ticks: u64,
}

impl Turns {
    pub(super) fn new(caps: Caps) -> Self {
        Self { caps, total: 0, modules: BTreeMap::new(), addresses: BTreeMap::new(), ticks: 0 }
    }

    /// Grants a turn or queues the claim. Who waits can't be granted anything now, so nobody is overtaken.
    pub(super) fn claim(&mut self, claim: Claim) -> Answer {
        let limit = self.limit(&claim);
        if let Some(limit @ Limit::Closed(_)) = limit {
            return Answer::Refused(limit);
        }
        let tick = self.tick();
        let of_address = || Address { in_use: 0, order: tick, waiting: VecDeque::new() };
        let address = self.addresses.entry(claim.address).or_insert_with(of_address);
        if limit.is_some() {
            address.waiting.push_back((tick, claim));
            return Answer::Waits(tick);
        }
        self.grant(&claim);
        Answer::Granted
    }

    /// What keeps this claim out now: what the stock daemon has a limit for, too, is named first.
    pub(super) fn limit(&self, claim: &Claim) -> Option<Limit> {
        let of_module = self.modules.get(&claim.module).copied().unwrap_or(0);
        match usize::try_from(claim.module_max) {
            Err(_) => return Some(Limit::Closed(claim.module_max)),
            Ok(max) if is_reached(of_module, max) => return Some(Limit::Module(claim.module_max)),
            Ok(_) => {}
        }
        let of_address = self.addresses.get(&claim.address).map_or(0, |address| address.in_use);
        if is_reached(of_address, self.caps.address) {
            return Some(Limit::Address(self.caps.address));
        }
        is_reached(self.total, self.caps.total).then_some(Limit::Total(self.caps.total))
    }

    /// Takes a turn back, and grants what became possible by that.
    pub(super) fn release(&mut self, claim: &Claim) -> Vec<Ticket> {
        self.total = self.total.saturating_sub(1);
        if let Some(count) = self.modules.get_mut(&claim.module) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.modules.remove(&claim.module);
            }
        }
        let tick = self.tick();
        if let Some(address) = self.addresses.get_mut(&claim.address) {
            address.in_use = address.in_use.saturating_sub(1);
            address.order = tick;
        }
        self.forget_idle(claim.address);
        let mut granted = Vec::new();
        while let Some((ticket, next)) = self.next() {
            self.leave(&next, ticket);
            self.grant(&next);
            granted.push(ticket);
        }
        granted
    }

    /// Takes one that waits out of the queue.
    pub(super) fn give_up(&mut self, claim: &Claim, ticket: Ticket) {
        self.leave(claim, ticket);
        self.forget_idle(claim.address);
    }

    fn next(&self) -> Option<(Ticket, Claim)> {
        let firsts = self.addresses.values().filter_map(|address| {
            let first = address.waiting.iter().find(|(_, claim)| self.limit(claim).is_none())?;
            Some((address.in_use, address.order, *first))
        });
        firsts.min_by_key(|&(in_use, order, _)| (in_use, order)).map(|(_, _, first)| first)
    }

    fn grant(&mut self, claim: &Claim) {
        let tick = self.tick();
        self.total += 1;
        *self.modules.entry(claim.module).or_default() += 1;
        if let Some(address) = self.addresses.get_mut(&claim.address) {
            address.in_use += 1;
            address.order = tick;
        }
    }

    fn leave(&mut self, claim: &Claim, ticket: Ticket) {
        if let Some(address) = self.addresses.get_mut(&claim.address) {
            address.waiting.retain(|&(other, _)| other != ticket);
        }
    }

    fn forget_idle(&mut self, address: IpAddr) {
        if self.addresses.get(&address).is_some_and(|found| found.in_use == 0 && found.waiting.is_empty()) {
            self.addresses.remove(&address);
        }
    }

    fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }
}

fn is_reached(count: usize, max: usize) -> bool {
    max > 0 && count >= max
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(address: u8, module: usize, module_max: i32) -> Claim {
        Claim { address: IpAddr::from([10, 13, 18, address]), module, module_max }
    }

    fn turns(total: usize, address: usize) -> Turns {
        Turns::new(Caps { total, address })
    }

    fn waits(answer: Answer) -> Ticket {
        let Answer::Waits(ticket) = answer else { panic!("{answer:?}") };
        ticket
    }

    #[test]
    fn each_limit_is_named_with_its_number() {
        let mut turns = turns(3, 2);
        let (small, other) = (claim(1, 0, 1), claim(1, 1, 0));
        assert_eq!(turns.claim(claim(1, 2, -4)), Answer::Refused(Limit::Closed(-4)));
        assert_eq!(turns.claim(small), Answer::Granted);
        assert_eq!(turns.limit(&claim(2, 0, 1)), Some(Limit::Module(1)));
        assert_eq!(turns.claim(other), Answer::Granted);
        assert_eq!(turns.limit(&other), Some(Limit::Address(2)));
        assert_eq!(turns.limit(&small), Some(Limit::Module(1)), "as the stock daemon would say");
        assert_eq!(turns.claim(claim(2, 1, 0)), Answer::Granted);
        assert_eq!(turns.limit(&claim(2, 1, 0)), Some(Limit::Total(3)));
        assert_eq!(Limit::Closed(-4).number(), -4);
    }

    #[test]
    fn no_number_means_any_number() {
        let mut turns = turns(0, 0);
        for _ in 0..1000 {
            assert_eq!(turns.claim(claim(1, 0, 0)), Answer::Granted);
        }
    }

    #[test]
    fn a_crowd_from_one_address_does_not_starve_another() {
        let mut turns = turns(2, 0);
        let (greedy, modest) = (claim(1, 0, 0), claim(2, 0, 0));
        assert_eq!((turns.claim(greedy), turns.claim(greedy)), (Answer::Granted, Answer::Granted));
        let crowd: Vec<_> = (0..100).map(|_| waits(turns.claim(greedy))).collect();
        let late = waits(turns.claim(modest));
        assert_eq!(turns.release(&greedy), [late]);
        let again = waits(turns.claim(modest));
        // One each: the turns alternate from here on.
        assert_eq!(turns.release(&greedy), [crowd[0]]);
        assert_eq!(turns.release(&modest), [again]);
    }

    #[test]
    fn one_turn_goes_round_and_coming_back_at_once_gains_nothing() {
        let mut turns = turns(1, 0);
        let (greedy, modest) = (claim(1, 0, 0), claim(2, 0, 0));
        assert_eq!(turns.claim(greedy), Answer::Granted);
        let first = waits(turns.claim(modest));
        let second = waits(turns.claim(greedy));
        assert_eq!(turns.release(&greedy), [first]);
        let third = waits(turns.claim(modest));
        assert_eq!(turns.release(&modest), [second]);
        assert_eq!(turns.release(&greedy), [third]);
        let newcomer = waits(turns.claim(claim(3, 0, 0)));
        let returned = waits(turns.claim(greedy));
        assert_eq!(turns.release(&modest), [newcomer]);
        assert_eq!(turns.release(&claim(3, 0, 0)), [returned]);
    }

    #[test]
    fn a_full_module_does_not_hold_up_another() {
        let mut turns = turns(2, 0);
        let (full, free) = (claim(1, 0, 1), claim(1, 1, 0));
        assert_eq!((turns.claim(full), turns.claim(free)), (Answer::Granted, Answer::Granted));
        let behind = waits(turns.claim(full));
        let beside = waits(turns.claim(free));
        assert_eq!(turns.release(&free), [beside]);
        assert_eq!(turns.release(&full), [behind]);
    }

    #[test]
    fn nothing_is_kept_of_those_that_are_gone() {
        let mut turns = turns(1, 1);
        for address in 0..10 {
            assert_eq!(turns.claim(claim(address, 0, 1)), Answer::Granted);
            let ticket = waits(turns.claim(claim(99, 0, 1)));
            turns.give_up(&claim(99, 0, 1), ticket);
            assert_eq!(turns.release(&claim(address, 0, 1)), [0; 0]);
        }
        assert_eq!((turns.total, turns.modules.len(), turns.addresses.len()), (0, 0, 0));
    }

    proptest::proptest! {
        #[test]
        fn limits_hold_and_nobody_waits_for_nothing(
            steps in proptest::collection::vec((0u8..3, 0u8..4, 0usize..3, 0usize..8), 0..200),
            total in 0usize..4,
            per_address in 0usize..3,
        ) {
            let mut turns = turns(total, per_address);
            let maxima = [0, 1, 2];
            let mut running: Vec<Claim> = Vec::new();
            let mut waiting: Vec<(Ticket, Claim)> = Vec::new();
            for (what, address, module, which) in steps {
                match what {
                    0 => {
                        let claim = claim(address, module, maxima[module]);
                        match turns.claim(claim) {
                            Answer::Granted => running.push(claim),
                            Answer::Waits(ticket) => waiting.push((ticket, claim)),
                            Answer::Refused(_) => panic!("none is closed"),
                        }
                    }
                    1 if which < running.len() => {
                        for ticket in turns.release(&running.remove(which)) {
                            let at = waiting.iter().position(|&(other, _)| other == ticket).unwrap();
                            running.push(waiting.remove(at).1);
                        }
                    }
                    2 if which < waiting.len() => {
                        let (ticket, claim) = waiting.remove(which);
                        turns.give_up(&claim, ticket);
                    }
                    _ => {}
                }
                let count = |is: &dyn Fn(&Claim) -> bool| running.iter().filter(|claim| is(claim)).count();
                assert!(total == 0 || running.len() <= total);
                for (module, max) in [(1, 1), (2, 2)] {
                    assert!(count(&|claim| claim.module == module) <= max);
                }
                for address in 0..4 {
                    let address = IpAddr::from([10, 13, 18, address]);
                    assert!(per_address == 0 || count(&|claim| claim.address == address) <= per_address);
                }
                assert!(waiting.iter().all(|(_, claim)| turns.limit(claim).is_some()));
            }
        }
    }
}
