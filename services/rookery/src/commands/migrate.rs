//! `rookery migrate`: other programs' configuration as a rookery.toml.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;
use toml::{Table, Value};

use super::{print, print_json};
use crate::cli::{Cli, Migrate};

pub(crate) fn run(cli: &Cli, migrate: &Migrate) -> anyhow::Result<ExitCode> {
    let before = sync_server::Config {
        rsyncd_conf: Some(std::path::absolute(&migrate.rsyncd)?),
        rsyncd_verify: migrate.verify.map_or(sync_server::VerifyMode::Consistent, Into::into),
        ..sync_server::Config::default()
    };
    let (merged, notes) = before.merged_with_notes()?;
    let sync = essential(&merged)?;
    let configuration = Table::from_iter([("sync".to_owned(), Value::Table(sync))]);
    if cli.json {
        print_json(&configuration)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!("# From {}.\n", migrate.rsyncd.display());
    for note in notes {
        // Writing to a String can't fail.
        let _ = writeln!(text, "# {note}");
    }
    print(text + "\n" + &toml::to_string(&configuration)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The section without what is built in anyway.
fn essential(merged: &sync_server::Config) -> anyhow::Result<Table> {
    let mut sync = without(merged, &sync_server::Config::default())?;
    let modules = merged.modules.iter().map(|module| {
        let default = sync_server::ModuleConfig::of_dir("", std::path::Path::new(""));
        let mut table = without(module, &default)?;
        // What the tree must prove is worth reading, whatever it is.
        table.insert("verify".to_owned(), Value::try_from(module.verify)?);
        Ok(Value::Table(table))
    });
    sync.insert("modules".to_owned(), Value::Array(modules.collect::<anyhow::Result<_>>()?));
    Ok(sync)
}

fn without<T: Serialize>(given: &T, default: &T) -> anyhow::Result<Table> {
    let (mut given, default) = (Table::try_from(given)?, Table::try_from(default)?);
    given.retain(|key, value| default.get(key) != Some(value));
    Ok(given)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use service_kit::config::Settings;

    use super::*;

    #[test]
    fn what_is_printed_means_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rsyncd.conf");
        let tree = directory.path().display();
        let text = format!(
            "max connections = 5\nuse chroot = yes\nport = 8873\nhosts allow = 10.13.18.0/24 *.lan\nhosts deny = *\n\
             [m]\npath = {tree}\ncomment = a \"tree\"\nexclude = /distfiles /packages\ninclude = /x\ntimeout = 60\n\
             [hidden]\npath = {tree}\nlist = no\nrefuse options = c delete\n",
        );
        std::fs::write(&path, text).unwrap();
        let before = sync_server::Config { rsyncd_conf: Some(path), ..sync_server::Config::default() };
        let (merged, notes) = before.merged_with_notes().unwrap();
        assert_eq!(notes.len(), 1, "{notes:?}");
        let table = Table::from_iter([("sync".to_owned(), Value::Table(essential(&merged).unwrap()))]);
        let toml = toml::to_string(&table).unwrap();
        let settings = Settings::from_layers(Some((PathBuf::from("r.toml"), toml.clone())), []).unwrap();
        assert_eq!(settings.section::<sync_server::Config>("sync").unwrap(), merged, "{toml}");
        assert!(!toml.contains("state_dir"), "{toml}");
    }
}
