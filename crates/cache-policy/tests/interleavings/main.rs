//! Random interleavings of replicas, crashes, delays, duplicates and clock jumps against one lease.
//!
//! Each interleaving is made from one number, so that a failure names all that is needed to see it again:
//! `ROOKERY_SEED=… cargo test -p cache-policy --test interleavings`. The promises are checked by `world`,
//! which never looks into the machine under test; that it would notice is shown with machines that have a
//! bug planted.

#![allow(clippy::print_stdout, reason = "the seed must be known")]

mod machine;
mod random;
mod world;

use machine::{FenceCheckDropped, Leases, RenewalDropped, Sound, TakeoverWithoutFence};
use world::{Violation, World};

const INTERLEAVINGS: u64 = 100_000;

/// The first interleaving that breaks a promise, if any does.
fn search<L: Leases>(first: u64, count: u64) -> Option<(u64, Violation)> {
    (first..first + count).find_map(|seed| Some((seed, World::<L>::new(seed).run().err()?)))
}

/// The seed of the first interleaving; from the environment to see one again.
fn first_seed() -> u64 {
    std::env::var("ROOKERY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_101)
}

#[test]
fn a_hundred_thousand_interleavings_keep_every_promise() {
    let first = first_seed();
    println!("seeds {first} to {}", first + INTERLEAVINGS - 1);
    if let Some((seed, violation)) = search::<Sound>(first, INTERLEAVINGS) {
        panic!("ROOKERY_SEED={seed}: {violation:?}");
    }
}

fn assert_found<L: Leases>(bug: &str, expected: &[Violation]) {
    let (seed, violation) = search::<L>(first_seed(), INTERLEAVINGS).expect(bug);
    println!("{bug}: found by ROOKERY_SEED={seed}: {violation:?}");
    assert!(expected.contains(&violation), "{bug}: {violation:?}");
}

#[test]
fn a_dropped_fence_check_is_found() {
    assert_found::<FenceCheckDropped>(
        "fence check dropped",
        &[Violation::TwoWriters, Violation::StaleCommitWasCurrent, Violation::StaleRelease],
    );
}

#[test]
fn a_dropped_renewal_is_found() {
    assert_found::<RenewalDropped>("renewal dropped", &[Violation::TakenFromALiveHolder]);
}

#[test]
fn a_takeover_without_a_new_fence_is_found() {
    assert_found::<TakeoverWithoutFence>(
        "takeover without fence",
        &[Violation::FenceDidNotGrow, Violation::TwoWriters],
    );
}
