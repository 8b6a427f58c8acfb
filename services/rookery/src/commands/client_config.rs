//! `rookery client-config`

use std::process::ExitCode;

use proxy_cache::client_config::ClientConfig;
use serde_json::json;
use service_kit::config::Settings;

use super::{host_name, print, print_json};
use crate::all_in_one::Sections;
use crate::choices::{self, MODULE, Machine};
use crate::cli::{self, Cli, ClientFile, Up};

pub(crate) fn run(cli: &Cli, client: &cli::ClientConfig) -> anyhow::Result<ExitCode> {
    // What `up` would do with the same configuration. Whether it could verify a tree that it pulls makes no
    // difference to a box.
    let machine = Machine { has_release_key: true, ..Machine::look() };
    let settings = choices::apply(Settings::read(cli.config.as_deref())?, &Up::default(), &machine)?;
    let sections = Sections::read(&settings)?;
    let config = ClientConfig {
        host: client.host.clone().unwrap_or_else(host_name),
        port: sections.proxy.listen.port(),
        is_tls: false,
        rsync_port: sections.sync.listen.port(),
        module: first_module(&settings),
    };
    if cli.json {
        print_json(&json!({
            "make_conf": config.make_conf(),
            "mirrors": config.mirrors(),
            "repos_conf": config.repos_conf(),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    print(match client.only {
        Some(ClientFile::MakeConf) => config.make_conf(),
        Some(ClientFile::Mirrors) => config.mirrors(),
        Some(ClientFile::ReposConf) => config.repos_conf(),
        None => all_files(&config),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// All three files, one after the other.
pub(crate) fn all_files(config: &ClientConfig) -> String {
    format!("{}\n{}\n{}", config.make_conf(), config.mirrors(), config.repos_conf())
}

/// The first module of the configuration: what a box calls `gentoo`.
pub(crate) fn first_module(settings: &Settings) -> String {
    let sync: Option<sync_server::Config> = settings.section("sync").ok();
    let first = sync.and_then(|sync| sync.modules.first().map(|module| module.name.clone()));
    first.unwrap_or_else(|| MODULE.to_owned())
}
