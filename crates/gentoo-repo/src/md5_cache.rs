//! `metadata/md5-cache/CATEGORY/PF`: what an ebuild's variables come to, as `KEY=value` lines (PMS, "Metadata cache").

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::Error;

/// Longer than any real entry: the longest of today have 100 KiB.
pub const OCTETS_MAX: usize = 8 << 20;

/// One cache entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry<'a> {
    values: BTreeMap<&'a str, &'a [u8]>,
}

impl<'a> CacheEntry<'a> {
    /// The value of `key`, with what is no UTF-8 replaced.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Cow<'a, str>> {
        self.values.get(key).map(|value| String::from_utf8_lossy(value))
    }

    /// `EAPI`; the one of an entry that says nothing is 0.
    #[must_use]
    pub fn eapi(&self) -> Cow<'a, str> {
        self.get("EAPI").filter(|eapi| !eapi.is_empty()).unwrap_or(Cow::Borrowed("0"))
    }

    /// `SRC_URI`, empty if there is none.
    #[must_use]
    pub fn src_uri(&self) -> Cow<'a, str> {
        self.get("SRC_URI").unwrap_or_default()
    }

    /// `RESTRICT`, empty if there is none.
    #[must_use]
    pub fn restrict(&self) -> Cow<'a, str> {
        self.get("RESTRICT").unwrap_or_default()
    }
}

/// Reads one cache entry. Of a key that occurs twice the last value counts, as in Portage.
///
/// # Errors
/// [`Error::Line`] for a line without `=`, or one whose key is no variable name; [`Error::TooLong`] beyond
/// [`OCTETS_MAX`].
pub fn parse(octets: &[u8]) -> Result<CacheEntry<'_>, Error> {
    if octets.len() > OCTETS_MAX {
        return Err(Error::TooLong { what: "a cache entry", max: OCTETS_MAX, found: octets.len() });
    }
    let mut values = BTreeMap::new();
    let text = octets.strip_suffix(b"\n").unwrap_or(octets);
    if text.is_empty() {
        return Err(Error::line(1, "KEY=value", b""));
    }
    for (index, line) in text.split(|octet| *octet == b'\n').enumerate() {
        let at = line.iter().position(|octet| *octet == b'=');
        let (key, value) = at
            .and_then(|at| Some((variable_name(&line[..at])?, &line[at + 1..])))
            .ok_or_else(|| Error::line(index + 1, "KEY=value", line))?;
        values.insert(key, value);
    }
    Ok(CacheEntry { values })
}

fn variable_name(octets: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(octets).ok()?;
    let valid = name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_');
    (valid && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_what_follows_the_first_equals_sign() {
        let entry =
            parse(b"EAPI=8\nSRC_URI=https://a/?b=c d\nDESCRIPTION=caf\xe9\nEAPI=9\n_md5_=00\n").unwrap();
        assert_eq!(entry.eapi(), "9");
        assert_eq!(entry.src_uri(), "https://a/?b=c d");
        assert_eq!(entry.restrict(), "");
        assert_eq!(entry.get("DESCRIPTION").unwrap(), "caf\u{fffd}");
        assert_eq!(entry.get("SLOT"), None);
        assert_eq!(parse(b"SLOT=0").unwrap().eapi(), "0");
    }

    #[test]
    fn a_line_without_a_key_is_named() {
        for (octets, bad) in
            [(&b"EAPI=8\nrubbish\n"[..], 2), (b"=x", 1), (b"", 1), (b"A B=c", 1), (b"A=1\n\nB=2", 2)]
        {
            match parse(octets) {
                Err(Error::Line { line, .. }) => assert_eq!(line, bad),
                other => panic!("{other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_an_entry_or_an_error(octets: Vec<u8>) {
            if let Ok(entry) = parse(&octets) {
                drop((entry.eapi(), entry.src_uri()));
            }
        }
    }
}
