//! A host whose clock is wrong: nothing goes for its age, somebody is told, and it ends by itself when the clock is right.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use rookery_tests::cache_check;
use rookery_tests::distfile::ExtraDistfile;
use rookery_tests::false_clock::FalseClock;
use rookery_tests::farm::{Farm, Verify, eventually, tick};
use rookery_tests::program::wget_resume;
use serde_json::Value;

const DAY_S: i64 = 24 * 60 * 60;

/// A brake asks first.
const ASKS: Option<i32> = Some(3);

/// A farm with two blobs, of which nothing refers to one any more, and its clock.
struct Scene {
    farm: Farm,
    clock: FalseClock,
    kept: ExtraDistfile,
    dropped: ExtraDistfile,
}

impl Scene {
    async fn start() -> Result<Self> {
        let mut farm = Farm::prepare(20, Verify::Consistent).await?;
        let clock = FalseClock::of(&mut farm)?;
        // Instead of none at all.
        farm.set_environment("ROOKERY__MAINTENANCE__UNREFERENCED_GRACE", "30d");
        let (kept, dropped) =
            (ExtraDistfile::new("kept-1.tar", 30_000), ExtraDistfile::new("passing-1.tar", 40_000));
        for file in [&kept, &dropped] {
            file.add_to_tree(&farm.tree.dir, &farm.upstream.url())?;
            file.put(&farm.upstream);
        }
        farm.start_mirror().await?;
        let scene = Self { farm, clock, kept, dropped };
        scene.fetch(&scene.kept)?;
        scene.fetch(&scene.dropped)?;
        scene.until_blobs(2).await?;
        let tree = &scene.farm.tree.dir;
        fs::remove_dir_all(tree.join("app-test/passing"))?;
        fs::remove_file(tree.join("metadata/md5-cache/app-test/passing-1"))?;
        fs::write(tree.join("metadata/timestamp.chk"), "Sun, 18 Jan 2026 12:00:00 +0000\n")?;
        scene.ask(&["publish", "gentoo-portage"])?;
        eventually("nothing refers to the one", || {
            scene.state_of(&scene.dropped).is_ok_and(|state| state == "unreferenced")
        })
        .await?;
        Ok(scene)
    }

    fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let (code, answer) = self.answer(arguments)?;
        anyhow::ensure!(code == Some(0), "rookery {arguments:?}: {code:?} {answer}\n{}", self.farm.log_end());
        Ok(answer)
    }

    /// The exit code, too.
    fn answer(&self, arguments: &[&str]) -> Result<(Option<i32>, Value)> {
        let output = self.farm.rookery().arg("--json").args(arguments).output()?;
        Ok((output.status.code(), serde_json::from_slice(&output.stdout)?))
    }

    /// As a client does, by its own clock.
    fn fetch(&self, file: &ExtraDistfile) -> Result<()> {
        let destination = self.farm.dir().join("fetched");
        let status =
            wget_resume(&destination, &self.farm.distfile_url(&file.name)).stderr(Stdio::null()).status()?;
        anyhow::ensure!(
            status.success() && file.is_at(&destination)?,
            "{}: {}",
            file.name,
            self.farm.log_end()
        );
        Ok(fs::remove_file(destination)?)
    }

    fn object(&self, file: &ExtraDistfile) -> Result<Value> {
        let objects = self.ask(&["objects", &file.name])?;
        Ok(objects["objects"][0].clone())
    }

    fn state_of(&self, file: &ExtraDistfile) -> Result<String> {
        Ok(self.object(file)?["state"].as_str().unwrap_or_default().to_owned())
    }

    async fn until_blobs(&self, count: usize) -> Result<()> {
        let is_so = || {
            let known = self.ask(&["status"]).is_ok_and(|status| status["replicas"][0]["blobs"] == count);
            known && cache_check::blob_count(&self.farm.cache_dir()).is_ok_and(|found| found == count)
        };
        eventually("the blobs", is_so).await
    }

    /// The problem with the clock, if there is one, and what is said to be done.
    fn problem(&self) -> Result<Option<(String, String)>> {
        let status = self.ask(&["status"])?;
        let text = |problem: &Value, field: &str| problem[field].as_str().unwrap_or_default().to_owned();
        let all = status["problems"].as_array().into_iter().flatten();
        let of_clock = all.filter(|problem| problem["subject"] == "clock").collect::<Vec<_>>();
        anyhow::ensure!(of_clock.len() < 2, "{of_clock:?}");
        Ok(of_clock.first().map(|problem| (text(problem, "code"), text(problem, "what_to_do"))))
    }

    /// That its clock is ahead is told, stops evictions, and nothing else.
    fn assert_doubted(&self) -> Result<()> {
        let (code, what_to_do) = self.problem()?.unwrap_or_default();
        assert_eq!(code, "clock_ahead", "{}", self.farm.log_end());
        assert!(
            what_to_do.contains("set it") && what_to_do.contains("rookery evict --yes-clock"),
            "{what_to_do}"
        );
        let (code, answer) = self.answer(&["evict"])?;
        assert_eq!(code, ASKS, "{answer}");
        assert_eq!(answer["brakes"][0]["kind"], "clock", "{answer}");
        assert_eq!(
            answer["evictions"][0]["names"][0], self.dropped.name,
            "by the clock it is old enough: {answer}"
        );
        self.fetch(&self.kept)?;
        assert_eq!(cache_check::blob_count(&self.farm.cache_dir())?, 2);
        Ok(())
    }

    /// Waits for a line of the mirror's log that has `text`; maintenance looks at the clock each minute.
    async fn until_logged(&self, text: &str) -> Result<()> {
        let began = Instant::now();
        while !fs::read_to_string(self.farm.dir().join("mirror.log"))?.contains(text) {
            anyhow::ensure!(began.elapsed() < Duration::from_mins(2), "no {text:?}\n{}", self.farm.log_end());
            tick().await;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_ahead_evicts_nothing_until_it_is_right_or_somebody_says_that_it_is() -> Result<()>
{
    let mut scene = Scene::start().await?;
    assert_eq!(scene.problem()?, None);
    let plan = scene.ask(&["plan"])?;
    assert!(plan["evictions"].as_array().is_some_and(Vec::is_empty), "it has its grace: {plan}");

    let last_run = scene.ask(&["status"])?["last_run"].clone();
    scene.clock.set_by(90 * DAY_S)?;
    scene.assert_doubted()?;
    // Nor does it do by itself what is overdue by that clock, the night first of all.
    scene.until_logged("nothing goes for its age").await?;
    scene.assert_doubted()?;
    assert_eq!(scene.ask(&["status"])?["last_run"], last_run);

    scene.clock.set_by(0)?;
    assert_eq!(scene.problem()?, None);
    let evicted = scene.ask(&["evict"])?;
    assert!(evicted["evictions"].as_array().is_some_and(Vec::is_empty), "{evicted}");

    // The same while nobody looks.
    assert_eq!(scene.farm.stop_mirror().await?.code(), Some(0), "{}", scene.farm.log_end());
    scene.clock.set_by(90 * DAY_S)?;
    scene.farm.start_mirror().await?;
    scene.assert_doubted()?;

    let evicted = scene.ask(&["evict", "--yes-clock"])?;
    assert_eq!(evicted["evictions"][0]["names"][0], scene.dropped.name, "{evicted}");
    assert_eq!(scene.problem()?, None);
    scene.until_blobs(1).await?;
    assert_eq!(scene.farm.stop_mirror().await?.code(), Some(0), "{}", scene.farm.log_end());
    scene.farm.start_mirror().await?;
    assert_eq!(scene.problem()?, None, "it is remembered");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_of_1970_is_told_and_puts_no_time_back() -> Result<()> {
    let mut scene = Scene::start().await?;
    let is_told = || scene.object(&scene.kept).is_ok_and(|object| object["requests"] == 1);
    eventually("maintenance knows when it was asked for", is_told).await?;
    let before = scene.object(&scene.kept)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    for start in ["first", "second"] {
        scene.farm.stop_mirror().await?;
        // An hour after the epoch.
        scene.clock.set_by(3600 - i64::try_from(now)?)?;
        scene.farm.start_mirror().await?;
        let (code, what_to_do) = scene.problem()?.unwrap_or_default();
        assert_eq!(
            (code.as_str(), what_to_do.contains("set the clock")),
            ("clock_behind", true),
            "{start} start"
        );
        // Looks for times that lie ahead, before the plan.
        let evicted = scene.ask(&["evict"])?;
        assert!(evicted["evictions"].as_array().is_some_and(Vec::is_empty), "{evicted}");
        assert_eq!(scene.object(&scene.kept)?["last_access_ms"], before["last_access_ms"], "{start} start");
    }
    scene.fetch(&scene.kept)?;

    scene.clock.set_by(0)?;
    assert_eq!(scene.problem()?, None, "neither behind nor, for what it was before, ahead");
    assert_eq!(scene.state_of(&scene.dropped)?, "unreferenced");
    let evicted = scene.ask(&["evict"])?;
    assert!(evicted["evictions"].as_array().is_some_and(Vec::is_empty), "{evicted}");
    scene.until_blobs(2).await
}
