//! A replica killed in mid-download, maintenance restarted in another: boxes end with the right file all the same.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::checks::text;
use super::command::{Run, eventually};
use super::farm::{Farm, container};
use super::trace::path_of;

const FILE: &str = "disturbed-1.tar";
/// Where the upstream stops until the kill is done.
const HELD_BYTES: u64 = 8_000_000;
const CLIENTS: usize = 3;
const PATIENCE: Duration = Duration::from_mins(2);

/// Kills the replica that fetches, in mid-download; another one takes over.
pub(super) fn kill_in_mid_download(farm: &Farm<'_>) -> Result<()> {
    let path = path_of(farm, FILE)?;
    farm.tell("upstream", &["hold", &path, &HELD_BYTES.to_string()])?;
    let clients: Vec<String> =
        (1..=CLIENTS).map(|number| format!("rookery-e2e-disturbed-{number}")).collect();
    for client in &clients {
        farm.client(client, "--detach", &["get", FILE]).output()?;
    }
    let fetching = eventually("a replica is in mid-download", PATIENCE, || {
        let held = exchanges(farm, &path)?.into_iter().find(|one| one["sent"].as_u64() >= Some(HELD_BYTES));
        Ok(held.map(|one| text(&one["peer"]).to_owned()))
    })?;
    let mut victim = None;
    for name in farm.proxies() {
        if farm.address(&name)? == fetching {
            victim = Some(name);
        }
    }
    let victim = victim.with_context(|| format!("{fetching} is no replica of ours"))?;
    kill(farm, &victim)?;
    eventually("somebody takes the download over", PATIENCE, || {
        Ok((exchanges(farm, &path)?.len() >= 2).then_some(()))
    })?;
    farm.tell("upstream", &["open"])?;
    for client in &clients {
        wait_for(farm, client)?;
    }
    let exchanges = exchanges(farm, &path)?;
    let sent: u64 = exchanges.iter().filter_map(|one| one["sent"].as_u64()).sum();
    let size = size_of(farm, FILE)?;
    // What was under way may be sent again, and no more: not to each replica all of it.
    ensure!(
        sent <= size + CLIENTS as u64 * 2 * HELD_BYTES,
        "the upstream sent {sent} bytes of a file of {size}"
    );
    println!(
        "  {victim} killed at {HELD_BYTES} of {size} bytes: {CLIENTS} clients right; upstream: {} requests, {sent} bytes",
        exchanges.len()
    );
    Ok(())
}

/// Restarts maintenance while a download is under way; that goes on.
pub(super) fn restart_maintenance(farm: &Farm<'_>) -> Result<()> {
    let name = "afterwards-1.tar";
    let (path, client) = (path_of(farm, name)?, "rookery-e2e-afterwards");
    farm.tell("upstream", &["close"])?;
    farm.tell("upstream", &["hold", &path, "1000000"])?;
    farm.client(client, "--detach", &["get", name]).output()?;
    eventually("a replica is in mid-download", PATIENCE, || {
        Ok(exchanges(farm, &path)?.iter().any(|one| one["sent"].as_u64() >= Some(1_000_000)).then_some(()))
    })?;
    farm.engine.run().args(["restart", "--time", "10", &container("maintenance", 1)]).output()?;
    farm.tell("upstream", &["open"])?;
    wait_for(farm, client)?;
    let requests = exchanges(farm, &path)?.len();
    ensure!(requests == 1, "{name} was asked for {requests} times upstream");
    println!("  maintenance restarted in mid-download: the client is right; upstream: 1 request");
    farm.wait_until_ready()
}

fn exchanges(farm: &Farm<'_>, path: &str) -> Result<Vec<Value>> {
    let exchanges = farm.tell("upstream", &["exchanges", path])?;
    Ok(exchanges.as_array().context("the upstream's exchanges")?.clone())
}

fn wait_for(farm: &Farm<'_>, client: &str) -> Result<()> {
    let code = farm.engine.run().patience(PATIENCE).args(["wait", client]).output()?;
    ensure!(code.trim() == "0", "{client} ended with {}: {}", code.trim(), farm.log_end(client));
    Ok(())
}

/// SIGKILL to the process itself, as a crash is: the engine starts it again.
fn kill(farm: &Farm<'_>, name: &str) -> Result<()> {
    let state = |format: &str| farm.engine.run().args(["inspect", "--format", format, name]).output();
    let before = state("{{.State.Pid}}")?;
    Run::new("kill").args(["-9", before.trim()]).output()?;
    let back = eventually("the engine starts the killed replica again", PATIENCE, || {
        let now = state("{{.State.Pid}} {{.State.Running}}")?;
        Ok((now.trim().ends_with("true") && !now.starts_with(before.trim())).then_some(()))
    });
    back.with_context(|| farm.log_end(name))
}

fn size_of(farm: &Farm<'_>, name: &str) -> Result<u64> {
    let plan: Value = serde_json::from_slice(&std::fs::read(farm.dir.join("plan.json"))?)?;
    let file = plan["extra"].as_array().into_iter().flatten().find(|file| file["name"] == name);
    file.and_then(|file| file["size"].as_u64()).context("the plan says how large it is")
}
