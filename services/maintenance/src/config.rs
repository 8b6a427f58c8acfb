//! The `[maintenance]` section.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service_kit::config::{ConfigError, HumanDuration};

use crate::nights::Schedule;

/// What keeps a run within its own night.
const JITTER_MAX: Duration = Duration::from_hours(12);

/// Nothing is looked at while a command or a webhook is waited for.
const TELLING_MAX: Duration = Duration::from_mins(10);

/// One number is kept for each day of it.
const CATALOGUE_WITHIN_MAX: Duration = Duration::from_hours(366 * 24);

/// The `[maintenance]` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where `CacheIndex` and `Admin` listen.
    pub listen: SocketAddr,
    /// sync-server's `Tree`.
    pub sync: Endpoint,
    /// Where the status page, `/healthz`, `/readyz` and `/metrics` are.
    pub web: SocketAddr,
    /// Where the index is kept.
    pub index: IndexUrl,
    /// What happens by itself, and when.
    pub schedule: Schedule,
    /// How long a blob stays after the last module stopped referring to it.
    pub unreferenced_grace: HumanDuration,
    /// How long a blob stays after anybody asked for it, or after it came.
    pub keep_accessed: HumanDuration,
    /// How long a wrong file stays in quarantine for a person to look at, unless its room is needed.
    pub quarantine_grace: HumanDuration,
    /// Above this share of its capacity a replica is made room on.
    pub high_water: Percent,
    /// Down to this share.
    pub low_water: Percent,
    /// When to stop and ask.
    pub brakes: Brakes,
    /// Every blob is read and compared with its digest within so many nights.
    pub scrub_nights: u32,
    /// What is a problem, and who is told.
    pub health: HealthConfig,
    /// How long a lease lasts without progress.
    pub lease: HumanDuration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7070)),
            sync: Endpoint("http://127.0.0.1:7069".to_owned()),
            web: SocketAddr::from((Ipv4Addr::LOCALHOST, 7071)),
            index: IndexUrl { path: PathBuf::from("/var/lib/rookery/index.db") },
            schedule: Schedule::default(),
            unreferenced_grace: HumanDuration(Duration::from_hours(7 * 24)),
            keep_accessed: HumanDuration(Duration::from_hours(7 * 24)),
            quarantine_grace: HumanDuration(Duration::from_hours(7 * 24)),
            high_water: Percent(90),
            low_water: Percent(80),
            brakes: Brakes::default(),
            scrub_nights: 30,
            health: HealthConfig::default(),
            lease: HumanDuration(Duration::from_secs(30)),
        }
    }
}

impl Config {
    /// What no single value shows.
    ///
    /// # Errors
    /// The key that doesn't fit the others.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.low_water.0 > self.high_water.0 {
            let expected =
                format!("at most maintenance.high_water, which is {}, is expected", self.high_water);
            return Err(ConfigError::wrong("maintenance.low_water", expected));
        }
        if self.scrub_nights == 0 {
            return Err(ConfigError::wrong("maintenance.scrub_nights", "1 or more is expected"));
        }
        if self.schedule.jitter.0 > JITTER_MAX {
            return Err(ConfigError::wrong(
                "maintenance.schedule.jitter",
                "at most \"12h\" is expected, so that no night is lost",
            ));
        }
        if self.brakes.catalogue_within.0 > CATALOGUE_WITHIN_MAX {
            return Err(ConfigError::wrong(
                "maintenance.brakes.catalogue_within",
                "at most \"366d\" is expected (0: only with the generation before)",
            ));
        }
        self.health.check()
    }
}

