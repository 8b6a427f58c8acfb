//! `rookery up`

use std::fmt::Write as _;
use std::process::ExitCode;

use proxy_cache::client_config::ClientConfig;
use serde_json::json;
use service_kit::config::{Given, Settings};
use service_kit::listen::reachable;
use service_kit::process;

use super::{client_config, host_name, print, print_json};
use crate::all_in_one::{self, Running, Sections};
use crate::choices::{self, Machine};
use crate::cli::{Cli, Up};

pub(crate) fn run(cli: &Cli, up: &Up) -> ExitCode {
    let settings = Settings::read(cli.config.as_deref())
        .and_then(|settings| choices::apply(settings, up, &Machine::look()))
        .and_then(|settings| Sections::read(&settings).map(|_| settings));
    let json = cli.json;
    process::run_with("rookery", settings, async move |settings, kit| {
        let running = all_in_one::start(&settings, &kit).await?;
        announce(&settings, &running, json)?;
        Ok(running)
    })
}

fn announce(settings: &Settings, running: &Running, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(&json!({
            "rsync": running.sync.rsync_addr.to_string(),
            "http": running.proxy.http_addr.to_string(),
            "https": running.proxy.tls_addr.map(|address| address.to_string()),
            "web": running.maintenance.web_addr.to_string(),
            "admin": running.maintenance.grpc_addr.to_string(),
            "tree": running.sync.grpc_addr.to_string(),
        }));
    }
    print(announcement(settings, running)?)
}

fn announcement(settings: &Settings, running: &Running) -> anyhow::Result<String> {
    let mut text = format!("Rookery {} is up.\n", env!("CARGO_PKG_VERSION"));
    let given = settings.describe()?;
    if !given.is_empty() {
        text += "\nSettings that differ from the built-in ones:\n";
    }
    for Given { key, value, place } in given {
        // Writing to a String can't fail.
        let _ = writeln!(text, "  {key} = {value}   ({place})");
    }
    let Running { sync, maintenance, proxy } = running;
    let loopback = proxy.http_addr.ip().is_loopback();
    let config = ClientConfig {
        host: if loopback { reachable(proxy.http_addr).ip().to_string() } else { host_name() },
        port: proxy.http_addr.port(),
        is_tls: false,
        rsync_port: sync.rsync_addr.port(),
        module: client_config::first_module(settings),
    };
    let _ = write!(
        text,
        "\nTrees      rsync://{}/\nDistfiles  http://{}/\nStatus     http://{}/  (or `rookery status`)\n\n\
         Point a Gentoo box at it with these (`rookery client-config` prints them again):\n\n{}",
        reachable(sync.rsync_addr),
        reachable(proxy.http_addr),
        reachable(maintenance.web_addr),
        client_config::all_files(&config),
    );
    let awaited = sync.modules.iter().filter(|module| module.live().is_none() && module.is_pulled());
    for module in awaited {
        let _ = write!(
            text,
            "\nThe first tree of {} is being pulled from {}: boxes can sync once it is here and verified.\n",
            module.name(),
            module.source()
        );
    }
    if loopback {
        text += "\nOnly this host can reach it: proxy.listen and sync.listen in a configuration file open it to \
                 others.\n";
    }
    Ok(text)
}
