//! What is fuzzed: one function for each decoder of octets that somebody else wrote.
//!
//! `cargo xtask fuzz [--minutes N] [TARGET…]` runs them under libFuzzer; `cargo test -p rookery-fuzz` replays the
//! inputs in `corpus/TARGET/` through the same functions, without it.
//!
//! # A new target
//! 1. Write a function that takes octets: it must not panic, hang or take memory out of proportion, whatever they are.
//!    Let it check what must hold of whatever was accepted, such as that it comes back after being written again.
//! 2. Add a line to [`TARGETS`].
//! 3. Put a few small files into `corpus/TARGET/`: one for each kind of input, and each one that ever failed. Tests
//!    fail for a target without any.
//! 4. Add words of its format to `dictionary`, where that helps.
//!
//! A crash's input is written to `target/fuzz/artifacts/TARGET/`; copy it into the corpus with its mend.
//!
//! This crate must not hold decoders of its own, and nothing may need it.

mod gentoo;
mod http;
mod openpgp;
mod requests;
mod rsync;
mod trees;

use std::time::Duration;

/// A name and what it does with octets.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("manifest", gentoo::manifest),
    ("md5-cache", gentoo::md5_cache),
    ("src-uri", gentoo::src_uri),
    ("restrict", gentoo::restrict),
    ("layout-conf", gentoo::layout_conf),
    ("mirror-layout", gentoo::mirror_layout),
    ("thirdpartymirrors", gentoo::thirdpartymirrors),
    ("timestamp", gentoo::timestamp),
    ("catalogue", gentoo::catalogue),
    ("openpgp-keys", openpgp::keys),
    ("openpgp-signatures", openpgp::signatures),
    ("openpgp-text", openpgp::text),
    ("openpgp-commit", openpgp::commit),
    ("tree-index", trees::index),
    ("tree-catalogue", trees::catalogue),
    ("tree-seen", trees::seen),
    ("tree-known", trees::known),
    ("tree-frame", trees::frame),
    ("http-target", requests::target),
    ("http-range", requests::range),
    ("http-head", requests::head),
    ("http-response", http::response),
    ("http-stored-head", http::stored_head),
    ("rsync-prologue", rsync::prologue),
    ("rsync-login", rsync::login),
    ("rsync-arguments", rsync::arguments),
    ("rsync-filters", rsync::filters),
    ("rsync-files-from", rsync::files_from),
    ("rsync-requests", rsync::requests),
    ("rsync-sum-heads", rsync::sum_heads),
    ("rsync-frames", rsync::frames_of_client),
    ("rsyncd-conf", rsync::conf),
    ("rsyncd-log-line", rsync::log_line),
];

/// What one input may take; libFuzzer's own bounds are for what never comes back.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Time of the processor.
    pub time: Duration,
    /// Memory beyond what there was before, at any moment.
    pub memory_bytes: usize,
}

/// The bounds of a target, if it has any: strangers send what the daemon's targets get.
#[must_use]
pub fn bounds(name: &str) -> Option<Bounds> {
    name.starts_with("rsync").then_some(Bounds { time: Duration::from_millis(50), memory_bytes: 16 << 20 })
}

/// The function of a target.
#[must_use]
pub fn target(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}
