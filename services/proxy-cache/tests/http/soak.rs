//! Clients of every kind at once, as long as one likes, and what each of them must get.
//!
//! Each client makes up requests, knows what the answers are by [`model`], and sends them in one piece, octet by octet
//! or as it comes; it reads all, or a little at a time, or goes in the middle. `ROOKERY_SOAK_SECONDS` makes it long,
//! `ROOKERY_SEED` makes the clients the same again.

mod answers;
mod client;
mod model;
mod planted;

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use farm_sim::upstream::Upstream;
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::replica::{File, Replica, TASKS_AT_REST, config, know, named, until};
use client::Tally;
use model::World;

/// Around what is copied behind a head, what the kernel is asked for at once, and what is verified first.
const SIZES: [u64; 9] =
    [1, 1000, 32 << 10, (32 << 10) + 1, 65_536, 1 << 20, (1 << 20) + 1, 2_500_000, 4_000_001];
const CLIENTS: u64 = 6;
/// How much longer than asked for it may take until clients of every kind were there.
const LONGER_MAX: Duration = Duration::from_mins(2);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// A replica that has fetched these files.
async fn stored(dir: &Path, upstream: &Upstream, files: &[(&str, u64)]) -> (Replica, World) {
    let files: Vec<File> = files.iter().map(|(name, size)| File::new(name, *size)).collect();
    for file in &files {
        upstream.put(&file.mirror_path(), file.object());
    }
    know(dir, "gentoo", &files.iter().collect::<Vec<_>>()).await;
    let mut config = config(dir, &[upstream]);
    config.limits.connections_per_client = 1000;
    let replica = Replica::start(config).await;
    for file in &files {
        replica.get(&file.mirror_path()).await.assert_is(file);
    }
    until("all are stored", || named(dir).len() == files.len()).await;
    let world = World::new(replica.address, dir, &files);
    (replica, world)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_gets_what_it_asked_for() {
    let seed = number("ROOKERY_SEED").unwrap_or_else(|| rand::rng().random());
    let time = Duration::from_secs(number("ROOKERY_SOAK_SECONDS").unwrap_or(5));
    println!("{} s, ROOKERY_SEED={seed}", time.as_secs());
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await.unwrap();
    let files = SIZES.map(|size| (format!("file-{size}.tar"), size));
    let files = files.each_ref().map(|(name, size)| (name.as_str(), *size));
    let (replica, world) = stored(dir.path(), &upstream, &files).await;
    let fetched = upstream.total().requests;
    let until = tokio::time::Instant::now() + time;
    let all = RefCell::new(Tally::default());
    // On a busy machine it takes longer until everything has come up.
    let goes_on = || {
        let now = tokio::time::Instant::now();
        now < until || (now < until + LONGER_MAX && !all.borrow().has_all())
    };
    let clients = (0..CLIENTS).map(async |number| {
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(number));
        while goes_on() {
            let mut tally = Tally::default();
            client::run(&world, &mut random, &mut tally).await;
            all.replace_with(|all| all.and(&tally));
        }
    });
    join_all(clients).await;
    let tally = all.into_inner();
    println!("{tally:?}");
    assert!(tally.has_all(), "{tally:?}");
    assert_eq!(upstream.total().requests, fetched, "a hit was fetched");
    // Nobody's connection is left behind.
    crate::replica::until("the connections are over", || replica.kit.tasks.running() <= TASKS_AT_REST).await;
}
