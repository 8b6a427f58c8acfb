//! Sections, defaults and included files: the file as a whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::lines::{self, Line};
use crate::parameter::{self, Scope, Treatment};
use crate::section::{Reader, Section};
use crate::{Fault, Globals, Module, Note, Place, value};

/// Files that one configuration may consist of.
const FILES_MAX: usize = 256;
/// How deep one may include another.
const DEPTH_MAX: usize = 8;
/// Modules of one configuration.
const MODULES_MAX: usize = 1000;

/// What a configuration refers to outside of itself.
pub trait Surroundings {
    /// Reads a file, or lists a directory.
    ///
    /// # Errors
    /// Why it can't be read, in words.
    fn read(&mut self, path: &str) -> Result<Found, String>;

    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A file's contents.
    File(Vec<u8>),
    /// The names in a directory.
    Directory(Vec<String>),
}

/// A configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RsyncdConf {
    /// What concerns all modules.
    pub globals: Globals,
    /// The modules in the order in which they begin.
    pub modules: Vec<Module>,
    /// What is accepted and has no effect, or a stricter one: each parameter once.
    pub notes: Vec<Note>,
}

impl RsyncdConf {
    /// Reads a file's contents; `file` is how faults call it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(file: &str, octets: &[u8], surroundings: &mut dyn Surroundings) -> Result<Self, Vec<Fault>> {
        let mut loader = Loader::default();
        loader.file(&Arc::from(file), octets, surroundings, 0);
        loader.finish(surroundings)
    }
}

#[derive(Default)]
struct Loader {
    /// The global section, which is also the default of each module that begins.
    defaults: Section,
    modules: Vec<Raw>,
    /// The module that parameters belong to; none for the global section.
    current: Option<usize>,
    files: usize,
    faults: Vec<Fault>,
}

struct Raw {
    name: String,
    place: Place,
    section: Section,
}

impl Loader {
    fn file(&mut self, file: &Arc<str>, octets: &[u8], surroundings: &mut dyn Surroundings, depth: usize) {
        for (place, line) in lines::split(file, octets, &mut self.faults) {
            match line {
                Line::Section(name) => self.section(name, place),
                Line::Parameter { name, value } => self.parameter(&name, value, &place),
                Line::Directive { merges, path } => {
                    self.directive(merges, &path, &place, surroundings, depth);
                }
            }
        }
    }

    fn section(&mut self, name: String, place: Place) {
        if name.eq_ignore_ascii_case("global") {
            self.current = None;
            return;
        }
        if name.contains('/') {
            self.fault(&place, format!("expected a module's name without a slash, found [{name}]"));
        }
        // One that was there before is gone on with.
        self.current = self.modules.iter().position(|module| module.name == name).or_else(|| {
            if self.modules.len() == MODULES_MAX {
                self.fault(&place, format!("expected at most {MODULES_MAX} modules"));
                return None;
            }
            self.modules.push(Raw { name, place, section: self.defaults.clone() });
            Some(self.modules.len() - 1)
        });
    }

    fn parameter(&mut self, name: &str, value: String, place: &Place) {
        let Some(parameter) = parameter::find(name) else {
            self.fault(place, format!("unknown parameter `{name}`"));
            return;
        };
        if let Err(what) = acceptable(parameter, &value) {
            self.fault(place, what);
            return;
        }
        let module = self.current.and_then(|current| self.modules.get_mut(current));
        if module.is_some() && parameter.scope == Scope::Global {
            self.fault(place, format!("`{}` is global: expected it before the first module", parameter.name));
            return;
        }
        module.map_or(&mut self.defaults, |module| &mut module.section).set(parameter, value, place.clone());
    }

    fn directive(
        &mut self,
        merges: bool,
        path: &str,
        place: &Place,
        surroundings: &mut dyn Surroundings,
        depth: usize,
    ) {
        if !path.starts_with('/') {
            self.fault(place, format!("expected an absolute path, found `{path}`"));
            return;
        }
        if depth == DEPTH_MAX {
            self.fault(place, format!("expected files to include each other at most {DEPTH_MAX} deep"));
            return;
        }
        let mut names = match surroundings.read(path) {
            Ok(Found::File(octets)) => {
                self.included(merges, path, &octets, place, surroundings, depth);
                return;
            }
            Ok(Found::Directory(names)) => names,
            Err(error) => {
                self.fault(place, format!("{path}: {error}"));
                return;
            }
        };
        let suffix = if merges { ".inc" } else { ".conf" };
        names.retain(|name| name.ends_with(suffix) && !name.starts_with('.'));
        names.sort();
        for name in names {
            let path = format!("{}/{name}", path.trim_end_matches('/'));
            match surroundings.read(&path) {
                Ok(Found::File(octets)) => self.included(merges, &path, &octets, place, surroundings, depth),
                Ok(Found::Directory(_)) => {}
                Err(error) => self.fault(place, format!("{path}: {error}")),
            }
        }
    }

