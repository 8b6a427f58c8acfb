//! The operator's day: a tree that breaks and heals, files that nothing refers to any more.

use std::fs;
use std::process::Stdio;

use anyhow::Result;
use rookery_tests::cache_check;
use rookery_tests::distfile::ExtraDistfile;
use rookery_tests::farm::{Farm, eventually};
use rookery_tests::program::{self, wget_resume};
use serde_json::Value;

/// What a `rookery` command with `--json` answers.
fn ask(farm: &Farm, arguments: &[&str]) -> Result<Value> {
    let output = farm.rookery().arg("--json").args(arguments).output()?;
    anyhow::ensure!(
        output.status.success(),
        "rookery {arguments:?}: {}\n{}",
        String::from_utf8_lossy(&output.stderr),
        farm.log_end()
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What a box would get now as `metadata/timestamp.chk`, by Portage's own probe.
fn probe(farm: &Farm) -> Result<String> {
    let destination = farm.dir().join("probe");
    let status = program::stock("rsync")
        .args(["--recursive", "--links", "--safe-links", "--perms", "--times", "--omit-dir-times"])
        .args(["--compress", "--force", "--whole-file", "--delete", "--stats", "--human-readable"])
        .args(["--timeout=180", "--exclude=/distfiles", "--exclude=/local", "--exclude=/packages"])
        .args(["--exclude=/.git", "--quiet", "--inplace"])
        .arg(format!("rsync://{}/gentoo-portage/metadata/timestamp.chk", farm.addresses.rsync))
        .arg(&destination)
        .status()?;
    anyhow::ensure!(status.success(), "rsync: {status}\n{}", farm.log_end());
    Ok(fs::read_to_string(destination)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_tree_is_not_published_and_the_status_says_why() -> Result<()> {
    let farm = Farm::start(&[]).await?;
    let good = probe(&farm)?;
    let timestamp = farm.tree.dir.join("metadata/timestamp.chk");
    let manifest = first_manifest(&farm.tree.dir)?;
    let manifest_text = fs::read_to_string(&manifest)?;

    // Without a timestamp, with a line that is none, and not there at all.
    fs::remove_file(&timestamp)?;
    assert_refused(&farm, "timestamp.chk", &good)?;
    fs::write(&timestamp, &good)?;

    fs::write(&manifest, format!("{manifest_text}DIST broken\n"))?;
    assert_refused(&farm, "Manifest", &good)?;
    fs::write(&manifest, &manifest_text)?;

    let away = farm.dir().join("away");
    fs::rename(&farm.tree.dir, &away)?;
    assert_refused(&farm, "tree", &good)?;
    fs::create_dir(&farm.tree.dir)?;
    assert_refused(&farm, "tree", &good)?;
    fs::remove_dir(&farm.tree.dir)?;
    fs::rename(&away, &farm.tree.dir)?;

    // Where nobody looks at a screen, each look is a line.
    let looks = farm.rookery().args(["watch", "--count", "2", "--interval", "1"]).output()?;
    let looks = String::from_utf8(looks.stdout)?;
    let is_look = |line: &str| line.starts_with("gentoo-portage 1; ") && !line.ends_with("; 0 problems");
    assert!(looks.lines().count() == 2 && looks.lines().all(is_look), "{looks}");

    let newer = "Sat, 17 Jan 2026 12:00:00 +0000\n";
    fs::write(&timestamp, newer)?;
    ask(&farm, &["publish", "gentoo-portage"])?;
    assert_eq!(probe(&farm)?, newer);
    assert!(!ask(&farm, &["status"])?.to_string().contains("timestamp.chk"), "the problem is over");
    Ok(())
}

/// Publishing fails with a reason that names `culprit`, the status repeats it, and boxes get `good`.
fn assert_refused(farm: &Farm, culprit: &str, good: &str) -> Result<()> {
    let output = farm.rookery().args(["publish", "gentoo-portage"]).output()?;
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "published without {culprit}");
    assert!(message.contains(culprit), "no {culprit} in {message}");
    let status = ask(farm, &["status"])?.to_string();
    assert!(status.contains(culprit), "no {culprit} in {status}");
    assert_eq!(probe(farm)?, good);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_tree_refers_to_is_planned_with_a_reason_and_evicted() -> Result<()> {
    let file = ExtraDistfile::new("passing-1.tar", 3_000_000);
    let farm = Farm::start(std::slice::from_ref(&file)).await?;
    let kept = farm.tree.mirrored().find(|distfile| distfile.size_bytes > 0).map(|d| d.name.clone());
    let kept = kept.ok_or_else(|| anyhow::anyhow!("the tree has no mirrored distfile"))?;
    for name in [&file.name, &kept] {
        let status =
            wget_resume(&farm.dir().join(name), &farm.distfile_url(name)).stderr(Stdio::null()).status()?;
        assert!(status.success(), "{name}: {}", farm.log_end());
    }
    // A client has its last byte once the digest is right, a moment before the blob has its name.
    eventually("both blobs have their names", || {
        cache_check::blob_count(&farm.cache_dir()).is_ok_and(|count| count == 2)
    })
    .await?;
    assert!(!ask(&farm, &["plan"])?.to_string().contains(&file.name), "it is referred to");

    fs::remove_dir_all(farm.tree.dir.join("app-test"))?;
    fs::remove_dir_all(farm.tree.dir.join("metadata/md5-cache/app-test"))?;
    fs::write(farm.tree.dir.join("metadata/timestamp.chk"), "Sun, 18 Jan 2026 12:00:00 +0000\n")?;
    ask(&farm, &["publish", "gentoo-portage"])?;
    eventually("the plan names the file that nothing refers to", || {
        ask(&farm, &["plan"]).is_ok_and(|plan| plan.to_string().contains(&file.name))
    })
    .await?;
    let plan = ask(&farm, &["plan"])?.to_string();
    assert!(plan.contains("unreferenced") && !plan.contains(&kept), "{plan}");
    assert_eq!(cache_check::blob_count(&farm.cache_dir())?, 2, "a plan changes nothing");

    ask(&farm, &["evict"])?;
    eventually("the blob is gone", || {
        cache_check::blob_count(&farm.cache_dir()).is_ok_and(|count| count == 1)
    })
    .await?;
    assert_eq!(cache_check::faults(&farm.cache_dir())?, Vec::<String>::new());
    // The one that stays is a hit, the other one is nobody's any more.
    let before = farm.upstream.total().requests;
    let again = farm.dir().join("again");
    let status = wget_resume(&again, &farm.distfile_url(&kept)).stderr(Stdio::null()).status()?;
    assert!(status.success() && farm.upstream.total().requests == before);
    Ok(())
}

/// A Manifest of the tree.
fn first_manifest(tree: &std::path::Path) -> Result<std::path::PathBuf> {
    let mut folders = vec![tree.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name() == "Manifest" {
                return Ok(entry.path());
            }
            if entry.file_type()?.is_dir() && entry.file_name() != "metadata" {
                folders.push(entry.path());
            }
        }
    }
    anyhow::bail!("no Manifest below {}", tree.display())
}
