//! The replica's line to maintenance, against a maintenance that does as it is told.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test fails by panicking")]

mod catalogue;
mod decisions;
mod fake;
mod hostile;
mod leases;
mod outages;
mod replica;
mod reports;
mod scrub;
mod stopping;
mod trace;
