//! The upstream of the farm: mirror and project sites, with a count of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;

use anyhow::{Result, bail};
use farm_sim::upstream::{Fault, Gate, Upstream};
use serde_json::json;

use crate::{control, plan};

/// Serves until SIGTERM.
pub(crate) async fn run() -> Result<()> {
    let upstream =
        Upstream::bind_as(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8000)), plan::UPSTREAM_URL).await?;
    // Only what it names is of interest; the tree itself goes again.
    let dir = tempfile::tempdir()?;
    upstream.put_tree(&farm_sim::tree::generate(&plan::tree_spec(), dir.path())?);
    drop(dir);
    for file in plan::extra() {
        file.put(&upstream);
    }
    let gate = Mutex::new(Gate::closed());
    control::listen(|words| obey(&upstream, &gate, words)).await
}

fn obey(upstream: &Upstream, gate: &Mutex<Gate>, words: &[&str]) -> Result<String> {
    let mut gate = gate.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match words {
        ["counts"] => {
            let counts = upstream.counts_by_distfile();
            let counts =
                counts.iter().map(|(name, count)| (name.clone(), json!([count.requests, count.bytes])));
            Ok(serde_json::Value::Object(counts.collect()).to_string())
        }
        ["exchanges", path] => {
            let log = upstream.log();
            let exchanges: Vec<_> = log
                .iter()
                .filter(|exchange| exchange.path == *path)
                .map(|exchange| {
                    json!({
                        "peer": exchange.peer.ip().to_canonical().to_string(),
                        "sent": exchange.bytes_sent,
                        "complete": exchange.complete,
                        "range_start": exchange.range_start,
                        "traceparent": exchange.header("traceparent"),
                    })
                })
                .collect();
            Ok(json!(exchanges).to_string())
        }
        ["hold", path, bytes] => {
            upstream.add_fault(path, Fault::Gated { after_bytes: bytes.parse()?, gate: gate.clone() });
            Ok("held".to_owned())
        }
        ["close"] => {
            // For what is held from now on.
            *gate = Gate::closed();
            Ok("closed".to_owned())
        }
        ["open"] => {
            gate.open();
            Ok("open".to_owned())
        }
        _ => bail!("what is {words:?}?"),
    }
}
