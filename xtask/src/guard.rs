//! `cargo xtask guard`: the hot paths of tests/guard under callgrind, against committed figures.
//!
//! A path is run twice, the second time more often; the difference, divided, is what it takes once: whatever is made ready
//! before falls out. Instructions do not depend on the machine's load or speed, only on the compiler, which
//! is pinned, and on the C library's ways to copy.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

/// Each path, and how often it runs more in the second run.
const PATHS: [(&str, u64); 5] = [
    ("encode-list", 20),
    ("serve-cached-list", 200),
    ("plain-hit-head", 2000),
    ("range-parse", 2000),
    ("miss-write-loop", 20),
];
/// How often it runs in the first run: whatever happens only once has happened then.
const FIRST: u64 = 10;
/// How far a figure may be from the committed one, in hundredths.
const TOLERANCE: u64 = 5;
const HEAD: &str = "# What each hot path takes once, as `cargo xtask guard --write` counted it.\n# path instructions allocations\n";

/// What a path takes once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Figures {
    instructions: u64,
    allocations: u64,
}

pub(crate) fn run(write: bool) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(root)
        .args(["build", "--quiet", "--locked", "--profile", "guard", "--package", "rookery-guard"])
        .status()
        .context("cargo")?;
    ensure!(status.success(), "cargo build ended with {status}");
    let program = target.join("guard/rookery-guard");
    let mut found = BTreeMap::new();
    for (path, times) in PATHS {
        let [few, many] = [FIRST, FIRST + times].map(|times| count(&program, &target, path, times));
        let (few, many) = (few?, many?);
        let once = |of: fn(&Figures) -> u64| of(&many).saturating_sub(of(&few)) / times;
        let figures =
            Figures { instructions: once(|f| f.instructions), allocations: once(|f| f.allocations) };
        println!("{path:20} {:12} instructions {:6} allocations", figures.instructions, figures.allocations);
        found.insert(path.to_owned(), figures);
    }
    let file = root.join("tests/guard/figures.txt");
    if write {
        return Ok(fs::write(file, format(&found))?);
    }
    let committed = parse(&fs::read_to_string(&file).with_context(|| file.display().to_string())?)?;
    let faults = compare(&committed, &found);
    ensure!(
        faults.is_empty(),
        "{}\nIf that is meant, `cargo xtask guard --write` takes the new figures",
        faults.join("\n")
    );
    Ok(())
}

/// Runs a path so often under callgrind.
fn count(program: &Path, target: &Path, path: &str, times: u64) -> Result<Figures> {
    let out = target.join(format!("guard/callgrind.{path}"));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--compress-strings=no"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args([path, &times.to_string()])
        .output()
        .context("valgrind: `cargo xtask test` installs it")?;
    if !output.status.success() {
        bail!("{path}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let profile = fs::read_to_string(&out).with_context(|| out.display().to_string())?;
    fs::remove_file(&out)?;
    understand(&profile).with_context(|| format!("{path}: what callgrind wrote"))
}

/// The total, and the calls of what gives out memory.
fn understand(profile: &str) -> Option<Figures> {
    const ALLOCATORS: [&str; 5] = ["malloc", "calloc", "realloc", "aligned_alloc", "posix_memalign"];
    let total = profile.lines().find_map(|line| line.strip_prefix("totals: "))?;
    let mut allocations = 0;
    let mut lines = profile.lines();
    while let Some(line) = lines.next() {
        let Some(called) = line.strip_prefix("cfn=") else { continue };
        // Allocators call each other.
        let name = called.split(['\'', '@']).next().unwrap_or(called);
        if ALLOCATORS.contains(&name) {
            let calls = lines.next().and_then(|line| line.strip_prefix("calls=")?.split(' ').next());
            allocations += calls?.parse::<u64>().ok()?;
        }
    }
    Some(Figures { instructions: total.trim().parse().ok()?, allocations })
}

fn format(figures: &BTreeMap<String, Figures>) -> String {
    let mut text = HEAD.to_owned();
    for (path, Figures { instructions, allocations }) in figures {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{path} {instructions} {allocations}");
    }
    text
}

fn parse(text: &str) -> Result<BTreeMap<String, Figures>> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let figures = lines.map(|line| {
        let mut words = line.split_whitespace();
        let mut next = || words.next().with_context(|| format!("figures.txt: {line:?} has three words"));
        let path = next()?.to_owned();
        Ok((path, Figures { instructions: next()?.parse()?, allocations: next()?.parse()? }))
    });
    figures.collect()
}

/// What is further away than it may be, in either direction: a figure that is better than it says guards nothing.
fn compare(committed: &BTreeMap<String, Figures>, found: &BTreeMap<String, Figures>) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, now) in found {
        let Some(then) = committed.get(path) else {
            faults.push(format!("{path}: it has no committed figures"));
            continue;
        };
        for (what, then, now) in [
            ("instructions", then.instructions, now.instructions),
            ("allocations", then.allocations, now.allocations),
        ] {
            if then.abs_diff(now).saturating_mul(100) > then.saturating_mul(TOLERANCE) {
                faults.push(format!("{path}: {now} {what}, which were {then}"));
            }
        }
    }
    let gone = committed.keys().filter(|path| !found.contains_key(*path));
    faults.extend(gone.map(|path| format!("{path}: it is not counted any more")));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(instructions: u64, allocations: u64) -> BTreeMap<String, Figures> {
        BTreeMap::from([("path".to_owned(), Figures { instructions, allocations })])
    }

    #[test]
    fn what_callgrind_writes_is_understood() {
        let profile = "version: 1\ncmd: x\n\nevents: Ir\nfn=main\n3 5\ncfn=malloc\ncalls=7 0 \n3 70\n\
                       cfn=memcpy@GLIBC_2.14\ncalls=2 0\n3 9\nfn=other\ncfn=realloc\ncalls=2 0\n1 4\ntotals: 12345\n";
        assert_eq!(understand(profile), Some(Figures { instructions: 12_345, allocations: 9 }));
        assert_eq!(understand("fn=main\n"), None);
    }

    #[test]
    fn one_in_twenty_is_let_pass_and_no_more() {
        let committed = figures(1000, 20);
        assert_eq!(compare(&committed, &figures(1050, 20)), [""; 0]);
        assert_eq!(compare(&committed, &figures(1051, 20)), ["path: 1051 instructions, which were 1000"]);
        assert_eq!(compare(&committed, &figures(949, 20)), ["path: 949 instructions, which were 1000"]);
        assert_eq!(compare(&committed, &figures(1000, 22)), ["path: 22 allocations, which were 20"]);
        assert_eq!(compare(&figures(5, 0), &figures(5, 1)), ["path: 1 allocations, which were 0"]);
        assert_eq!(compare(&BTreeMap::new(), &committed), ["path: it has no committed figures"]);
        assert_eq!(compare(&committed, &BTreeMap::new()), ["path: it is not counted any more"]);
    }

    #[test]
    fn the_file_says_what_was_put_into_it() {
        assert_eq!(parse(&format(&figures(5, 6))).unwrap(), figures(5, 6));
        assert!(parse("path 5\n").is_err());
    }
}
