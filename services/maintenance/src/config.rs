//! The `[maintenance]` section.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::Time;
use serde::{Deserialize, Serialize};
use service_kit::config::HumanDuration;

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
    /// How long a blob stays after the last module stopped referring to it, and after anybody last asked
    /// for it.
    pub unreferenced_grace: HumanDuration,
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
            lease: HumanDuration(Duration::from_secs(30)),
        }
    }
}

/// What happens by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Publish every module, then evict.
    pub nightly: Nightly,
}

/// A time of day in the host's time zone, or never. Written `"03:30"` or `"off"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Nightly {
    /// Only by command.
    Off,
    /// Every day at this time.
    At(Time),
}

impl Default for Nightly {
    fn default() -> Self {
        Self::At(Time::constant(3, 30, 0, 0))
    }
}

impl FromStr for Nightly {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let wrong = || ValueError { expected: "a time of day as \"HH:MM\", from 00:00 to 23:59, or \"off\"" };
        let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
        let number = |digits: &str| {
            let plain = (1..=2).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit());
            plain.then(|| digits.parse::<i8>().ok()).flatten()
        };
        let (hour, minute) = number(hour).zip(number(minute)).ok_or_else(wrong)?;
        Time::new(hour, minute, 0, 0).map(Self::At).map_err(|_| wrong())
    }
}

impl fmt::Display for Nightly {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => out.write_str("off"),
            Self::At(time) => write!(out, "{:02}:{:02}", time.hour(), time.minute()),
        }
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
            Err(ValueError { expected: "an address as \"http://host:port\"" })
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
        Err(ValueError { expected: "an absolute path" })
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
            .ok_or(ValueError { expected: "an index as \"sqlite:///absolute/path\"" })
    }
}

impl fmt::Display for IndexUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "sqlite://{}", self.path.display())
    }
}

/// A value that is not what its key takes. Whoever read the value says what was found and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct ValueError {
    expected: &'static str,
}

macro_rules! as_string {
    ($($kind:ty),*) => {$(
        impl TryFrom<String> for $kind {
            type Error = ValueError;
            fn try_from(text: String) -> Result<Self, ValueError> {
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
as_string!(Nightly, Endpoint, IndexUrl);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nightly_takes_times_of_day_and_off() {
        assert_eq!("03:30".parse(), Ok(Nightly::default()));
        assert_eq!("off".parse(), Ok(Nightly::Off));
        assert_eq!("23:59".parse::<Nightly>().unwrap().to_string(), "23:59");
        for wrong in ["", "3", "24:00", "12:60", "+3:30", "03:30:00", "003:30", "noon", "03:-1"] {
            let error = wrong.parse::<Nightly>().unwrap_err().to_string();
            assert!(error.contains("HH:MM"), "{wrong:?}: {error}");
        }
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
