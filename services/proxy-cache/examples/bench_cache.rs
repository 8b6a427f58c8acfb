//! Files for `cargo xtask bench proxy`: once as an upstream has them, and once as a replica that fetched them.
//!
//! ```sh
//! cargo run --release -p proxy-cache --example bench_cache -- [--unstored] CACHE_DIR FILES_DIR OCTETS…
//! ```
//!
//! With `--unstored` the replica knows the files and has none of them.
//!
//! Below `FILES_DIR` `flat/NAME` and `www/distfiles/XX/NAME` are one file.

#![allow(clippy::unwrap_used, reason = "a measurement for people")]

use std::path::Path;

use blob_store::{Expected, Options, Scope, Store};
use farm_sim::contents::Contents;
use farm_sim::upstream::mirror_path;
use gentoo_repo::{Digests, DistfileName, HashAlgorithm};
use proxy_cache::catalogue::Catalogue;
use rookery_proto::v1;

const PIECE_OCTETS: usize = 1 << 20;

#[tokio::main]
async fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_stored = arguments.first().is_none_or(|first| first != "--unstored");
    if !is_stored {
        arguments.remove(0);
    }
    let (cache, files) = (Path::new(&arguments[0]), Path::new(&arguments[1]));
    let options = Options { cache_dir: cache.to_owned(), capacity_bytes: 1 << 40, faults: None };
    let (store, _) = Store::open(options).unwrap();
    let mut upserts = Vec::new();
    for octets in &arguments[2..] {
        let name = format!("bench-{octets}.tar.xz");
        let contents = Contents::new(1, &name, octets.parse().unwrap());
        lay_out(files, &name, &contents);
        if is_stored {
            store_one(&store, &name, &contents);
        }
        upserts.push(listed(&name, &contents));
    }
    let catalogue = Catalogue::open(&store.slot_dir().join("catalogue.db")).await.unwrap();
    let mut step = catalogue.begin("gentoo", 1).await.unwrap();
    step.apply(&v1::DistfileChanges { reset: true, upserts, removes: Vec::new() }).await.unwrap();
    step.complete(&["gentoo".to_owned()]).await.unwrap();
}

/// Each piece in turn.
fn pieces(contents: &Contents, mut take: impl FnMut(&[u8])) {
    let mut offset = 0;
    while offset < contents.size_bytes() {
        let piece = contents.chunk_at(offset, PIECE_OCTETS);
        take(&piece);
        offset += piece.len() as u64;
    }
}

fn lay_out(files: &Path, name: &str, contents: &Contents) {
    use std::io::Write as _;
    let (flat, below) = (files.join("flat").join(name), files.join("www").join(&mirror_path(name)[1..]));
    for path in [&flat, &below] {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    }
    let mut file = std::fs::File::create(&flat).unwrap();
    pieces(contents, |piece| file.write_all(piece).unwrap());
    if !below.exists() {
        std::fs::hard_link(&flat, &below).unwrap();
    }
}

fn store_one(store: &Store, name: &str, contents: &Contents) {
    let digests = contents.digests();
    let listed: Digests = [
        (HashAlgorithm::Blake2b, digests.blake2b.to_vec()),
        (HashAlgorithm::Sha512, digests.sha512.to_vec()),
    ]
    .into_iter()
    .collect();
    let expected =
        Expected::new(DistfileName::try_from(name).unwrap(), contents.size_bytes(), listed).unwrap();
    let mut part = store.begin(expected).unwrap();
    pieces(contents, |piece| assert_eq!(part.append(piece).unwrap(), piece.len()));
    part.finish(&[Scope::DISTFILES]).unwrap();
}

/// As a tree lists it.
fn listed(name: &str, contents: &Contents) -> v1::Distfile {
    let digests = contents.digests();
    let digest = |algorithm: &str, value: [u8; 64]| v1::Digest {
        algorithm: algorithm.to_owned(),
        value: value.to_vec(),
    };
    v1::Distfile {
        name: name.to_owned(),
        size_bytes: contents.size_bytes(),
        digests: vec![digest("BLAKE2B", digests.blake2b), digest("SHA512", digests.sha512)],
        ..v1::Distfile::default()
    }
}
