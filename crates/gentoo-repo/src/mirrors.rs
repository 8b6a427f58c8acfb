//! `profiles/thirdpartymirrors`: what `mirror://NAME/` stands for.

use std::collections::BTreeMap;

use crate::Error;

/// A list line longer than this is refused; the longest of today has 4 KiB.
pub const LINE_OCTETS_MAX: usize = 256 << 10;

/// Mirror names and the base URLs that each stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ThirdPartyMirrors {
    urls: BTreeMap<String, Vec<String>>,
}

/// Why a `mirror://` URI stands for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoExpansion<'a> {
    /// No list names this mirror.
    UnknownMirror(&'a str),
    /// There is no `/path` after the mirror's name.
    NoPath,
}

impl ThirdPartyMirrors {
    /// No mirrors yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the lines of one list: `NAME URL…`, with `#` before comments. A name that is known already gets more URLs,
    /// after those that it has; so the lists of a repository's masters are added before its own.
    ///
    /// Base URLs of other schemes than http, https and ftp are left out.
    ///
    /// # Errors
    /// [`Error::Line`] for a line that is not UTF-8 or is longer than [`LINE_OCTETS_MAX`]; earlier and later lines
    /// were added nevertheless, and the first bad one is named.
    pub fn add(&mut self, octets: &[u8]) -> Result<(), Error> {
        let mut first_error = None;
        for (index, line) in octets.split(|octet| *octet == b'\n').enumerate() {
            match std::str::from_utf8(line) {
                Ok(text) if line.len() <= LINE_OCTETS_MAX => self.add_line(text),
                _ => {
                    let expected = "`NAME URL…` in UTF-8 and at most 256 KiB";
                    first_error.get_or_insert_with(|| Error::line(index + 1, expected, line));
                }
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    fn add_line(&mut self, line: &str) {
        let mut words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
        let Some(name) = words.next() else { return };
        for url in words.filter(|url| is_fetchable(url)) {
            let base = url.trim_end_matches('/');
            if !is_fetchable(base) {
                // Nothing but a scheme.
                continue;
            }
            let known = self.urls.entry(name.to_owned()).or_default();
            if !known.iter().any(|earlier| earlier == base) {
                known.push(base.to_owned());
            }
        }
    }

    /// The base URLs of a mirror, without the last `/`, in the order of the lists.
    #[must_use]
    pub fn urls(&self, name: &str) -> &[String] {
        self.urls.get(name).map_or(&[], Vec::as_slice)
    }

    /// How many mirrors are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.urls.len()
    }

    /// Whether no mirror is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.urls.is_empty()
    }

    /// Every URL that `mirror://NAME/PATH` stands for, given `NAME/PATH`.
    ///
    /// # Errors
    /// [`NoExpansion`] if the mirror is unknown or there is no path.
    pub fn expand<'a>(&self, name_and_path: &'a str) -> Result<Vec<String>, NoExpansion<'a>> {
        let (name, path) = name_and_path.split_once('/').ok_or(NoExpansion::NoPath)?;
        match self.urls(name) {
            [] => Err(NoExpansion::UnknownMirror(name)),
            urls => Ok(urls.iter().map(|base| format!("{base}/{path}")).collect()),
        }
    }
}

/// Whether `url` has a scheme that a distfile can be fetched by.
pub(crate) fn is_fetchable(url: &str) -> bool {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    scheme
        .is_some_and(|scheme| ["http", "https", "ftp"].iter().any(|known| scheme.eq_ignore_ascii_case(known)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_scheme_alone_is_no_mirror() {
        let mut mirrors = ThirdPartyMirrors::new();
        mirrors.add(b"m https:// ftp:/// https://h/\n").unwrap();
        assert_eq!(mirrors.urls("m"), ["https://h"]);
    }

    #[test]
    fn names_expand_over_every_url() {
        let mut mirrors = ThirdPartyMirrors::new();
        mirrors
            .add(b"# comment\ngnu\t\thttps://a/gnu/ ftp://b/gnu # https://no\n\nempty\nrs rsync://x/y\n")
            .unwrap();
        mirrors.add(b"gnu http://c/ https://a/gnu\n").unwrap();
        assert_eq!(
            mirrors.expand("gnu/sed/sed-4.tar.xz").unwrap(),
            ["https://a/gnu/sed/sed-4.tar.xz", "ftp://b/gnu/sed/sed-4.tar.xz", "http://c/sed/sed-4.tar.xz"]
        );
        assert_eq!(mirrors.expand("rs/x"), Err(NoExpansion::UnknownMirror("rs")));
        assert_eq!(mirrors.expand("gnu"), Err(NoExpansion::NoPath));
        assert_eq!(mirrors.len(), 1);
    }

    #[test]
    fn a_bad_line_is_named_and_the_others_count() {
        let mut mirrors = ThirdPartyMirrors::new();
        let error = mirrors.add(b"a http://a\nb \xff\nc http://c").unwrap_err();
        assert!(matches!(error, Error::Line { line: 2, .. }));
        assert_eq!(mirrors.len(), 2);
    }

    proptest! {
        #[test]
        fn any_octets_are_mirrors_or_an_error(octets: Vec<u8>, path in "\\PC*") {
            let mut mirrors = ThirdPartyMirrors::new();
            drop(mirrors.add(&octets));
            drop(mirrors.expand(&path));
        }
    }
}
