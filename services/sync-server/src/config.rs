//! The `[sync]` section. `rsyncd` reads the part of it that an rsyncd.conf says.

mod auth;
mod hosts;
mod log;
mod rsyncd;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use service_kit::config::{ByteSize, ConfigError, HumanDuration, Networks, none_if_empty};
use tree_store::{Excludes, Keyring, ModuleName, TreeError, Verify};

pub use auth::{AuthUsers, DigestName};
pub use hosts::Hosts;
pub use log::FacilityName;
pub(crate) use rsyncd::Resolved;

use crate::upstream::{self, GitUrl, Limits, Origin, Upstreams};

/// A directory is cheap to look at.
const DIR_POLL: Duration = Duration::from_mins(30);

/// Public mirrors ban who comes more often than about once a day; twice is what they tolerate.
const RSYNC_POLL: Duration = Duration::from_hours(12);

/// Who serves git repositories is used to more.
const GIT_POLL: Duration = Duration::from_hours(1);

/// What an operator may say. Every key has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where rsync clients connect.
    pub listen: SocketAddr,
    /// Where maintenance asks for generations.
    pub grpc: SocketAddr,
    /// Where generations are kept: one directory for each module.
    pub state_dir: PathBuf,
    /// Connections that use a module at a time; 0 for any number.
    pub max_connections: usize,
    /// Those of them from one address; 0 for any number.
    pub connections_per_address: usize,
    /// How long one more waits for its turn before it is refused as rsync does.
    pub queue_timeout: HumanDuration,
    /// How much of `state_dir` compressed files may take that are kept for the next client; 0: none are.
    pub kept_bodies: ByteSize,
    /// Who has to begin each connection with a PROXY protocol header, version 1 or 2, that says whom it is for.
    pub proxy_protocol_from: Networks,
    /// Where connections are logged as the stock daemon does, besides the process's own log.
    #[serde(deserialize_with = "none_if_empty")]
    pub log_file: Option<PathBuf>,
    /// A file that is sent to each client before anything else.
    #[serde(deserialize_with = "none_if_empty")]
    pub motd_file: Option<PathBuf>,
    /// An rsyncd.conf, whose modules and limits are added to those here.
    #[serde(deserialize_with = "none_if_empty")]
    pub rsyncd_conf: Option<PathBuf>,
    /// What the trees of its modules must prove before they are served.
    pub rsyncd_verify: VerifyMode,
    /// How long pulling a tree may take.
    pub pull: PullConfig,
    /// What is served, in this order.
    pub modules: Vec<ModuleConfig>,
}

/// How long the programs that bring trees may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PullConfig {
    /// Until an upstream has answered a small question.
    pub answer: HumanDuration,
    /// Without a word while a tree is transferred.
    pub silence: HumanDuration,
    /// For a whole tree over a slow line.
    pub whole: HumanDuration,
    /// Portage's program that makes metadata caches: a name to be found in `PATH`, or a path.
    pub egencache: PathBuf,
}

impl Default for PullConfig {
    fn default() -> Self {
        Self {
            answer: HumanDuration(Duration::from_mins(2)),
            silence: HumanDuration(Duration::from_mins(3)),
            whole: HumanDuration(Duration::from_hours(6)),
            egencache: PathBuf::from("egencache"),
        }
    }
}

impl PullConfig {
    pub(crate) fn limits(&self) -> Limits {
        Limits { answer: self.answer.0, silence: self.silence.0, whole: self.whole.0 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 873),
            grpc: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7069),
            state_dir: PathBuf::from("/var/lib/rookery/trees"),
            max_connections: 200,
            connections_per_address: 50,
            queue_timeout: HumanDuration(Duration::from_secs(10)),
            kept_bodies: ByteSize(512 << 20),
            proxy_protocol_from: Networks::default(),
            log_file: None,
            motd_file: None,
            rsyncd_conf: None,
            rsyncd_verify: VerifyMode::Consistent,
            pull: PullConfig::default(),
            modules: Vec::new(),
        }
    }
}

