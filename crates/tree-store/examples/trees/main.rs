//! What generations of a large tree cost: time of each step, memory, disk. `cargo xtask bench trees` lays such a tree
//! out and runs this over it.
//!
//! Each generation after the first follows the change of a number of ebuilds, with all Manifests above them where the
//! tree is signed. Only the store's own work is timed.

#![allow(clippy::print_stdout, reason = "a command for people")]

mod cover;
mod memory;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use tree_store::{BuildRequest, Built, Candidate, Excludes, Generation, Keyring, Store, Verify, verify};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

struct Arguments {
    tree: PathBuf,
    state: PathBuf,
    mode: String,
    generations: usize,
    changed: usize,
}

fn arguments() -> Outcome<Arguments> {
    let mut words = std::env::args().skip(1);
    let mut word = |what: &str| words.next().ok_or_else(|| format!("{what} is missing"));
    Ok(Arguments {
        tree: word("TREE")?.into(),
        state: word("STATE")?.into(),
        mode: word("none, consistent or signed")?,
        generations: word("the number of generations")?.parse()?,
        changed: word("the number of files changed for each")?.parse()?,
    })
}

fn main() -> Outcome<()> {
    let arguments = arguments()?;
    let signer = match arguments.mode.as_str() {
        "signed" => Some(cover::Signer::new(&arguments.state.join("gnupg"))?),
        _ => None,
    };
    let mut seconds = 1_787_333_463;
    stamp(&arguments.tree, seconds)?;
    if let Some(signer) = &signer {
        cover::cover_all(&arguments.tree, signer, seconds)?;
    }
    let mode = match (&signer, arguments.mode.as_str()) {
        (Some(signer), _) => Verify::Signed(Keyring::open(signer.key())?),
        (None, "consistent") => Verify::Consistent,
        (None, "none") => Verify::None,
        (None, other) => return Err(format!("verify {other:?}: none, consistent or signed").into()),
    };
    let store = Store::open(&arguments.state, "bench".parse()?)?;
    let ebuilds = ebuilds(&arguments.tree)?;
    let tree_bytes = bytes_of(&arguments.tree)?;
    let first = Step::take(&arguments.tree, &store, &mode)?;
    println!(
        "verify = {:?}: {} files, {} directories, {:.0} MiB\n",
        arguments.mode,
        first.generation.summary().files,
        first.generation.nodes_count() as u64 - first.generation.summary().files,
        mebibytes(tree_bytes)
    );
    println!("| generation | build | verify | publish | all | files read | memory | on disk |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    first.print(&store, &arguments.state)?;
    let mut changed_bytes = 0;
    for number in 1..arguments.generations {
        let count = arguments.changed.min(ebuilds.len());
        let changed: Vec<&Path> = (0..count)
            .map(|at| ebuilds[(at * (ebuilds.len() / count) + number) % ebuilds.len()].as_path())
            .collect();
        seconds += 1800;
        change(&changed, number)?;
        stamp(&arguments.tree, seconds)?;
        changed_bytes +=
            changed.iter().map(|path| fs::metadata(path).map_or(0, |file| file.len())).sum::<u64>();
        if let Some(signer) = &signer {
            changed_bytes += cover::cover_changed(&arguments.tree, &changed, signer, seconds)?;
        }
        let step = Step::take(&arguments.tree, &store, &mode)?;
        step.print(&store, &arguments.state)?;
        store.collect(arguments.generations)?;
    }
    let whole = bytes_of(&arguments.state.join("bench"))?;
    println!(
        "\non disk: {:.2} × (one tree of {:.0} MiB, and {:.0} MiB changed since)",
        mebibytes(whole) / mebibytes(tree_bytes + changed_bytes),
        mebibytes(tree_bytes),
        mebibytes(changed_bytes)
    );
    let started = Instant::now();
    drop(store);
    let store = Store::open(&arguments.state, "bench".parse()?)?;
    println!("open: {:.2} s with {} generations kept", started.elapsed().as_secs_f64(), store.kept().len());
    Ok(())
}

/// One generation and what it took.
struct Step {
    generation: Generation,
    files_read: u64,
    times: [Duration; 3],
    memory_bytes: u64,
}

impl Step {
    fn take(tree: &Path, store: &Store, mode: &Verify) -> Outcome<Self> {
        let watch = memory::Watch::start();
        let excludes = Excludes::new::<&str>([])?;
        let stop = AtomicBool::new(false);
        let (candidate, build) = timed(|| {
            let request = BuildRequest {
                source: tree,
                excludes: &excludes,
                started: SystemTime::now(),
                afresh: false,
                stop: &stop,
            };
            match store.build(&request)? {
                Built::Candidate(candidate) => Ok(candidate),
                Built::Unchanged(_) => Err("nothing changed".into()),
            }
        })?;
        let (verified, verifying) = timed(|| Ok(verify(&candidate, store.live().as_ref(), mode, &[])?))?;
        let files_read = candidate.files_read();
        let (generation, publish) = timed(|| publish(store, candidate, &verified))?;
        let memory_bytes = watch.stop();
        Ok(Self { generation, files_read, times: [build, verifying, publish], memory_bytes })
    }

    fn print(&self, store: &Store, state: &Path) -> Outcome<()> {
        let [build, verify, publish] = self.times.map(|time| time.as_secs_f64());
        println!(
            "| {} | {build:.2} s | {verify:.2} s | {publish:.2} s | {:.2} s | {} | {:.0} MiB | {:.0} MiB |",
            self.generation.number(),
            build + verify + publish,
            self.files_read,
            mebibytes(self.memory_bytes),
            mebibytes(bytes_of(&state.join(store.module().as_str()))?)
        );
        Ok(())
    }
}

fn publish(store: &Store, candidate: Candidate, verified: &tree_store::Verified) -> Outcome<Generation> {
    Ok(store.publish(candidate, &verified.catalogue, 1, verified.timestamp_ms)?)
}

fn timed<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<(T, Duration)> {
    let started = Instant::now();
    Ok((work()?, started.elapsed()))
}

fn mebibytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX)) / 1024.0
}

/// The octets of all files below a directory.
fn bytes_of(directory: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_of(&entry.path())? } else { metadata.size() };
    }
    Ok(bytes)
}

fn ebuilds(tree: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for directory in cover::packages(tree)? {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "ebuild") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn change(ebuilds: &[&Path], number: usize) -> Outcome<()> {
    for path in ebuilds {
        let mut octets = fs::read(path)?;
        octets.extend(format!("# {number}\n").bytes());
        fs::write(path, octets)?;
    }
    Ok(())
}

fn stamp(tree: &Path, seconds: i64) -> Outcome<()> {
    let text = format!("{}\n", gentoo_repo::timestamp::format_chk(seconds));
    Ok(fs::write(tree.join("metadata/timestamp.chk"), text)?)
}
