//! In which order places are asked that may give the same file, by what they gave lately; without a clock and
//! without a network.
//!
//! What counts of a place is how long its first byte took, how fast bytes came then, and how often it failed.
//! Each is a moving average that forgets: what is older than [`Terms::half_life_ms`] counts half, so a place
//! that was slow in the night is tried again in the morning. A place of which little is known counts as an
//! average one, because only asking it tells more.
//!
//! The operator's own order counts too: a place has to be better by [`Terms::margin`] to be asked before one
//! that was named before it. Without that, two equal mirrors would share the files between them, and a mirror
//! on the same desk would lose to one far away over a hiccup.

use std::collections::HashMap;

use crate::UnixMs;

/// Bounds of what is remembered, and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// After so long an observation counts half.
    pub half_life_ms: u64,
    /// How many times better a place has to be to be asked before one that was named before it.
    pub margin: f64,
    /// What a place costs of which nothing is known, in milliseconds for a file of [`Self::file_bytes`].
    pub unknown_ms: f64,
    /// For a file of this size the cost is computed.
    pub file_bytes: f64,
    /// What one failure costs: a client waits for it.
    pub failure_ms: f64,
    /// Places remembered.
    pub places_max: usize,
}

impl Terms {
    /// What production uses.
    pub const DEFAULT: Self = Self {
        half_life_ms: 5 * 60 * 1000,
        margin: 2.0,
        unknown_ms: 1000.0,
        file_bytes: 1_000_000.0,
        failure_ms: 4_000.0,
        places_max: 1024,
    };
}

/// A moving average whose weight halves with time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Average {
    sum: f64,
    weight: f64,
}

impl Average {
    fn fade(&mut self, factor: f64) {
        self.sum *= factor;
        self.weight *= factor;
    }

    fn add(&mut self, value: f64, weight: f64) {
        self.sum += value * weight;
        self.weight += weight;
    }

    /// Drawn to `default` as if that had been seen once.
    fn value(self, default: f64) -> f64 {
        (self.sum + default) / (self.weight + 1.0)
    }
}

/// What is known of one place.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Record {
    at: UnixMs,
    first_byte_ms: Average,
    /// Milliseconds for each byte.
    byte_ms: Average,
    failures: Average,
}

impl Record {
    fn faded(mut self, now: UnixMs, terms: &Terms) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "a year of milliseconds is exact")]
        let halves = now.since_ms(self.at) as f64 / terms.half_life_ms.max(1) as f64;
        let factor = 0.5_f64.powf(halves);
        self.first_byte_ms.fade(factor);
        self.byte_ms.fade(factor);
        self.failures.fade(factor);
        self.at = self.at.max(now);
        self
    }
}

/// What came of asking a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// Its first byte came after so long.
    FirstByte {
        /// From the request on.
        after_ms: u64,
    },
    /// So many bytes came in so long, waits included.
    Body {
        /// How many.
        bytes: u64,
        /// From the first byte on.
        in_ms: u64,
    },
    /// It gave nothing, or stopped: not that it hasn't the file, which says nothing about the place.
    Failed,
}

/// Too few bytes say nothing about a rate.
const RATE_BYTES_MIN: u64 = 64 << 10;

/// What places gave lately.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    terms: Terms,
    places: HashMap<String, Record>,
}

impl Scores {
    /// Nothing is known of anybody.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Self { terms, places: HashMap::new() }
    }

    /// Something came of asking `place`, or did not.
    pub fn note(&mut self, place: &str, observed: Observed, now: UnixMs) {
        if !self.places.contains_key(place) && self.places.len() >= self.terms.places_max {
            // Who was asked longest ago says least.
            let oldest =
                self.places.iter().min_by_key(|(_, record)| record.at).map(|(place, _)| place.clone());
            if let Some(oldest) = oldest {
                self.places.remove(&oldest);
            }
        }
        let terms = self.terms;
        let record = self.places.entry(place.to_owned()).or_insert(Record { at: now, ..Record::default() });
        *record = record.faded(now, &terms);
        #[allow(clippy::cast_precision_loss, reason = "these are times and sizes of one download")]
        match observed {
            Observed::FirstByte { after_ms } => {
                record.first_byte_ms.add(after_ms as f64, 1.0);
                record.failures.add(0.0, 1.0);
            }
            Observed::Body { bytes, in_ms } if bytes >= RATE_BYTES_MIN => {
                record.byte_ms.add(in_ms as f64 / bytes as f64, 1.0);
            }
            Observed::Body { .. } => {}
            Observed::Failed => record.failures.add(1.0, 1.0),
        }
    }

    /// What it costs to ask `place`, in milliseconds of a client's time; a figure to compare with others.
    #[must_use]
    pub fn cost_ms(&self, place: &str, now: UnixMs) -> f64 {
        let terms = &self.terms;
        let record = self.places.get(place).copied().unwrap_or_default().faded(now, terms);
        let half = terms.unknown_ms / 2.0;
        let first_byte_ms = record.first_byte_ms.value(half);
        let body_ms = record.byte_ms.value(half / terms.file_bytes) * terms.file_bytes;
        let failure_ms = record.failures.value(0.0) * terms.failure_ms;
        first_byte_ms + body_ms + failure_ms
    }

    /// The order in which `places` are asked, as positions in it: each of them once. The order in which they
    /// are given stays unless one is better than another by [`Terms::margin`].
    #[must_use]
    pub fn order(&self, places: &[&str], now: UnixMs) -> Vec<usize> {
        let costs: Vec<f64> = places.iter().map(|place| self.cost_ms(place, now)).collect();
        let mut left: Vec<usize> = (0..places.len()).collect();
        let mut order = Vec::with_capacity(left.len());
        while !left.is_empty() {
            // The first one that nobody behind it is much better than.
            let is_beaten = |at: usize| {
                let cost = costs[left[at]];
                left[at + 1..].iter().any(|&other| costs[other] * self.terms.margin < cost)
            };
            let next = (0..left.len()).find(|&at| !is_beaten(at)).unwrap_or(0);
            order.push(left.remove(next));
        }
        order
    }
}
