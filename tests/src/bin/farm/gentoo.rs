//! One box's day: sync, fetch, check, report.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use farm_sim::boxes::{BoxSpec, GentooBox, Programs, differences};
use rookery_tests::portage::{PortageBox, Settings};
use serde_json::json;

use crate::plan::{self, List};

const SYNC_URI: &str = "rsync://ws1/gentoo-portage";
const MIRROR: &str = "http://ws1:8080";
/// The box's own disk.
const HOME: &str = "/var/lib/box";
/// How long the mirror may take to be there.
const PATIENCE: Duration = Duration::from_mins(3);

/// What a box has to say.
#[derive(Debug, Default)]
struct Day {
    clients: Vec<String>,
    files_synced: u64,
    synced_again: bool,
    names: Vec<String>,
    problems: Vec<String>,
}

/// Lives it and writes the report, whatever happened.
pub(crate) async fn live_a_day(dir: &Path, name: &str, portage: bool) -> Result<()> {
    let began = Instant::now();
    let list = fs::read(dir.join("lists").join(name).with_extension("json"))?;
    let list: List = serde_json::from_slice(&list)?;
    wait_for_mirror().await?;
    let lived =
        if portage { with_portage(dir, &list).await } else { with_its_commands(dir, name, &list).await };
    let mut day =
        lived.unwrap_or_else(|error| Day { problems: vec![format!("{error:#}")], ..Day::default() });
    if day.problems.is_empty() && day.names.len() != list.names.len() {
        let missing: Vec<_> = list.names.iter().filter(|name| !day.names.contains(name)).collect();
        day.problems.push(format!("not there: {missing:?}"));
    }
    let report = json!({
        "name": name,
        "clients": day.clients,
        "files_synced": day.files_synced,
        "synced_again": day.synced_again,
        "distfiles": day.names.len(),
        "problems": day.problems,
        "seconds": began.elapsed().as_secs_f64(),
    });
    let path = dir.join("reports").join(name).with_extension("json");
    let temporary = path.with_extension("new");
    fs::write(&temporary, serde_json::to_vec_pretty(&report)?)?;
    fs::rename(temporary, path)?;
    ensure!(day.problems.is_empty(), "{}", day.problems.join("; "));
    Ok(())
}

