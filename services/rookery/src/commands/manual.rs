//! `rookery completions` and `man`: made from the definition of the command line, so they are never old.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;

use super::print;
use crate::cli::Cli;
use crate::cli::farm::{Completions, Man};

pub(crate) fn completions(completions: &Completions) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(completions.shell, &mut Cli::command(), "rookery", &mut script);
    print(String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man(man: &Man) -> anyhow::Result<ExitCode> {
    if let Some(dir) = &man.dir {
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        clap_mangen::generate_to(Cli::command(), dir).with_context(|| dir.display().to_string())?;
    } else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        print(String::from_utf8(page)?)?;
    }
    Ok(ExitCode::SUCCESS)
}
