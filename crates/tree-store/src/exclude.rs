//! What never gets into a generation: rsync's patterns, applied while building.
//!
//! Implemented from rsync(1), "PATTERN MATCHING RULES": a leading `/` anchors at the tree's root; a
//! pattern with another `/` or with `**` is matched against the whole path, at any depth unless
//! anchored; any other one against the last name; a trailing `/` means directories only; `*` and `?`
//! don't match `/`, `**` does; `/***` at the end is a directory and all below it, and so is the `/` of a pattern that
//! leaves out; `[…]` is a class; `\` quotes. The first pattern that matches decides: `+ PATTERN` keeps a name that
//! a later one would leave out. An excluded directory takes with it all that is below.

use crate::TreeError;

/// What every module excludes: what is not part of a repository although it lies in its directory.
/// The last one is where Portage keeps a tree that it has not verified yet.
pub const ALWAYS: [&str; 6] =
    ["/distfiles", "/packages", "/local", "/lost+found", "/.git", "/.tmp-unverified-download-quarantine"];

/// The patterns of one module, with [`ALWAYS`] among them.
#[derive(Debug, Clone, Default)]
pub struct Excludes {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is one independent trait of a pattern")]
struct Pattern {
    /// `+`: what matches stays.
    includes: bool,
    tokens: Vec<Token>,
    anchored: bool,
    whole_path: bool,
    directories_only: bool,
    /// It ends in `/***`: the directory of that name matches too.
    or_directory: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Octet(u8),
    AnyOne,
    AnyInName,
    AnyInPath,
    Class { negated: bool, ranges: Vec<(u8, u8)> },
}

impl Excludes {
    /// The patterns that always apply and `patterns`.
    ///
    /// # Errors
    /// A pattern that is empty or has an unclosed `[`.
    pub fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self, TreeError> {
        let mut all = Vec::new();
        for pattern in ALWAYS {
            all.push(Pattern::parse(pattern)?);
        }
        for pattern in patterns {
            all.push(Pattern::parse(pattern.as_ref())?);
        }
        Ok(Self { patterns: all })
    }

    /// Whether the node at `path` (no leading slash) is left out.
    #[must_use]
    pub fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        let first = self.patterns.iter().find(|pattern| pattern.matches(path, is_directory));
        first.is_some_and(|pattern| !pattern.includes)
    }
}

impl Pattern {
    fn parse(given: &str) -> Result<Self, TreeError> {
        let refuse = |why| TreeError::Exclude { pattern: given.to_owned(), why };
        let (pattern, includes) = match given.strip_prefix("+ ") {
            Some(pattern) => (pattern, true),
            None => (given.strip_prefix("- ").unwrap_or(given), false),
        };
        // As the stock daemon reads a module's: what is below an excluded directory can't be kept by name.
        let deep = pattern.strip_suffix('/').filter(|rest| !includes && !rest.is_empty());
        let deep = deep.map(|rest| format!("{rest}/***"));
        let pattern = deep.as_deref().unwrap_or(pattern);
        let (pattern, directories_only) = match pattern.strip_suffix('/') {
            Some(rest) => (rest, true),
            None => (pattern, false),
        };
        let (pattern, anchored) = match pattern.strip_prefix('/') {
            Some(rest) => (rest, true),
            None => (pattern, false),
        };
        if pattern.is_empty() {
            return Err(refuse("matches nothing"));
        }
        let tokens = tokenise(pattern.as_bytes()).map_err(refuse)?;
        let whole_path = anchored || pattern.contains('/') || tokens.contains(&Token::AnyInPath);
        let or_directory = pattern.ends_with("***");
        Ok(Self { includes, tokens, anchored, whole_path, directories_only, or_directory })
    }

    fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        if self.directories_only && !is_directory {
            return false;
        }
        if self.or_directory && is_directory && !path.ends_with(b"/") {
            return self.matches(&[path, b"/"].concat(), true);
        }
        if self.anchored {
            return matches_tokens(&self.tokens, path);
        }
        // `**/x` is also an `x` at the top.
        if self.tokens.first() == Some(&Token::AnyInPath) {
            return matches_tokens(&self.tokens, &[b"/", path].concat());
        }
        if !self.whole_path {
            let name = path.rsplit(|&octet| octet == b'/').next().unwrap_or(path);
            return matches_tokens(&self.tokens, name);
        }
        let starts = std::iter::once(0)
            .chain(path.iter().enumerate().filter(|(_, octet)| **octet == b'/').map(|(at, _)| at + 1));
        starts.into_iter().any(|start| matches_tokens(&self.tokens, &path[start..]))
    }
}

