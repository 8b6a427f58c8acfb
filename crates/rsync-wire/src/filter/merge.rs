//! Rules that a directory brings along: `:` rules name a file that is looked for in each directory (6.2). The file is
//! a node of the tree that is served, never one of the server's own.

use super::pattern::Subject;
use super::rule::{self, Inherited, Parsed, Rule, SIDES_TWICE};
use super::{FilterList, Item, MatchBudget};
use crate::limits::{MERGE_FILE_LEN_MAX, RULES_MAX};
use crate::options::join;
use crate::{ExitCode, NodeKind, Refusal, TreeView, WireError};

/// How a line of a merge file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum LineForm {
    /// A whole rule.
    Rules,
    /// A pattern that hides (`-`), or shows (`+`).
    Patterns {
        /// A match hides the name.
        hides: bool,
    },
}

/// A rule that names a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Merge {
    pub(super) name: Vec<u8>,
    /// It is also looked for above the transfer root (a leading slash).
    pub(super) above_root: bool,
    /// Directories below have the rules too.
    pub(super) inherits: bool,
    pub(super) form: LineForm,
    /// White space ends a rule, not only a line end.
    pub(super) words: bool,
    pub(super) inherited: Inherited,
}

/// The rules of one file.
#[derive(Debug, Default)]
struct Found {
    rules: Vec<Rule>,
    /// `!`: what the directories above say does not count.
    clears: bool,
}

/// The rules that the directories from the top to the current one bring along.
#[derive(Debug, Default)]
pub struct LocalRules {
    /// For each directory, what each `:` rule found in it.
    levels: Vec<Vec<Found>>,
    count: usize,
}

impl LocalRules {
    /// Starts over at a transfer root, with what is above it, and in it if it is not to be entered itself.
    ///
    /// # Errors
    /// As [`Self::enter`].
    pub fn start(
        &mut self,
        filters: &FilterList,
        tree: &impl TreeView,
        root: &[u8],
        with_root: bool,
    ) -> Result<(), WireError> {
        self.levels.clear();
        self.count = 0;
        if !filters.merges().any(|merge| merge.above_root) {
            return Ok(());
        }
        let mut above = Vec::new();
        for part in root.split(|&o| o == b'/').filter(|part| !part.is_empty()) {
            self.read(filters, tree, &above, |merge| merge.above_root)?;
            above = join(&above, part);
        }
        if with_root { self.read(filters, tree, root, |merge| merge.above_root) } else { Ok(()) }
    }

    /// Takes in what a directory of the tree brings along. Costs nothing without `:` rules.
    ///
    /// # Errors
    /// [`WireError::Refused`] for a file that can't be read or understood, or a limit.
    pub fn enter(
        &mut self,
        filters: &FilterList,
        tree: &impl TreeView,
        path: &[u8],
    ) -> Result<(), WireError> {
        if filters.has_merges() { self.read(filters, tree, path, |_| true) } else { Ok(()) }
    }

    /// Leaves the directory that was entered last.
    pub fn leave(&mut self, filters: &FilterList) {
        if filters.has_merges() {
            let left = self.levels.pop().unwrap_or_default();
            self.count -= left.iter().map(|found| found.rules.len()).sum::<usize>();
        }
    }

    fn read(
        &mut self,
        filters: &FilterList,
        tree: &impl TreeView,
        path: &[u8],
        wanted: impl Fn(&Merge) -> bool,
    ) -> Result<(), WireError> {
        let mut level = Vec::new();
        for merge in filters.merges() {
            let found = if wanted(merge) { read_file(merge, tree, path)? } else { Found::default() };
            self.count += found.rules.len();
            if self.count > RULES_MAX {
                return Err(WireError::Limit { what: "the number of filter rules", limit: RULES_MAX });
            }
            level.push(found);
        }
        self.levels.push(level);
        Ok(())
    }

    /// What the rules of the `number`th `:` rule say about a name: hidden, shown, or nothing.
    pub(super) fn decide(
        &self,
        number: usize,
        merge: &Merge,
        subject: Subject<'_>,
        budget: &mut MatchBudget,
    ) -> Result<Option<bool>, WireError> {
        for level in self.levels.iter().rev() {
            let Some(found) = level.get(number) else { continue };
            for rule in &found.rules {
                if rule.applies(subject, budget)? {
                    return Ok(Some(rule.hides));
                }
            }
            if found.clears || !merge.inherits {
                break;
            }
        }
        Ok(None)
    }
}

impl FilterList {
    fn merges(&self) -> impl Iterator<Item = &Merge> {
        self.items.iter().filter_map(|item| match item {
            Item::Merge(merge) => Some(merge),
            Item::Rule(_) => None,
        })
    }

    fn has_merges(&self) -> bool {
        self.merges().next().is_some()
    }
}

fn read_file(merge: &Merge, tree: &impl TreeView, directory: &[u8]) -> Result<Found, WireError> {
    let path = join(directory, &merge.name);
    let Some(id) = tree.lookup(&path) else { return Ok(Found::default()) };
    let node = tree.node(id);
    if node.kind != NodeKind::File {
        return Ok(Found::default());
    }
    let shown = crate::error::printable(&path);
    let len = usize::try_from(node.size).ok().filter(|&len| len <= MERGE_FILE_LEN_MAX);
    let len =
        len.ok_or(WireError::Limit { what: "the length of a filter file", limit: MERGE_FILE_LEN_MAX })?;
    let mut text = vec![0; len];
    let mut at = 0;
    while at < len {
        match tree.read_at(id, at as u64, &mut text[at..]) {
            Ok(0) | Err(_) => {
                let text = format!(
                    "rsync: [sender] failed to open exclude file \"/{shown}\": Input/output error (5)"
                );
                return Err(WireError::Refused(Refusal::new(ExitCode::FileIo, text)));
            }
            Ok(more) => at += more,
        }
    }
    parse(merge, &text, directory).map_err(|(line, error)| {
        let what = if error == SIDES_TWICE {
            "specified-side merge file contains specified-side filter"
        } else {
            "Unknown filter rule"
        };
        let text = format!("{what}: <rule from /{shown} line {line}>");
        WireError::Refused(Refusal::new(ExitCode::Usage, text))
    })
}

/// The rules of a file, or the number of the line that is none and why.
fn parse(merge: &Merge, text: &[u8], directory: &[u8]) -> Result<Found, (usize, WireError)> {
    let mut found = Found::default();
    for (number, line) in (1..).zip(text.split(|&o| matches!(o, b'\n' | b'\r' | 0))) {
        let is_blank = |o: &u8| o.is_ascii_whitespace();
        let rules: Vec<&[u8]> = if merge.words { line.split(is_blank).collect() } else { vec![line] };
        for rule in rules {
            let is_comment = !merge.words && matches!(rule.first(), Some(b'#' | b';'));
            if rule.is_empty() || is_comment {
                continue;
            }
            let parsed = match merge.form {
                LineForm::Patterns { .. } if rule == b"!" => Ok(Parsed::Clear),
                LineForm::Patterns { hides } => rule::of_pattern(rule, hides, merge.inherited),
                LineForm::Rules => rule::parse(rule, merge.inherited),
            };
            match parsed.map_err(|error| (number, error))? {
                Parsed::Rule(rule) => found.rules.push(rule.below(directory)),
                Parsed::Clear => found = Found { rules: Vec::new(), clears: true },
                Parsed::Ignored => {}
                // A file that names another one: there is no end to that.
                Parsed::Merge { .. } | Parsed::Cvs(_) => {
                    return Err((number, WireError::Malformed("filter rule that names further ones")));
                }
            }
        }
    }
    Ok(found)
}
