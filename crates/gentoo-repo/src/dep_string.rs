//! The grammar that `SRC_URI` and `RESTRICT` share with dependencies (PMS, "Dependency specification format"):
//! words, groups in parentheses, and `use?`, `!use?` or `||` before a group.
//!
//! What a group's condition says is thrown away here: the catalogue wants every file of every USE state.

use std::iter::Peekable;
use std::str::SplitWhitespace;

use crate::Error;

/// Nobody nests deeper; the walk is a loop, so that this bounds only a counter.
const DEPTH_MAX: usize = 256;

/// What remains of a dependency-like string once conditions are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A word that is no operator; `->` is one of these.
    Word(&'a str),
    /// A group begins.
    Open,
    /// A group ends.
    Close,
}

/// Walks the words of a string, checking the grammar on the way. Fused after the first error.
pub(crate) struct Tokens<'a> {
    words: Peekable<SplitWhitespace<'a>>,
    /// Of the word that was read last, from 1.
    position: usize,
    depth: usize,
    failed: bool,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { words: text.split_whitespace().peekable(), position: 0, depth: 0, failed: false }
    }

    /// Where in the string the last token was, in words from 1.
    pub(crate) fn words_read(&self) -> usize {
        self.position
    }

    /// Takes the next word if it is `expected`.
    pub(crate) fn take_word(&mut self, expected: &str) -> bool {
        let taken = self.words.next_if_eq(&expected).is_some();
        self.position += usize::from(taken);
        taken
    }

    fn advance(&mut self) -> Option<Result<Token<'a>, Error>> {
        let Some(word) = self.words.next() else {
            return (self.depth > 0).then(|| Err(Error::word(self.position + 1, "`)`", "")));
        };
        self.position += 1;
        Some(match word {
            "(" => self.open(),
            ")" if self.depth == 0 => Err(self.unexpected("no `)` without its `(`", word)),
            ")" => {
                self.depth -= 1;
                Ok(Token::Close)
            }
            "||" => self.group(),
            // A parenthesis stuck to a word belongs to it: URLs have them.
            _ => match word.strip_suffix('?') {
                None => Ok(Token::Word(word)),
                Some(condition) if is_use_flag(condition.strip_prefix('!').unwrap_or(condition)) => {
                    self.group()
                }
                Some(_) => Err(self.unexpected("a USE flag before `?`", word)),
            },
        })
    }

    /// After an operator only a group may follow.
    fn group(&mut self) -> Result<Token<'a>, Error> {
        self.position += 1;
        match self.words.next() {
            Some("(") => self.open(),
            other => Err(self.unexpected("`(`", other.unwrap_or_default())),
        }
    }

    fn open(&mut self) -> Result<Token<'a>, Error> {
        if self.depth == DEPTH_MAX {
            return Err(self.unexpected("at most 256 groups inside each other", "("));
        }
        self.depth += 1;
        Ok(Token::Open)
    }

    fn unexpected(&self, expected: &'static str, found: &str) -> Error {
        Error::word(self.position, expected, found)
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Result<Token<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let token = self.advance();
        self.failed = !matches!(token, Some(Ok(_)));
        token
    }
}

/// PMS, "USE flag names"; with the dots that EAPI 0 tolerated.
fn is_use_flag(flag: &str) -> bool {
    flag.starts_with(|first: char| first.is_ascii_alphanumeric())
        && flag.chars().all(|c| c.is_ascii_alphanumeric() || "+_@-.".contains(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Result<Vec<&str>, Error> {
        Tokens::new(text)
            .filter_map(|token| match token {
                Ok(Token::Word(word)) => Some(Ok(word)),
                Ok(Token::Open | Token::Close) => None,
                Err(error) => Some(Err(error)),
            })
            .collect()
    }

    #[test]
    fn conditions_disappear_and_words_stay_in_order() {
        let text = "a foo? ( b !bar? ( c ) ) || ( d ( e ) )\n\t!x+y_z@1-0? ( f )";
        assert_eq!(words(text), Ok(vec!["a", "b", "c", "d", "e", "f"]));
        assert_eq!(words(""), Ok(vec![]));
        assert_eq!(words("test? ( )"), Ok(vec![]));
    }

    #[test]
    fn errors_name_the_word() {
        for (text, word) in [
            ("a )", 2),
            ("( a", 3),
            ("foo? a", 2),
            ("foo?", 2),
            ("|| foo? ( a )", 2),
            ("a (b )", 3),
            ("!? ( a )", 1),
            ("http://a/? ( a )", 1),
        ] {
            match words(text) {
                Err(Error::Word { word: found, .. }) => assert_eq!(found, word, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "( ".repeat(depth), ") ".repeat(depth));
        assert!(words(&nested(256)).is_ok());
        assert!(words(&nested(257)).is_err());
        assert!(words(&nested(100_000)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_ends(text in "[a() |?!>\\-]{0,60}") {
            drop(words(&text));
        }
    }
}