/// One repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "each is one key that an operator may set")]
pub struct ModuleConfig {
    /// Boxes sync from `rsync://HOST/NAME`.
    #[serde(deserialize_with = "module_name")]
    pub name: String,
    /// What the list of modules says about it: one line.
    #[serde(default, deserialize_with = "one_line")]
    pub comment: String,
    /// Where the tree comes from.
    pub source: SourceConfig,
    /// What it must prove before it is served.
    #[serde(default)]
    pub verify: VerifyMode,
    /// Whether the tree has to bring its metadata cache.
    #[serde(default)]
    pub md5_cache: Md5CacheMode,
    /// The keys that may sign it.
    #[serde(default = "openpgp_key")]
    pub openpgp_key: PathBuf,
    /// What is left out beyond [`tree_store::ALWAYS`]: rsync's patterns.
    #[serde(default, deserialize_with = "patterns")]
    pub exclude: Vec<String>,
    /// Generations kept besides those in use.
    #[serde(default = "keep")]
    pub keep: usize,
    /// How often the source is looked at; by default a directory every half an hour, an upstream twice a day.
    #[serde(default)]
    pub poll: Option<HumanDuration>,
    /// Who may sync; empty: everybody who can reach the port.
    #[serde(default)]
    pub hosts_allow: Hosts,
    /// Who may not, unless allowed.
    #[serde(default)]
    pub hosts_deny: Hosts,
    /// Whether a host's own name is looked up for the names in these lists.
    #[serde(default)]
    pub reverse_lookup: bool,
    /// Whether the names in these lists are looked up for their addresses.
    #[serde(default = "yes")]
    pub forward_lookup: bool,
    /// Whether it is in the list of modules, and known to hosts that may not use it.
    #[serde(default = "yes")]
    pub list: bool,
    /// Its connections at a time, within those of all modules: 0 for any number, below 0 for none at all.
    #[serde(default)]
    pub max_connections: i32,
    /// Silence after which a connection ends; 0 leaves it to the client.
    #[serde(default)]
    pub timeout: HumanDuration,
    /// Who may log in, as rsyncd.conf(5) writes it; empty: nobody has to.
    #[serde(default)]
    pub auth_users: AuthUsers,
    /// Their passwords: one `USER:PASSWORD` or `@GROUP:PASSWORD` a line.
    #[serde(default, deserialize_with = "none_if_empty")]
    pub secrets_file: Option<PathBuf>,
    /// The weakest digest that clients may log in with.
    #[serde(default)]
    pub auth_digest: Option<DigestName>,
    /// Whether the secrets file must be private.
    #[serde(default = "yes")]
    pub strict_modes: bool,
    /// Options of clients that are refused, as rsyncd.conf(5) writes them.
    #[serde(default)]
    pub refuse_options: Vec<String>,
    /// Nothing is compressed for clients that use zlib. Those that use zstd or lz4 can't be told so.
    #[serde(default)]
    pub dont_compress: bool,
    /// Owners are sent as numbers alone. Otherwise those that this host has names for are named, and clients look for a
    /// user or group of their own with that name.
    #[serde(default = "yes")]
    pub numeric_ids: bool,
    /// Where its connections are logged as the stock daemon does; without it, where those of all modules are.
    #[serde(default, deserialize_with = "none_if_empty")]
    pub log_file: Option<PathBuf>,
    /// A line for each file that is sent: in the log file, or else in the system log.
    #[serde(default)]
    pub transfer_logging: bool,
    /// How that line looks, as rsyncd.conf(5) writes it.
    #[serde(default = "log_format")]
    pub log_format: String,
    /// Where there is no log file, connections are logged in the system log with this facility.
    #[serde(default)]
    pub syslog_facility: Option<FacilityName>,
    /// And with this in front.
    #[serde(default = "syslog_tag", deserialize_with = "one_line")]
    pub syslog_tag: String,
}

