//! rookery: the three services in one process, the operator's command line and the demo.
//!
//! Start reading at [`run`], then [`all_in_one::start`]. This crate wires and asks; it must not decide
//! anything that a service decides, and commands change things only through the Admin service.

#![allow(clippy::print_stderr, reason = "a command line for people")]

pub mod all_in_one;
mod choices;
mod cli;
mod commands;
pub mod demo;
mod http_replicator;
mod text;

use std::process::ExitCode;

use clap::Parser as _;
use service_kit::exit_code::Exit;

use cli::{Cli, Command};

/// The whole program: reads the command line, does it, and says how it went.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Up(up) => return commands::up::run(&cli, up),
        Command::Demo(demo) => commands::demo::run(&cli, demo),
        Command::CheckConfig => commands::check_config::run(&cli),
        Command::ClientConfig(client) => commands::client_config::run(&cli, client),
        Command::Migrate(migrate) => commands::migrate::run(&cli, migrate),
        Command::Health(health) => commands::health::run(&cli, health),
        Command::Status(admin) => commands::admin::status(&cli, admin),
        Command::Plan(admin) => commands::admin::plan(&cli, admin),
        Command::Import(import) => commands::import::run(&cli, import),
        Command::Evict(evict) => commands::evict::run(&cli, evict),
        Command::Objects(objects) => commands::objects::run(&cli, objects),
        Command::Pin(pin) => commands::pin::pin(&cli, pin),
        Command::Unpin(unpin) => commands::pin::unpin(&cli, unpin),
        Command::Forget(forget) => commands::forget::run(&cli, forget),
        Command::Verify(verify) => commands::verify::run(&cli, verify),
        Command::Nightly(nightly) => commands::nightly::run(&cli, nightly),
        Command::Watch(watch) => commands::watch::run(&cli, watch),
        Command::Completions(completions) => commands::manual::completions(completions),
        Command::Man(man) => commands::manual::man(man),
        Command::Generations(generations) => commands::admin::generations(&cli, generations),
        Command::Rollback(rollback) => commands::admin::rollback(&cli, rollback),
        Command::Publish(publish) => commands::admin::publish(&cli, publish),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rookery: {error:#}");
            Exit::of(&error).into()
        }
    }
}
