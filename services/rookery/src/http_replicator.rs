//! http-replicator's `/etc/conf.d/http-replicator`, and the rookery.toml that does the same.
//!
//! Pure: text goes in, text comes out. Start reading at [`translate`]; `shell` reads the assignments,
//! `options` the words of `DAEMON_OPTS`, `addresses` its wildcards.

mod addresses;
mod options;
mod shell;

use std::path::Path;

use toml::{Table, Value};

use options::{Alias, Options};

/// The variable that the init script gives the daemon; the other one is what it is mostly made of.
const VARIABLES: [&str; 2] = ["DAEMON_OPTS", "GENERAL_OPTS"];

/// What can't be understood, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// The file is more than assignments.
    #[error("line {line}: {what}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What was expected.
        what: String,
    },
    /// An option of the daemon.
    #[error("{option}: {what}")]
    Option {
        /// As it was given.
        option: String,
        /// What was expected.
        what: String,
    },
    /// Neither variable is set.
    #[error("neither DAEMON_OPTS nor GENERAL_OPTS is set")]
    NoOptions,
}

/// A configuration, and what a person has to know about it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Translated {
    /// The `[proxy]` section.
    pub(crate) proxy: Table,
    /// One line each: what has no equal, and what is different.
    pub(crate) notes: Vec<String>,
}

/// Reads the text of the file.
pub(crate) fn translate(text: &str) -> Result<Translated, Fault> {
    let variables = shell::assignments(text)?;
    let words = VARIABLES.iter().find_map(|name| variables.get(*name)).ok_or(Fault::NoOptions)?;
    let options = Options::parse(words)?;
    Ok(Translated { proxy: proxy(&options)?, notes: notes(&options) })
}

fn proxy(options: &Options) -> Result<Table, Fault> {
    let mut proxy = Table::new();
    let port = options.port.unwrap_or(options::PORT_DEFAULT);
    let listen = if options.is_ipv6 { format!("[::]:{port}") } else { format!("0.0.0.0:{port}") };
    proxy.insert("listen".to_owned(), listen.into());
    if !options.ips.is_empty() {
        let networks = addresses::networks(&options.ips)?;
        let networks = networks.iter().map(|network| Value::from(network.to_string()));
        proxy.insert("allow_clients".to_owned(), Value::Array(networks.collect()));
    }
    if let Some(dir) = &options.dir {
        let mut import = Table::new();
        import.insert("dir".to_owned(), dir.clone().into());
        import.insert("after".to_owned(), "keep".into());
        import.insert("recursive".to_owned(), (!options.is_flat).into());
        proxy.insert("import_dirs".to_owned(), Value::Array(vec![import.into()]));
    }
    if !options.aliases.is_empty() {
        let aliases = options.aliases.iter().map(alias).collect();
        proxy.insert("aliases".to_owned(), Value::Array(aliases));
    }
    Ok(proxy)
}

fn alias(alias: &Alias) -> Value {
    let pairs = [("dir", &alias.dir), ("prefix", &alias.prefix)];
    let pairs = pairs.map(|(key, value)| (key.to_owned(), Value::from(value.clone())));
    Value::Table(Table::from_iter(pairs))
}

