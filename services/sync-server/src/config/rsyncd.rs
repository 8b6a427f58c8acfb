//! An rsyncd.conf as a part of `[sync]`: the same modules and limits in the other form.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rsync_wire::login::AuthDigest;
use rsyncd_conf::hosts::HostPattern;
use rsyncd_conf::{Found, Module, Note, RsyncdConf, Surroundings};
use service_kit::config::{ConfigError, HumanDuration, Networks};

use super::{AuthUsers, Config, DigestName, FacilityName, Hosts, ModuleConfig, VerifyMode};

/// Octets of one file of the configuration.
const FILE_LEN_MAX: u64 = 4 << 20;

/// A configuration that refers to no other file any more.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) config: Config,
    /// What is different from what the rsyncd.conf says.
    pub(crate) notes: Vec<Note>,
}

impl Config {
    /// Reads the rsyncd.conf, if there is one, and adds what it says: modules after those that are here, and the
    /// address where this configuration has the built-in one. Blocking.
    ///
    /// # Errors
    /// Everything that is wrong with it, with file and line.
    pub(crate) fn resolve(mut self) -> Result<Resolved, ConfigError> {
        let Some(path) = self.rsyncd_conf.take() else {
            return Ok(Resolved { config: self, notes: Vec::new() });
        };
        let wrong = |what: String| ConfigError::wrong("sync.rsyncd_conf", what);
        let conf = read(&path).map_err(wrong)?;
        let before: BTreeSet<_> = self.modules.iter().map(|module| module.name.clone()).collect();
        for module in &conf.modules {
            if before.contains(&module.name) {
                let what = format!("{}: [{}] is in [[sync.modules]] too", module.place, module.name);
                return Err(wrong(what));
            }
            self.modules.push(translate(module, self.rsyncd_verify).map_err(wrong)?);
        }
        self.take_globals(&conf);
        if conf.globals.proxy_protocol && self.proxy_protocol_from.is_empty() {
            let trusted = networks(&conf.globals.proxy_protocol_hosts);
            self.proxy_protocol_from =
                trusted.map_err(|what| wrong(format!("{}: proxy protocol hosts: {what}", path.display())))?;
        }
        Ok(Resolved { config: self, notes: conf.notes })
    }

    /// The configuration with what its rsyncd.conf says in place of the reference to it, and what is different
    /// from what that file says. Blocking.
    ///
    /// # Errors
    /// Everything that is wrong with that file, with file and line.
    pub fn merged_with_notes(self) -> Result<(Self, Vec<String>), ConfigError> {
        let Resolved { config, notes } = self.resolve()?;
        Ok((config, notes.iter().map(ToString::to_string).collect()))
    }

    fn take_globals(&mut self, conf: &RsyncdConf) {
        let globals = &conf.globals;
        if self.listen == Self::default().listen {
            let address = globals.address.unwrap_or(self.listen.ip());
            self.listen = SocketAddr::new(address, globals.port.unwrap_or(self.listen.port()));
        }
        // The stock daemon's modules share one lock file: a limit that is the same for all is one for them together.
        if self.max_connections == Self::default().max_connections
            && let Some(limit) = common_limit(&conf.modules)
        {
            self.max_connections = limit;
        }
        if let Some(file) = &globals.log_file {
            self.log_file.get_or_insert_with(|| file.into());
        }
        if let Some(file) = &globals.motd_file {
            self.motd_file.get_or_insert_with(|| file.into());
        }
    }
}

fn read(path: &Path) -> Result<RsyncdConf, String> {
    let shown = path.display().to_string();
    let octets = match Files.read(&shown)? {
        Found::File(octets) => octets,
        Found::Directory(_) => return Err(format!("{shown}: expected a file, found a directory")),
    };
    RsyncdConf::parse(&shown, &octets, &mut Files).map_err(|faults| {
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        faults.join("\n  ")
    })
}

/// Who is trusted with the PROXY protocol.
fn networks(hosts: &[HostPattern]) -> Result<Networks, String> {
    let mut all = Vec::new();
    for host in hosts {
        let texts = match host {
            HostPattern::Everybody => vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()],
            HostPattern::Network { .. } | HostPattern::Name(_) | HostPattern::WildName(_) => {
                vec![host.to_string()]
            }
        };
        let parsed = Networks::parse(texts.iter().map(String::as_str));
        all.extend(
            parsed.map_err(|expected| format!("expected {expected}, found `{host}`"))?.iter().copied(),
        );
    }
    Ok(all.into_iter().collect())
}

