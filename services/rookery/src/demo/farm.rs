//! Rookery between the upstream stand-in and the boxes, in this process and on free ports.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use farm_sim::boxes::{BoxSpec, FARM, GentooBox, Programs};
use serde_json::json;
use service_kit::Kit;
use service_kit::config::Settings;
use service_kit::lifecycle::Crash;

use crate::all_in_one::{self, Running};
use crate::choices::MODULE;

/// How long the first generation and its catalogue may take.
const READY_TIMEOUT: Duration = Duration::from_mins(2);

/// How long everything may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The three services.
pub(super) struct Mirror {
    running: Running,
    kit: Kit,
}

impl Mirror {
    /// Starts them on `tree` and waits until they are ready.
    pub(super) async fn start(dir: &Path, tree: &Path, upstream: &str) -> anyhow::Result<Self> {
        service_kit::process::install_crypto_provider();
        let kit = Kit::default();
        let settings = Settings::default().with_defaults("the demo", &configuration(dir, tree, upstream)?)?;
        let running = all_in_one::start(&settings, &kit).await?;
        let mirror = Self { running, kit };
        tokio::select! {
            () = mirror.kit.readiness.wait() => Ok(mirror),
            crash = mirror.crashed() => bail!("Rookery: {crash}"),
            () = tokio::time::sleep(READY_TIMEOUT) => {
                let waiting = mirror.kit.readiness.check().err().unwrap_or_default();
                let waiting: Vec<_> = waiting.iter().map(|(part, why)| format!("{part}: {why}")).collect();
                bail!("Rookery is not ready after {READY_TIMEOUT:?}: {}", waiting.join("; "))
            }
        }
    }

    /// Returns when one of them has crashed.
    pub(super) async fn crashed(&self) -> Crash {
        self.kit.tasks.crashed().await
    }

    /// The boxes of the farm, each with its own directory below `dir`.
    pub(super) fn boxes(&self, dir: &Path, programs: &Programs) -> std::io::Result<Vec<GentooBox>> {
        let spec = |name: &str| BoxSpec {
            name: name.to_owned(),
            dir: dir.join("boxes").join(name),
            sync_uri: self.sync_uri(),
            mirror: self.http_url(),
            programs: programs.clone(),
        };
        FARM.iter().map(|name| GentooBox::new(spec(name))).collect()
    }

    pub(super) fn sync_uri(&self) -> String {
        format!("rsync://{}/{MODULE}", self.running.sync.rsync_addr)
    }

    pub(super) fn http_url(&self) -> String {
        url(self.running.proxy.http_addr)
    }

    pub(super) fn admin_url(&self) -> String {
        url(self.running.maintenance.grpc_addr)
    }

    pub(super) fn web_url(&self) -> String {
        url(self.running.maintenance.web_addr)
    }

    pub(super) fn http_port(&self) -> u16 {
        self.running.proxy.http_addr.port()
    }

    pub(super) fn rsync_port(&self) -> u16 {
        self.running.sync.rsync_addr.port()
    }

    /// Ends them: what is under way may finish for a moment.
    pub(super) async fn stop(self) {
        let tasks = &self.kit.tasks;
        if tokio::time::timeout(STOP_TIMEOUT, tasks.finish()).await.is_err() {
            drop(tokio::time::timeout(STOP_TIMEOUT, tasks.stop()).await);
        }
    }
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

fn configuration(dir: &Path, tree: &Path, upstream: &str) -> anyhow::Result<String> {
    let below = |name: &str| dir.join(name).display().to_string();
    let any_port = "127.0.0.1:0";
    let configuration = json!({
        "sync": {
            "listen": any_port,
            "grpc": any_port,
            "state_dir": below("trees"),
            "modules": [{
                "name": MODULE,
                "comment": "A generated tree",
                "source": { "dir": tree.display().to_string() },
                "verify": "consistent",
            }],
        },
        "proxy": {
            "listen": any_port,
            "cache_dir": below("cache"),
            "mirrors": [upstream],
            // The upstream stand-in is on loopback, where no source of a real tree may lead.
            "allow_private_upstreams": ["127.0.0.0/8"],
        },
        "maintenance": {
            "listen": any_port,
            "web": any_port,
            "index": format!("sqlite://{}", below("index.db")),
            "schedule": { "nightly": "off" },
        },
    });
    Ok(toml::to_string(&configuration)?)
}