/// A person may bring everything up at once.
async fn wait_for_mirror() -> Result<()> {
    service_kit::process::install_crypto_provider();
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
    let began = Instant::now();
    loop {
        match client.get(format!("{MIRROR}/readyz")).send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) if began.elapsed() > PATIENCE => bail!("{MIRROR}/readyz: {}", answer.status()),
            Err(error) if began.elapsed() > PATIENCE => return Err(error.into()),
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// The commands that Portage runs: rsync with its options and its probe, wget with its options and resume.
async fn with_its_commands(dir: &Path, name: &str, list: &List) -> Result<Day> {
    let programs = Programs::find();
    ensure!(programs.rsync.is_some() && programs.wget.is_some(), "the image has no rsync or no wget");
    let gentoo = GentooBox::new(BoxSpec {
        name: name.to_owned(),
        dir: PathBuf::from(HOME),
        sync_uri: SYNC_URI.to_owned(),
        mirror: MIRROR.to_owned(),
        programs,
    })?;
    let sync = gentoo.sync().await.context("sync")?;
    let again = gentoo.sync().await.context("sync again")?;
    let fetch = gentoo.fetch(&list.names).await.context("fetch")?;
    let mut problems = tree_problems(dir, &gentoo.repository())?;
    problems.extend(fetch.failures.iter().map(|(name, why)| format!("{name}: {why}")));
    problems.extend(resume(&gentoo, list).await?);
    // `fetch` has checked each file against the box's own Manifests.
    let names = list.names.iter().filter(|name| gentoo.distdir().join(name).is_file()).cloned().collect();
    Ok(Day {
        clients: vec![sync.client, fetch.client],
        files_synced: sync.files,
        synced_again: again.unchanged,
        names,
        problems,
    })
}

/// How often Portage's fetch of one file is begun again.
const TRIES_MAX: u32 = 10;

/// Fetches one of the plan's extra files with Portage's wget, which resumes what is there, and says how long
/// it took.
pub(crate) async fn get(name: &str, traceparent: Option<&str>) -> Result<()> {
    let file =
        plan::extra().into_iter().find(|file| file.name == name).context("the plan has no such file")?;
    let path = PathBuf::from(HOME).join(name);
    let url = format!("{MIRROR}{}", file.mirror_path());
    let began = Instant::now();
    let mut tries = 0;
    loop {
        tries += 1;
        let mut wget = rookery_tests::program::wget_resume(&path, &url);
        wget.args(traceparent.map(|context| format!("--header=traceparent: {context}")));
        let finished = tokio::process::Command::from(wget).output().await?;
        if finished.status.success() {
            break;
        }
        let said = String::from_utf8_lossy(&finished.stderr).into_owned();
        ensure!(tries < TRIES_MAX, "{name}: {said}");
        eprintln!("{name}: {}", said.lines().last().unwrap_or_default());
    }
    ensure!(file.is_at(&path)?, "{name}: another file came");
    println!("{}", json!({ "name": name, "tries": tries, "seconds": began.elapsed().as_secs_f64() }));
    Ok(())
}

/// The largest distfile again, from a half that is there already, as after an interrupted `emerge`.
async fn resume(gentoo: &GentooBox, list: &List) -> Result<Option<String>> {
    let Some(name) = list.names.first() else { return Ok(None) };
    let path = gentoo.distdir().join(name);
    let whole = fs::read(&path)?;
    let half = PathBuf::from(HOME).join("half");
    fs::write(&half, &whole[..whole.len() / 2])?;
    let url = format!("{MIRROR}{}", farm_sim::upstream::mirror_path(name));
    let mut wget = tokio::process::Command::from(rookery_tests::program::wget_resume(&half, &url));
    let finished = wget.output().await?;
    ensure!(finished.status.success(), "wget -c: {}", String::from_utf8_lossy(&finished.stderr));
    Ok((fs::read(&half)? != whole).then(|| format!("{name}: another file after a resume")))
}

/// `emerge --sync` and `emerge --fetchonly` of the real Portage.
async fn with_portage(dir: &Path, list: &List) -> Result<Day> {
    let settings = Settings {
        sync_uri: SYNC_URI.to_owned(),
        gentoo_mirrors: MIRROR.to_owned(),
        local_mirrors: MIRROR.to_owned(),
        ..Settings::default()
    };
    let gentoo = PortageBox::create(&PathBuf::from(HOME).join("root"), &settings).await?;
    gentoo.emerge(&["--sync"]).await?.success().context("emerge --sync")?;
    let problems = tree_problems(dir, &gentoo.repository())?;
    let again = gentoo.emerge(&["--sync"]).await?.success().context("emerge --sync, again")?;
    let mut arguments = vec!["--fetchonly", "--nodeps"];
    arguments.extend(list.atoms.iter().map(String::as_str));
    gentoo.emerge(&arguments).await?.success().context("emerge --fetchonly")?;
    let version = gentoo.emerge(&["--version"]).await?.output;
    let mut day = Day {
        clients: vec![version.lines().next().unwrap_or_default().to_owned()],
        files_synced: walk(&gentoo.repository())?,
        synced_again: again.output.contains("You are already up to date"),
        names: list.names.clone(),
        problems,
    };
    // Portage has checked them itself; that they are what was generated is for us to say.
    let spec = plan::tree_spec();
    day.names.retain(|name| gentoo.distdir().join(name).is_file());
    for name in &day.names {
        let found = fs::read(gentoo.distdir().join(name))?;
        let generated = farm_sim::contents::Contents::new(spec.seed, name, found.len() as u64);
        if found != generated.to_bytes() {
            day.problems.push(format!("{name}: not what was generated"));
        }
    }
    Ok(day)
}

fn tree_problems(dir: &Path, repository: &Path) -> Result<Vec<String>> {
    let differences = differences(&dir.join("tree"), repository)?;
    Ok(differences.iter().map(|found| format!("{}: {}", found.path.display(), found.what)).collect())
}

/// How many regular files there are.
fn walk(dir: &Path) -> Result<u64> {
    let mut files = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        files += if entry.file_type()?.is_dir() { walk(&entry.path())? } else { 1 };
    }
    Ok(files)
}
