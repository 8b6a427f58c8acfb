//! What can go wrong upstream, on demand.

use std::collections::BTreeMap;

use tokio::sync::watch;

/// One way to answer badly. All octet counts are of the response's body.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Sends no faster.
    RateLimit {
        /// Octets a second, at least 1.
        bytes_per_second: u64,
    },
    /// Reads the request and never answers.
    SilentHead,
    /// Stops sending and keeps the connection open.
    SilentBody {
        /// Where it stops.
        after_bytes: u64,
    },
    /// Stops sending until the gate opens.
    Gated {
        /// Where it stops.
        after_bytes: u64,
        /// What it waits for.
        gate: Gate,
    },
    /// Promises everything and closes the connection early.
    Truncated {
        /// Where it stops.
        after_bytes: u64,
    },
    /// Promises everything and resets the connection early.
    Reset {
        /// Where it stops.
        after_bytes: u64,
    },
    /// A flawless response of a shorter body.
    CleanShort {
        /// How much is missing at the end.
        missing_bytes: u64,
    },
    /// A flawless response of a longer body.
    Overlong {
        /// How many octets too many.
        extra_bytes: u64,
    },
    /// The right length, one octet flipped.
    WrongByte {
        /// Its offset in the whole object.
        at: u64,
    },
    /// A `Content-Length` that is off by that many octets; the body is right. The connection closes
    /// after it.
    WrongLength {
        /// Added to the true length.
        off_by: i64,
    },
    /// No `Content-Length`: the body ends with the connection.
    NoLength,
    /// Answers 200 and everything to a Range request.
    IgnoresRange,
    /// Answers 206 with a range that starts elsewhere.
    WrongRangeStart {
        /// Added to where the client asked for.
        shift: u64,
    },
    /// Answers 206 with another length of the whole.
    WrongRangeTotal {
        /// Added to the true length.
        off_by: u64,
    },
    /// A redirect.
    Redirect {
        /// To that URL.
        to: String,
    },
    /// That status and a short text.
    Status(u16),
}

/// Holds responses back until it is opened. Clones share it.
#[derive(Debug, Clone)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// A closed one.
    #[must_use]
    pub fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets everything through, now and later.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits until it is open.
    pub async fn passed(&self) {
        let mut opened = self.0.subscribe();
        // We hold a sender ourselves, so the channel never closes.
        while !*opened.borrow_and_update() && opened.changed().await.is_ok() {}
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::closed()
    }
}

/// The faults in force.
#[derive(Debug, Default)]
pub(super) struct Faults {
    by_path: BTreeMap<String, Vec<(Fault, Option<u32>)>>,
    everywhere: Vec<Fault>,
}

impl Faults {
    pub(super) fn add(&mut self, path: &str, fault: Fault, times: Option<u32>) {
        self.by_path.entry(path.to_owned()).or_default().push((fault, times));
    }

    pub(super) fn add_everywhere(&mut self, fault: Fault) {
        self.everywhere.push(fault);
    }

    /// The faults that one request for `path` suffers; counts it against those with a limit.
    pub(super) fn take(&mut self, path: &str) -> Vec<Fault> {
        let mut taken = self.everywhere.clone();
        if let Some(faults) = self.by_path.get_mut(path) {
            for (fault, times) in faults.iter_mut() {
                taken.push(fault.clone());
                *times = times.map(|left| left.saturating_sub(1));
            }
            faults.retain(|(_, times)| *times != Some(0));
        }
        taken
    }
}
