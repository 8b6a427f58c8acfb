//! Layered configuration: built-in defaults < file < environment.
//!
//! Start reading at [`Settings`]. `layer` reads each layer into values that remember where they came from,
//! `value` turns such values into a service's own types, `fault` words what can go wrong on the way,
//! `secrets` hides passwords from what is printed, `units` holds the sizes, times and networks that people write.
//!
//! Each layer is checked alone before they are merged, so that a wrong value in the file is named even if
//! a variable happens to hide it today. Only what is *missing* is judged after merging.
//!
//! # Environment
//! `ROOKERY__PROXY__CACHE_DIR` sets `proxy.cache_dir`: the prefix `ROOKERY__`, then the keys in capitals,
//! joined by two underscores. The text is read as whatever the key wants: a text, a whole number, `true` or
//! `false`, a size, a time, or a plain list separated by commas (spaces around a comma are dropped; an empty
//! variable is an empty list, and unsets an optional key). Tables in arrays can only be set in a file.

mod fault;
mod layer;
mod secrets;
mod units;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use config::Value;
use serde::de::DeserializeOwned;

pub use fault::ConfigError;
pub use secrets::{HIDDEN, address_without_secrets, serialize_address, without_passwords};
pub use units::{ByteSize, HumanDuration, Networks, none_if_empty};

use layer::Layer;

/// The sections that some part of Rookery reads; any other name is refused.
pub const SECTIONS: &[&str] = &["sync", "proxy", "maintenance", "grpc", "telemetry", "process"];

/// Where the configuration is looked for if nobody names a file.
const DEFAULT_FILE: &str = "/etc/rookery/rookery.toml";

/// Names the file if the command line doesn't.
const FILE_VARIABLE: &str = "ROOKERY_CONFIG";

/// The layers, lowest first, before any section is read.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    file: Option<PathBuf>,
    layers: Vec<Layer>,
}

/// One value that a layer gives, and which layer that was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Dotted key.
    pub key: String,
    /// The value as TOML writes it, without passwords.
    pub value: String,
    /// `FILE:LINE`, or the environment variable's name.
    pub place: String,
}

impl Settings {
    /// Reads the layers. The file is `explicit`, else `ROOKERY_CONFIG`, else
    /// `/etc/rookery/rookery.toml` if it is there, else none.
    ///
    /// # Errors
    /// The file can't be read or parsed, or names a section that nobody knows.
    pub fn read(explicit: Option<&Path>) -> Result<Self, ConfigError> {
        let named = explicit
            .map(Path::to_owned)
            .or_else(|| std::env::var_os(FILE_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from));
        let path = named.or_else(|| {
            let default = Path::new(DEFAULT_FILE);
            default.exists().then(|| default.to_owned())
        });
        let file = match path {
            Some(path) => {
                let text = std::fs::read_to_string(&path)
                    .map_err(|source| ConfigError::Unreadable { file: path.clone(), source })?;
                Some((path, text))
            }
            None => None,
        };
        Self::from_layers(file, layer::process_environment()?)
    }

    /// The same from a file's name and text, and variables: nothing else is read.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn from_layers(
        file: Option<(PathBuf, String)>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut settings = Self::default();
        if let Some((path, text)) = file {
            settings.layers.push(Layer::from_toml(&path.display().to_string(), &text)?);
            settings.file = Some(path);
        }
        for variable in layer::from_environment(env)? {
            settings.layers.push(variable);
        }
        Ok(settings)
    }

    /// Puts `toml` below all other layers: defaults that depend on how the process was started. `label` is
    /// what errors name in place of a file.
    ///
    /// # Errors
    /// As for a file.
    pub fn with_defaults(mut self, label: &str, toml: &str) -> Result<Self, ConfigError> {
        self.layers.insert(0, Layer::from_toml(label, toml)?);
        Ok(self)
    }

    /// Puts `toml` above all other layers: what the command line says.
    ///
    /// # Errors
    /// As for a file.
    pub fn with_overrides(mut self, label: &str, toml: &str) -> Result<Self, ConfigError> {
        self.layers.push(Layer::from_toml(label, toml)?);
        Ok(self)
    }

    /// The file that was read.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Does any layer say anything about `section`?
    #[must_use]
    pub fn has_section(&self, section: &str) -> bool {
        self.layers.iter().any(|layer| layer.section(section).is_some())
    }

    /// One section (`sync`, `proxy`, `maintenance`, `grpc`, `telemetry`), with `T`'s defaults below it.
    /// `T` refuses unknown keys (`deny_unknown_fields`) and fills in what is not given
    /// (`#[serde(default)]` on the struct).
    ///
    /// # Errors
    /// An unknown key or a bad value, with the file or variable, the key and what was expected.
    pub fn section<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, ConfigError> {
        for layer in &self.layers {
            if let Some(section) = layer.section(name)
                && let Err(fault) = value::read::<T>(section, name)
                && !fault.may_be_completed()
            {
                return Err(fault.into_error(layer.label()));
            }
        }
        let merged = self.merged()?;
        let Some(section) = layer::child(&merged, name) else {
            return Ok(T::default());
        };
        value::read(section, name).map_err(|fault| fault.into_error(&self.place_of_section(name)))
    }

    /// Every value that a layer gives and no higher layer hides, by key.
    ///
    /// # Errors
    /// None in practice: the layers were read before.
    pub fn describe(&self) -> Result<Vec<Given>, ConfigError> {
        let mut given = BTreeMap::new();
        layer::flatten(&self.merged()?, "", &mut given);
        Ok(given.into_values().collect())
    }

    /// Says where `key` was given, in an error that a service made without knowing
    /// ([`ConfigError::wrong`]).
    #[must_use]
    pub fn locate(&self, error: &ConfigError) -> ConfigError {
        let ConfigError::Value { place, key, expected } = error else {
            return ConfigError::Other(error.to_string());
        };
        let place = if place.is_empty() { self.place(key) } else { place.clone() };
        ConfigError::Value { place, key: key.clone(), expected: expected.clone() }
    }

    fn place(&self, key: &str) -> String {
        let merged = self.merged().unwrap_or_default();
        let mut found = Some(&merged);
        for part in key.split('.') {
            found = found.and_then(|value| layer::child(value, part));
        }
        found.and_then(layer::first_origin).map_or_else(|| self.place_of_section(key), str::to_owned)
    }

    fn place_of_section(&self, key: &str) -> String {
        let section = key.split('.').next().unwrap_or(key);
        self.layers
            .iter()
            .find(|layer| layer.section(section).is_some())
            .map_or_else(|| "built-in defaults".to_owned(), |layer| layer.label().to_owned())
    }

    fn merged(&self) -> Result<Value, ConfigError> {
        let mut builder = config::Config::builder();
        for layer in &self.layers {
            builder = builder.add_source(layer.clone());
        }
        let merged = builder.build().map_err(|error| ConfigError::Other(error.to_string()))?;
        Ok(merged.cache)
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}  # {}", self.key, self.value, self.place)
    }
}

#[cfg(test)]
mod tests;
