//! Directories of distfiles that are adopted: the old DISTDIR, by command, at the start, and killed.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use blake2::{Blake2b512, Digest as _};
use rookery_tests::cache_check;
use rookery_tests::distfile::ExtraDistfile;
use rookery_tests::farm::{Farm, eventually};
use serde_json::Value;

/// How many files of each kind the DISTDIR has: 200.
const GOOD: usize = 110;
const UNKNOWN: usize = 20;
const FLIPPED: usize = 15;
const TRUNCATED: usize = 10;
const CACHED_EQUAL: usize = 15;
const CACHED_OTHER: usize = 10;
const GROWING: usize = 5;
const PARTS: usize = 5;
const LINKS: usize = 3;
const DIRECTORIES: usize = 2;
const NOT_UTF8: usize = 3;
const BAD_NAMES: usize = 2;

/// What lies at each path: a directory and a link count as themselves.
type Snapshot = BTreeMap<OsString, String>;

fn snapshot(dir: &Path) -> Result<Snapshot> {
    let mut found = Snapshot::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let what = if kind.is_symlink() {
            format!("link to {}", fs::read_link(entry.path())?.display())
        } else if kind.is_dir() {
            format!("directory {:?}", snapshot(&entry.path())?)
        } else {
            hex::encode(Blake2b512::digest(fs::read(entry.path())?))
        };
        found.insert(entry.file_name(), what);
    }
    Ok(found)
}

/// A night's DISTDIR, and what the catalogue is to know.
struct Night {
    dir: PathBuf,
    listed: Vec<ExtraDistfile>,
}

impl Night {
    fn plan(dir: PathBuf) -> Self {
        let kinds = [("good", GOOD), ("flip", FLIPPED), ("trunc", TRUNCATED), ("equal", CACHED_EQUAL)];
        let kinds = kinds.into_iter().chain([("other", CACHED_OTHER), ("grow", GROWING), ("link", LINKS)]);
        let listed = kinds.flat_map(|(kind, count)| {
            (0..count).map(move |number| {
                // Some are larger than what is copied in one go.
                let size_bytes = if number % 40 == 7 { 3_500_000 } else { 2000 + 517 * number as u64 };
                ExtraDistfile::new(&format!("{kind}{number}-1.tar.xz"), size_bytes)
            })
        });
        Self { dir, listed: listed.collect() }
    }

    fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a ExtraDistfile> {
        self.listed.iter().filter(move |file| file.name.starts_with(kind))
    }

    /// As the boxes left it.
    fn fill(&self) -> Result<()> {
        fs::create_dir_all(&self.dir)?;
        let bytes = |file: &ExtraDistfile| file.contents.to_bytes().to_vec();
        for file in self.of("good").chain(self.of("equal")) {
            self.put(OsStr::new(&file.name), &bytes(file), true)?;
        }
        for file in self.of("flip").chain(self.of("other")) {
            let mut bytes = bytes(file);
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
            self.put(OsStr::new(&file.name), &bytes, true)?;
        }
        for (file, is_settled) in
            self.of("trunc").map(|f| (f, true)).chain(self.of("grow").map(|f| (f, false)))
        {
            let bytes = bytes(file);
            self.put(OsStr::new(&file.name), &bytes[..bytes.len() / 3], is_settled)?;
        }
        for number in 0..UNKNOWN {
            self.put(OsStr::new(&format!("unknown-{number}.zip")), b"what", true)?;
        }
        for number in 0..PARTS {
            self.put(OsStr::new(&format!("good{number}-1.tar.xz.__download__")), b"half", true)?;
        }
        for number in 0..NOT_UTF8 {
            let mut name = format!("latin-{number}-_.tgz").into_bytes();
            name[0] = 0xe9;
            self.put(OsStr::from_bytes(&name), b"e", true)?;
        }
        for name in ["two\nlines", "\u{7f}"].iter().take(BAD_NAMES) {
            self.put(OsStr::new(name), b"x", true)?;
        }
        // The files themselves are elsewhere, and right.
        let elsewhere = self.dir.with_file_name("elsewhere");
        fs::create_dir_all(&elsewhere)?;
        for file in self.of("link") {
            fs::write(elsewhere.join(&file.name), file.contents.to_bytes())?;
            symlink(elsewhere.join(&file.name), self.dir.join(&file.name))?;
        }
        for number in 0..DIRECTORIES {
            let below = self.dir.join(format!("sub{number}"));
            fs::create_dir(&below)?;
            fs::write(below.join("good0-1.tar.xz"), "never looked at")?;
        }
        Ok(())
    }

