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

fn arrived(path: &std::path::Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}