impl ModuleConfig {
    /// A module with a directory and defaults for all else.
    #[must_use]
    pub fn of_dir(name: &str, dir: &Path) -> Self {
        Self {
            name: name.to_owned(),
            comment: String::new(),
            source: SourceConfig { dir: Some(dir.to_owned()), ..SourceConfig::default() },
            verify: VerifyMode::default(),
            md5_cache: Md5CacheMode::default(),
            openpgp_key: openpgp_key(),
            exclude: Vec::new(),
            keep: keep(),
            poll: None,
            hosts_allow: Hosts::default(),
            hosts_deny: Hosts::default(),
            reverse_lookup: false,
            forward_lookup: true,
            list: true,
            max_connections: 0,
            timeout: HumanDuration::default(),
            auth_users: AuthUsers::default(),
            secrets_file: None,
            auth_digest: None,
            strict_modes: true,
            refuse_options: Vec::new(),
            dont_compress: false,
            numeric_ids: true,
            log_file: None,
            transfer_logging: false,
            log_format: log_format(),
            syslog_facility: None,
            syslog_tag: syslog_tag(),
        }
    }

    /// How long after one look the next one follows.
    #[must_use]
    pub fn poll(&self) -> Duration {
        let default = match &self.source {
            SourceConfig { rsync: Some(_), .. } => RSYNC_POLL,
            SourceConfig { git: Some(_), .. } => GIT_POLL,
            _ => DIR_POLL,
        };
        self.poll.map_or(default, |poll| poll.0)
    }
}

/// Exactly one of `dir`, `rsync` and `git`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// A directory of this host.
    pub dir: Option<PathBuf>,
    /// Upstreams to pull from with the stock rsync program: the first that has a newer tree.
    pub rsync: Option<Upstreams>,
    /// A git repository to pull from with the git program.
    pub git: Option<String>,
    /// Its branch; without one, the repository's own default.
    pub branch: Option<String>,
}

/// Where a tree's `metadata/md5-cache` comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Md5CacheMode {
    /// The tree ships it, or there is none.
    #[default]
    Shipped,
    /// Where the tree ships none, Portage's egencache makes it after each pull.
    Generate,
}

/// What a tree must prove before it is served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifyMode {
    /// GLEP 74: one of the keys signed it, and every file is what was signed.
    #[default]
    Signed,
    /// Manifests can be read and every `SRC_URI` name has its DIST line.
    Consistent,
    /// Of a git source: one of the keys signed the commit; and what `consistent` wants.
    Commit,
    /// Only that it has a timestamp.
    None,
}

impl VerifyMode {
    /// The word of the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Consistent => "consistent",
            Self::Commit => "commit",
            Self::None => "none",
        }
    }
}

fn openpgp_key() -> PathBuf {
    PathBuf::from("/usr/share/openpgp-keys/gentoo-release.asc")
}

const fn keep() -> usize {
    3
}

fn log_format() -> String {
    rsyncd_conf::log_format::DEFAULT.to_owned()
}

fn syslog_tag() -> String {
    "rsyncd".to_owned()
}

const fn yes() -> bool {
    true
}

fn module_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    name.parse::<ModuleName>().map_err(D::Error::custom)?;
    Ok(name)
}

fn one_line<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.contains(char::is_control) {
        return Err(D::Error::custom("one line without control characters"));
    }
    Ok(text)
}

fn patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let patterns = Vec::<String>::deserialize(deserializer)?;
    Excludes::new(&patterns).map_err(D::Error::custom)?;
    Ok(patterns)
}

/// Where a tree comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// This directory, which something else keeps up to date.
    Dir(PathBuf),
    /// A staging directory of ours, which is pulled from the first of them that has a newer tree.
    Pulled(Vec<Origin>),
}

/// A module's configuration as the rest of the service uses it.
#[derive(Debug)]
pub(crate) struct ModulePlan {
    pub(crate) config: ModuleConfig,
    pub(crate) name: ModuleName,
    pub(crate) source: Source,
    pub(crate) excludes: Excludes,
    pub(crate) verify: Verify,
}

impl Config {
    fn check_md5_cache(&self, plan: &ModulePlan) -> Result<(), ConfigError> {
        if plan.config.md5_cache == Md5CacheMode::Shipped {
            return Ok(());
        }
        let wrong = |expected: String| {
            Err(ConfigError::wrong("sync.modules.md5_cache", format!("module {}: {expected}", plan.name)))
        };
        if matches!(plan.source, Source::Dir(_)) {
            return wrong(
                "\"generate\" is for trees that are pulled; a directory is never written to. A local repository \
                 can be pulled from git = \"file:///PATH\""
                    .to_owned(),
            );
        }
        if plan.config.verify == VerifyMode::Signed {
            return wrong("a signed tree has to bring its own: nothing may be added to it".to_owned());
        }
        let program = &self.pull.egencache;
        if !upstream::is_in_path(program) {
            return wrong(format!("\"generate\" needs {}: install sys-apps/portage", program.display()));
        }
        Ok(())
    }
}

