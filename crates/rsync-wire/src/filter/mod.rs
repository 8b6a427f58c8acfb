//! A client's filter rules: parsing, and which names they hide (section 6).
//!
//! They must be honoured: clients check received names against their own rules and give up on a violation.

mod glob;
mod pattern;
mod rule;

use crate::WireError;
use crate::limits::{MATCH_STEPS_MAX, RULE_LEN_MAX, RULES_MAX};

pub use glob::{Glob, is_wild};
pub use pattern::Subject;
use rule::Rule;

/// How many more steps matching may take, over all names and rules of one list. Patterns come from the peer.
#[derive(Debug)]
pub struct MatchBudget(u64);

impl Default for MatchBudget {
    fn default() -> Self {
        Self(MATCH_STEPS_MAX)
    }
}

impl MatchBudget {
    /// Takes some steps; an error when they are used up.
    pub(crate) fn spend(&mut self, steps: u64) -> Result<(), WireError> {
        self.0 = self.0.checked_sub(steps).ok_or(WireError::Limit {
            what: "the work of the patterns",
            limit: usize::try_from(MATCH_STEPS_MAX).unwrap_or(usize::MAX),
        })?;
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn of(steps: u64) -> Self {
        Self(steps)
    }
}

/// The rules of one connection, in order: the first one that matches decides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct FilterList {
    rules: Vec<Rule>,
    received: usize,
}

impl FilterList {
    /// Adds one rule as it came from the wire.
    ///
    /// # Errors
    /// A limit, a malformed rule, or [`WireError::Refused`] for one that would read a file of the server's.
    pub fn push(&mut self, rule: &[u8]) -> Result<(), WireError> {
        if rule.len() > RULE_LEN_MAX {
            return Err(WireError::Limit { what: "a filter rule's length", limit: RULE_LEN_MAX });
        }
        self.received += 1;
        if self.received > RULES_MAX {
            return Err(WireError::Limit { what: "the number of filter rules", limit: RULES_MAX });
        }
        match rule::parse(rule)? {
            rule::Parsed::Rule(rule) => self.rules.push(rule),
            rule::Parsed::Clear => self.rules.clear(),
            rule::Parsed::Ignored => {}
        }
        Ok(())
    }

    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a name is hidden. No matching rule means that it is not.
    ///
    /// # Errors
    /// [`WireError::Limit`] when the budget is used up.
    pub fn hides(&self, subject: Subject<'_>, budget: &mut MatchBudget) -> Result<bool, WireError> {
        for rule in &self.rules {
            if rule.applies(subject, budget)? {
                return Ok(rule.hides);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