    /// A merged file is as if it stood in the directive's place; an included one starts with the defaults of now, and
    /// changes nothing for what follows it.
    fn included(
        &mut self,
        merges: bool,
        path: &str,
        octets: &[u8],
        place: &Place,
        surroundings: &mut dyn Surroundings,
        depth: usize,
    ) {
        self.files += 1;
        if self.files > FILES_MAX {
            // Said once is enough.
            if self.files == FILES_MAX + 1 {
                self.fault(place, format!("expected at most {FILES_MAX} files"));
            }
            return;
        }
        let before = (!merges).then(|| (self.defaults.clone(), self.current.take()));
        self.file(&Arc::from(path), octets, surroundings, depth + 1);
        if let Some((defaults, current)) = before {
            (self.defaults, self.current) = (defaults, current);
        }
    }

    fn fault(&mut self, place: &Place, what: impl Into<String>) {
        self.faults.push(Fault::new(place, what));
    }

    fn finish(mut self, surroundings: &mut dyn Surroundings) -> Result<RsyncdConf, Vec<Fault>> {
        let environment = Environment::of(self.sections(), surroundings);
        let mut faults = std::mem::take(&mut self.faults);
        let variables = |name: &str| environment.get(name);
        let mut reader = Reader { section: &self.defaults, variables: &variables, faults: &mut faults };
        let globals = Globals::read(&mut reader);
        let notes = self.notes();
        let mut modules = Vec::new();
        for Raw { name, place, section } in self.modules {
            let variables = |variable: &str| match variable {
                "RSYNC_MODULE_NAME" => Some(name.clone()),
                _ => environment.get(variable),
            };
            let mut reader = Reader { section: &section, variables: &variables, faults: &mut faults };
            modules.push(Module::read(name.clone(), place, &mut reader, surroundings));
        }
        if faults.is_empty() {
            return Ok(RsyncdConf { globals, modules, notes });
        }
        // A default that is wrong is wrong in every module.
        faults.sort_by(|a, b| a.place.cmp(&b.place));
        faults.dedup();
        Err(faults)
    }

    fn sections(&self) -> impl Iterator<Item = &Section> {
        std::iter::once(&self.defaults).chain(self.modules.iter().map(|module| &module.section))
    }

    fn notes(&self) -> Vec<Note> {
        let mut said = BTreeSet::new();
        let mut notes = Vec::new();
        for (name, value, place) in self.sections().flat_map(Section::iter) {
            let why = match parameter::find(name).map(|parameter| parameter.treatment) {
                Some(Treatment::Stricter(why)) => format!("`{name}` is accepted; it is stricter here: {why}"),
                Some(Treatment::NoEffect(why)) => {
                    format!("`{name}` is accepted and has no effect here: {why}")
                }
                Some(Treatment::OneWord(word, why)) if has_others(value, word) => {
                    format!("of `{name}` only `{word}` has an effect, here and in rsync: {why}")
                }
                Some(
                    Treatment::Honoured
                    | Treatment::OneWord(..)
                    | Treatment::Only(..)
                    | Treatment::Refused(_),
                )
                | None => continue,
            };
            if said.insert(name) {
                notes.push(Note { place: place.clone(), what: why });
            }
        }
        notes.sort_by(|a, b| a.place.cmp(&b.place));
        notes
    }
}

/// Whether a value has other words than this one, and this one doesn't stand for them all.
fn has_others(value: &str, word: &str) -> bool {
    !value.is_empty() && !value.split_ascii_whitespace().any(|found| found == word)
}

/// Whether a parameter may have a value at all.
fn acceptable(parameter: &parameter::Parameter, given: &str) -> Result<(), String> {
    let name = parameter.name;
    match parameter.treatment {
        Treatment::Honoured | Treatment::OneWord(..) | Treatment::Stricter(_) | Treatment::NoEffect(_) => {
            Ok(())
        }
        Treatment::Refused(_) if given.is_empty() => Ok(()),
        Treatment::Refused(why) => Err(format!("`{name}` is not supported: {why}")),
        Treatment::Only(wanted, why) => match value::boolean(given) {
            Ok(found) if found == wanted => Ok(()),
            Ok(_) => Err(format!("`{name} = {given}` is not supported: {why}")),
            Err(what) => Err(format!("{name}: {what}")),
        },
    }
}

/// The variables that the values name, looked up once.
struct Environment(Vec<(String, String)>);

impl Environment {
    fn of<'a>(sections: impl Iterator<Item = &'a Section>, surroundings: &dyn Surroundings) -> Self {
        let mut known = Vec::new();
        for section in sections {
            for name in section.variables() {
                if let Some(value) = surroundings.variable(name) {
                    known.push((name.to_owned(), value));
                }
            }
        }
        Self(known)
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }
}