    fn put(&self, name: &OsStr, bytes: &[u8], is_settled: bool) -> Result<()> {
        let path = self.dir.join(name);
        fs::write(&path, bytes)?;
        let day = Duration::from_hours(24);
        // What was written now would have settled before the last import of a slow run: tomorrow never has.
        let modified = if is_settled { SystemTime::now() - day } else { SystemTime::now() + day };
        fs::File::options().write(true).open(&path)?.set_modified(modified)?;
        Ok(())
    }

    /// What a report of an import that removes must say.
    fn expected() -> BTreeMap<String, usize> {
        let counts = [
            ("adopted_and_removed", GOOD),
            ("unknown", UNKNOWN),
            ("damaged", FLIPPED + TRUNCATED),
            ("already_stored_and_removed", CACHED_EQUAL),
            ("stored_differs", CACHED_OTHER),
            ("growing", GROWING),
            ("part", PARTS),
            ("link", LINKS),
            ("not_a_file", DIRECTORIES),
            ("bad_name", NOT_UTF8 + BAD_NAMES),
        ];
        counts.into_iter().map(|(outcome, files)| (outcome.to_owned(), files)).collect()
    }
}

async fn farm_of(listed: &[ExtraDistfile]) -> Result<Farm> {
    Farm::start(listed).await
}

