//! `auth users`: who may log in to a module.

use std::fmt;
use std::str::FromStr;

use rsync_wire::filter::{Glob, MatchBudget};

/// What a rule grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// What the module grants everybody.
    Module,
    /// Reading, said explicitly.
    ReadOnly,
    /// Reading and writing; a module that only sends grants reading.
    ReadWrite,
    /// Nothing.
    Deny,
}

/// One rule: the first one that matches a user is the only one that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthRule {
    /// The pattern is for names of groups that the user is in, not for the user's own name.
    group: bool,
    pattern: String,
    grant: Grant,
}

/// What the rules say about a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The user may log in with their own password, or with that of the group that matched.
    MayLogIn {
        /// The group.
        group: Option<String>,
    },
    /// A rule denies this user.
    Denied,
    /// No rule matches.
    NotListed,
}

impl FromStr for AuthRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (who, grant) = match text.rsplit_once(':') {
            None => (text, Grant::Module),
            Some((who, word)) => match word.trim().to_ascii_lowercase().as_str() {
                "deny" => (who, Grant::Deny),
                "ro" => (who, Grant::ReadOnly),
                "rw" => (who, Grant::ReadWrite),
                _ => return Err(format!("expected :deny, :ro or :rw after `{who}`, found `:{word}`")),
            },
        };
        let (group, pattern) = match who.trim().strip_prefix('@') {
            Some(group) => (true, group),
            None => (false, who.trim()),
        };
        if pattern.is_empty() || pattern.contains(':') {
            return Err(format!(
                "expected USER, @GROUP or one of them with :deny, :ro or :rw, found `{text}`"
            ));
        }
        Ok(Self { group, pattern: pattern.to_owned(), grant })
    }
}

impl fmt::Display for AuthRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.group { "@" } else { "" };
        let grant = match self.grant {
            Grant::Module => "",
            Grant::ReadOnly => ":ro",
            Grant::ReadWrite => ":rw",
            Grant::Deny => ":deny",
        };
        write!(f, "{sign}{}{grant}", self.pattern)
    }
}

impl AuthRule {
    /// Whether the groups of a user have to be known.
    #[must_use]
    pub fn is_for_group(&self) -> bool {
        self.group
    }
}

/// Reads the rules of a module.
///
/// # Errors
/// The rule that can't be read: one that was dropped could be the one that denies.
pub fn parse_rules(text: &str) -> Result<Vec<AuthRule>, String> {
    crate::value::words(text).into_iter().map(str::parse).collect()
}

/// Finds the rule for a user who is in these groups.
#[must_use]
pub fn decide(rules: &[AuthRule], user: &str, groups: &[String]) -> Verdict {
    for rule in rules {
        let group = rule.group.then(|| groups.iter().find(|group| matches(&rule.pattern, group))).flatten();
        let applies = if rule.group { group.is_some() } else { matches(&rule.pattern, user) };
        if applies {
            return match rule.grant {
                Grant::Deny => Verdict::Denied,
                Grant::Module | Grant::ReadOnly | Grant::ReadWrite => {
                    Verdict::MayLogIn { group: group.cloned() }
                }
            };
        }
    }
    Verdict::NotListed
}

/// A match that is too much work is none.
fn matches(pattern: &str, name: &str) -> bool {
    Glob::new(pattern.as_bytes()).matches(name.as_bytes(), &mut MatchBudget::default()).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(rules: &str, user: &str, groups: &[&str]) -> Verdict {
        let groups: Vec<_> = groups.iter().map(|&group| group.to_owned()).collect();
        decide(&parse_rules(rules).unwrap(), user, &groups)
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = "joe:deny @guest:deny admin:rw @rsync:ro susan joe sam";
        let may = |group: Option<&str>| Verdict::MayLogIn { group: group.map(str::to_owned) };
        for (user, groups, expected) in [
            ("joe", &["rsync"][..], Verdict::Denied),
            ("admin", &["guest"], Verdict::Denied),
            ("admin", &[], may(None)),
            ("larry", &["users", "rsync"], may(Some("rsync"))),
            ("susan", &[], may(None)),
            ("larry", &[], Verdict::NotListed),
        ] {
            assert_eq!(verdict(rules, user, groups), expected, "{user}");
        }
        assert_eq!(verdict(", joe:deny, @Some Group:deny, *", "x", &["Some Group"]), Verdict::Denied);
        assert_eq!(verdict("ws?", "ws1", &[]), may(None));
        assert_eq!(verdict(" ,, joe:DENY ,", "joe", &[]), Verdict::Denied);
    }

    #[test]
    fn a_rule_that_cannot_be_read_is_refused() {
        for rules in ["joe:dney", "joe:", ":deny", "@", "joe:deny:ro", "@:ro"] {
            assert!(parse_rules(rules).is_err(), "{rules}");
        }
        for rule in ["joe:deny", "@wheel:ro", "ws*", "x:rw"] {
            assert_eq!(rule.parse::<AuthRule>().unwrap().to_string(), rule);
        }
    }
}
