//! Replicas, the messages between them and the index, and what must hold whatever happens.

use cache_policy::UnixMs;
use cache_policy::lease::{Acquired, Fence, Grant};

use super::machine::{Leases, TERMS};
use super::random::Random;

const REPLICAS: u8 = 3;
const STEPS: u64 = 80;
const MESSAGES_MAX: usize = 12;

/// A promise that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Two replicas were both told, or both showed the shared part, that they are the writer.
    TwoWriters,
    /// A grant's fence is not above all before it.
    FenceDidNotGrow,
    /// A holder that made progress in time, with a clock that went as clocks do, lost its lease.
    TakenFromALiveHolder,
    /// Somebody else's lease was given back.
    StaleRelease,
    /// A fence that had been overtaken was called the newest.
    StaleCommitWasCurrent,
    /// Nobody holds it, somebody asks and asks, and doesn't get it.
    LeaseForEver,
}

#[derive(Debug, Clone, Copy)]
enum ToIndex {
    Acquire,
    Renew { fence: Fence, bytes: u64 },
    Commit { fence: Fence },
    Release { fence: Fence },
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    Granted(Fence),
    Refused,
    Renewed(Fence, bool),
}

#[derive(Debug, Clone, Copy)]
enum Message {
    ToIndex { from: u8, life: u32, ask: ToIndex },
    ToReplica { to: u8, life: u32, answer: Answer },
}

#[derive(Debug, Clone, Copy, Default)]
struct Replica {
    /// Counts its restarts: answers to the life before are nobody's.
    life: u32,
    holds: Option<Fence>,
    bytes: u64,
}

/// What the index has last said yes to.
#[derive(Debug, Clone, Copy)]
struct Owner {
    who: u8,
    fence: Fence,
    open: bool,
    bytes: u64,
    granted_ms: i64,
    progress_ms: i64,
    /// The index's clock has jumped ahead since the grant.
    jumped: bool,
}

pub(crate) struct World<L> {
    random: Random,
    leases: L,
    /// Real time, which nobody sees.
    real_ms: i64,
    /// What the index's clock shows beyond it.
    skew_ms: i64,
    replicas: [Replica; REPLICAS as usize],
    messages: Vec<Message>,
    owner: Option<Owner>,
    /// Every fence ever granted, with whom it was granted to.
    granted: Vec<(Fence, u8)>,
    /// A part on a shared disk: the highest fence that wrote to it, and whose it was.
    part: Option<(Fence, u8)>,
}

type Step = Result<(), Violation>;

