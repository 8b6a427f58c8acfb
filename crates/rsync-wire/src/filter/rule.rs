//! The grammar of one rule (6.2): a type, modifiers, one space, a pattern.

use super::merge::{LineForm, Merge};
use super::pattern::{Pattern, Subject};
use super::{MatchBudget, glob};
use crate::limits::RULE_WILDCARDS_MAX;
use crate::{ExitCode, Refusal, WireError};

/// A rule that says something about what is sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Rule {
    /// A match hides the name; otherwise it shows it.
    pub(super) hides: bool,
    /// The rule applies to what the pattern does not match.
    negated: bool,
    pattern: Pattern,
}

impl Rule {
    pub(super) fn applies(&self, subject: Subject<'_>, budget: &mut MatchBudget) -> Result<bool, WireError> {
        // A pattern for directories does not match other things; the negation comes after that.
        Ok(self.pattern.matches(subject, budget)? != self.negated)
    }

    /// The same rule as that of a directory: a leading slash means that directory.
    pub(super) fn below(mut self, directory: &[u8]) -> Self {
        self.pattern.anchor_at(directory);
        self
    }
}

/// What a merge file's rule says for all rules of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Inherited {
    pub(super) sides: Sides,
    /// They are compared with paths from the module's root.
    pub(super) from_module: bool,
}

/// Whom the rules of a merge file are for, if it says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Sides {
    pub(super) sender: bool,
    pub(super) receiver: bool,
}

impl Sides {
    fn any(self) -> bool {
        self.sender || self.receiver
    }
}

/// A rule says whom it is for, although the file that it is from has said so.
pub(super) const SIDES_TWICE: WireError = WireError::Malformed("filter rule with sides of its own");

/// What one rule comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Rule(Rule),
    /// Forget all rules so far.
    Clear,
    /// It concerns the receiver only.
    Ignored,
    /// More rules are in a file of each directory.
    Merge {
        merge: Merge,
        /// The file itself is hidden.
        hides_itself: bool,
    },
    /// The patterns that CVS ignores.
    Cvs(Vec<Rule>),
}

/// What CVS ignores, as the manual of rsync lists it.
const CVS_PATTERNS: &str = "RCS SCCS CVS CVS.adm RCSLOG cvslog.* tags TAGS .make.state .nse_depend *~ #* .#* ,* _$* *$ \
    *.old *.bak *.BAK *.orig *.rej .del-* *.a *.olb *.o *.obj *.so *.exe *.Z *.elc *.ln core .svn/ .git/ .hg/ .bzr/";

#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is one independent modifier of a rule")]
struct Modifiers {
    negated: bool,
    from_module: bool,
    xattr: bool,
    sides: Sides,
    cvs: bool,
    hides_itself: bool,
    no_inherit: bool,
    words: bool,
    patterns: Option<bool>,
}

impl Modifiers {
    fn read(text: &[u8], mut sides: Sides, is_merge: bool) -> Result<Self, WireError> {
        let mut read = Self::default();
        for modifier in text {
            match modifier {
                b's' => sides.sender = true,
                b'r' => sides.receiver = true,
                b'p' => {}
                b'x' => read.xattr = true,
                b'/' => read.from_module = true,
                b'C' => read.cvs = true,
                b'!' if !is_merge => read.negated = true,
                b'e' if is_merge => read.hides_itself = true,
                b'n' if is_merge => read.no_inherit = true,
                b'w' if is_merge => read.words = true,
                b'-' if is_merge => read.patterns = Some(true),
                b'+' if is_merge => read.patterns = Some(false),
                _ => return Err(WireError::Malformed("filter modifier")),
            }
        }
        Ok(Self { sides, ..read })
    }

    fn is_for_sender(&self) -> bool {
        !self.xattr && (self.sides.sender || !self.sides.receiver)
    }
}

/// Reads one rule; `inherited` is what the file that it is from says.
pub(super) fn parse(text: &[u8], inherited: Inherited) -> Result<Parsed, WireError> {
    let Inherited { sides, from_module } = inherited;
    let (kind, rest) = split_type(text)?;
    let (hides, kind_sides) = match kind {
        Kind::Clear => return Ok(Parsed::Clear),
        Kind::Merge => return Err(refused("merge files (.)", text)),
        Kind::DirMerge => return dir_merge(rest, sides),
        Kind::Filter { hides, sender, receiver } => (hides, Sides { sender, receiver }),
    };
    let (modifiers, pattern) = split_pattern(rest).unwrap_or((rest, b""));
    let mut modifiers = Modifiers::read(modifiers, kind_sides, false)?;
    modifiers.from_module |= from_module;
    if sides.any() {
        if modifiers.sides.any() {
            return Err(SIDES_TWICE);
        }
        modifiers.sides = sides;
    }
    // Clients send it with a space behind.
    if modifiers.cvs && hides && pattern.is_empty() {
        return Ok(cvs());
    }
    if modifiers.cvs {
        return Err(refused("CVS patterns (C) with a pattern", text));
    }
    pattern_rule(pattern, hides, &modifiers)
}