fn import(farm: &Farm, arguments: &[&str]) -> Result<Value> {
    let output = farm.rookery().args(["--json", "import"]).args(arguments).output()?;
    anyhow::ensure!(
        output.status.success(),
        "rookery import {arguments:?}: {}\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        farm.log_end()
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn counts(answer: &Value) -> Result<BTreeMap<String, usize>> {
    let outcomes = answer["directories"][0]["outcomes"].as_array().context("no outcomes")?;
    outcomes
        .iter()
        .map(|tally| {
            let outcome = tally["outcome"].as_str().context("no outcome")?.to_owned();
            let files = usize::try_from(tally["files"].as_u64().context("no count")?)?;
            Ok((outcome, files))
        })
        .collect()
}

async fn get(farm: &Farm, file: &ExtraDistfile) -> Result<()> {
    let answer = reqwest::get(farm.distfile_url(&file.name)).await?.error_for_status()?;
    anyhow::ensure!(answer.bytes().await? == file.contents.to_bytes(), "{} differs", file.name);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_night_adopts_what_is_right_removes_what_is_adopted_and_loses_nothing() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let night = Night::plan(scratch.path().join("distfiles"));
    let farm = farm_of(&night.listed).await?;
    for file in night.of("equal").chain(night.of("other")) {
        get(&farm, file).await?;
    }
    eventually("what was fetched has its name", || {
        cache_check::blob_count(&farm.cache_dir()).is_ok_and(|count| count == CACHED_EQUAL + CACHED_OTHER)
    })
    .await?;
    night.fill()?;
    let before = snapshot(&night.dir)?;
    assert_eq!(before.len(), 200);
    let dir = night.dir.to_str().context("a path")?;
    let upstream_before = farm.upstream.total().requests;

    let dry = import(&farm, &[dir, "--after", "remove", "--dry-run"])?;
    assert_eq!(counts(&dry)?, Night::expected(), "{dry}");
    assert_eq!(snapshot(&night.dir)?, before, "a dry run changes nothing");
    assert_eq!(cache_check::blob_count(&farm.cache_dir())?, CACHED_EQUAL + CACHED_OTHER);

    let answer = import(&farm, &[dir, "--after", "remove"])?;
    assert_eq!(counts(&answer)?, Night::expected(), "{answer}");
    let mut left = before.clone();
    for file in night.of("good").chain(night.of("equal")) {
        assert!(left.remove(OsStr::new(&file.name)).is_some());
    }
    assert_eq!(snapshot(&night.dir)?, left, "only what is stored is gone, the rest is as it was");
    assert_eq!(cache_check::faults(&farm.cache_dir())?, Vec::<String>::new());
    for file in night.of("good").chain(night.of("equal")).chain(night.of("other")) {
        get(&farm, file).await?;
    }
    assert_eq!(farm.upstream.total().requests, upstream_before, "all of them are hits");
    let listed = answer["directories"][0]["files"].as_array().context("no files")?;
    assert_eq!(listed.len(), 200, "each file is named");

    // Once more: there is nothing left to do, and nothing changes.
    let again = import(&farm, &[dir, "--after", "remove"])?;
    let mut expected = Night::expected();
    expected.retain(|outcome, _| !outcome.ends_with("_and_removed"));
    assert_eq!(counts(&again)?, expected);
    assert_eq!(snapshot(&night.dir)?, left);

    // Kept ones are copies: writing to the old file in place does not reach the cache.
    let kept = night.of("flip").next().context("a file")?;
    night.put(OsStr::new(&kept.name), &kept.contents.to_bytes(), true)?;
    assert_eq!(counts(&import(&farm, &[dir])?)?["adopted"], 1);
    fs::write(night.dir.join(&kept.name), "written in place")?;
    get(&farm, kept).await?;
    assert_eq!(cache_check::faults(&farm.cache_dir())?, Vec::<String>::new());
    Ok(())
}

/// `rookery nightly`: its answer, and how it ended.
fn nightly(farm: &Farm, arguments: &[&str]) -> Result<Value> {
    let output = farm.rookery().args(["--json", "nightly"]).args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "rookery nightly {arguments:?}: {said}\n{}", farm.log_end());
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What a run says of one of its steps.
fn step<'a>(run: &'a Value, name: &str) -> Result<(&'a str, &'a str)> {
    let steps = run["steps"].as_array().context("no steps")?;
    let step = steps.iter().find(|step| step["name"] == name).with_context(|| format!("no step {name}"))?;
    Ok((step["outcome"].as_str().unwrap_or_default(), step["report"].as_str().unwrap_or_default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nightly_run_adopts_clears_and_reports_the_import_directories_and_loses_nothing() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let night = Night::plan(scratch.path().join("distfiles"));
    let mut farm = farm_of(&night.listed).await?;
    for file in night.of("equal").chain(night.of("other")) {
        get(&farm, file).await?;
    }
    farm.stop_mirror().await?;
    // At its start there is nothing in it yet; what lies there in the evening is the night's.
    fs::create_dir(&night.dir)?;
    let dir = night.dir.display();
    farm.configure(&format!("\n[[proxy.import_dirs]]\ndir = \"{dir}\"\nafter = \"remove\"\n"))?;
    farm.start_mirror().await?;
    let log = farm.dir().join("mirror.log");
    eventually("the start has looked at it", || {
        fs::read_to_string(&log).is_ok_and(|log| log.contains("imported: nothing is there"))
    })
    .await?;
    assert_eq!(cache_check::blob_count(&farm.cache_dir())?, CACHED_EQUAL + CACHED_OTHER);
    night.fill()?;
    let before = snapshot(&night.dir)?;
    assert_eq!(before.len(), 200);
    let upstream_before = farm.upstream.total().requests;

    let unknown = UNKNOWN + PARTS + LINKS + DIRECTORIES + NOT_UTF8 + BAD_NAMES;
    let differing = FLIPPED + TRUNCATED + CACHED_OTHER + GROWING;
    let left = format!("left: {unknown} unknown, {differing} with other contents, 0 failed");
    let of_200 = format!("{CACHED_EQUAL} known, {} removed; {left}", GOOD + CACHED_EQUAL);
    let adopted = format!(": {GOOD} adopted (");
    let run = nightly(&farm, &["--dry-run"])?;
    let (outcome, report) = step(&run, "import")?;
    assert!(outcome == "done" && report.contains(&format!(" would be{adopted}")), "{report}");
    assert!(report.ends_with(&of_200), "{report}");
    assert_eq!(snapshot(&night.dir)?, before, "a dry run changes nothing");

    let run = nightly(&farm, &[])?;
    assert_eq!(run["outcome"], "done", "{run}");
    let (outcome, report) = step(&run, "import")?;
    assert!(outcome == "done" && report.contains(&adopted) && report.ends_with(&of_200), "{report}");
    let mut rest = before;
    for file in night.of("good").chain(night.of("equal")) {
        assert!(rest.remove(OsStr::new(&file.name)).is_some());
    }
    assert_eq!(snapshot(&night.dir)?, rest, "only what is stored is gone, the rest is as it was");
    // The steps behind it know of what was adopted: nothing of it is evicted in the same night.
    assert_eq!(cache_check::blob_count(&farm.cache_dir())?, GOOD + CACHED_EQUAL + CACHED_OTHER);
    assert_eq!(cache_check::faults(&farm.cache_dir())?, Vec::<String>::new());
    for file in night.of("good").chain(night.of("equal")).chain(night.of("other")) {
        get(&farm, file).await?;
    }
    assert_eq!(farm.upstream.total().requests, upstream_before, "all of them are hits");

    // The next night finds what was left, and nothing to do.
    let run = nightly(&farm, &[])?;
    let (_, report) = step(&run, "import")?;
    let of_75 = format!(": 0 adopted (0 B), 0 known, 0 removed; {left}");
    assert!(report.ends_with(&of_75), "{report}");
    assert_eq!(snapshot(&night.dir)?, rest);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_killed_while_it_imports_loses_no_file() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let dir = scratch.path().join("distfiles");
    fs::create_dir(&dir)?;
    let files: Vec<_> =
        (0..40).map(|number| ExtraDistfile::new(&format!("big{number}-1.tar"), 2_000_000)).collect();
    let mut farm = farm_of(&files).await?;
    let yesterday = SystemTime::now() - Duration::from_hours(24);
    for file in &files {
        fs::write(dir.join(&file.name), file.contents.to_bytes())?;
        fs::File::options().write(true).open(dir.join(&file.name))?.set_modified(yesterday)?;
    }
    for round in 1..=6 {
        let wanted = round * 5;
        let mut command = farm
            .rookery()
            .arg("import")
            .arg(&dir)
            .args(["--after", "remove"])
            .stderr(Stdio::null())
            .spawn()?;
        eventually("some more are adopted", || {
            cache_check::blob_count(&farm.cache_dir()).is_ok_and(|count| count >= wanted)
        })
        .await?;
        farm.kill_mirror()?;
        assert!(!command.wait()?.success(), "who waits for the report is told that there is none");
        assert_eq!(cache_check::faults(&farm.cache_dir())?, Vec::<String>::new(), "round {round}");
        for file in &files {
            let is_in_dir = dir.join(&file.name).exists();
            if is_in_dir {
                assert!(file.is_at(&dir.join(&file.name))?, "{} was damaged", file.name);
            } else {
                let hex = hex::encode(file.contents.digests().blake2b);
                let blob = farm.cache_dir().join("r0/blobs").join(&hex[..2]).join(hex);
                assert!(file.is_at(&blob)?, "round {round}: {} is lost", file.name);
            }
        }
        farm.start_mirror().await?;
    }
    let answer = import(&farm, &[dir.to_str().context("a path")?, "--after", "remove"])?;
    let counts = counts(&answer)?;
    assert!(counts.keys().all(|outcome| outcome.ends_with("_and_removed")), "{counts:?}");
    assert_eq!(fs::read_dir(&dir)?.count(), 0, "whatever the kills left there is gone");
    let requests = farm.upstream.total().requests;
    for file in &files {
        get(&farm, file).await?;
    }
    assert_eq!(farm.upstream.total().requests, requests, "all of them are hits");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_kill_between_adopting_and_removing_leaves_is_removed_by_the_next_import() -> Result<()> {
    const ROUNDS_MAX: usize = 20;
    let scratch = tempfile::tempdir()?;
    let dir = scratch.path().join("distfiles");
    fs::create_dir(&dir)?;
    // Large, so that most of the time passes between its adoption and its removal, which compares it.
    let files: Vec<_> = (0..ROUNDS_MAX)
        .map(|number| ExtraDistfile::new(&format!("large{number}-1.tar"), 40_000_000))
        .collect();
    let mut farm = farm_of(&files).await?;
    let mut blobs = 0;
    for file in &files {
        let path = dir.join(&file.name);
        fs::write(&path, file.contents.to_bytes())?;
        let yesterday = SystemTime::now() - Duration::from_hours(24);
        fs::File::options().write(true).open(&path)?.set_modified(yesterday)?;
        let mut command = farm
            .rookery()
            .arg("import")
            .arg(&dir)
            .args(["--after", "remove"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        blobs += 1;
        while cache_check::blob_count(&farm.cache_dir())? < blobs && command.try_wait()?.is_none() {
            tokio::task::yield_now().await;
        }
        farm.kill_mirror()?;
        command.wait()?;
        farm.start_mirror().await?;
        assert_eq!(cache_check::blob_count(&farm.cache_dir())?, blobs, "it is durable");
        if !path.exists() {
            continue;
        }
        assert!(file.is_at(&path)?, "it is whole");
        let answer = import(&farm, &[dir.to_str().context("a path")?, "--after", "remove"])?;
        assert_eq!(counts(&answer)?, BTreeMap::from([("already_stored_and_removed".to_owned(), 1)]));
        assert_eq!(fs::read_dir(&dir)?.count(), 0);
        get(&farm, file).await?;
        assert_eq!(farm.upstream.total().requests, 0, "it is a hit");
        return Ok(());
    }
    anyhow::bail!("none of {ROUNDS_MAX} kills came between the two")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_cache_by_host_is_adopted_at_the_start() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let file = ExtraDistfile::new("old-1.tar.gz", 70_000);
    let mut farm = farm_of(std::slice::from_ref(&file)).await?;
    farm.stop_mirror().await?;
    let below = scratch.path().join("http-replicator/distfiles.example.org/distfiles");
    fs::create_dir_all(&below)?;
    fs::write(below.join(&file.name), file.contents.to_bytes())?;
    let dir = scratch.path().join("http-replicator");
    farm.configure(&format!("\n[[proxy.import_dirs]]\ndir = \"{}\"\nrecursive = true\n", dir.display()))?;
    farm.start_mirror().await?;
    eventually("it is adopted", || cache_check::blob_count(&farm.cache_dir()).is_ok_and(|count| count == 1))
        .await?;
    get(&farm, &file).await?;
    assert_eq!(farm.upstream.total().requests, 0);
    assert!(file.is_at(&below.join(&file.name))?, "it is kept");
    // By command without a directory: the configured ones.
    let answer = import(&farm, &[])?;
    assert_eq!(counts(&answer)?, BTreeMap::from([("already_stored".to_owned(), 1)]));
    // What can't be imported is an error, and says why.
    for (wrong, why) in
        [("/nonexistent", "No such file"), (farm.cache_dir().to_str().context("a path")?, "cache")]
    {
        let output = farm.rookery().args(["import", wrong]).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(why), "{wrong}: {said}");
    }
    Ok(())
}
