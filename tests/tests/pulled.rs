//! A mirror that pulls its tree from another mirror, as somebody without a configuration starts it.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use farm_sim::boxes::differences;
use rookery_tests::farm::{Farm, eventually, free_address};
use rookery_tests::program;
use serde_json::Value;

/// Ends with the test.
struct Mirror(Child);

impl Drop for Mirror {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// `rookery` without any configuration but these variables, which keep it off the ports of others.
fn rookery(addresses: [SocketAddr; 3]) -> Command {
    let mut command = Command::new(program::rookery());
    command
        .env_remove("ROOKERY_CONFIG")
        .env("ROOKERY__SYNC__GRPC", addresses[0].to_string())
        .env("ROOKERY__MAINTENANCE__LISTEN", addresses[1].to_string())
        .env("ROOKERY__MAINTENANCE__WEB", addresses[2].to_string());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_of_a_mirror_serves_the_same_tree() -> Result<()> {
    let farm = Farm::start(&[]).await?;
    let addresses = [free_address()?, free_address()?, free_address()?];
    let [rsync, http] = [free_address()?, free_address()?];
    let log = fs::File::create(farm.dir().join("second.log"))?;
    let up = rookery(addresses)
        .args(["up", "--verify", "consistent", "--tree", &farm.sync_uri(), "--state"])
        .arg(farm.dir().join("second"))
        .args(["--rsync-port", &rsync.port().to_string(), "--http-port", &http.port().to_string()])
        .stdout(fs::File::create(farm.dir().join("second.out"))?)
        .stderr(log)
        .spawn()?;
    let _second = Mirror(up);

    let copy = farm.dir().join("copy");
    let pull = || {
        let mut rsync_program = program::stock("rsync");
        rsync_program.args(["-rlpt", "--delete", &format!("rsync://{rsync}/gentoo-portage/")]).arg(&copy);
        rsync_program.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    eventually("the second mirror serves a tree", pull).await?;
    assert_eq!(differences(&farm.tree.dir, &copy)?, []);

    let said = fs::read_to_string(farm.dir().join("second.out"))?;
    assert!(said.contains(&farm.sync_uri()), "it says what it chose: {said}");
    let status = rookery(addresses).args(["--json", "status"]).output()?;
    let status: Value = serde_json::from_slice(&status.stdout).context("rookery status")?;
    let module = &status["modules"][0];
    assert_eq!(module["source"], farm.sync_uri());
    let [last, next] = ["last_attempt_ms", "next_attempt_ms"].map(|key| module[key].as_i64().unwrap_or(0));
    assert!(next - last > 11 * 3_600_000, "twice a day, not more often: {module}");
    Ok(())
}

#[test]
fn what_is_pulled_has_to_be_signed_and_a_missing_key_is_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let output = Command::new(program::rookery())
        .env_remove("ROOKERY_CONFIG")
        .args([
            "up",
            "--tree",
            "rsync://127.0.0.1:1/gentoo-portage",
            "--openpgp-key",
            "/nowhere/key.asc",
            "--state",
        ])
        .arg(dir.path())
        .output()?;
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{message}");
    assert!(message.contains("openpgp_key") && message.contains("/nowhere/key.asc"), "{message}");
    Ok(())
}
