//! What can be wrong with a configuration, in words for its operator.

use std::fmt;
use std::path::PathBuf;

use config::Value;
use serde::de::{self, Expected, Unexpected};

use super::secrets::without_passwords;
use super::value::is_variable;

/// A wrong configuration. The process exits with 64.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// One value is wrong.
    #[error("{}{key}: {expected}", if place.is_empty() { String::new() } else { format!("{place}: ") })]
    Value {
        /// The file (and line), or the environment variable; empty if not known yet.
        place: String,
        /// Dotted key, as in `proxy.capacity`.
        key: String,
        /// What was expected, and what was found.
        expected: String,
    },
    /// The file is no TOML.
    #[error("{place}: {message}")]
    Syntax {
        /// `FILE:LINE:COLUMN`.
        place: String,
        /// What the parser says.
        message: String,
    },
    /// The file can't be read.
    #[error("{}: can't read the configuration: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl ConfigError {
    /// A value that has the right type and is wrong all the same, found by the service that reads it.
    /// `expected` says what was expected and what was found; the place is filled in by
    /// [`super::Settings::locate`], which `process::run` calls.
    #[must_use]
    pub fn wrong(key: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Value { place: String::new(), key: key.into(), expected: expected.into() }
    }
}

/// What went wrong while reading one value, before place and key are known.
#[derive(Debug)]
pub(super) struct Fault {
    place: Option<String>,
    key: Option<String>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Expected something, found something.
    Mismatch { expected: String, found: Option<String> },
    /// Anything a type's own parser says.
    Message(String),
    /// A key that isn't known here.
    Unknown { known: &'static [&'static str] },
    /// A required key that this layer doesn't give.
    Missing { field: &'static str },
}

impl Fault {
    fn new(kind: Kind) -> Self {
        Self { place: None, key: None, kind }
    }

    pub(super) fn mismatch(expected: &str, value: &Value) -> Self {
        Self::new(Kind::Mismatch { expected: expected.to_owned(), found: Some(found(value)) })
    }

    /// The same with what was found, where that is a name and not a value.
    pub(super) fn named(mut self, name: &str) -> Self {
        if let Kind::Mismatch { found, .. } = &mut self.kind {
            *found = Some(format!("`{name}`"));
        }
        self
    }

    /// Says where the fault is, unless a deeper value said so already.
    pub(super) fn at(mut self, value: &Value, key: &str) -> Self {
        if self.key.is_none() {
            self.key = Some(match &self.kind {
                Kind::Missing { field } => format!("{key}.{field}"),
                Kind::Mismatch { .. } | Kind::Message(_) | Kind::Unknown { .. } => key.to_owned(),
            });
            self.place = super::layer::first_origin(value).map(str::to_owned);
            let scalar = !matches!(value.kind, config::ValueKind::Table(_) | config::ValueKind::Array(_));
            match &mut self.kind {
                Kind::Mismatch { found: slot @ None, .. } => *slot = Some(found(value)),
                Kind::Message(message) if scalar => {
                    self.kind = Kind::Mismatch { expected: in_words(message), found: Some(found(value)) };
                }
                Kind::Mismatch { .. } | Kind::Message(_) | Kind::Unknown { .. } | Kind::Missing { .. } => {}
            }
        }
        self
    }

    /// Could a layer above this one make it right? What is missing, and what a whole table's own check
    /// says, is judged again when all layers are merged.
    pub(super) fn may_be_completed(&self) -> bool {
        matches!(self.kind, Kind::Missing { .. } | Kind::Message(_))
    }

    pub(super) fn into_error(self, place_otherwise: &str) -> ConfigError {
        let key = self.key.unwrap_or_default();
        let last = key.rsplit('.').next().unwrap_or(&key);
        let expected = match self.kind {
            Kind::Mismatch { expected, found: Some(found) } => format!("expected {expected}, found {found}"),
            Kind::Mismatch { expected, found: None } => format!("expected {expected}"),
            Kind::Message(message) => message,
            Kind::Unknown { known } => unknown("key", last, known),
            Kind::Missing { .. } => "expected a value, found none: the key is required here".to_owned(),
        };
        ConfigError::Value { place: self.place.unwrap_or_else(|| place_otherwise.to_owned()), key, expected }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Kind::Message(message.to_string()))
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_value(unexpected, expected)
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Kind::Mismatch { expected: in_words(&expected.to_string()), found: None })
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::new(Kind::Message(format!("expected {expected}, found {length} elements")))
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        let hint =
            closest(variant, known).map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
        let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
        let expected = match known.as_slice() {
            [one] => format!("{one}{hint}"),
            _ => format!("one of {}{hint}", known.join(", ")),
        };
        Self::new(Kind::Mismatch { expected, found: None })
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self::new(Kind::Unknown { known })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Kind::Missing { field })
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(Kind::Message(format!("`{field}` is given twice")))
    }
}

/// "unknown key", with the nearest known one if it is near.
pub(super) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    match closest(name, known) {
        Some(near) => format!("unknown {what}; did you mean `{near}`?"),
        None if known.is_empty() => format!("unknown {what}; none is expected here"),
        None => format!("unknown {what}; expected one of {}", known.join(", ")),
    }
}

/// Rust's names for what a value may be, in an operator's words.
fn in_words(expected: &str) -> String {
    match expected {
        "u8" => "a whole number from 0 to 255".to_owned(),
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" => "a whole number from 0 to 4294967295".to_owned(),
        "u64" | "usize" | "i64" | "isize" | "i32" => "a whole number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "path string" => "a text".to_owned(),
        "a sequence" => "a list".to_owned(),
        "socket address" | "invalid socket address syntax" => {
            r#"an address and port such as "127.0.0.1:8080""#.to_owned()
        }
        "IP address" | "invalid IP address syntax" => r#"an address such as "10.13.18.1""#.to_owned(),
        other => other.strip_prefix("expected ").unwrap_or(other).to_owned(),
    }
}

/// The value as its operator sees it, shortened and without passwords: this is logged.
fn found(value: &Value) -> String {
    use config::ValueKind;
    const CHARS_MAX: usize = 60;
    match &value.kind {
        ValueKind::Nil => "nothing".to_owned(),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::String(text) => {
            let text = without_passwords(text);
            let shown: String = text.chars().take(CHARS_MAX).collect();
            let more = if shown.len() < text.len() { "…" } else { "" };
            let kind = if is_variable(value) { "" } else { "the text " };
            format!("{kind}{shown:?}{more}")
        }
        ValueKind::Boolean(_)
        | ValueKind::I64(_)
        | ValueKind::I128(_)
        | ValueKind::U64(_)
        | ValueKind::U128(_)
        | ValueKind::Float(_) => value.kind.to_string(),
    }
}

/// The known name that `name` was probably meant to be: at most two letters away, and fewer than half.
fn closest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (edit_distance(name, candidate), *candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 2 && *distance * 2 < candidate.len())
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, drop or change (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
