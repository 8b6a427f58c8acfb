//! A client's filter rules: parsing, and which names they hide (section 6).
//!
//! They must be honoured: clients check received names against their own rules and give up on a violation.

mod glob;
mod merge;
mod pattern;
mod rule;

use crate::WireError;
use crate::limits::{MATCH_STEPS_MAX, RULE_LEN_MAX, RULES_MAX};

pub use glob::{Glob, is_wild};
pub use merge::LocalRules;
use merge::Merge;
pub use pattern::Subject;
use rule::{Inherited, Parsed, Rule};

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
    items: Vec<Item>,
    received: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Item {
    Rule(Rule),
    /// Here the rules of the directories come in.
    Merge(Merge),
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
        match rule::parse(rule, Inherited::default())? {
            Parsed::Rule(rule) => self.items.push(Item::Rule(rule)),
            Parsed::Clear => self.items.clear(),
            Parsed::Ignored => {}
            Parsed::Cvs(rules) => self.items.extend(rules.into_iter().map(Item::Rule)),
            Parsed::Merge { merge, hides_itself } => {
                if hides_itself
                    && let Parsed::Rule(rule) = rule::of_pattern(&merge.name, true, merge.inherited)?
                {
                    self.items.push(Item::Rule(rule));
                }
                self.items.push(Item::Merge(merge));
            }
        }
        Ok(())
    }

    /// Adds what `--cvs-exclude` stands for, which no client sends: `.cvsignore` of each directory, then the patterns
    /// that CVS always ignores.
    ///
    /// # Errors
    /// A limit.
    pub fn push_cvs(&mut self) -> Result<(), WireError> {
        self.push(b":C")?;
        self.push(b"-C")
    }

    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether a name is hidden; `local` is what the directories above it bring along. No matching rule means that
    /// it is not.
    ///
    /// # Errors
    /// [`WireError::Limit`] when the budget is used up.
    pub fn hides(
        &self,
        subject: Subject<'_>,
        local: &LocalRules,
        budget: &mut MatchBudget,
    ) -> Result<bool, WireError> {
        let mut merges = 0;
        for item in &self.items {
            let decided = match item {
                Item::Rule(rule) => rule.applies(subject, budget)?.then_some(rule.hides),
                Item::Merge(merge) => {
                    merges += 1;
                    local.decide(merges - 1, merge, subject, budget)?
                }
            };
            if let Some(hides) = decided {
                return Ok(hides);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
