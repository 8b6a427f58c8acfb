//! Paths as Manifests write them (GLEP 74, "Path and filename encoding").

use std::fmt::{self, Write as _};

use crate::error::{Error, excerpt};

/// A path below the directory of the Manifest that names it: not absolute, and without empty, `.` or `..` elements.
///
/// It holds the path itself; `Display` writes it in a Manifest's escapes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(String);

impl TreePath {
    /// The longest path in octets, which is what Linux takes.
    pub const OCTETS_MAX: usize = 4096;

    /// The path, not escaped.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for TreePath {
    type Error = Error;

    fn try_from(path: &str) -> Result<Self, Error> {
        let expected = if path.len() > Self::OCTETS_MAX {
            "at most 4096 octets are expected"
        } else if path.contains('\0') {
            "no NUL is expected"
        } else if path.split('/').any(|element| matches!(element, "" | "." | "..")) {
            "a relative path without empty, `.` or `..` elements is expected"
        } else {
            return Ok(Self(path.to_owned()));
        };
        Err(Error::TreePath { path: excerpt(path.as_bytes()), expected })
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

/// `text` with white space, control characters and backslashes as `\xHH`, `\uHHHH` or `\UHHHHHHHH`.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        let code = u32::from(c);
        // Writing to a String cannot fail.
        let _infallible = match code {
            _ if !(c.is_control() || c.is_whitespace() || c == '\\') => escaped.write_char(c),
            ..=0x7f => write!(escaped, "\\x{code:02X}"),
            0x80..=0xffff => write!(escaped, "\\u{code:04X}"),
            _ => write!(escaped, "\\U{code:08X}"),
        };
    }
    escaped
}

/// Undoes [`escape`]; `None` for a backslash that begins no escape.
pub(crate) fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let kind = *rest.as_bytes().get(at + 1)?;
        let digits = match kind {
            b'x' => 2,
            b'u' => 4,
            b'U' => 8,
            _ => return None,
        };
        let code = rest.get(at + 2..at + 2 + digits)?;
        let valid = code.bytes().all(|octet| octet.is_ascii_hexdigit());
        plain.push(valid.then(|| u32::from_str_radix(code, 16).ok()).flatten().and_then(char::from_u32)?);
        rest = &rest[at + 2 + digits..];
    }
    plain.push_str(rest);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_are_those_of_the_spec() {
        let path = TreePath::try_from("files/a b\\c\u{85}\u{3000}é").unwrap();
        assert_eq!(path.to_string(), "files/a\\x20b\\x5Cc\\u0085\\u3000é");
        assert_eq!(unescape(&path.to_string()).as_deref(), Some(path.as_str()));
        assert_eq!(unescape("\\U0001F427").as_deref(), Some("🐧"));
        for bad in ["\\", "\\x", "\\x2", "\\xg0", "\\x+1", "\\uD800", "\\U00110000", "\\n", "\\xé"] {
            assert_eq!(unescape(bad), None, "{bad}");
        }
    }

    #[test]
    fn paths_stay_inside() {
        for path in ["", "/", "/etc", "a//b", "a/", "./a", "a/../b", "..", "a\0"] {
            assert!(TreePath::try_from(path).is_err(), "{path:?}");
        }
        assert!(TreePath::try_from("a/..b/.c").is_ok());
    }

    proptest! {
        #[test]
        fn escaping_comes_back(text: String) {
            let escaped = escape(&text);
            prop_assert!(!escaped.contains(char::is_whitespace));
            prop_assert_eq!(unescape(&escaped), Some(text));
        }

        #[test]
        fn any_text_is_plain_or_refused(text in "[\\\\xuU0-9a-fé]{0,20}") {
            drop(unescape(&text));
        }
    }
}