fn notes(options: &Options) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(dir) = &options.dir {
        notes.push(format!(
            "--dir {dir}: what is right of it is adopted at each start and stays there; Rookery's own cache is cache_dir"
        ));
        let unlimited = "http-replicator's cache had no limit; capacity is 50 GiB unless it is set";
        notes.push(unlimited.to_owned());
    }
    if let Some(user) = &options.user {
        notes.push(format!("--user {user}: the unit or init script says who Rookery runs as"));
    }
    if let Some(log) = &options.log {
        notes.push(format!(
            "--log {log}: the log goes to standard error; the unit or init script says where that goes"
        ));
    }
    if options.ips.is_empty() {
        notes.push(
            "without --ip everybody was let in; allow_clients lets in private networks unless it is set"
                .to_owned(),
        );
    }
    if options.is_static {
        notes.push(
            "--static has no equal: a distfile is what the tree says, whatever the upstream does later"
                .to_owned(),
        );
    }
    if options.is_flat {
        notes.push(
            "--flat has no equal: names that mean different files in two modules are kept apart".to_owned(),
        );
    }
    if let Some(external) = &options.external {
        notes.push(format!("--external {external}: going through another proxy is not configured here"));
    }
    if let Some(limit) = &options.limit {
        notes.push(format!("--limit {limit}: downloads are not limited here"));
    }
    notes.extend(options.ignored.iter().map(|option| format!("{option}: has no equal")));
    for Alias { dir, prefix } in &options.aliases {
        if !Path::new(dir).is_absolute() {
            notes.push(format!("--alias {dir}:{prefix}: make the directory absolute"));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use service_kit::config::Settings;

    use super::*;

    /// The file of a mirror of 2009.
    const ARTICLE: &str = "GENERAL_OPTS=\"--dir /var/cache/http-replicator\"\n\
        GENERAL_OPTS=\"$GENERAL_OPTS --user portage\"\n\
        DAEMON_OPTS=\"$GENERAL_OPTS\"\n\
        DAEMON_OPTS=\"$DAEMON_OPTS --alias /usr/portage/packages/All:All\"\n\
        DAEMON_OPTS=\"$DAEMON_OPTS --log /var/log/http-replicator.log\"\n\
        DAEMON_OPTS=\"$DAEMON_OPTS --ip 10.13.18.*\"\n\
        ## The proxy port on which the server listens for http requests:\n\
        DAEMON_OPTS=\"$DAEMON_OPTS --port 8080\"\n";

    fn config(translated: &Translated) -> proxy_cache::Config {
        let file = Table::from_iter([("proxy".to_owned(), Value::Table(translated.proxy.clone()))]);
        let file = toml::to_string(&file).unwrap();
        Settings::from_layers(Some((PathBuf::from("f"), file)), []).unwrap().section("proxy").unwrap()
    }

    #[test]
    fn the_article_s_file_means_the_same() {
        let translated = translate(ARTICLE).unwrap();
        let config = config(&translated);
        assert_eq!(config.listen, "0.0.0.0:8080".parse().unwrap());
        let clients: Vec<String> = config.allow_clients.iter().map(ToString::to_string).collect();
        assert_eq!(clients, ["10.13.18.0/24"]);
        assert_eq!(config.import_dirs.len(), 1);
        assert_eq!(config.import_dirs[0].dir, Path::new("/var/cache/http-replicator"));
        assert!(config.import_dirs[0].recursive);
        assert_eq!(config.aliases.len(), 1);
        assert_eq!(config.aliases[0].dir, Path::new("/usr/portage/packages/All"));
        assert_eq!(config.aliases[0].prefix, "All");
        let notes = translated.notes.join("\n");
        for told in ["--user portage", "--log /var/log/http-replicator.log", "capacity"] {
            assert!(notes.contains(told), "{notes}");
        }
        assert_eq!(translated.notes.len(), 4, "{notes}");
    }

    #[test]
    fn every_option_is_translated_or_told() {
        let text = "DAEMON_OPTS='-d /c -p 3128 -i 192.168.1.* -i 10.* --flat --static -e user:pw@proxy:80 --limit=100 --daemon -6'";
        let translated = translate(text).unwrap();
        let config = config(&translated);
        assert_eq!(config.listen, "[::]:3128".parse().unwrap());
        assert!(!config.import_dirs[0].recursive);
        let clients: Vec<String> = config.allow_clients.iter().map(ToString::to_string).collect();
        assert_eq!(clients, ["10.0.0.0/8", "192.168.1.0/24"]);
        let notes = translated.notes.join("\n");
        for told in ["--flat", "--static", "--external", "proxy:80", "--limit 100", "--daemon"] {
            assert!(notes.contains(told), "{told} in {notes}");
        }
        assert!(!notes.contains("pw"), "a password is nobody's business: {notes}");
    }

    #[test]
    fn without_anything_the_defaults_are_told() {
        let translated = translate("GENERAL_OPTS=\"\"\n").unwrap();
        assert_eq!(config(&translated).import_dirs.len(), 0);
        assert!(translated.notes.iter().any(|note| note.contains("--ip")));
        assert_eq!(translate("# nothing\n"), Err(Fault::NoOptions));
    }
}
