//! `filter`, `include`, `exclude` and their files, as one list of `+ PATTERN` and `- PATTERN`.
//!
//! The tree is filtered once, when a generation is built. So rules about the receiver have nothing to act on and are
//! refused, as are per-directory rules, which a client could otherwise rely on.

/// A rule, or a file of rules to read in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Names that match are left out.
    Exclude(String),
    /// Names that match stay, whatever the rules after this one say.
    Include(String),
    /// More rules of the `filter` form, one a line.
    Merge(String),
}

impl Rule {
    /// The form in which an ordered list of patterns is written.
    #[must_use]
    pub fn to_pattern(&self) -> Option<String> {
        match self {
            Self::Exclude(pattern) if pattern.starts_with("+ ") || pattern.starts_with("- ") => {
                Some(format!("- {pattern}"))
            }
            Self::Exclude(pattern) => Some(pattern.clone()),
            Self::Include(pattern) => Some(format!("+ {pattern}")),
            Self::Merge(_) => None,
        }
    }
}

/// Reads the value of `exclude` or `include`: patterns between white space, each with `+ ` or `- ` before it or
/// meant as `includes` says. `!` drops what came before it.
#[must_use]
pub fn parse_patterns(text: &str, includes: bool) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut words = text.split_ascii_whitespace();
    while let Some(word) = words.next() {
        match word {
            "!" => rules.clear(),
            "+" => rules.extend(words.next().map(|pattern| Rule::Include(pattern.to_owned()))),
            "-" => rules.extend(words.next().map(|pattern| Rule::Exclude(pattern.to_owned()))),
            pattern => rules.push(plain(pattern, includes)),
        }
    }
    rules
}

/// Reads a file of patterns: one a line, `#` and `;` start comments, white space counts.
#[must_use]
pub fn parse_file(text: &str, includes: bool) -> Vec<Rule> {
    let mut rules = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        match line {
            "!" => rules.clear(),
            line => rules.push(prefixed(line).unwrap_or_else(|| plain(line, includes))),
        }
    }
    rules
}

fn plain(pattern: &str, includes: bool) -> Rule {
    if includes { Rule::Include(pattern.to_owned()) } else { Rule::Exclude(pattern.to_owned()) }
}

fn prefixed(text: &str) -> Option<Rule> {
    let include = text.strip_prefix("+ ").map(|pattern| Rule::Include(pattern.to_owned()));
    include.or_else(|| text.strip_prefix("- ").map(|pattern| Rule::Exclude(pattern.to_owned())))
}

/// Reads the value of `filter`: rules between white space.
///
/// # Errors
/// A rule that can't be followed.
pub fn parse_filter(text: &str) -> Result<Vec<Rule>, String> {
    let mut rules = Vec::new();
    let mut words = text.split_ascii_whitespace();
    while let Some(word) = words.next() {
        let mut pattern = || words.next().ok_or_else(|| format!("expected a pattern after `{word}`"));
        push(&mut rules, word, &mut pattern)?;
    }
    Ok(rules)
}

/// Reads a file of filter rules: one a line.
///
/// # Errors
/// A rule that can't be followed.
pub fn parse_filter_file(text: &str) -> Result<Vec<Rule>, String> {
    let mut rules = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with(['#', ';'])) {
        let (word, rest) = line.split_once([' ', '_']).unwrap_or((line, ""));
        let mut pattern =
            || if rest.is_empty() { Err(format!("expected a pattern after `{word}`")) } else { Ok(rest) };
        push(&mut rules, word, &mut pattern)?;
    }
    Ok(rules)
}

fn push<'a>(
    rules: &mut Vec<Rule>,
    word: &str,
    pattern: &mut dyn FnMut() -> Result<&'a str, String>,
) -> Result<(), String> {
    let rule = match word {
        "-" | "exclude" | "H" | "hide" => Rule::Exclude(pattern()?.to_owned()),
        "+" | "include" | "S" | "show" => Rule::Include(pattern()?.to_owned()),
        "." | "merge" => Rule::Merge(pattern()?.to_owned()),
        "!" | "clear" => {
            rules.clear();
            return Ok(());
        }
        other => {
            return Err(format!(
                "the filter rule `{other}` can't be followed: expected -, +, !, or merge (.) with a file"
            ));
        }
    };
    rules.push(rule);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(rules: impl IntoIterator<Item = Rule>) -> Vec<String> {
        rules.into_iter().collect::<Vec<_>>().iter().filter_map(Rule::to_pattern).collect()
    }

    #[test]
    fn patterns_come_in_order() {
        assert_eq!(patterns(parse_patterns("/distfiles /packages", false)), ["/distfiles", "/packages"]);
        assert_eq!(patterns(parse_patterns("/a - /b + /c", true)), ["+ /a", "/b", "+ /c"]);
        assert_eq!(patterns(parse_patterns("/a ! /b", false)), ["/b"]);
        assert_eq!(patterns(parse_file("# c\n; d\n+ /sub\n/s*\n\n  /a\n", false)), ["+ /sub", "/s*", "  /a"]);
        assert_eq!(patterns(parse_filter("- /a + /b exclude c").unwrap()), ["/a", "+ /b", "c"]);
        assert_eq!(patterns(parse_filter_file("- a b\n+ c\n").unwrap()), ["a b", "+ c"]);
        assert_eq!(parse_filter(". /etc/rules").unwrap(), [Rule::Merge("/etc/rules".to_owned())]);
        for rule in ["-! /a", ": .rules", "P x", "-", "frobnicate x"] {
            assert!(parse_filter(rule).is_err(), "{rule}");
        }
    }
}