impl<L: Leases> World<L> {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            leases: L::default(),
            real_ms: 1_000_000_000,
            skew_ms: 0,
            replicas: [Replica::default(); REPLICAS as usize],
            messages: Vec::new(),
            owner: None,
            granted: Vec::new(),
            part: None,
        }
    }

    pub(crate) fn run(mut self) -> Step {
        for _ in 0..STEPS {
            self.step()?;
        }
        self.settle()
    }

    fn now(&self) -> UnixMs {
        UnixMs::new(self.real_ms + self.skew_ms)
    }

    fn step(&mut self) -> Step {
        match self.random.below(16) {
            0..=4 => self.act(),
            5..=10 => self.deliver()?,
            // Mostly a part of a lease, sometimes more than one.
            11..=12 => self.real_ms += i64::try_from(self.random.below(12_000)).expect("small"),
            13 => match self.random.below(6) {
                0 => self.real_ms += i64::try_from(self.random.below(90_000)).expect("small"),
                1 => self.jump(),
                2 => self.crash(),
                3 => {
                    // Never seen again.
                    if !self.messages.is_empty() {
                        let at = self.random.index(self.messages.len());
                        self.messages.swap_remove(at);
                    }
                }
                4 => self.duplicate(),
                _ => self.expire()?,
            },
            _ => self.write()?,
        }
        Ok(())
    }

    /// One replica does the next thing that it wants to do.
    fn act(&mut self) {
        let who = u8::try_from(self.random.below(u64::from(REPLICAS))).expect("few");
        let roll = self.random.below(12);
        let replica = &mut self.replicas[usize::from(who)];
        let ask = match replica.holds {
            None => ToIndex::Acquire,
            Some(fence) if roll == 0 => {
                replica.holds = None;
                ToIndex::Release { fence }
            }
            Some(fence) if roll == 1 => {
                replica.holds = None;
                ToIndex::Commit { fence }
            }
            Some(fence) => {
                replica.bytes += u64::from(roll > 3);
                ToIndex::Renew { fence, bytes: replica.bytes }
            }
        };
        let message = Message::ToIndex { from: who, life: replica.life, ask };
        self.send(message);
    }

    fn send(&mut self, message: Message) {
        if self.messages.len() < MESSAGES_MAX {
            self.messages.push(message);
        }
    }

    fn duplicate(&mut self) {
        if !self.messages.is_empty() {
            let at = self.random.index(self.messages.len());
            self.send(self.messages[at]);
        }
    }

    fn crash(&mut self) {
        let who = self.random.index(self.replicas.len());
        let life = self.replicas[who].life + 1;
        // Its part file outlives it, half of the time with a byte less than it had told.
        let bytes = self.replicas[who].bytes.saturating_sub(self.random.below(2));
        self.replicas[who] = Replica { life, holds: None, bytes };
    }

    fn jump(&mut self) {
        let by = i64::try_from(self.random.below(4_000_000)).expect("small");
        if self.random.below(2) == 0 {
            self.skew_ms -= by;
        } else {
            self.skew_ms += by;
            if let Some(owner) = &mut self.owner {
                owner.jumped = true;
            }
        }
    }

    /// Any message on the way arrives: delays reorder them.
    fn deliver(&mut self) -> Step {
        if self.messages.is_empty() {
            return Ok(());
        }
        let at = self.random.index(self.messages.len());
        match self.messages.swap_remove(at) {
            Message::ToIndex { from, life, ask } => {
                if let Some(answer) = self.ask(from, ask)? {
                    self.send(Message::ToReplica { to: from, life, answer });
                }
            }
            Message::ToReplica { to, life, answer } => {
                let replica = &mut self.replicas[usize::from(to)];
                if replica.life == life {
                    match answer {
                        // An answer that comes after a newer one says nothing.
                        Answer::Granted(fence) if replica.holds.is_none_or(|held| held < fence) => {
                            replica.holds = Some(fence);
                        }
                        Answer::Renewed(fence, false) if replica.holds == Some(fence) => {
                            replica.holds = None;
                        }
                        Answer::Granted(_) | Answer::Renewed(..) | Answer::Refused => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn ask(&mut self, from: u8, ask: ToIndex) -> Result<Option<Answer>, Violation> {
        match ask {
            ToIndex::Acquire => self.acquire(from).map(Some),
            ToIndex::Renew { fence, bytes } => self.renew(from, fence, bytes).map(Some),
            ToIndex::Commit { fence } => {
                let current = self.leases.commit(fence);
                if current && self.granted.iter().any(|(other, _)| *other > fence) {
                    return Err(Violation::StaleCommitWasCurrent);
                }
                self.close(fence);
                Ok(None)
            }
            ToIndex::Release { fence } => {
                let released = self.leases.release(fence);
                if released && self.owner.is_none_or(|owner| owner.fence != fence || owner.who != from) {
                    return Err(Violation::StaleRelease);
                }
                self.close(fence);
                Ok(None)
            }
        }
    }

    fn close(&mut self, fence: Fence) {
        if let Some(owner) = self.owner.as_mut().filter(|owner| owner.fence == fence) {
            owner.open = false;
        }
    }

    fn acquire(&mut self, from: u8) -> Result<Answer, Violation> {
        let Acquired::Granted { fence, grant, .. } = self.leases.acquire(from, self.now()) else {
            return Ok(Answer::Refused);
        };
        if grant == Grant::Again {
            let own = self.owner.is_some_and(|owner| owner.open && owner.who == from && owner.fence == fence);
            return if own { Ok(Answer::Granted(fence)) } else { Err(Violation::TwoWriters) };
        }
        if self.granted.iter().any(|(other, _)| *other >= fence) {
            return Err(Violation::FenceDidNotGrow);
        }
        if let Some(owner) = self.owner.filter(|owner| owner.open) {
            let lease_ms = i64::try_from(TERMS.lease_ms).expect("small");
            let hold_ms_max = i64::try_from(TERMS.hold_ms_max).expect("small");
            let stuck = self.real_ms - owner.progress_ms >= lease_ms;
            let long = self.real_ms - owner.granted_ms >= hold_ms_max;
            if !stuck && !long && !owner.jumped {
                return Err(Violation::TakenFromALiveHolder);
            }
        }
        self.granted.push((fence, from));
        self.owner = Some(Owner {
            who: from,
            fence,
            open: true,
            bytes: 0,
            granted_ms: self.real_ms,
            progress_ms: self.real_ms,
            jumped: false,
        });
        Ok(Answer::Granted(fence))
    }

    fn renew(&mut self, from: u8, fence: Fence, bytes: u64) -> Result<Answer, Violation> {
        let renewed = self.leases.renew(fence, bytes, self.now());
        if renewed {
            let owner = self.owner.as_mut().filter(|owner| owner.open && owner.who == from);
            let owner = owner.filter(|owner| owner.fence == fence).ok_or(Violation::TwoWriters)?;
            if bytes > owner.bytes {
                owner.progress_ms = self.real_ms;
            }
            owner.bytes = bytes;
        }
        Ok(Answer::Renewed(fence, renewed))
    }

    /// Ends leases whose holders are gone, as the schedule does.
    fn expire(&mut self) -> Step {
        if self.leases.expire(self.now())
            && let Some(owner) = &mut self.owner
        {
            let lease_ms = i64::try_from(TERMS.lease_ms).expect("small");
            if self.real_ms - owner.progress_ms < lease_ms && !owner.jumped {
                return Err(Violation::TakenFromALiveHolder);
            }
            owner.open = false;
        }
        Ok(())
    }

    /// A replica writes to a part on a shared disk, which refuses what is older than what it has seen.
    fn write(&mut self) -> Step {
        let who = u8::try_from(self.random.below(u64::from(REPLICAS))).expect("few");
        let Some(fence) = self.replicas[usize::from(who)].holds else { return Ok(()) };
        match self.part {
            Some((seen, _)) if fence < seen => {}
            Some((seen, writer)) if fence == seen && writer != who => return Err(Violation::TwoWriters),
            Some(_) | None => self.part = Some((fence, who)),
        }
        Ok(())
    }

    /// Everything on its way arrives, all but one replica are gone, and that one asks: it must get the
    /// lease within the time of one.
    fn settle(mut self) -> Step {
        for message in std::mem::take(&mut self.messages) {
            if let Message::ToIndex { from, ask, .. } = message {
                self.ask(from, ask)?;
            }
        }
        // A clock that was set back by any amount must not make anybody wait longer than one lease.
        if self.random.below(2) == 0 {
            self.skew_ms -= i64::try_from(self.random.below(4_000_000)).expect("small");
        }
        let survivor = u8::try_from(self.random.below(u64::from(REPLICAS))).expect("few");
        let deadline = self.real_ms + i64::try_from(TERMS.lease_ms).expect("small");
        loop {
            if matches!(self.acquire(survivor)?, Answer::Granted(_)) {
                return Ok(());
            }
            if self.real_ms >= deadline {
                return Err(Violation::LeaseForEver);
            }
            self.real_ms = (self.real_ms + 5_000).min(deadline);
        }
    }
}
