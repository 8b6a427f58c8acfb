//! The project's own commands: `cargo xtask test` is the one that decides whether a change is good.
//!
//! It may install what the tests need and run cargo; it must not hold anything that the product
//! needs at run time. Start reading at [`stages`], the list of what `test` does.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command for people")]

mod bench;
mod containers;
mod fuzz;
mod guard;
mod stages;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Rookery's own build and test commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Installs what the tests need, then runs every check and every test.
    Test {
        /// Also the soak: kills and properties, many times over.
        #[arg(long)]
        full: bool,
        /// Only these stages; `--list` names them.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Names the stages and does nothing.
        #[arg(long)]
        list: bool,
    },
    /// The farm in containers: builds the images, lets seven boxes live a day, kills a replica, removes it all.
    E2e {
        /// Who runs the containers.
        #[arg(long, value_enum, default_value_t)]
        engine: containers::Kind,
        /// Compile inside the build stage of the Containerfile instead of taking this machine's binaries.
        #[arg(long)]
        full: bool,
        /// The loopback port that HTTP is published on; 0: a free one.
        #[arg(long, default_value_t = 0)]
        http_port: u16,
        /// The loopback port that rsync is published on; 0: a free one.
        #[arg(long, default_value_t = 0)]
        rsync_port: u16,
        /// Only remove the images that earlier runs keep as a cache.
        #[arg(long)]
        remove_images: bool,
    },
    /// Lays out a real repository's tree: random contents of the listed sizes, its real metadata over it.
    Corpus {
        /// The list of its files, xz-compressed.
        #[arg(long)]
        list: PathBuf,
        /// A tar archive of its Manifests, cache entries and profiles, xz-compressed.
        #[arg(long)]
        metadata: PathBuf,
        /// How many copies, each with categories of its own.
        #[arg(long, default_value_t = 1)]
        copies: usize,
        /// Where to.
        dir: PathBuf,
    },
    /// Gives the decoders of foreign octets what libFuzzer thinks up.
    Fuzz {
        /// For each target.
        #[arg(long, default_value_t = 1.0)]
        minutes: f64,
        /// Only these; none: all.
        targets: Vec<String>,
    },
    /// Counts the instructions of hot paths and compares them with tests/guard/figures.txt.
    Guard {
        /// Takes today's figures instead.
        #[arg(long)]
        write: bool,
    },
    /// Measures something, with an optimised build, and prints a table.
    Bench {
        #[command(subcommand)]
        what: bench::Bench,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Test { list: true, .. } => {
            stages::list();
            Ok(())
        }
        Command::Test { full, only, list: false } => stages::test(full, &only),
        Command::Corpus { list, metadata, copies, dir } => lay_out_corpus(&list, &metadata, &dir, copies),
        Command::Fuzz { minutes, targets } => fuzz::run(minutes, &targets),
        Command::Bench { what } => what.run(),
        Command::Guard { write } => guard::run(write),
        Command::E2e { engine, full, http_port, rsync_port, remove_images } => {
            stages::end_to_end(containers::Options { engine, full, http_port, rsync_port, remove_images })
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn lay_out_corpus(list: &Path, metadata: &Path, dir: &Path, copies: usize) -> anyhow::Result<()> {
    let done = farm_sim::corpus::lay_out_files(list, metadata, dir, 1, copies)?;
    println!(
        "{}: {} directories, {} files ({} with their real contents), {} symbolic links",
        dir.display(),
        done.directories,
        done.files,
        done.real_files,
        done.symlinks
    );
    Ok(())
}
