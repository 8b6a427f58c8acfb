//! `cargo xtask bench`: figures for docs/benchmarks.md. Nothing here decides whether a change is good.

mod crowd;
mod kernel;
mod median;
mod proxy;
mod sync;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Subcommand;

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Generations of a large tree: time of each step, memory, disk.
    Trees {
        /// The list of a real repository's files, as for `corpus`.
        #[arg(long)]
        list: PathBuf,
        /// The archive of its metadata, as for `corpus`.
        #[arg(long)]
        metadata: PathBuf,
        /// How many copies of the list make up the tree.
        #[arg(long, default_value_t = 13)]
        copies: usize,
        /// none, consistent or signed.
        #[arg(long, default_value = "signed")]
        verify: String,
        /// How many generations.
        #[arg(long, default_value_t = 10)]
        generations: u64,
        /// How many ebuilds change before each.
        #[arg(long, default_value_t = 500)]
        changed: usize,
        /// A directory to work in, made and removed by this. In memory if /dev/shm is there.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// maintenance's index at the size of a large farm: imports, differences, status, plan, objects.
    Index,
    /// Clients of the rsync daemon that stall: their memory, and the time of one that doesn't.
    Crowd(crowd::Options),
    /// Syncs of a large tree beside the stock daemon: processor time, time, memory.
    Sync(sync::Options),
    /// Plain hits: the replica, the candidate engines, nginx, squid and apt-cacher-ng side by side.
    Proxy(proxy::Options),
}

impl Bench {
    pub(crate) fn run(self) -> Result<()> {
        let own = in_memory().join(format!("rookery-bench-{}", std::process::id()));
        let Self::Trees { list, metadata, copies, verify, generations, changed, dir } = self else {
            return match self {
                Self::Crowd(options) => crowd::run(&options, &own),
                Self::Sync(options) => sync::run(&options, &own),
                Self::Proxy(options) => proxy::run(&options),
                Self::Index | Self::Trees { .. } => example("maintenance", "index_bench", &[]),
            };
        };
        let dir = dir.unwrap_or(own);
        if dir.exists() {
            bail!("{} is there already", dir.display());
        }
        let arguments = [
            dir.join("tree").into_os_string(),
            dir.join("state").into_os_string(),
            verify.into(),
            generations.to_string().into(),
            changed.to_string().into(),
        ];
        let result = lay_out(&list, &metadata, &dir.join("tree"), copies)
            .and_then(|()| example("tree-store", "trees", &arguments));
        std::fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
        result
    }
}

fn in_memory() -> PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() }
}

fn lay_out(list: &Path, metadata: &Path, tree: &Path, copies: usize) -> Result<()> {
    farm_sim::corpus::lay_out_files(list, metadata, tree, 1, copies)?;
    Ok(())
}

/// The measuring process is not this one, so that its memory is its own.
fn example(package: &str, name: &str, arguments: &[OsString]) -> Result<()> {
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["run", "--quiet", "--locked", "--release", "--package", package, "--example", name, "--"])
        .args(arguments)
        .status()
        .context("cargo")?;
    if status.success() { Ok(()) } else { bail!("the measuring program ended with {status}") }
}
