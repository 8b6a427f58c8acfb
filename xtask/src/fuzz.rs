//! `cargo xtask fuzz`: the targets of tests/fuzz under libFuzzer.
//!
//! libFuzzer's flags are unstable ones: `RUSTC_BOOTSTRAP` lets the pinned stable toolchain take them, so that no
//! other one is needed. New inputs stay under `target/fuzz/`; the committed corpus is only read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools;

/// An input larger than this takes long and finds little: every format repeats itself long before.
const INPUT_BYTES_MAX: u32 = 64 << 10;
/// One input that takes longer is a finding.
const INPUT_SECONDS_MAX: u32 = 20;
const MEMORY_MEBIBYTES_MAX: u32 = 2048;

/// Runs the targets, all if none is named, for some minutes each.
pub(crate) fn run(minutes: f64, wanted: &[String]) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?.to_owned();
    let directory = root.join("tests/fuzz");
    let targets = targets(&directory)?;
    if let Some(unknown) = wanted.iter().find(|name| !targets.contains(name)) {
        bail!("there is no target {unknown}; there are: {}", targets.join(", "));
    }
    let target_directory =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let cargo_fuzz = tools::install_cargo_fuzz(&target_directory.join("tools"))?;
    let work = target_directory.join("fuzz");
    build(&cargo_fuzz, &directory, &work)?;
    let program = work.join("build/x86_64-unknown-linux-gnu/release/any");
    let program = if program.is_file() { program } else { find_program(&work.join("build"))? };
    let mut failed = Vec::new();
    for name in targets.iter().filter(|name| wanted.is_empty() || wanted.contains(name)) {
        println!("== {name}: {minutes} minutes");
        if !fuzz(&program, &directory, &work, name, minutes)? {
            failed.push(name.as_str());
        }
    }
    if failed.is_empty() {
        println!("no target failed");
        return Ok(());
    }
    bail!("failed: {}; the inputs are in {}", failed.join(", "), work.join("artifacts").display())
}

/// The corpus has a directory for each target; a test of rookery-fuzz sees to it.
fn targets(directory: &Path) -> Result<Vec<String>> {
    let corpus = directory.join("corpus");
    let mut names = Vec::new();
    for entry in fs::read_dir(&corpus).with_context(|| corpus.display().to_string())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn build(cargo_fuzz: &Path, directory: &Path, work: &Path) -> Result<()> {
    let status = Command::new(cargo_fuzz)
        .current_dir(directory.join("libfuzzer"))
        .args(["fuzz", "build", "--fuzz-dir"])
        .arg(directory.join("libfuzzer"))
        .arg("--target-dir")
        .arg(work.join("build"))
        .arg("any")
        .env("RUSTC_BOOTSTRAP", "1")
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .context("cargo-fuzz")?;
    if status.success() { Ok(()) } else { bail!("cargo fuzz build ended with {status}") }
}

/// Where cargo put it on another processor.
fn find_program(build: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(build).with_context(|| build.display().to_string())?;
    let programs = entries.filter_map(|entry| Some(entry.ok()?.path().join("release/any")));
    programs.into_iter().find(|path| path.is_file()).context("cargo fuzz built no program")
}

/// Whether the target survived.
fn fuzz(program: &Path, directory: &Path, work: &Path, name: &str, minutes: f64) -> Result<bool> {
    let (found, artifacts) = (work.join("corpus").join(name), work.join("artifacts").join(name));
    for directory in [&found, &artifacts] {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    let status = Command::new(program)
        .arg(format!("-max_total_time={}", (minutes * 60.0).max(1.0).round()))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MEBIBYTES_MAX}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(format!("-dict={}", directory.join("dictionary").display()))
        .args(["-print_final_stats=1", "-verbosity=0"])
        .arg(&found)
        .arg(directory.join("corpus").join(name))
        .env("ROOKERY_FUZZ_TARGET", name)
        .status()
        .with_context(|| program.display().to_string())?;
    Ok(status.success())
}
