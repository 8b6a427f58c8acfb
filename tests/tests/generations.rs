//! Boxes sync while trees are published and while the mirror is killed: what they get is always one whole generation.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::Rng as _;
use rookery_tests::farm::{DEADLINE, Farm, Verify};
use rookery_tests::program;

const CLIENTS: usize = 10;
const PUBLISHES: u32 = 20;

/// How often it is killed, unless `ROOKERY_SOAK_KILLS` says otherwise.
const KILLS: u32 = 6;

/// What a start may take until it serves a whole generation: judged by the soak, which has the machine for itself.
const SERVES_WITHIN: Duration = Duration::from_secs(2);

/// Tells one tree from another by the paths and contents of its files.
fn fingerprint(root: &Path) -> Result<u64> {
    fn visit(folder: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() && !path.is_symlink() {
                visit(&path, files)?;
            } else {
                files.insert(path);
            }
        }
        Ok(())
    }
    let mut files = BTreeSet::new();
    visit(root, &mut files)?;
    let mut hasher = DefaultHasher::new();
    for path in files {
        path.strip_prefix(root)?.hash(&mut hasher);
        if path.is_symlink() {
            fs::read_link(&path)?.hash(&mut hasher);
        } else {
            fs::read(&path)?.hash(&mut hasher);
        }
    }
    Ok(hasher.finish())
}

/// One sync by the stock program. Contents are compared: within one second a file may change without getting
/// another size or time.
fn sync(uri: &str, to: &Path) -> Result<bool> {
    let mut rsync = program::stock("rsync");
    rsync.args(["-rlpt", "--checksum", "--delete", &format!("{uri}/")]).arg(to);
    Ok(rsync.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success())
}

fn publish(farm: &Farm) -> Result<()> {
    let output = farm.rookery().args(["publish", "gentoo-portage"]).output()?;
    ensure!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), farm.log_end());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_clients_through_twenty_publishes_each_get_whole_generations() -> Result<()> {
    let mut farm = Farm::start(&[]).await?;
    let generations = Mutex::new(vec![fingerprint(&farm.tree.dir)?]);
    let known =
        |tree| generations.lock().unwrap_or_else(PoisonError::into_inner).iter().position(|one| *one == tree);
    let (done, uri) = (AtomicBool::new(false), farm.sync_uri());
    let copies: Vec<PathBuf> = (0..CLIENTS).map(|client| farm.dir().join(format!("copy-{client}"))).collect();
    // Syncs until the last generation is published, then once more; which generations it got, in order.
    let client = |copy: &Path| -> Result<Vec<usize>> {
        let mut seen = Vec::new();
        loop {
            let last = done.load(Ordering::Relaxed);
            ensure!(sync(&uri, copy)?, "a sync failed");
            let generation = known(fingerprint(copy)?);
            seen.push(generation.with_context(|| format!("after {seen:?}: a tree that is no generation"))?);
            if last {
                return Ok(seen);
            }
        }
    };
    let all = std::thread::scope(|scope| -> Result<Vec<Vec<usize>>> {
        let clients: Vec<_> = copies.iter().map(|copy| scope.spawn(|| client(copy))).collect();
        let published = (1..=PUBLISHES).try_for_each(|revision| {
            farm.bump_tree(revision)?;
            let tree = fingerprint(&farm.tree.dir)?;
            generations.lock().unwrap_or_else(PoisonError::into_inner).push(tree);
            publish(&farm)
        });
        done.store(true, Ordering::Relaxed);
        published?;
        clients
            .into_iter()
            .map(|client| client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?)
            .collect()
    })?;
    let newest = usize::try_from(PUBLISHES)?;
    let mut syncs = 0;
    for seen in all {
        assert!(seen.is_sorted(), "back to an older generation: {seen:?}");
        assert_eq!(seen.last(), Some(&newest));
        syncs += seen.len();
    }
    println!("{CLIENTS} clients, {PUBLISHES} publishes: {syncs} syncs, each one whole generation");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_of_build_and_publish_it_serves_a_whole_generation_at_once() -> Result<()> {
    let soak = std::env::var("ROOKERY_SOAK_KILLS").ok();
    let kills = soak.as_deref().map_or(Ok(KILLS), str::parse)?;
    let mut farm = Farm::prepare(300, Verify::Consistent).await?;
    farm.start_mirror().await?;
    let mut generations = vec![fingerprint(&farm.tree.dir)?];
    farm.bump_tree(1)?;
    generations.push(fingerprint(&farm.tree.dir)?);
    let started = Instant::now();
    publish(&farm)?;
    let build = started.elapsed();
    let mut at_least = 0;
    let mut slowest = Duration::ZERO;
    let mut cut = 0;
    for revision in 2..kills + 2 {
        farm.bump_tree(revision)?;
        generations.push(fingerprint(&farm.tree.dir)?);
        let mut order = farm.rookery();
        let mut order = order.args(["publish"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        // The moment is what is tested: nothing is waited for here.
        tokio::time::sleep(rand::rng().random_range(Duration::ZERO..build)).await;
        farm.kill_mirror()?;
        cut += u32::from(!order.wait()?.success());

        let started = Instant::now();
        farm.spawn_mirror()?;
        let copy = farm.dir().join("copy");
        while !sync(&farm.sync_uri(), &copy)? {
            ensure!(started.elapsed() < DEADLINE, "nothing is served\n{}", farm.log_end());
        }
        slowest = slowest.max(started.elapsed());
        let tree = fingerprint(&copy)?;
        let generation = generations.iter().position(|one| *one == tree);
        let generation = generation.with_context(|| format!("no generation\n{}", farm.log_end()))?;
        assert!(generation >= at_least, "back from {at_least} to {generation}\n{}", farm.log_end());
        at_least = generation;
    }
    println!(
        "{kills} kills, {cut} of them before the publish was answered; slowest start and sync: {slowest:?}"
    );
    assert!(soak.is_none() || slowest < SERVES_WITHIN, "{slowest:?}");
    Ok(())
}
