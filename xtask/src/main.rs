//! The project's own commands: `cargo xtask test` is the one that decides whether a change is good.
//!
//! It may install what the tests need and run cargo; it must not hold anything that the product
//! needs at run time. Start reading at [`stages`], the list of what `test` does.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command for people")]

mod stages;
mod tools;

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
        /// Also the long ones: soaks and long loops.
        #[arg(long)]
        full: bool,
        /// Only these stages; `--list` names them.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Names the stages and does nothing.
        #[arg(long)]
        list: bool,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Test { list: true, .. } => {
            stages::list();
            Ok(())
        }
        Command::Test { full, only, list: false } => stages::test(full, &only),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
