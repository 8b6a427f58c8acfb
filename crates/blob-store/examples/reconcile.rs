//! How long a start takes with so many blobs: `cargo run --release -p blob-store --example reconcile --
//! 100000 [DIR]`. Prints a line of the table in `docs/benchmarks.md`.
//!
//! The blobs are empty files: their contents are not read at a start, however large they are.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a measurement for people"
)]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use blake2::{Blake2b512, Digest as _};
use blob_store::{Options, Store};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let blobs: u32 = arguments.next().map_or(100_000, |count| count.parse().unwrap());
    let dir = arguments.next().map_or_else(|| std::env::temp_dir().join("rookery-reconcile"), PathBuf::from);
    let open = || {
        let options = Options { cache_dir: dir.clone(), capacity_bytes: u64::MAX / 2, faults: None };
        let began = Instant::now();
        let (store, faults) = Store::open(options).unwrap();
        (store, faults.len(), began.elapsed())
    };
    drop(open());
    let began = Instant::now();
    for number in 0..blobs {
        make(&dir.join("r0"), number);
    }
    eprintln!("{blobs} blobs made in {:.1} s", began.elapsed().as_secs_f64());
    let mut seconds = Vec::new();
    for _ in 0..5 {
        let (store, faults, time) = open();
        assert_eq!((store.inventory().len(), faults), (blobs as usize, 0));
        seconds.push(time.as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    println!("| {blobs} | {:.2} s | {:.2} s |", seconds[seconds.len() / 2], seconds[seconds.len() - 1]);
    std::fs::remove_dir_all(&dir).unwrap();
}

/// A blob and its name, as the store would have left them.
fn make(slot: &Path, number: u32) {
    let hex = hex::encode(Blake2b512::digest(number.to_le_bytes()));
    let name = format!("package-{number}.tar.xz");
    let group = hex::encode(&Blake2b512::digest(name.as_bytes())[..1]);
    let (blobs, names) = (slot.join("blobs").join(&hex[..2]), slot.join("distfiles").join(group));
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::create_dir_all(&names).unwrap();
    std::fs::write(blobs.join(&hex), "").unwrap();
    symlink(format!("../../blobs/{}/{hex}", &hex[..2]), names.join(name)).unwrap();
}