impl ModulePlan {
    /// The keys that must have signed a commit.
    pub(crate) fn commit_key(&self) -> Option<&Path> {
        (self.config.verify == VerifyMode::Commit).then_some(&*self.config.openpgp_key)
    }
}

impl Config {
    /// Whether the service could start with it, as far as that can be told without starting.
    ///
    /// # Errors
    /// The first value that is wrong, or not supported yet.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.clone().resolve()?.config.plans().map(drop)
    }

    pub(crate) fn plans(&self) -> Result<Vec<ModulePlan>, ConfigError> {
        if self.modules.is_empty() {
            return Err(ConfigError::wrong(
                "sync.modules",
                "expected at least one [[sync.modules]], found none",
            ));
        }
        for (key, limit) in
            [("answer", self.pull.answer), ("silence", self.pull.silence), ("whole", self.pull.whole)]
        {
            if limit.0.is_zero() {
                return Err(ConfigError::wrong(format!("sync.pull.{key}"), "expected more than 0s"));
            }
        }
        let mut names = BTreeSet::new();
        self.modules
            .iter()
            .map(|module| {
                if !names.insert(&module.name) {
                    let expected = format!("expected each name once, found {:?} twice", module.name);
                    return Err(ConfigError::wrong("sync.modules.name", expected));
                }
                let plan = plan(module)?;
                self.check_md5_cache(&plan)?;
                Ok(plan)
            })
            .collect()
    }
}

fn plan(module: &ModuleConfig) -> Result<ModulePlan, ConfigError> {
    let wrong = |key: &str, expected: String| {
        ConfigError::wrong(format!("sync.modules.{key}"), format!("module {}: {expected}", module.name))
    };
    let refused = |key: &str, error: TreeError| wrong(key, error.to_string());
    let name = module.name.parse().map_err(|error| refused("name", error))?;
    if !module.auth_users.0.is_empty() && module.secrets_file.is_none() {
        return Err(wrong("secrets_file", "expected a file with the passwords of auth_users".to_owned()));
    }
    let excludes = Excludes::new(&module.exclude).map_err(|error| refused("exclude", error))?;
    let source = source(module).map_err(|(key, expected)| wrong(key, expected))?;
    if module.poll().is_zero() {
        return Err(wrong("poll", "expected more than 0s".to_owned()));
    }
    let verify = match module.verify {
        VerifyMode::None => Verify::None,
        VerifyMode::Consistent => Verify::Consistent,
        VerifyMode::Commit => {
            if module.source.git.is_none() {
                return Err(wrong("verify", "\"commit\" is for a git source".to_owned()));
            }
            Keyring::open(&module.openpgp_key).map_err(|error| refused("openpgp_key", error))?;
            Verify::Consistent
        }
        VerifyMode::Signed => {
            let keyring =
                Keyring::open(&module.openpgp_key).map_err(|error| refused("openpgp_key", error))?;
            Verify::Signed(keyring)
        }
    };
    Ok(ModulePlan { config: module.clone(), name, source, excludes, verify })
}

