//! SIGTERM in the middle of a download: what is finished, what is cut, and what the exit code tells.

use std::process::{Child, Stdio};
use std::time::Instant;

use anyhow::Result;
use farm_sim::upstream::{Fault, Gate};
use rookery_tests::cache_check;
use rookery_tests::distfile::ExtraDistfile;
use rookery_tests::farm::{DEADLINE, Farm, eventually};
use rookery_tests::program::wget_resume;

const BYTES: u64 = 20_000_000;

/// Stopped hard: work was left.
const EXIT_HARD: i32 = 75;

/// A farm with a download under way that the upstream holds in its middle until the gate opens.
struct Held {
    farm: Farm,
    file: ExtraDistfile,
    gate: Gate,
    client: Child,
}

impl Held {
    async fn start(configuration: &str) -> Result<Self> {
        let file = ExtraDistfile::new("held-1.tar", BYTES);
        let mut farm = Farm::start(std::slice::from_ref(&file)).await?;
        if !configuration.is_empty() {
            farm.stop_mirror().await?;
            farm.configure(configuration)?;
            farm.start_mirror().await?;
        }
        let gate = Gate::closed();
        let fault = Fault::Gated { after_bytes: BYTES / 2, gate: gate.clone() };
        farm.upstream.add_fault(&file.mirror_path(), fault);
        let path = farm.dir().join("box");
        let client = wget_resume(&path, &farm.distfile_url(&file.name))
            .arg("--tries=1")
            .stderr(Stdio::null())
            .spawn()?;
        eventually("the client has bytes", || std::fs::metadata(&path).is_ok_and(|file| file.len() > 0))
            .await?;
        Ok(Self { farm, file, gate, client })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_under_way_is_finished_within_the_grace_time() -> Result<()> {
    let Held { mut farm, file, gate, mut client } = Held::start("").await?;
    farm.signal_mirror("HUP")?;
    eventually("it says what a hang-up does", || farm.log_end().contains("SIGHUP changes nothing")).await?;
    farm.terminate_mirror()?;
    eventually("it takes no new clients", || std::net::TcpStream::connect(farm.addresses.http).is_err())
        .await?;
    gate.open();
    let status = farm.mirror_ended().await?;
    assert_eq!(status.code(), Some(0), "{}", farm.log_end());
    assert!(client.wait()?.success(), "{}", farm.log_end());
    assert!(file.is_at(&farm.dir().join("box"))?, "the client's file differs");
    assert_eq!(cache_check::faults(&farm.cache_dir())?, Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_grace_time_cuts_it_and_the_next_start_resumes() -> Result<()> {
    let Held { mut farm, file, gate, mut client } = Held::start("\n[process]\ngrace = \"500ms\"\n").await?;
    let status = farm.stop_mirror().await?;
    assert_eq!(status.code(), Some(EXIT_HARD), "{}", farm.log_end());
    assert!(!client.wait()?.success(), "a cut download must not look whole");
    assert_eq!(cache_check::faults(&farm.cache_dir())?, Vec::<String>::new());

    gate.open();
    farm.start_mirror().await?;
    let path = farm.dir().join("box");
    let again = wget_resume(&path, &farm.distfile_url(&file.name)).stderr(Stdio::null()).status()?;
    assert!(again.success() && file.is_at(&path)?, "{}", farm.log_end());
    let resumed = farm.upstream.log().iter().filter_map(|exchange| exchange.range_start).max();
    assert!(resumed.is_some_and(|start| start > 0), "what had arrived was asked for again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_stops_at_once() -> Result<()> {
    let Held { mut farm, gate, mut client, .. } = Held::start("\n[process]\ngrace = \"1h\"\n").await?;
    farm.terminate_mirror()?;
    eventually("it takes no new clients", || std::net::TcpStream::connect(farm.addresses.http).is_err())
        .await?;
    let asked_again = Instant::now();
    let status = farm.stop_mirror().await?;
    assert_eq!(status.code(), Some(EXIT_HARD), "{}", farm.log_end());
    assert!(asked_again.elapsed() < DEADLINE / 2);
    assert!(!client.wait()?.success(), "a cut download must not look whole");
    gate.open();
    Ok(())
}