impl HealthConfig {
    fn check(&self) -> Result<(), ConfigError> {
        if self.command.first().is_some_and(String::is_empty) {
            return Err(ConfigError::wrong(
                "maintenance.health.command",
                "a program and its arguments are expected",
            ));
        }
        // The address may hold a secret: it is not repeated.
        let webhook = reqwest::Url::parse(&self.webhook);
        if !self.webhook.is_empty()
            && !webhook.is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        {
            return Err(ConfigError::wrong(
                "maintenance.health.webhook",
                "an address as \"https://host/path\" is expected",
            ));
        }
        let proxy = reqwest::Url::parse(&self.webhook_proxy);
        let is_proxy = |url: &reqwest::Url| {
            matches!(url.scheme(), "http" | "socks5" | "socks5h")
                && url.has_host()
                && matches!(url.path(), "" | "/")
                && url.query().is_none()
        };
        if !self.webhook_proxy.is_empty() && !proxy.is_ok_and(|url| is_proxy(&url)) {
            return Err(ConfigError::wrong(
                "maintenance.health.webhook_proxy",
                "http://HOST:PORT, socks5://HOST:PORT or nothing is expected",
            ));
        }
        if !(Duration::from_millis(1)..=TELLING_MAX).contains(&self.timeout.0) {
            return Err(ConfigError::wrong(
                "maintenance.health.timeout",
                "more than nothing and at most \"10m\" is expected",
            ));
        }
        Ok(())
    }
}

/// When to stop and ask the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Brakes {
    /// The largest share of a replica that one plan may delete.
    pub share: Percent,
    /// The largest share of a module's distfiles that may be gone from its catalogue, at once or within
    /// `catalogue_within`.
    pub catalogue: Percent,
    /// How far back a catalogue is compared with what it had.
    pub catalogue_within: HumanDuration,
    /// Fewer files than this are never too many.
    pub files_min: u64,
}

impl Default for Brakes {
    fn default() -> Self {
        let catalogue_within = HumanDuration(Duration::from_hours(30 * 24));
        Self { share: Percent(25), catalogue: Percent(30), catalogue_within, files_min: 20 }
    }
}

/// What is a problem, and who is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// A tree whose own timestamp is older is a problem.
    pub tree_age_max: HumanDuration,
    /// A replica that was not heard of for so long is a problem.
    pub replica_silent_max: HumanDuration,
    /// A mirror, or another place that distfiles come from, that failed for so long without one success is
    /// a problem; so is one that fails half of at least 20 requests within an hour.
    pub source_failing: HumanDuration,
    /// Program and arguments, run without a shell whenever a problem comes or goes; what came and went
    /// is on its standard input as JSON.
    pub command: Vec<String>,
    /// An address that is sent the same with POST.
    #[serde(serialize_with = "service_kit::config::serialize_address")]
    pub webhook: String,
    /// A proxy on the way to that, `http://HOST:PORT` or `socks5://HOST:PORT`. Those of the environment are not asked.
    pub webhook_proxy: String,
    /// How long the command or the webhook may take.
    pub timeout: HumanDuration,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            tree_age_max: HumanDuration(Duration::from_hours(36)),
            replica_silent_max: HumanDuration(Duration::from_mins(5)),
            source_failing: HumanDuration(Duration::from_mins(10)),
            command: Vec::new(),
            webhook: String::new(),
            webhook_proxy: String::new(),
            timeout: HumanDuration(Duration::from_secs(10)),
        }
    }
}

/// A share, written `"90%"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Percent(u8);

impl Percent {
    /// From 0 to 100.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl FromStr for Percent {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let digits = text.strip_suffix('%').map(str::trim_end);
        let plain = digits.filter(|digits| digits.bytes().all(|octet| octet.is_ascii_digit()));
        plain
            .and_then(|digits| digits.parse().ok())
            .filter(|percent| *percent <= 100)
            .map(Self)
            .ok_or_else(|| ValueError::new("a share from \"0%\" to \"100%\""))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}%", self.0)
    }
}

/// An `http://` or `https://` address of a gRPC service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint(String);

