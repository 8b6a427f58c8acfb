//! The parameters of one section, as texts with their places.

use std::collections::BTreeMap;

use crate::parameter::Parameter;
use crate::{Fault, Place, expand, value};

/// What was given, by the parameter's name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Section {
    given: BTreeMap<&'static str, (String, Place)>,
}

impl Section {
    /// The last one of a name counts.
    pub(crate) fn set(&mut self, parameter: &Parameter, value: String, place: Place) {
        self.given.insert(parameter.name, (value, place));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &str, &Place)> {
        self.given.iter().map(|(&name, (value, place))| (name, value.as_str(), place))
    }
}

/// Reads values of a section, and collects what is wrong with them.
pub(crate) struct Reader<'a> {
    pub(crate) section: &'a Section,
    pub(crate) variables: &'a dyn Fn(&str) -> Option<String>,
    pub(crate) faults: &'a mut Vec<Fault>,
}

impl Reader<'_> {
    pub(crate) fn place(&self, name: &str) -> Option<Place> {
        self.section.given.get(name).map(|(_, place)| place.clone())
    }

    /// A text with its variables expanded; an empty one counts as not given.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        let (value, place) = self.section.given.get(name)?;
        match expand::expand(value, self.variables) {
            Ok(text) => Some(text).filter(|text| !text.is_empty()),
            Err(variable) => {
                let what = format!(
                    "{name}: %{variable}% is only known while a client is connected, and can't be used here"
                );
                self.faults.push(Fault::new(place, what));
                None
            }
        }
    }

    /// Reads a value; a fault counts as not given.
    pub(crate) fn read<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(name)?;
        match read(&text) {
            Ok(value) => Some(value),
            Err(what) => {
                self.fault(name, format!("{name}: {what}"));
                None
            }
        }
    }

    pub(crate) fn boolean(&mut self, name: &str) -> Option<bool> {
        self.read(name, value::boolean)
    }

    /// One for which there is a word for not being given.
    pub(crate) fn perhaps(&mut self, name: &str) -> Option<bool> {
        self.read(name, value::perhaps).flatten()
    }

    /// An absolute path.
    pub(crate) fn path(&mut self, name: &str) -> Option<String> {
        self.read(name, |text| {
            if text.starts_with('/') {
                Ok(text.to_owned())
            } else {
                Err(format!("expected an absolute path, found `{text}`"))
            }
        })
    }

    pub(crate) fn fault(&mut self, name: &str, what: String) {
        if let Some(place) = self.place(name) {
            self.faults.push(Fault { place, what });
        }
    }
}

impl Section {
    /// Everything in the values that could name a variable.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        self.given.values().flat_map(|(value, _)| value.split('%').skip(1))
    }
}