fn tokenise(pattern: &[u8]) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&octet) = pattern.get(at) {
        at += 1;
        let token = match octet {
            b'?' => Token::AnyOne,
            b'*' => {
                let run = 1 + pattern[at..].iter().take_while(|&&next| next == b'*').count();
                at += run - 1;
                if run > 1 { Token::AnyInPath } else { Token::AnyInName }
            }
            b'\\' => {
                let quoted = *pattern.get(at).ok_or("ends in a backslash")?;
                at += 1;
                Token::Octet(quoted)
            }
            b'[' => {
                let (class, used) = tokenise_class(&pattern[at..]).ok_or("'[' without ']'")?;
                at += used;
                class
            }
            other => Token::Octet(other),
        };
        tokens.push(token);
    }
    Ok(tokens)
}

/// The class after a `[`, and how many octets it took with its `]`.
fn tokenise_class(rest: &[u8]) -> Option<(Token, usize)> {
    let negated = matches!(rest.first(), Some(b'!' | b'^'));
    let mut at = usize::from(negated);
    let first = at;
    let mut ranges = Vec::new();
    loop {
        if *rest.get(at)? == b']' && at > first {
            return Some((Token::Class { negated, ranges }, at + 1));
        }
        if let Some((named, used)) = named_class(&rest[at..]) {
            ranges.extend_from_slice(named);
            at += used;
            continue;
        }
        let (low, used) = class_octet(&rest[at..])?;
        at += used;
        let mut high = low;
        if rest.get(at) == Some(&b'-') && rest.get(at + 1).is_some_and(|&octet| octet != b']') {
            let (end, used) = class_octet(&rest[at + 1..])?;
            at += 1 + used;
            high = end;
        }
        ranges.push((low, high));
    }
}

fn class_octet(rest: &[u8]) -> Option<(u8, usize)> {
    match rest {
        [b'\\', quoted, ..] => Some((*quoted, 2)),
        [octet, ..] => Some((*octet, 1)),
        [] => None,
    }
}

/// `[:alpha:]` and the like, and how many octets it takes. A name that is none matches nothing.
fn named_class(rest: &[u8]) -> Option<(&'static [(u8, u8)], usize)> {
    let inner = rest.strip_prefix(b"[:")?;
    let end = inner.windows(2).position(|pair| pair == b":]")?;
    let name = &inner[..end];
    let ranges: &[(u8, u8)] = match name {
        b"alnum" => &[(b'0', b'9'), (b'A', b'Z'), (b'a', b'z')],
        b"alpha" => &[(b'A', b'Z'), (b'a', b'z')],
        b"blank" => &[(b' ', b' '), (b'\t', b'\t')],
        b"cntrl" => &[(0, 0x1F), (0x7F, 0x7F)],
        b"digit" => &[(b'0', b'9')],
        b"graph" => &[(b'!', b'~')],
        b"lower" => &[(b'a', b'z')],
        b"print" => &[(b' ', b'~')],
        b"punct" => &[(b'!', b'/'), (b':', b'@'), (b'[', b'`'), (b'{', b'~')],
        b"space" => &[(b' ', b' '), (b'\t', b'\r')],
        b"upper" => &[(b'A', b'Z')],
        b"xdigit" => &[(b'0', b'9'), (b'A', b'F'), (b'a', b'f')],
        name if name.iter().all(u8::is_ascii_lowercase) => &[],
        _ => return None,
    };
    Some((ranges, end + 4))
}

