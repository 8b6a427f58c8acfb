//! Downloads through the whole mirror, with the stock wget, judged by what the client ends with and by
//! what the upstream counted itself.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use farm_sim::upstream::{Fault, Gate};
use rookery_tests::cache_check;
use rookery_tests::distfile::ExtraDistfile;
use rookery_tests::farm::{DEADLINE, Farm, eventually};
use rookery_tests::program::wget_resume;

const LARGE_BYTES: u64 = 200_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn seven_clients_of_one_large_file_cost_one_request_and_stream_together() -> Result<()> {
    let file = ExtraDistfile::new("large-1.tar", LARGE_BYTES);
    let farm = Farm::start(std::slice::from_ref(&file)).await?;
    // The upstream stops in the middle until every client has had its first byte.
    let gate = Gate::closed();
    let held = Fault::Gated { after_bytes: LARGE_BYTES / 2, gate: gate.clone() };
    farm.upstream.add_fault(&file.mirror_path(), held);

    let boxes: Vec<_> = (1..=7).map(|number| farm.dir().join(format!("box{number}"))).collect();
    let mut clients: Vec<Child> = boxes
        .iter()
        .map(|path| wget_resume(path, &farm.distfile_url(&file.name)).stderr(Stdio::null()).spawn())
        .collect::<Result<_, _>>()?;
    eventually("every client has bytes while the upstream is still sending", || {
        boxes.iter().all(|path| std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0))
    })
    .await?;
    let under_way = farm.upstream.log();
    assert!(
        under_way.iter().all(|exchange| exchange.path != file.mirror_path() || !exchange.complete),
        "{under_way:?}"
    );
    gate.open();

    for client in &mut clients {
        assert!(client.wait()?.success(), "{}", farm.log_end());
    }
    for path in &boxes {
        assert!(file.is_at(path)?, "{} differs", path.display());
    }
    let count = farm.upstream.count_of_path(&file.mirror_path());
    assert_eq!((count.requests, count.bytes), (1, LARGE_BYTES));
    assert_eq!(cache_check::faults(&farm.cache_dir())?, Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_killed_ten_times_in_mid_download_ends_with_the_right_file() -> Result<()> {
    // The soak (`cargo xtask test --full`) asks for more than one.
    let farms = std::env::var("ROOKERY_SOAK_FARMS").map_or(Ok(1), |count| count.parse::<u32>())?;
    for _ in 0..farms {
        kill_ten_times_in_mid_download().await?;
    }
    Ok(())
}

async fn kill_ten_times_in_mid_download() -> Result<()> {
    let file = ExtraDistfile::new("large-2.tar", LARGE_BYTES);
    let mut farm = Farm::start(std::slice::from_ref(&file)).await?;
    farm.upstream.add_fault(&file.mirror_path(), Fault::RateLimit { bytes_per_second: 40_000_000 });
    let destination = farm.dir().join("box");
    let url = farm.distfile_url(&file.name);

    for round in 0..10 {
        let mut client = wget_resume(&destination, &url).stderr(Stdio::null()).spawn()?;
        let sent_before = farm.upstream.count_of_path(&file.mirror_path()).bytes;
        let more_bytes = rand::random_range(1..LARGE_BYTES / 12);
        let sent = |log: &[farm_sim::upstream::Exchange]| {
            log.iter().map(|exchange| exchange.bytes_sent).sum::<u64>()
        };
        let reached = farm.upstream.wait_until(DEADLINE, |log| sent(log) > sent_before + more_bytes).await;
        assert!(reached, "round {round}: the download stands still\n{}", farm.log_end());
        farm.kill_mirror()?;
        client.kill()?;
        client.wait()?;
        assert_eq!(cache_check::faults(&farm.cache_dir())?, Vec::<String>::new(), "round {round}");
        farm.start_mirror().await?;
    }

    let started = Instant::now();
    while !wget_resume(&destination, &url).stderr(Stdio::null()).status()?.success() {
        anyhow::ensure!(started.elapsed() < Duration::from_mins(2), "no retry ends\n{}", farm.log_end());
    }
    assert!(file.is_at(&destination)?, "the client's file differs");
    assert_eq!(cache_check::faults(&farm.cache_dir())?, Vec::<String>::new());
    let resumed = farm.upstream.log().iter().filter_map(|exchange| exchange.range_start).max();
    assert!(resumed.context("no request had a Range")? > 0);
    // What came before a kill was not asked for again, but for what had not reached the disk.
    let count = farm.upstream.count_of_path(&file.mirror_path());
    assert!(count.bytes < LARGE_BYTES * 2, "the upstream sent {} bytes", count.bytes);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_that_retries_by_itself_outlives_five_kills() -> Result<()> {
    let file = ExtraDistfile::new("large-3.tar", LARGE_BYTES / 2);
    let mut farm = Farm::start(std::slice::from_ref(&file)).await?;
    farm.upstream.add_fault(&file.mirror_path(), Fault::RateLimit { bytes_per_second: 20_000_000 });
    let destination = farm.dir().join("box");
    let mut client = wget_resume(&destination, &farm.distfile_url(&file.name))
        .args(["--tries=0", "--retry-connrefused", "--waitretry=1"])
        .stderr(Stdio::null())
        .spawn()?;
    for kill in 0..5 {
        let had_bytes = arrived(&destination);
        eventually("the client has more than before the last kill", || {
            arrived(&destination) > had_bytes || client.try_wait().is_ok_and(|ended| ended.is_some())
        })
        .await?;
        farm.kill_mirror()?;
        assert_eq!(cache_check::faults(&farm.cache_dir())?, Vec::<String>::new(), "kill {kill}");
        farm.start_mirror().await?;
    }
    assert!(client.wait()?.success(), "{}", farm.log_end());
    assert!(file.is_at(&destination)?, "the client's file differs");
    assert_eq!(cache_check::faults(&farm.cache_dir())?, Vec::<String>::new());
    Ok(())
}

/// Kills of the short run; `cargo xtask test --full` asks for more.
const KILLS: u32 = 6;
/// Clients that load the mirror at the same time.
const CLIENTS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_killed_at_random_moments_under_load_never_names_a_wrong_file() -> Result<()> {
    let kills = std::env::var("ROOKERY_SOAK_KILLS").map_or(Ok(KILLS), |count| count.parse::<u32>())?;
    // From one that is verified before its first byte to one that a kill meets in the middle, and more
    // than all rounds fetch.
    let files: Vec<ExtraDistfile> = (0..40 + 8 * kills as usize)
        .map(|number| {
            let size_bytes = [3_000, 200_000, 1_500_000, 12_000_000][number % 4] + number as u64;
            ExtraDistfile::new(&format!("load{number}-1.tar"), size_bytes)
        })
        .collect();
    let mut farm = Farm::start(&files).await?;
    farm.upstream.add_fault_everywhere(Fault::RateLimit { bytes_per_second: 30_000_000 });
    let mut stored = 0;
    for round in 0..kills {
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            // Each has its own order, and asks for what another one is fetching every now and then.
            let urls: Vec<String> =
                (0..30).map(|_| farm.distfile_url(&files[rand::random_range(0..files.len())].name)).collect();
            let destination = farm.dir().join(format!("load{number}"));
            let mut client = rookery_tests::program::stock("wget");
            client.args(["-q", "-t", "1", "-T", "60", "-O"]).arg(&destination).args(urls);
            clients.push(client.stderr(Stdio::null()).spawn()?);
        }
        let sent = |log: &[farm_sim::upstream::Exchange]| {
            log.iter().map(|exchange| exchange.bytes_sent).sum::<u64>()
        };
        let before = sent(&farm.upstream.log());
        let more_bytes = rand::random_range(1..40_000_000);
        let deadline = Instant::now() + DEADLINE;
        // They may have asked only for what is there already.
        while sent(&farm.upstream.log()) < before + more_bytes
            && clients.iter_mut().any(|client| client.try_wait().is_ok_and(|ended| ended.is_none()))
        {
            anyhow::ensure!(Instant::now() < deadline, "round {round}: nothing moves\n{}", farm.log_end());
            rookery_tests::farm::tick().await;
        }
        farm.kill_mirror()?;
        for client in &mut clients {
            client.kill()?;
            client.wait()?;
        }
        assert_eq!(cache_check::faults(&farm.cache_dir())?, Vec::<String>::new(), "round {round}");
        stored = named_files(&farm, &files).with_context(|| format!("round {round}"))?;
        farm.start_mirror().await?;
    }
    anyhow::ensure!(stored > 0, "no round stored anything");
    for file in &files {
        let destination = farm.dir().join("at-last");
        let status =
            wget_resume(&destination, &farm.distfile_url(&file.name)).stderr(Stdio::null()).status()?;
        assert!(status.success() && file.is_at(&destination)?, "{}\n{}", file.name, farm.log_end());
        std::fs::remove_file(&destination)?;
    }
    println!("{kills} kills, {stored} files named after the last of them, all {} right", files.len());
    Ok(())
}

/// Every file that has a name is the file of that name; how many there are.
fn named_files(farm: &Farm, files: &[ExtraDistfile]) -> Result<usize> {
    let mut named = 0;
    for file in files {
        let path = farm.cache_dir().join("r0").join(file.mirror_path().trim_start_matches('/'));
        if path.symlink_metadata().is_ok() {
            anyhow::ensure!(file.is_at(&path)?, "{} is another file", file.name);
            named += 1;
        }
    }
    Ok(named)
}

fn arrived(path: &std::path::Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}