/// The limit above 0 that all modules have.
fn common_limit(modules: &[Module]) -> Option<usize> {
    let first = modules.first()?.max_connections;
    let same = modules.iter().all(|module| module.max_connections == first);
    usize::try_from(first).ok().filter(|&limit| same && limit > 0)
}

fn translate(module: &Module, verify: VerifyMode) -> Result<ModuleConfig, String> {
    let refused = |error: String| format!("{}: module [{}]: {error}", module.place, module.name);
    module.name.parse::<tree_store::ModuleName>().map_err(|error| refused(error.to_string()))?;
    tree_store::Excludes::new(&module.patterns).map_err(|error| refused(error.to_string()))?;
    let path = Path::new(&module.path);
    if !path.is_dir() {
        return Err(refused(format!("path: {} is no directory", module.path)));
    }
    Ok(ModuleConfig {
        comment: module.comment.clone(),
        verify,
        exclude: module.patterns.clone(),
        hosts_allow: Hosts(module.hosts.allow.clone()),
        hosts_deny: Hosts(module.hosts.deny.clone()),
        reverse_lookup: module.reverse_lookup,
        forward_lookup: module.forward_lookup,
        list: module.list,
        max_connections: module.max_connections,
        timeout: HumanDuration(Duration::from_secs(module.timeout_s.into())),
        auth_users: AuthUsers(module.auth_users.clone()),
        secrets_file: module.secrets_file.as_ref().map(Into::into),
        auth_digest: module.auth_digest.as_deref().and_then(AuthDigest::from_name).map(DigestName),
        strict_modes: module.strict_modes,
        refuse_options: module.refuse_options.clone(),
        dont_compress: module.dont_compress,
        numeric_ids: module.numeric_ids,
        log_file: module.log_file.as_ref().map(Into::into),
        transfer_logging: module.transfer_logging,
        log_format: module.log_format.clone(),
        syslog_facility: module.syslog_facility.as_deref().and_then(FacilityName::new),
        syslog_tag: module.syslog_tag.clone(),
        ..ModuleConfig::of_dir(&module.name, path)
    })
}

/// The files and the environment of this host.
struct Files;

