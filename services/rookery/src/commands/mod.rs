//! One module a command. Each returns what the process exits with.

pub(crate) mod admin;
pub(crate) mod check_config;
pub(crate) mod client_config;
pub(crate) mod demo;
pub(crate) mod evict;
pub(crate) mod forget;
mod generations;
pub(crate) mod health;
pub(crate) mod import;
pub(crate) mod manual;
mod meter;
pub(crate) mod migrate;
mod migrate_http_replicator;
pub(crate) mod nightly;
pub(crate) mod objects;
pub(crate) mod pin;
mod refusals;
mod under_way;
pub(crate) mod up;
pub(crate) mod verify;
mod views;
pub(crate) mod watch;

/// A command's exit code when nothing was done because the operator has to agree first.
const ASKS: u8 = 3;
/// A command's exit code when files were found damaged.
const DAMAGED: u8 = 4;

use std::fmt;
use std::future::Future;
use std::io::Write as _;
use std::process::ExitCode;

use serde::Serialize;
use service_kit::process::install_crypto_provider;

use crate::cli::Cli;

/// Prints to standard output. That nobody reads it any more is no error.
fn print(text: impl fmt::Display) -> anyhow::Result<()> {
    match write!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Prints `value` as JSON on one line.
fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(serde_json::to_string(value)? + "\n")
}

/// Prints `answer` as the command line asks for it.
fn show(cli: &Cli, answer: &(impl Serialize + fmt::Display)) -> anyhow::Result<ExitCode> {
    if cli.json {
        print_json(answer)?;
    } else {
        print(answer)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command that asks somebody something.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    install_crypto_provider();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// This host's name, as the kernel has it.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "localhost".to_owned() } else { name.trim().to_owned() }
}
