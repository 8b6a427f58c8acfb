//! One layer: values that remember the place they came from.

use std::collections::BTreeMap;

use config::{Map, Source, Value, ValueKind};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{self, ConfigError};
use super::secrets::{address_without_secrets, without_passwords};
use super::value::VARIABLE;
use super::{Given, SECTIONS};

/// Variables that begin so are configuration.
const PREFIX: &str = "ROOKERY__";

/// Separates the keys in a variable's name.
const SEPARATOR: &str = "__";

/// A file, or one environment variable.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    label: String,
    root: Map<String, Value>,
}

impl Layer {
    /// A file's text; `label` is its name.
    pub(super) fn from_toml(label: &str, text: &str) -> Result<Self, ConfigError> {
        let lines = Lines::new(label, text);
        let table = DeTable::parse(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            ConfigError::Syntax {
                place: lines.place_with_column(offset),
                message: error.message().to_owned(),
            }
        })?;
        let mut root = Map::new();
        for (name, value) in table.get_ref() {
            let place = lines.place(name.span().start);
            check_section(name.get_ref(), &place)?;
            let value = lines.value(value)?;
            if !matches!(value.kind, ValueKind::Table(_)) {
                return Err(ConfigError::Value {
                    place,
                    key: name.get_ref().to_string(),
                    expected: format!("expected a section, `[{}]`, found a value", name.get_ref()),
                });
            }
            root.insert(name.get_ref().to_string(), value);
        }
        Ok(Self { label: label.to_owned(), root })
    }

    /// What errors name if nothing nearer is known.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    pub(super) fn section(&self, name: &str) -> Option<&Value> {
        self.root.get(name)
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.root.clone())
    }
}

/// The configuration variables of this process.
pub(super) fn process_environment() -> Result<Vec<(String, String)>, ConfigError> {
    std::env::vars_os()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text)))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .map(|(name, text)| match text.into_string() {
            Ok(text) => Ok((name, text)),
            Err(_) => Err(ConfigError::Syntax {
                place: format!("{VARIABLE}{name}"),
                message: "expected UTF-8, found other octets".to_owned(),
            }),
        })
        .collect()
}

/// A layer for each variable that is configuration, by name.
pub(super) fn from_environment(
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<Layer>, ConfigError> {
    let variables: BTreeMap<_, _> = env.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    variables.into_iter().map(|(name, text)| from_variable(&name, text)).collect()
}

fn from_variable(name: &str, text: String) -> Result<Layer, ConfigError> {
    let place = format!("{VARIABLE}{name}");
    let keys: Vec<String> =
        name.trim_start_matches(PREFIX).split(SEPARATOR).map(str::to_ascii_lowercase).collect();
    let Some((section, keys)) = keys.split_first() else {
        return Err(ConfigError::Other(format!("{place}: names no key")));
    };
    check_section(section, &place)?;
    if keys.is_empty() || keys.iter().any(String::is_empty) {
        return Err(ConfigError::Value {
            place,
            key: section.clone(),
            expected: format!(
                "expected the name of one key, as in {PREFIX}{}{SEPARATOR}KEY",
                section.to_ascii_uppercase()
            ),
        });
    }
    let leaf = Value::new(Some(&place), ValueKind::String(text));
    let value = keys.iter().rev().fold(leaf, |inner, key| {
        Value::new(Some(&place), ValueKind::Table(Map::from([(key.clone(), inner)])))
    });
    Ok(Layer { label: place, root: Map::from([(section.clone(), value)]) })
}

fn check_section(name: &str, place: &str) -> Result<(), ConfigError> {
    if SECTIONS.contains(&name) {
        return Ok(());
    }
    Err(ConfigError::Value {
        place: place.to_owned(),
        key: name.to_owned(),
        expected: fault::unknown("section", name, SECTIONS),
    })
}

/// A table's child.
pub(super) fn child<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    if let ValueKind::Table(table) = &value.kind { table.get(key) } else { None }
}