/// A line that is nothing but a pattern.
pub(super) fn of_pattern(pattern: &[u8], hides: bool, inherited: Inherited) -> Result<Parsed, WireError> {
    let Inherited { sides, from_module } = inherited;
    pattern_rule(pattern, hides, &Modifiers { from_module, sides, ..Modifiers::default() })
}

fn pattern_rule(pattern: &[u8], hides: bool, modifiers: &Modifiers) -> Result<Parsed, WireError> {
    if pattern.is_empty() {
        return Err(no_pattern());
    }
    if glob::wildcards(pattern) > RULE_WILDCARDS_MAX {
        return Err(WireError::Limit { what: "the wildcards of a filter rule", limit: RULE_WILDCARDS_MAX });
    }
    if !modifiers.is_for_sender() {
        return Ok(Parsed::Ignored);
    }
    let pattern = Pattern::new(pattern, modifiers.from_module);
    Ok(Parsed::Rule(Rule { hides, negated: modifiers.negated, pattern }))
}

fn cvs() -> Parsed {
    let rule = |pattern: &str| Rule {
        hides: true,
        negated: false,
        pattern: Pattern::new(pattern.as_bytes(), false),
    };
    Parsed::Cvs(CVS_PATTERNS.split_ascii_whitespace().map(rule).collect())
}

fn dir_merge(rest: &[u8], sides: Sides) -> Result<Parsed, WireError> {
    let (modifiers, name) = split_pattern(rest).unwrap_or((rest, b""));
    let modifiers = Modifiers::read(modifiers, sides, true)?;
    let name = if name.is_empty() && modifiers.cvs { b".cvsignore" } else { name };
    let above_root = name.starts_with(b"/");
    let name = name.strip_prefix(b"/").unwrap_or(name);
    if name.is_empty() || name.contains(&b'/') {
        return Err(refused("files of other directories", rest));
    }
    if !modifiers.is_for_sender() {
        return Ok(Parsed::Ignored);
    }
    let form = match modifiers.patterns.or(modifiers.cvs.then_some(true)) {
        Some(hides) => LineForm::Patterns { hides },
        None => LineForm::Rules,
    };
    let merge = Merge {
        name: name.to_vec(),
        above_root,
        inherits: !(modifiers.no_inherit || modifiers.cvs),
        form,
        words: modifiers.words || modifiers.cvs,
        inherited: Inherited { sides: modifiers.sides, from_module: modifiers.from_module },
    };
    Ok(Parsed::Merge { merge, hides_itself: modifiers.hides_itself })
}

/// Modifiers and pattern, with the one space between them.
fn split_pattern(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = rest.iter().position(|&o| o == b' ' || o == b'_')?;
    let (modifiers, pattern) = (&rest[..end], &rest[end + 1..]);
    Some((modifiers.strip_prefix(b",").unwrap_or(modifiers), pattern))
}

fn no_pattern() -> WireError {
    WireError::Malformed("filter rule without a pattern")
}

enum Kind {
    Filter { hides: bool, sender: bool, receiver: bool },
    Clear,
    Merge,
    DirMerge,
}

/// The type is one character, or a long word, which no known client sends.
fn split_type(text: &[u8]) -> Result<(Kind, &[u8]), WireError> {
    const WORDS: [(&[u8], u8); 9] = [
        (b"exclude", b'-'),
        (b"include", b'+'),
        (b"hide", b'H'),
        (b"show", b'S'),
        (b"protect", b'P'),
        (b"risk", b'R'),
        (b"clear", b'!'),
        (b"merge", b'.'),
        (b"dir-merge", b':'),
    ];
    let word = WORDS.iter().find_map(|(word, kind)| Some((*kind, text.strip_prefix(*word)?)));
    let (kind, rest) = match (word, text) {
        (Some(found), _) => found,
        (None, [kind, rest @ ..]) => (*kind, rest),
        (None, []) => return Err(WireError::Malformed("empty filter rule")),
    };
    let filter = |hides, sender, receiver| Kind::Filter { hides, sender, receiver };
    let kind = match kind {
        b'-' => filter(true, false, false),
        b'+' => filter(false, false, false),
        b'H' => filter(true, true, false),
        b'S' => filter(false, true, false),
        b'P' => filter(true, false, true),
        b'R' => filter(false, false, true),
        b'!' => Kind::Clear,
        b'.' => Kind::Merge,
        b':' => Kind::DirMerge,
        _ => return Err(WireError::Malformed("filter type")),
    };
    Ok((kind, rest))
}

fn refused(what: &str, text: &[u8]) -> WireError {
    let shown = crate::error::printable(&text[..text.len().min(100)]);
    let text = format!("rsync: This server refuses {what} in filter rules: '{shown}'");
    WireError::Refused(Refusal::new(ExitCode::Unsupported, text))
}
