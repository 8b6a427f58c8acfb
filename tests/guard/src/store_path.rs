//! A miss on its way to the disk: written, hashed, shown to those who follow it.

use std::hint::black_box;

use anyhow::{Result, ensure};
use blake2::{Blake2b512, Digest as _};
use blob_store::{Expected, Options, Store};
use gentoo_repo::{Digests, DistfileName, HashAlgorithm};

/// As much as a fetch hands on at a time.
const CHUNK_LEN: usize = 64 << 10;

pub(crate) fn miss_write_loop(times: u32) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options = Options { cache_dir: dir.path().to_owned(), capacity_bytes: 1 << 40, faults: None };
    let (store, _) = Store::open(options)?;
    let mut digests = Digests::new();
    // Those that Manifests have. It never gets whole, so that nothing but the loop is counted.
    for algorithm in [HashAlgorithm::Blake2b, HashAlgorithm::Sha512] {
        digests.insert(algorithm, Blake2b512::digest(b"never reached"))?;
    }
    let size_bytes = (u64::from(times) + 1) * CHUNK_LEN as u64;
    let expected = Expected::new(DistfileName::try_from("foo-1.0.tar.xz")?, size_bytes, digests)?;
    let mut part = store.begin(expected)?;
    let reader = part.reader();
    let chunk = vec![0x5A; CHUNK_LEN];
    for _ in 0..times {
        ensure!(part.append(black_box(&chunk))? == CHUNK_LEN, "it takes all of it");
    }
    drop(reader);
    part.discard()?;
    Ok(())
}
