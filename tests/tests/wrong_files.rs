//! A mirror upstream that gives wrong bytes: what stock clients end with. Right bytes or an error, never
//! wrong bytes with exit status 0.

use std::process::Stdio;

use anyhow::Result;
use farm_sim::upstream::Fault;
use rookery_tests::cache_check;
use rookery_tests::distfile::ExtraDistfile;
use rookery_tests::farm::Farm;
use rookery_tests::program::{stock, wget_resume};

const LARGE_BYTES: u64 = 30_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn wget_never_takes_a_wrong_file_for_a_right_one() -> Result<()> {
    let file = ExtraDistfile::new("large-3.tar", LARGE_BYTES);
    let farm = Farm::start(std::slice::from_ref(&file)).await?;
    farm.upstream.add_fault_times(&file.mirror_path(), Fault::WrongByte { at: 1_000_000 }, 1);
    let destination = farm.dir().join("box");
    let url = farm.distfile_url(&file.name);
    // It retries by itself, and asks for the rest by Range.
    let first = wget_resume(&destination, &url).stderr(Stdio::null()).status()?;
    assert!(!first.success() || file.is_at(&destination)?, "exit status 0 and wrong bytes");
    assert!(!first.success(), "the connection must have been broken");
    // So does the next call, as Portage resumes a partial download.
    let resumed = wget_resume(&destination, &url).stderr(Stdio::null()).status()?;
    assert!(!resumed.success(), "the rest of a wrong file was given");
    // From the beginning it is the right one.
    std::fs::remove_file(&destination)?;
    assert!(wget_resume(&destination, &url).stderr(Stdio::null()).status()?.success(), "{}", farm.log_end());
    assert!(file.is_at(&destination)?);
    assert_eq!(cache_check::faults(&farm.cache_dir())?, Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_sees_a_broken_transfer_and_then_the_right_file() -> Result<()> {
    let file = ExtraDistfile::new("large-4.tar", LARGE_BYTES);
    let farm = Farm::start(std::slice::from_ref(&file)).await?;
    farm.upstream.add_fault_times(&file.mirror_path(), Fault::WrongByte { at: LARGE_BYTES - 1 }, 1);
    let destination = farm.dir().join("box");
    let url = farm.distfile_url(&file.name);
    let curl = || {
        let mut curl = stock("curl");
        curl.args(["--silent", "--fail", "--output"]).arg(&destination).arg(&url);
        curl
    };
    let partial_transfer = 18;
    assert_eq!(curl().status()?.code(), Some(partial_transfer), "{}", farm.log_end());
    assert!(curl().status()?.success(), "{}", farm.log_end());
    assert!(file.is_at(&destination)?);
    assert_eq!(cache_check::faults(&farm.cache_dir())?, Vec::<String>::new());
    Ok(())
}
