//! `rookery migrate`: other programs' configuration as a rookery.toml.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use toml::{Table, Value};

use super::{migrate_http_replicator, print, print_json};
use crate::cli::{Cli, Migrate};

/// What `--json` prints.
#[derive(Serialize)]
struct View {
    configuration: Table,
    /// What has no equal, and what is different.
    notes: Vec<String>,
}

pub(crate) fn run(cli: &Cli, migrate: &Migrate) -> anyhow::Result<ExitCode> {
    let mut view = View { configuration: Table::new(), notes: Vec::new() };
    let mut text = String::new();
    let sections = [
        ("sync", migrate.rsyncd.as_deref().map(|file| (file, rsyncd(migrate, file)))),
        ("proxy", migrate.http_replicator.as_deref().map(|file| (file, migrate_http_replicator::read(file)))),
    ];
    for (section, given) in sections {
        let Some((file, translated)) = given else { continue };
        let (table, notes) = translated?;
        text.push_str(&comments(file, &notes));
        view.notes.extend(notes);
        view.configuration.insert(section.to_owned(), Value::Table(table));
    }
    if cli.json {
        print_json(&view)?;
    } else {
        print(text + "\n" + &toml::to_string(&view.configuration)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn comments(file: &Path, notes: &[String]) -> String {
    let mut text = format!("# From {}.\n", file.display());
    for note in notes {
        // Writing to a String can't fail.
        let _ = writeln!(text, "# {note}");
    }
    text
}

/// The `[sync]` section.
fn rsyncd(migrate: &Migrate, file: &Path) -> anyhow::Result<(Table, Vec<String>)> {
    let before = sync_server::Config {
        rsyncd_conf: Some(std::path::absolute(file)?),
        rsyncd_verify: migrate.verify.map_or(sync_server::VerifyMode::Consistent, Into::into),
        ..sync_server::Config::default()
    };
    let (merged, notes) = before.merged_with_notes()?;
    let notes = notes.iter().map(ToString::to_string).collect();
    Ok((essential(&merged)?, notes))
}

/// The section without what is built in anyway.
fn essential(merged: &sync_server::Config) -> anyhow::Result<Table> {
    let mut sync = without(merged, &sync_server::Config::default())?;
    let modules = merged.modules.iter().map(|module| {
        let default = sync_server::ModuleConfig::of_dir("", Path::new(""));
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
