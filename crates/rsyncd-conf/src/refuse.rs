//! `refuse options`: which options of a client a module does not grant.

use rsync_wire::filter::{Glob, MatchBudget, is_wild};

/// What `-a` stands for.
const ARCHIVE: &str = "rdlptgoD";

/// Options that a wildcard never matches: without them nothing works, or they are no wish of the client's.
const ESSENTIAL: [&str; 14] = [
    "server",
    "sender",
    "rsh",
    "e",
    "out-format",
    "log-format",
    "dry-run",
    "n",
    "secluded-args",
    "s",
    "from0",
    "iconv",
    "no-iconv",
    "checksum-seed",
];

/// Long names of the letters that a client sends.
const LETTERS: &[(u8, &str)] = &[
    (b'A', "acls"),
    (b'B', "block-size"),
    (b'C', "cvs-exclude"),
    (b'E', "executability"),
    (b'H', "hard-links"),
    (b'I', "ignore-times"),
    (b'J', "omit-link-times"),
    (b'K', "keep-dirlinks"),
    (b'L', "copy-links"),
    (b'N', "crtimes"),
    (b'O', "omit-dir-times"),
    (b'R', "relative"),
    (b'S', "sparse"),
    (b'U', "atimes"),
    (b'W', "whole-file"),
    (b'X', "xattrs"),
    (b'b', "backup"),
    (b'c', "checksum"),
    (b'd', "dirs"),
    (b'g', "group"),
    (b'k', "copy-dirlinks"),
    (b'l', "links"),
    (b'm', "prune-empty-dirs"),
    (b'n', "dry-run"),
    (b'o', "owner"),
    (b'p', "perms"),
    (b'q', "quiet"),
    (b'r', "recursive"),
    (b's', "secluded-args"),
    (b't', "times"),
    (b'u', "update"),
    (b'v', "verbose"),
    (b'x', "one-file-system"),
    (b'y', "fuzzy"),
    (b'z', "compress"),
];

/// The rules of one module, in order: the last one that matches an option decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RefusedOptions {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    pattern: String,
    refuses: bool,
}

impl RefusedOptions {
    /// Reads the words of the value.
    #[must_use]
    pub fn new<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> Self {
        let mut rules = Vec::new();
        for word in words {
            let word = word.as_ref();
            let (pattern, refuses) = word.strip_prefix('!').map_or((word, true), |rest| (rest, false));
            if matches!(pattern, "a" | "archive") {
                rules.extend(ARCHIVE.chars().map(|letter| Rule { pattern: letter.to_string(), refuses }));
            }
            rules.push(Rule { pattern: pattern.to_owned(), refuses });
        }
        Self { rules }
    }

    /// Whether nothing is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Finds the first refused option among a client's arguments, as it is shown: `--checksum (-c)`.
    #[must_use]
    pub fn first_refused<'a>(&self, arguments: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let mut options = arguments.into_iter().take_while(|argument| *argument != b".");
        options.find_map(|argument| self.refused_in(argument))
    }

    fn refused_in(&self, argument: &[u8]) -> Option<String> {
        if let Some(long) = argument.strip_prefix(b"--") {
            let name = long.split(|&octet| octet == b'=').next().unwrap_or(long);
            let name = std::str::from_utf8(name).ok()?;
            return self.refuses(name).then(|| format!("--{name}"));
        }
        // What follows `e` or `B` is no letter.
        let letters = argument.strip_prefix(b"-")?;
        let letters = letters.iter().take_while(|&&letter| letter != b'e');
        for &letter in letters {
            let short = char::from(letter);
            let long = LETTERS.iter().find(|(of, _)| *of == letter).map(|(_, long)| *long);
            if self.refuses_either(&short.to_string(), long) {
                return Some(long.map_or_else(|| format!("-{short}"), |long| format!("--{long} (-{short})")));
            }
            if letter == b'B' {
                break;
            }
        }
        None
    }

    fn refuses(&self, name: &str) -> bool {
        let letter =
            LETTERS.iter().find(|(_, long)| *long == name).map(|(letter, _)| char::from(*letter).to_string());
        self.refuses_either(name, letter.as_deref())
    }

    fn refuses_either(&self, name: &str, other: Option<&str>) -> bool {
        let names = [Some(name), other];
        let essential = names.iter().flatten().any(|name| ESSENTIAL.contains(name));
        let applies = |rule: &&Rule| {
            if is_wild(rule.pattern.as_bytes()) {
                !essential && names.iter().flatten().any(|name| matches(&rule.pattern, name))
            } else {
                names.contains(&Some(rule.pattern.as_str()))
            }
        };
        self.rules.iter().rfind(applies).is_some_and(|rule| rule.refuses)
    }
}

/// A match that is too much work is one: the option stays refused.
fn matches(pattern: &str, name: &str) -> bool {
    Glob::new(pattern.as_bytes()).matches(name.as_bytes(), &mut MatchBudget::default()).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(rules: &str, arguments: &[&str]) -> Option<String> {
        RefusedOptions::new(rules.split_whitespace())
            .first_refused(arguments.iter().map(|one| one.as_bytes()))
    }

    #[test]
    fn options_are_refused_as_stock_3_5_0_does() {
        let sender = ["--server", "--sender"];
        let of = |rules, option: &str| refused(rules, &[sender[0], sender[1], option, ".", "m/--x"]);
        let shown = |text: &str| Some(text.to_owned());
        assert_eq!(of("c z* delete", "-ce.LsfxCIvu"), shown("--checksum (-c)"));
        assert_eq!(of("c z* delete", "-rze.LsfxCIvu"), shown("--compress (-z)"));
        assert_eq!(of("c z* delete", "-re.LsfxCIvuz"), None);
        assert_eq!(of("* !a !v", "-logDtprHe.LsfxCIvu"), shown("--hard-links (-H)"));
        assert_eq!(of("* !a !v", "-vlogDtpre.LsfxCIvu"), None);
        assert_eq!(of("* !a !v", "--timeout=50"), shown("--timeout"));
        assert_eq!(of("archive", "-re.LsfxCIvu"), shown("--recursive (-r)"));
        assert_eq!(of("archive", "-de.LsfxCIvu"), shown("--dirs (-d)"));
        assert_eq!(of("*", "-ne."), None);
        assert_eq!(of("dry-run", "-ne."), shown("--dry-run (-n)"));
        assert_eq!(of("* no-iconv", "--no-iconv"), shown("--no-iconv"));
        assert_eq!(of("", "-c"), None);
        assert_eq!(refused("x*", &[".", " --x", "-x"]), None, "paths are no options");
    }
}