impl Surroundings for Files {
    fn read(&mut self, path: &str) -> Result<Found, String> {
        let error = |error: std::io::Error| format!("{path}: {error}");
        if Path::new(path).is_dir() {
            let mut names = Vec::new();
            for entry in std::fs::read_dir(path).map_err(error)? {
                names.extend(entry.map_err(error)?.file_name().into_string());
            }
            return Ok(Found::Directory(names));
        }
        let mut octets = Vec::new();
        let file = File::open(path).map_err(error)?;
        file.take(FILE_LEN_MAX + 1).read_to_end(&mut octets).map_err(error)?;
        if octets.len() as u64 > FILE_LEN_MAX {
            return Err(format!("{path}: expected at most {FILE_LEN_MAX} octets"));
        }
        Ok(Found::File(octets))
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(text: &str, toml_config: Config) -> Result<(Config, Vec<String>), String> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("tree")).unwrap();
        let path = directory.path().join("rsyncd.conf");
        std::fs::write(&path, text.replace("{}", &directory.path().display().to_string())).unwrap();
        let config = Config { rsyncd_conf: Some(path), ..toml_config };
        config.merged_with_notes().map_err(|error| error.to_string())
    }

    #[test]
    fn modules_of_both_files_are_served_and_the_toml_is_above() {
        let text = "port = 8873\naddress = 10.13.18.101\nmotd file = /etc/motd\nuid = nobody\n\
                    [m]\npath = {}/tree\nlist = no\ntimeout = 5\nhosts deny = ws9\nreverse lookup = yes\n";
        let here = ModuleConfig::of_dir("here", Path::new("/x"));
        let config = Config { modules: vec![here.clone()], ..Config::default() };
        let (merged, notes) = merge(text, config.clone()).unwrap();
        assert_eq!(merged.listen.to_string(), "10.13.18.101:8873");
        assert_eq!(merged.motd_file.as_deref(), Some(Path::new("/etc/motd")));
        assert_eq!((merged.rsyncd_conf, notes.len()), (None, 1));
        let [first, second] = merged.modules.as_slice() else { panic!() };
        assert_eq!(first, &here);
        assert_eq!((second.name.as_str(), second.list, second.verify), ("m", false, VerifyMode::Consistent));
        assert_eq!((second.timeout.0.as_secs(), second.reverse_lookup), (5, true));
        assert_eq!(second.hosts_deny.0.len(), 1);

        let listen = "127.0.0.1:1873".parse().unwrap();
        let (merged, _) = merge(text, Config { listen, ..config }).unwrap();
        assert_eq!(merged.listen, listen);
    }

    #[test]
    fn each_module_has_its_limit_and_one_for_all_is_the_daemons() {
        for (text, expected) in [
            ("max connections = 5\n[m]\npath = {}/tree\n[n]\npath = {}/tree\n", (5, [5, 5])),
            ("[m]\npath = {}/tree\nmax connections = 2\n[n]\npath = {}/tree\n", (200, [2, 0])),
            (
                "max connections = 5\n[m]\npath = {}/tree\n[n]\npath = {}/tree\nmax connections = -1\n",
                (200, [5, -1]),
            ),
        ] {
            let (merged, notes) = merge(text, Config::default()).unwrap();
            let [first, second] = merged.modules.as_slice() else { panic!() };
            let limits = [first.max_connections, second.max_connections];
            assert_eq!((merged.max_connections, limits), expected, "{text}");
            assert!(notes.is_empty(), "{notes:?}");
        }
        let text = "max connections = 5\n[m]\npath = {}/tree\n";
        let (merged, _) = merge(text, Config { max_connections: 9, ..Config::default() }).unwrap();
        assert_eq!((merged.max_connections, merged.modules[0].max_connections), (9, 5));
    }

    #[test]
    fn proxies_are_trusted_if_the_file_says_so() {
        let merged = |text: &str| {
            let text = format!("{text}[m]\npath = {{}}/tree\n");
            merge(&text, Config::default()).map(|(merged, _)| merged.proxy_protocol_from)
        };
        let hosts = "proxy protocol hosts = 10.13.18.7, 10.1.0.0/255.255.0.0 fd00::/64\n";
        let trusted = merged(&format!("proxy protocol = yes\n{hosts}")).unwrap();
        let shown: Vec<_> = trusted.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.13.18.7/32", "10.1.0.0/16", "fd00::/64"]);
        assert!(merged(hosts).unwrap().is_empty());
        assert!(merged("proxy protocol = yes\nproxy protocol hosts = *\n").unwrap().iter().count() == 2);
        let error =
            merged("proxy protocol = yes\nproxy protocol hosts = 10.0.0.1/255.0.0.255\n").unwrap_err();
        assert!(error.contains("proxy protocol hosts: expected"), "{error}");
        assert!(merged("proxy protocol = yes\n").unwrap_err().contains("rsyncd.conf:1"));
    }

    #[test]
    fn what_is_wrong_is_named_with_file_and_line() {
        for (text, expected) in [
            ("[m]\npath = {}/tree\nread only = no\n", "rsyncd.conf:3: `read only = no`"),
            ("[m]\npath = {}/tree\nfoo = 1\nbar = 2\n", "rsyncd.conf:4: unknown parameter `bar`"),
            ("[m]\npath = {}/none\n", "none is no directory"),
            ("[My Mod]\npath = {}/tree\n", "rsyncd.conf:1: module [My Mod]"),
            ("[m]\npath = {}/tree\nexclude = [a\n", "module [m]"),
            ("[here]\npath = {}/tree\n", "[here] is in [[sync.modules]] too"),
            ("&include {}/tree/none\n", "none: No such file"),
        ] {
            let here = ModuleConfig::of_dir("here", Path::new("/x"));
            let error = merge(text, Config { modules: vec![here], ..Config::default() }).unwrap_err();
            assert!(error.contains("sync.rsyncd_conf") && error.contains(expected), "{text}: {error}");
        }
    }
}