/// Follows all ways to match at once, so that the time is pattern × text and never exponential.
fn matches_tokens(tokens: &[Token], text: &[u8]) -> bool {
    if tokens.iter().all(|token| matches!(token, Token::Octet(_))) {
        return tokens.len() == text.len()
            && tokens.iter().zip(text).all(|(token, &octet)| matches_one(token, octet));
    }
    // reach[i]: the tokens so far can have consumed exactly the first i octets.
    let mut reach = vec![false; text.len() + 1];
    reach[0] = true;
    for token in tokens {
        let mut next = vec![false; text.len() + 1];
        for at in 0..=text.len() {
            next[at] = match token {
                Token::AnyInPath => reach[at] || (at > 0 && next[at - 1]),
                Token::AnyInName => reach[at] || (at > 0 && next[at - 1] && text[at - 1] != b'/'),
                Token::Octet(_) | Token::AnyOne | Token::Class { .. } => {
                    at > 0 && reach[at - 1] && matches_one(token, text[at - 1])
                }
            };
        }
        reach = next;
    }
    reach[text.len()]
}

fn matches_one(token: &Token, octet: u8) -> bool {
    match token {
        Token::Octet(wanted) => *wanted == octet,
        Token::AnyOne => octet != b'/',
        Token::Class { negated, ranges } => {
            octet != b'/' && ranges.iter().any(|&(low, high)| (low..=high).contains(&octet)) != *negated
        }
        Token::AnyInName | Token::AnyInPath => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str, is_directory: bool) -> bool {
        Pattern::parse(pattern).unwrap().matches(path.as_bytes(), is_directory)
    }

    #[test]
    fn patterns_mean_what_rsync_says() {
        assert!(matches("/distfiles", "distfiles", true));
        assert!(!matches("/distfiles", "app-misc/distfiles", true));
        assert!(matches("distfiles", "app-misc/distfiles", false));
        assert!(!matches("distfiles", "app-misc/distfiles-1", false));
        assert!(matches("*.tmp", "a/b.tmp", false));
        assert!(!matches("/*.tmp", "a/b.tmp", false));
        assert!(matches("cache/", "metadata/cache", true));
        assert!(!matches("cache/", "metadata/cache", false));
        assert!(matches("metadata/md5-*", "x/metadata/md5-cache", true));
        assert!(!matches("metadata/*", "metadata/a/b", false));
        assert!(matches("metadata/**", "metadata/a/b", false));
        assert!(matches("/a**z", "a/b/z", false));
        assert!(matches("[a-c]x", "d/bx", false));
        assert!(!matches("[!a-c]x", "d/bx", false));
        assert!(matches("[[:alpha:]_]1", "d/x1", false) && !matches("[[:alpha:]_]1", "d/-1", false));
        assert!(matches("[]x]", "]", false) && matches("[\\]]", "]", false));
        assert!(
            matches("**/x", "x", false) && matches("**/x", "a/b/x", false) && !matches("**/x", "ax", false)
        );
        assert!(matches("x/", "a/x/b", false) && matches("x/", "x", true) && !matches("x/", "x", false));
        assert!(!matches("+ x/", "a/x/b", false));
        assert!(matches("\\*", "*", false));
        assert!(!matches("\\*", "a", false));
        assert!(matches("- /x", "x", false));
        assert!(matches("/secret/***", "secret", true) && matches("/secret/***", "secret/a/b", false));
        assert!(!matches("/secret/***", "secret", false) && !matches("/secret/**", "secret", true));
    }

    #[test]
    fn the_first_pattern_that_matches_decides() {
        let excludes = Excludes::new(["+ /a", "+ keep", "/*", "- *.tmp", "+ x.tmp"]).unwrap();
        let out = |path: &str| excludes.matches(path.as_bytes(), false);
        assert!(!out("a") && !out("keep") && !out("a/b"));
        assert!(out("b") && out("a/x.tmp"));
        assert!(Excludes::new(["+ /distfiles"]).unwrap().matches(b"distfiles", true), "never a part of it");
    }

    #[test]
    fn unusable_patterns_are_refused() {
        for pattern in ["", "/", "+ ", "[abc", "x\\"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern:?}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        let pattern = "*a".repeat(60) + "b";
        assert!(!matches(&pattern, &"a".repeat(200), false));
    }

    #[test]
    fn what_is_no_part_of_a_repository_is_always_excluded() {
        let excludes = Excludes::new::<&str>([]).unwrap();
        for name in ["distfiles", "packages", "local", "lost+found", ".git"] {
            assert!(excludes.matches(name.as_bytes(), true), "{name}");
        }
        assert!(!excludes.matches(b"profiles/local", true));
    }
}