impl Endpoint {
    /// The address as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Endpoint {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let uri = text.parse::<tonic::transport::Uri>().ok();
        let fits = uri.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        });
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(ValueError::new("an address as \"http://host:port\""))
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Where the index is kept: `"sqlite:///absolute/path"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IndexUrl {
    path: PathBuf,
}

impl IndexUrl {
    /// The SQLite file at this absolute path.
    ///
    /// # Errors
    /// The path is relative: it would depend on where the process was started.
    pub fn from_path(path: &Path) -> Result<Self, ValueError> {
        if path.is_absolute() {
            return Ok(Self { path: path.to_owned() });
        }
        Err(ValueError::new("an absolute path"))
    }

    /// The SQLite file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl FromStr for IndexUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let path = text.strip_prefix("sqlite://").filter(|path| path.starts_with('/') && *path != "/");
        path.map(|path| Self { path: PathBuf::from(path) })
            .ok_or_else(|| ValueError::new("an index as \"sqlite:///absolute/path\""))
    }
}

impl fmt::Display for IndexUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "sqlite://{}", self.path.display())
    }
}

/// A value that is not what its key takes. Whoever read the value says what was found and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct ValueError {
    expected: String,
}

impl ValueError {
    pub(crate) fn new(expected: impl Into<String>) -> Self {
        Self { expected: expected.into() }
    }
}

macro_rules! as_string {
    ($($kind:ty),*) => {$(
        impl TryFrom<String> for $kind {
            type Error = $crate::config::ValueError;
            fn try_from(text: String) -> Result<Self, $crate::config::ValueError> {
                text.parse()
            }
        }
        impl From<$kind> for String {
            fn from(value: $kind) -> Self {
                value.to_string()
            }
        }
    )*};
}
pub(crate) use as_string;

as_string!(Endpoint, IndexUrl, Percent);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages() {
        assert_eq!("90%".parse(), Ok(Percent(90)));
        assert_eq!("5 %".parse::<Percent>().unwrap().to_string(), "5%");
        for wrong in ["", "90", "101%", "-1%", "+1%", "0.5%", "%"] {
            assert!(wrong.parse::<Percent>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn water_that_is_lower_above_is_refused_with_its_key() {
        let config = Config { high_water: Percent(70), ..Config::default() };
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains("maintenance.low_water") && error.contains("70%"), "{error}");
        assert!(Config::default().check().is_ok());
    }

    #[test]
    fn what_could_never_be_told_or_loses_nights_is_refused_with_its_key() {
        let refused = |change: &dyn Fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().err().map(|error| error.to_string()).unwrap_or_default()
        };
        for wrong in ["hooks.example/x?token=s3cret", "ftp://h/s3cret", "https://"] {
            let error = refused(&|config| wrong.clone_into(&mut config.health.webhook));
            assert!(error.contains("maintenance.health.webhook") && !error.contains("s3cret"), "{error}");
        }
        for wrong in ["p:3128", "https://p", "http://p/path", "socks4://p"] {
            let error = refused(&|config| wrong.clone_into(&mut config.health.webhook_proxy));
            assert!(error.contains("maintenance.health.webhook_proxy"), "{wrong}: {error}");
        }
        assert_eq!(refused(&|config| "http://me:x@p:1".clone_into(&mut config.health.webhook_proxy)), "");
        assert_eq!(refused(&|config| "https://h/x?t=1".clone_into(&mut config.health.webhook)), "");
        let timeout = |time| refused(&|config| config.health.timeout = HumanDuration(time));
        assert!(timeout(Duration::ZERO).contains("maintenance.health.timeout"));
        assert!(timeout(Duration::from_hours(1)).contains("maintenance.health.timeout"));
        let error = refused(&|config| config.health.command = vec![String::new()]);
        assert!(error.contains("maintenance.health.command"), "{error}");
        let jitter = |time| refused(&|config| config.schedule.jitter = HumanDuration(time));
        assert!(jitter(Duration::from_hours(13)).contains("maintenance.schedule.jitter"));
        assert_eq!(jitter(Duration::from_hours(12)), "");
    }

    #[test]
    fn index_is_an_absolute_sqlite_file() {
        let index: IndexUrl = "sqlite:///var/lib/x.db".parse().unwrap();
        assert_eq!(index.path(), Path::new("/var/lib/x.db"));
        assert_eq!(index.to_string(), "sqlite:///var/lib/x.db");
        for wrong in ["sqlite://x.db", "sqlite:x.db", "postgres://h/db", "/x.db", "sqlite:///", ""] {
            assert!(wrong.parse::<IndexUrl>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn endpoint_names_scheme_and_host() {
        assert!("http://127.0.0.1:7069".parse::<Endpoint>().is_ok());
        for wrong in ["127.0.0.1:7069", "rsync://host", "http://", "/x", ""] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
    }
}
