//! The grammar of one rule (6.2): a type, modifiers, one space, a pattern.

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
}

/// What one rule from the wire comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Rule(Rule),
    /// Forget all rules so far.
    Clear,
    /// It concerns the receiver only.
    Ignored,
}

pub(super) fn parse(text: &[u8]) -> Result<Parsed, WireError> {
    let (kind, rest) = split_type(text)?;
    match kind {
        Kind::Clear => return Ok(Parsed::Clear),
        Kind::Merge => return Err(refused("merge files (. and :)", text)),
        Kind::Filter { .. } => {}
    }
    let Kind::Filter { hides, mut sender, mut receiver } = kind else {
        return Ok(Parsed::Ignored);
    };
    let end = rest.iter().position(|&o| o == b' ' || o == b'_');
    let end = end.ok_or(WireError::Malformed("filter rule without a pattern"))?;
    let (modifiers, pattern) = (&rest[..end], &rest[end + 1..]);
    let modifiers = modifiers.strip_prefix(b",").unwrap_or(modifiers);
    let (mut negated, mut from_module, mut xattr) = (false, false, false);
    for modifier in modifiers {
        match modifier {
            b'!' => negated = true,
            b'/' => from_module = true,
            b's' => sender = true,
            b'r' => receiver = true,
            b'p' => {}
            b'x' => xattr = true,
            b'C' => return Err(refused("CVS patterns (C)", text)),
            _ => return Err(WireError::Malformed("filter modifier")),
        }
    }
    if pattern.is_empty() {
        return Err(WireError::Malformed("filter rule without a pattern"));
    }
    if glob::wildcards(pattern) > RULE_WILDCARDS_MAX {
        return Err(WireError::Limit { what: "the wildcards of a filter rule", limit: RULE_WILDCARDS_MAX });
    }
    if xattr || (receiver && !sender) {
        return Ok(Parsed::Ignored);
    }
    Ok(Parsed::Rule(Rule { hides, negated, pattern: Pattern::new(pattern, from_module) }))
}

enum Kind {
    Filter { hides: bool, sender: bool, receiver: bool },
    Clear,
    Merge,
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
        b'.' | b':' => Kind::Merge,
        _ => return Err(WireError::Malformed("filter type")),
    };
    Ok((kind, rest))
}

fn refused(what: &str, text: &[u8]) -> WireError {
    let shown = crate::error::printable(&text[..text.len().min(100)]);
    let text = format!("rsync: This server refuses {what} in filter rules: '{shown}'");
    WireError::Refused(Refusal::new(ExitCode::Unsupported, text))
}
