//! `rookery check-config`: what applies, without passwords.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;
use service_kit::config::{Given, HIDDEN, Settings, without_passwords};
use service_kit::grpc::check_credentials;

use super::{print, print_json};
use crate::all_in_one::Sections;
use crate::cli::Cli;

pub(crate) fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(cli.config.as_deref())?;
    let mut sections = Sections::read(&settings)?;
    check_credentials(&sections.grpc)
        .and_then(|()| sections.proxy.check_files())
        .map_err(|error| settings.locate(&error))?;
    let rsyncd_conf = sections.sync.rsyncd_conf.clone();
    let merged = sections.sync.merged_with_notes().map_err(|error| settings.locate(&error))?;
    let notes = merged.1;
    sections.sync = merged.0;
    if cli.json {
        let mut sections = serde_json::to_value(&sections)?;
        hide_passwords(&mut sections);
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
    let shown = without_passwords(&toml::to_string(&sections)?);
    if shown.contains(HIDDEN) {
        text += "# **** stands for a password; this is no configuration without it.\n\n";
    }
    text += &shown;
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

fn hide_passwords(value: &mut Value) {
    match value {
        Value::String(text) => *text = without_passwords(text),
        Value::Array(items) => items.iter_mut().for_each(hide_passwords),
        Value::Object(entries) => entries.values_mut().for_each(hide_passwords),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
