//! A service in miniature: what `main.rs` of every service looks like, with faults to order.
//!
//! `tests/process.rs` starts it, breaks it and reads its exit codes. Try it:
//! `ROOKERY__PROXY__LISTEN=127.0.0.1:8080 cargo run -p service-kit --example miniature`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::routing::get;
use serde::Deserialize;
use service_kit::config::{HumanDuration, Settings};
use service_kit::telemetry::propagation;
use service_kit::{Kit, health, listen, process};
use tracing::Instrument as _;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    listen: SocketAddr,
    fault: Fault,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 0)), fault: Fault::None }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Fault {
    None,
    /// A critical task fails, panics, or never learns of the soft stop.
    Error,
    Panic,
    Deaf,
    /// Something less than critical panics.
    PlainPanic,
    /// The start fails, or never ends.
    StartFails,
    StartHangs,
}

fn main() -> ExitCode {
    let config = std::env::args_os().nth(1).map(PathBuf::from);
    process::run("miniature", config.as_deref(), start)
}

async fn start(settings: Settings, kit: Kit) -> anyhow::Result<()> {
    let config: Config = settings.section("proxy")?;
    match config.fault {
        Fault::None => {}
        Fault::Error => kit.tasks.spawn_critical("store", async { bail!("the disk is gone") }),
        Fault::Panic => kit.tasks.spawn_critical("store", async { panic!("the disk is gone") }),
        Fault::Deaf => kit.tasks.spawn_critical("deaf", std::future::pending()),
        Fault::PlainPanic => drop(kit.tasks.spawn("peer", async { panic!("a bad peer") })),
        Fault::StartFails => bail!("no such tree"),
        Fault::StartHangs => {
            tracing::info!("hanging");
            std::future::pending::<()>().await;
        }
    }
    let listener = listen::bind(config.listen, "proxy.listen").await?;
    let address = listener.local_addr()?;
    let routes =
        axum::Router::new().route("/work/{ms}", get(work)).merge(health::router(kit.readiness.clone()));
    let soft = kit.tasks.soft();
    kit.tasks.spawn_critical("http", async move {
        axum::serve(listener, routes)
            .with_graceful_shutdown(soft.cancelled_owned())
            .await
            .context("serving http")
    });
    tracing::info!(%address, "listening");
    Ok(())
}

/// Something that takes a while.
async fn work(Path(ms): Path<u64>, headers: HeaderMap) -> String {
    let span = tracing::info_span!("work", otel.kind = "server");
    propagation::adopt(&span, &headers);
    opentelemetry::global::meter("miniature").u64_counter("miniature.requests").build().add(1, &[]);
    let time = HumanDuration(Duration::from_millis(ms));
    let working = async {
        tracing::info!("working");
        tokio::time::sleep(time.0).await;
    };
    working.instrument(span).await;
    format!("worked for {time}\n")
}
