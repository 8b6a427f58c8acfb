//! What part of a name a pattern is compared with (6.3).

use super::{MatchBudget, glob::Glob};
use crate::WireError;
use memchr::{memchr_iter, memrchr, memrchr_iter};
use std::borrow::Cow;

/// A name to test.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The name in the file list: no leading slash.
    pub name: &'a [u8],
    /// Where the transfer root is, below the module root; empty for the module root itself.
    pub root: &'a [u8],
    /// It is a directory.
    pub is_directory: bool,
}

/// A pattern, taken apart once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "each is one independent trait of a pattern")]
pub(super) struct Pattern {
    /// Without a leading and a trailing slash.
    text: Vec<u8>,
    /// The compiled text, if it has wildcards.
    glob: Option<Glob>,
    /// It started with a slash: match from the start of the name.
    anchored: bool,
    /// It ended in a slash.
    directories_only: bool,
    /// Slashes, a leading one included, a trailing one not.
    slashes: usize,
    /// It has `**` somewhere.
    spans: bool,
    starts_spanning: bool,
    /// It ends in `***`: it matches a directory and all below it.
    ends_triple: bool,
    /// Match the path from the module root (modifier `/`).
    from_module: bool,
    /// The directory below the module root that an anchored pattern starts at, if it is not the transfer root.
    anchored_at: Option<Vec<u8>>,
}

impl Pattern {
    pub(super) fn new(pattern: &[u8], from_module: bool) -> Self {
        let directories_only = pattern.len() > 1 && pattern.ends_with(b"/");
        let pattern = if directories_only { &pattern[..pattern.len() - 1] } else { pattern };
        let wild = pattern.iter().any(|o| b"*?[".contains(o));
        let text = pattern.strip_prefix(b"/").unwrap_or(pattern);
        Self {
            text: text.to_vec(),
            glob: wild.then(|| Glob::new(text)),
            anchored: pattern.starts_with(b"/"),
            directories_only,
            slashes: memchr_iter(b'/', pattern).count(),
            spans: pattern.windows(2).any(|pair| pair == b"**"),
            starts_spanning: pattern.starts_with(b"**"),
            ends_triple: pattern.ends_with(b"***"),
            from_module,
            anchored_at: None,
        }
    }

    /// Makes it a pattern of a directory's own rules.
    pub(super) fn anchor_at(&mut self, directory: &[u8]) {
        self.anchored_at = (self.anchored && !self.from_module).then(|| directory.to_vec());
    }

    pub(super) fn matches(&self, subject: Subject<'_>, budget: &mut MatchBudget) -> Result<bool, WireError> {
        budget.spend(1)?;
        if self.directories_only && !subject.is_directory {
            return Ok(false);
        }
        let text = match &self.anchored_at {
            Some(directory) => match below(directory, subject) {
                Some(rest) => self.finish(rest.into(), subject),
                None => return Ok(false),
            },
            None => self.text_of(subject),
        };
        match &self.glob {
            None if self.anchored => Ok(*text == *self.text),
            None => Ok(ends_with_path(&text, &self.text)),
            Some(glob) => self.matches_glob(glob, &text, budget),
        }
    }

    /// The part of the name that counts: its last component, all of it, or its path from the module root.
    fn text_of<'a>(&self, subject: Subject<'a>) -> Cow<'a, [u8]> {
        let name = subject.name;
        let text = if self.slashes == 0 && !self.spans {
            Cow::Borrowed(last_component(name))
        } else if self.from_module && !subject.root.is_empty() {
            Cow::Owned([subject.root, b"/", name].concat())
        } else {
            Cow::Borrowed(name)
        };
        self.finish(text, subject)
    }

    fn finish<'a>(&self, mut text: Cow<'a, [u8]>, subject: Subject<'_>) -> Cow<'a, [u8]> {
        if self.starts_spanning && text.first() != Some(&b'/') {
            text.to_mut().insert(0, b'/');
        }
        if self.ends_triple && subject.is_directory {
            text.to_mut().push(b'/');
        }
        text
    }

    fn matches_glob(&self, glob: &Glob, text: &[u8], budget: &mut MatchBudget) -> Result<bool, WireError> {
        if self.anchored || (self.slashes == 0 && !self.spans) || self.starts_spanning {
            return glob.matches(text, budget);
        }
        if !self.spans {
            // Exactly as many last components as the pattern has.
            let start = last_components_start(text, self.slashes + 1);
            return start.map_or(Ok(false), |start| glob.matches(&text[start..], budget));
        }
        let after_slashes = (1..text.len()).filter(|&at| text[at - 1] == b'/');
        for start in std::iter::once(0).chain(after_slashes) {
            if glob.matches(&text[start..], budget)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A name's path below a directory, both from the module root; `None` if it is not below it.
fn below(directory: &[u8], subject: Subject<'_>) -> Option<Vec<u8>> {
    let path = crate::options::join(subject.root, subject.name);
    if directory.is_empty() {
        return Some(path);
    }
    let rest = path.strip_prefix(directory)?.strip_prefix(b"/")?;
    Some(rest.to_vec())
}

fn last_component(name: &[u8]) -> &[u8] {
    memrchr(b'/', name).map_or(name, |slash| &name[slash + 1..])
}

/// Where the last `count` components start; `None` if there are fewer.
fn last_components_start(text: &[u8], count: usize) -> Option<usize> {
    if let Some(slash) = memrchr_iter(b'/', text).nth(count - 1) {
        return Some(slash + 1);
    }
    (memchr_iter(b'/', text).count() + 1 == count).then_some(0)
}

/// Whether `text` is `suffix`, or ends with a slash and it.
fn ends_with_path(text: &[u8], suffix: &[u8]) -> bool {
    text.strip_suffix(suffix).is_some_and(|before| before.is_empty() || before.ends_with(b"/"))
}