/// Where a value came from; of a merged table, where its first child (by key) came from.
pub(super) fn first_origin(value: &Value) -> Option<&str> {
    if let Some(origin) = value.origin() {
        return Some(origin);
    }
    if let ValueKind::Table(table) = &value.kind {
        let sorted: BTreeMap<_, _> = table.iter().collect();
        return sorted.into_values().find_map(first_origin);
    }
    None
}

/// Each value below `value`, by dotted key. Arrays count as one value.
pub(super) fn flatten(value: &Value, key: &str, given: &mut BTreeMap<String, Given>) {
    if let ValueKind::Table(table) = &value.kind {
        for (name, child) in table {
            let dotted = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            flatten(child, &dotted, given);
        }
        return;
    }
    let place = value.origin().unwrap_or_default().to_owned();
    // Whoever knows a webhook's address may use it, wherever in it the secret is.
    let value = if let (ValueKind::String(address), true) = (&value.kind, key.ends_with(".webhook")) {
        toml::Value::String(address_without_secrets(address)).to_string()
    } else {
        in_toml(value)
    };
    given.insert(key.to_owned(), Given { key: key.to_owned(), value, place });
}

fn in_toml(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => toml::Value::String(without_passwords(text)).to_string(),
        ValueKind::Array(items) => {
            format!("[{}]", items.iter().map(in_toml).collect::<Vec<_>>().join(", "))
        }
        ValueKind::Table(table) => {
            let sorted: BTreeMap<_, _> = table.iter().collect();
            let entries: Vec<_> =
                sorted.into_iter().map(|(key, value)| format!("{key} = {}", in_toml(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        ValueKind::Nil
        | ValueKind::Boolean(_)
        | ValueKind::I64(_)
        | ValueKind::I128(_)
        | ValueKind::U64(_)
        | ValueKind::U128(_)
        | ValueKind::Float(_) => value.kind.to_string(),
    }
}

/// Turns octet offsets into places, and parsed TOML into values that know theirs.
struct Lines<'a> {
    label: &'a str,
    text: &'a str,
}

impl<'a> Lines<'a> {
    fn new(label: &'a str, text: &'a str) -> Self {
        Self { label, text }
    }

    fn place(&self, offset: usize) -> String {
        format!("{}:{}", self.label, self.line_column(offset).0)
    }

    fn place_with_column(&self, offset: usize) -> String {
        let (line, column) = self.line_column(offset);
        format!("{}:{line}:{column}", self.label)
    }

    fn line_column(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
        (line, column)
    }

    fn value(&self, value: &Spanned<DeValue<'_>>) -> Result<Value, ConfigError> {
        let place = self.place(value.span().start);
        let kind = match value.get_ref() {
            DeValue::String(text) => ValueKind::String(text.to_string()),
            DeValue::Boolean(flag) => ValueKind::Boolean(*flag),
            DeValue::Datetime(time) => ValueKind::String(time.to_string()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map(ValueKind::I64)
                .map_err(|_| self.too_large(value.span().start))?,
            DeValue::Float(number) => number
                .as_str()
                .parse()
                .map(ValueKind::Float)
                .map_err(|_| self.too_large(value.span().start))?,
            DeValue::Array(items) => {
                ValueKind::Array(items.iter().map(|item| self.value(item)).collect::<Result<_, _>>()?)
            }
            DeValue::Table(table) => {
                let mut map = Map::new();
                for (key, value) in table {
                    map.insert(key.get_ref().to_string(), self.value(value)?);
                }
                ValueKind::Table(map)
            }
        };
        Ok(Value::new(Some(&place), kind))
    }

    fn too_large(&self, offset: usize) -> ConfigError {
        ConfigError::Syntax {
            place: self.place_with_column(offset),
            message: "the number doesn't fit into 64 bits".to_owned(),
        }
    }
}
