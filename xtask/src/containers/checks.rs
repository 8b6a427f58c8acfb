//! What the farm has to show: the boxes' reports, the upstream's count, what clients are seen as.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::command::{Run, eventually};
use super::farm::{Farm, MIRROR_PASSWORD, container, page};
use super::host::PROJECT;

/// Longer than the services take to send what they traced.
const EXPORT_PATIENCE: Duration = Duration::from_secs(30);

/// All boxes live their day; every tree and distfile is right, and the upstream sent each distfile once.
pub(super) fn day(farm: &Farm<'_>, replicas: usize) -> Result<()> {
    let reports = farm.boxes()?;
    let plan: Value = serde_json::from_slice(&std::fs::read(farm.dir.join("plan.json"))?)?;
    for report in &reports {
        let clients: Vec<&str> =
            report["clients"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        println!(
            "  {:4} {:4} files, {:2} distfiles in {:4.1} s with {}",
            text(&report["name"]),
            report["files_synced"],
            report["distfiles"],
            report["seconds"].as_f64().unwrap_or_default(),
            clients.join(", ")
        );
        ensure!(
            report["synced_again"] == true,
            "{}: a second sync was not told that all is up to date",
            report["name"]
        );
    }
    let counted = farm.tell("upstream", &["counts"])?;
    let expected = plan["distfiles"].as_object().context("the plan has distfiles")?;
    let counted = counted.as_object().context("the upstream's count")?;
    let mut bytes = 0;
    for (name, size) in expected {
        let count = counted.get(name).with_context(|| format!("{name} was never asked for upstream"))?;
        ensure!(
            count[0] == 1 && count[1] == *size,
            "{name}: {count} requests and bytes upstream instead of [1,{size}]"
        );
        bytes += size.as_u64().unwrap_or_default();
    }
    if let Some(other) = counted.keys().find(|name| !expected.contains_key(*name)) {
        bail!("{other} was fetched upstream, and no box wants it");
    }
    println!(
        "  {} boxes right; upstream, by its own count: {} distfiles, each 1 request, {bytes} bytes, with {replicas} {}",
        reports.len(),
        expected.len(),
        if replicas == 1 { "replica" } else { "replicas" }
    );
    Ok(())
}

/// Through the front, replicas know each box by its own address: that is what
/// `allow_clients` and the figures go by.
pub(super) fn clients(farm: &Farm<'_>) -> Result<()> {
    let seen = eventually("each box in the traces by its own address", EXPORT_PATIENCE, || {
        let spans = farm.tell("traces", &["spans"])?;
        let requests = spans.as_array().into_iter().flatten().filter(|span| span["name"] == "http_request");
        let requests = requests.filter(|span| text(&span["attributes"]["path"]).starts_with("/distfiles/"));
        let seen: BTreeSet<String> =
            requests.map(|span| text(&span["attributes"]["client"]).to_owned()).collect();
        Ok((seen.iter().filter(|client| client.starts_with("10.13.18.")).count() >= 7).then_some(seen))
    })?;
    let strangers: Vec<&String> = seen.iter().filter(|client| !client.starts_with("10.13.18.")).collect();
    // Replicas ask each other for files, in networks of their own and past the front.
    let mut peers = String::new();
    for name in farm.proxies() {
        peers += &farm.addresses(&name)?;
    }
    let is_peer = |address: &str| peers.split_whitespace().any(|peer| peer == address);
    ensure!(
        strangers.iter().all(|one| is_peer(one)),
        "clients seen as {strangers:?} instead of as themselves"
    );
    println!("  clients of the farm are seen by their own addresses: {}", seen.len() - strangers.len());
    Ok(())
}

/// Nobody can be given an address in turn that somebody has for his own, or from which there is no answer.
///
/// podman goes on where the last network of that name stopped, so that a fault here shows after weeks.
pub(super) fn addresses(farm: &Farm<'_>) -> Result<()> {
    for (network, fixed) in [("internal", &["ws1", "upstream"][..]), ("farm", &["ws1"])] {
        let network = format!("{PROJECT}_{network}");
        let inspected = farm.engine.run().args(["network", "inspect", &network]).output()?;
        let inspected: Value = serde_json::from_str(&inspected)?;
        let given = given_away(&inspected[0]).with_context(|| format!("{network}: {inspected}"))?;
        let mut taken = vec![("everybody", Ipv4Addr::from_bits(given.broadcast))];
        for service in fixed {
            taken.push((service, farm.address_in(&network, &container(service, 1))?.parse()?));
        }
        for (owner, address) in taken {
            ensure!(
                !given.range.contains(&address.to_bits()),
                "{network}: {address} is {owner}'s, and lies in the ip_range of compose.yaml"
            );
        }
    }
    Ok(())
}

/// Of a network: its last address, and those that are given in turn.
struct GivenAway {
    broadcast: u32,
    range: RangeInclusive<u32>,
}

/// From what the engine says of a network: podman of the range's ends, docker in the words of compose.yaml.
fn given_away(network: &Value) -> Result<GivenAway> {
    let all = |cidr: &Value| {
        let (address, bits) = text(cidr).split_once('/').context("it has no subnet or no ip_range")?;
        let mask = u32::MAX.checked_shr(bits.parse()?).unwrap_or_default();
        let first = address.parse::<Ipv4Addr>()?.to_bits() & !mask;
        Ok::<_, anyhow::Error>(first..=first | mask)
    };
    let podman = &network["subnets"][0];
    if podman.is_null() {
        let docker = &network["IPAM"]["Config"][0];
        return Ok(GivenAway { broadcast: *all(&docker["Subnet"])?.end(), range: all(&docker["IPRange"])? });
    }
    let end = |name: &str| {
        Ok::<_, anyhow::Error>(text(&podman["lease_range"][name]).parse::<Ipv4Addr>()?.to_bits())
    };
    Ok(GivenAway { broadcast: *all(&podman["subnet"])?.end(), range: end("start_ip")?..=end("end_ip")? })
}

/// The published ports of the host, as the operator gets them.
pub(super) fn published(farm: &Farm<'_>) -> Result<()> {
    let config = page(&format!("http://127.0.0.1:{}/client/make.conf", farm.http_port))?;
    ensure!(config.contains("GENTOO_MIRRORS"), "the published HTTP port says {config:?}");
    let url = format!("rsync://127.0.0.1:{}/", farm.rsync_port);
    let modules = Run::new("rsync").args(["--contimeout=10", &url]).output()?;
    ensure!(modules.contains("gentoo-portage"), "the published rsync port says {modules:?}");
    Ok(())
}

/// What deploy/observe asks for exists, and Prometheus's own tool accepts its files.
pub(super) fn observed(farm: &Farm<'_>) -> Result<()> {
    let metrics = page(&format!("http://{}:7071/metrics", farm.address(&container("maintenance", 1))?))?;
    let folder = farm.root.join("deploy/observe");
    let dashboard = std::fs::read_to_string(folder.join("grafana/dashboards/rookery.json"))?;
    let rules = std::fs::read_to_string(folder.join("alerts.yml"))?;
    let _is_json: Value = serde_json::from_str(&dashboard).context("rookery.json")?;
    let mut asked: BTreeSet<&str> = BTreeSet::new();
    for text in [&dashboard, &rules] {
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        asked.extend(words.filter(|word| word.starts_with("rookery_")));
    }
    for name in &asked {
        ensure!(
            metrics.contains(&format!("# TYPE {name} ")),
            "deploy/observe asks for {name}, which /metrics lacks"
        );
    }
    let promtool = farm.engine.promtool()?;
    for (what, file) in [("config", "prometheus.yml"), ("rules", "alerts.yml")] {
        Run::new(&promtool).args(["check", what]).args([folder.join(file)]).output()?;
    }
    println!("  deploy/observe: {} metrics, all there; promtool accepts both files", asked.len());
    Ok(())
}

/// Who reaches a replica past the front can't say that he is somebody else.
pub(super) fn forged(farm: &Farm<'_>) -> Result<()> {
    let url = format!("http://{}:8080/client/make.conf", farm.address(&container("proxy-cache", 1))?);
    let status = |extra: &[&str]| {
        let curl =
            ["--silent", "--noproxy", "*", "--output", "/dev/null", "--write-out", "%{http_code}", &url];
        Ok::<_, anyhow::Error>(Run::new("curl").args(curl).args(extra).finish()?.stdout)
    };
    ensure!(status(&[])? == "200", "a replica does not answer past the front");
    let forged = status(&["--haproxy-protocol"])?;
    ensure!(forged != "200", "a PROXY header from a stranger was believed");
    println!("  a PROXY header that does not come from the front: refused ({forged})");
    Ok(())
}

/// Neither logs nor traces hold the token or the mirror's password.
pub(super) fn nothing_secret(farm: &Farm<'_>, spans: &Value) -> Result<()> {
    let token = std::fs::read_to_string(farm.token_file())?;
    let said = [("a trace", spans.to_string()), ("a log", farm.logs()?)];
    for (what, said) in said {
        for secret in [token.trim(), MIRROR_PASSWORD] {
            ensure!(!said.contains(secret), "{what} has a secret in it");
        }
    }
    Ok(())
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
