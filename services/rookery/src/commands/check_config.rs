//! `rookery check-config`

use std::fmt::Write as _;
use std::process::ExitCode;

use service_kit::config::{Given, Settings};

use super::{print, print_json};
use crate::all_in_one::Sections;
use crate::cli::Cli;

pub(crate) fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(cli.config.as_deref())?;
    let mut sections = Sections::read(&settings)?;
    let rsyncd_conf = sections.sync.rsyncd_conf.clone();
    let merged = sections.sync.merged_with_notes().map_err(|error| settings.locate(&error))?;
    let notes = merged.1;
    sections.sync = merged.0;
    if cli.json {
        print_json(&sections)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = match settings.file() {
        Some(file) => {
            format!("# {} is right. Merged with the defaults and the environment:\n\n", file.display())
        }
        None => "# There is no configuration file. Defaults and environment:\n\n".to_owned(),
    };
    if let Some(path) = rsyncd_conf {
        let _ = writeln!(text, "# {} is right, and a part of [sync] below.", path.display());
    }
    for note in notes {
        let _ = writeln!(text, "# {note}");
    }
    text += &toml::to_string(&sections)?;
    let given = settings.describe()?;
    if !given.is_empty() {
        text += "\n# Given, and where:\n";
    }
    for Given { key, value, place } in given {
        // Writing to a String can't fail.
        let _ = writeln!(text, "# {key} = {value}  ({place})");
    }
    print(text)?;
    Ok(ExitCode::SUCCESS)
}