/// The source, or the key that is wrong and what was expected of it.
fn source(module: &ModuleConfig) -> Result<Source, (&'static str, String)> {
    let SourceConfig { dir, rsync, git, branch } = &module.source;
    if branch.is_some() && git.is_none() {
        return Err(("source.branch", "only a git source has branches".to_owned()));
    }
    let needs = |key, program: &str, package: &str| {
        let why = |error| (key, format!("needs the program {program} ({error}): install {package}"));
        upstream::is_installed(program).map_err(why)
    };
    match (dir, rsync, git) {
        (Some(dir), None, None) if dir.is_absolute() => Ok(Source::Dir(dir.clone())),
        (Some(dir), None, None) => {
            Err(("source", format!("expected an absolute path, found {}", dir.display())))
        }
        (None, Some(upstreams), None) => {
            needs("source.rsync", "rsync", "net-misc/rsync")?;
            Ok(Source::Pulled(upstreams.0.iter().cloned().map(Origin::Rsync).collect()))
        }
        (None, None, Some(repository)) => {
            let url =
                GitUrl::new(repository, branch.as_deref()).map_err(|expected| ("source.git", expected))?;
            needs("source.git", "git", "dev-vcs/git")?;
            Ok(Source::Pulled(vec![Origin::Git(url)]))
        }
        _ => {
            let expected = "expected { dir = \"…\" }, { rsync = \"rsync://…\" } or { git = \"https://…\" }";
            Err(("source", expected.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use service_kit::config::Settings;

    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        let settings = Settings::from_layers(Some((PathBuf::from("r.toml"), text.to_owned())), [])?;
        let config: Config = settings.section("sync")?;
        config.check().map_err(|error| settings.locate(&error))?;
        Ok(config)
    }

    #[test]
    fn a_whole_section_is_read() {
        let config = read(
            "[sync]\nlisten = \"127.0.0.1:0\"\n[[sync.modules]]\nname = \"gentoo-portage\"\n\
             source = { dir = \"/x\" }\nverify = \"consistent\"\nexclude = [\"/a\", \"*.tmp\"]\npoll = \"5m\"\n\
             hosts_allow = [\"10.13.18.0/24\", \"10.1.1.1\"]\nhosts_deny = [\"*\"]\n",
        )
        .unwrap();
        let module = &config.modules[0];
        assert_eq!((module.keep, module.poll()), (3, Duration::from_mins(5)));
        assert_eq!((module.hosts_allow.0.len(), module.hosts_deny.0.len()), (2, 1));
        assert_eq!(config.grpc.port(), 7069);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let module = "[[sync.modules]]\nname = \"m\"\nsource = { dir = \"/x\" }\nverify = \"none\"\n";
        for (text, expected) in [
            (String::new(), "at least one"),
            (module.replace("\"m\"", "\"a/b\""), "a/b"),
            (format!("{module}{module}"), "twice"),
            (module.replace("dir = \"/x\"", "dir = \"x\""), "absolute"),
            (module.replace("dir = \"/x\"", ""), "dir"),
            (module.replace("dir = \"/x\"", "rsync = \"h::m\""), "rsync://HOST/MODULE"),
            (module.replace("dir = \"/x\"", "rsync = [1]"), "a list of them"),
            (module.replace("dir = \"/x\"", "rsync = []"), "1 to 32 upstreams"),
            (module.replace("dir = \"/x\"", "git = \"/x\""), "https://HOST/PATH"),
            (module.replace("dir = \"/x\"", "git = \"https://h/r\", branch = \"-x\""), "name of a branch"),
            (module.replace("dir = \"/x\"", "dir = \"/x\", branch = \"x\""), "branch"),
            (module.replace("dir = \"/x\"", "dir = \"/x\", git = \"https://h/r\""), "expected { dir"),
            (module.replace("none", "commit"), "is for a git source"),
            (format!("{module}md5_cache = \"generate\"\n"), "for trees that are pulled"),
            (module.replace("none", "some"), "some"),
            (module.replace("none", "signed") + "openpgp_key = \"/none\"\n", "openpgp_key"),
            (format!("{module}exclude = [\"[a\"]\n"), "exclude"),
            (format!("{module}hosts_allow = [\"10.13.18.*\"]\n"), "hosts_allow"),
            (format!("{module}poll = \"0\"\n"), "poll"),
            (format!("{module}colour = 1\n"), "colour"),
            (format!("{module}auth_users = [\"joe:dney\"]\n"), ":deny"),
            (format!("{module}auth_users = [\"joe\"]\n"), "secrets_file"),
            (format!("{module}auth_digest = \"md6\"\n"), "sha512"),
            ("[sync]\nrsyncd_conf = \"/nowhere/rsyncd.conf\"\n".to_owned(), "/nowhere/rsyncd.conf"),
            (format!("{module}[sync.pull]\nanswer = \"0\"\n"), "sync.pull.answer"),
        ] {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}, but expected {expected}");
        }
    }
}
