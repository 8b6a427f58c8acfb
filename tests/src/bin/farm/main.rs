//! What the farm of containers is made of, besides Rookery: its plan, an upstream, a trace collector and the
//! Gentoo boxes. `compose.yaml` runs it in the client image, `cargo xtask e2e` drives it.
//!
//! All parts agree by way of one directory: `farm plan DIR` writes it, the containers mount it as `/e2e`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "reports go to standard output")]

mod control;
mod gentoo;
mod plan;
mod traces;
mod upstream;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Where the directory of the plan is, unless somebody says otherwise.
const MOUNT: &str = "/e2e";

#[derive(Debug, Parser)]
#[command(name = "farm", about = "The containers of the end-to-end farm")]
struct Arguments {
    /// The plan's directory.
    #[arg(long, default_value = MOUNT, global = true)]
    dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes tree, shopping lists and expectations below DIR, on the machine that starts the containers.
    Plan,
    /// Serves all distfiles on port 8000 and counts; obeys `ctl counts | exchanges PATH | hold PATH BYTES | open | close`.
    Upstream,
    /// Receives traces on port 4317; obeys `ctl spans | refuse | accept`.
    Traces,
    /// Lives one day of the box NAME and writes `reports/NAME.json`.
    Box {
        name: String,
        /// With the real Portage instead of its commands alone.
        #[arg(long)]
        portage: bool,
    },
    /// Fetches one of the plan's extra files as Portage would, again if it breaks, and checks it.
    Get {
        name: String,
        /// Sent along, as a client that is traced does.
        #[arg(long)]
        traceparent: Option<String>,
    },
    /// Says something to the `upstream` or `traces` of this container, and prints the answer.
    Ctl { words: Vec<String> },
}

fn main() -> ExitCode {
    let Arguments { dir, command } = Arguments::parse();
    let run = || -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            match command {
                Command::Plan => plan::write(&dir),
                Command::Upstream => upstream::run().await,
                Command::Traces => traces::run().await,
                Command::Box { name, portage } => gentoo::live_a_day(&dir, &name, portage).await,
                Command::Get { name, traceparent } => gentoo::get(&name, traceparent.as_deref()).await,
                Command::Ctl { words } => {
                    println!("{}", control::say(&words.join(" ")).await?);
                    Ok(())
                }
            }
        })
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("farm: {error:#}");
            ExitCode::FAILURE
        }
    }
}
