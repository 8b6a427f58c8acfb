//! Each image by itself, as an arbitrary user, without any capability and with nothing to write but its volume.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::command::{Run, eventually};
use super::farm::Farm;
use super::host::LABEL;
use super::images::IMAGES;

const USER: &str = "123456";
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs each of them until it says that it is well.
pub(super) fn each_image(farm: &Farm<'_>) -> Result<()> {
    let tree = format!("{}:/var/db/repos/gentoo:ro", farm.dir.join("tree").display());
    let config = format!("{}:/etc/rookery/rookery.toml:ro", farm.dir.join("rookery.toml").display());
    let served =
        ["--sysctl", "net.ipv4.ip_unprivileged_port_start=0", "--volume", &tree, "--volume", &config];
    let beside = ["--network", "container:rookery-e2e-alone-sync-server", "--volume", &config];
    // Without other services around: only loopback. The three share it, as on one host.
    start(
        farm,
        "sync-server",
        &[&["--network", "none", "--volume", "/var/lib/rookery"], &served[..]].concat(),
        &[],
    )?;
    start(farm, "maintenance", &[&["--volume", "/var/lib/rookery"], &beside[..]].concat(), &[])?;
    start(farm, "proxy-cache", &[&["--volume", "/var/cache/rookery"], &beside[..]].concat(), &[])?;
    let all = ["--network", "none", "--volume", "/var/lib/rookery", "--volume", "/var/cache/rookery"];
    start(farm, "rookery", &[&all[..], &served].concat(), &[])?;
    for service in ["sync-server", "maintenance", "proxy-cache", "rookery"] {
        let name = format!("rookery-e2e-alone-{service}");
        let well = eventually(&format!("{service} is well, alone"), PATIENCE, || {
            let asked = farm.engine.run().args(["exec", &name, service, "health"]).finish()?;
            Ok(asked.status.success().then_some(()))
        });
        well.with_context(|| farm.log_end(&name))?;
    }
    start(farm, "front", &["--network", "none"], &[])?;
    eventually("the front is well, alone", PATIENCE, || {
        Ok(farm.log_end("rookery-e2e-alone-front").contains("success").then_some(()))
    })?;
    let said = base(farm, "client", "--rm").args([&format!("{IMAGES}/client"), "--help"]).output()?;
    ensure!(said.contains("end-to-end farm"), "the client says {said:?}");
    println!("  each image runs as user {USER} with --read-only --cap-drop ALL");
    Ok(())
}

fn start(farm: &Farm<'_>, target: &str, options: &[&str], words: &[&str]) -> Result<()> {
    let run = base(farm, target, "--detach").args(options).args([&format!("{IMAGES}/{target}")]).args(words);
    run.output().map(drop)
}

fn base(farm: &Farm<'_>, target: &str, mode: &str) -> Run {
    let name = format!("rookery-e2e-alone-{target}");
    let run = farm.engine.run().args(["run", mode, "--name", &name, "--label", LABEL, "--user", USER]);
    run.args(["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"])
}
