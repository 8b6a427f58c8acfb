//! `metadata/layout.conf`: how a repository is laid out (GLEP 82 and portage(5)).

use crate::Error;

/// Longer than any real one.
pub const OCTETS_MAX: usize = 256 << 10;

/// The settings that matter to whoever serves the tree or reads its catalogue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayoutConf {
    /// `masters`: the repositories whose eclasses and `thirdpartymirrors` this one uses, least important first. `None`
    /// when nothing is said, which Portage reads as "the main repository".
    pub masters: Option<Vec<String>>,
    /// `thin-manifests`: Manifests have only DIST lines, so that they verify no file of the tree.
    pub thin_manifests: bool,
    /// `sign-manifests`; true unless it is switched off.
    pub sign_manifests: bool,
    /// `manifest-hashes`, in capitals, in the order of the file.
    pub manifest_hashes: Vec<String>,
    /// `manifest-required-hashes`, in capitals; `manifest_hashes` when nothing is said.
    pub manifest_required_hashes: Vec<String>,
    /// `cache-formats`, in small letters; empty when nothing is said, which means whatever directory is there.
    pub cache_formats: Vec<String>,
}

/// Reads a repository's `layout.conf`: `key = value` lines, `#` before comments. Unknown keys are ignored, and of a key
/// that occurs twice the last one counts.
///
/// # Errors
/// [`Error::Line`] for a line without `=` or that is not UTF-8, [`Error::TooLong`] beyond [`OCTETS_MAX`].
pub fn parse(octets: &[u8]) -> Result<LayoutConf, Error> {
    if octets.len() > OCTETS_MAX {
        return Err(Error::TooLong { what: "layout.conf", max: OCTETS_MAX, found: octets.len() });
    }
    let mut conf = LayoutConf { sign_manifests: true, ..LayoutConf::default() };
    let mut required = None;
    for (index, line) in octets.split(|octet| *octet == b'\n').enumerate() {
        let expected = "key = value";
        let text = std::str::from_utf8(line).map_err(|_| Error::line(index + 1, expected, line))?.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (key, value) = text.split_once('=').ok_or_else(|| Error::line(index + 1, expected, line))?;
        match key.trim() {
            "masters" => conf.masters = Some(words(value)),
            "thin-manifests" => conf.thin_manifests = is_true(value),
            "sign-manifests" => conf.sign_manifests = is_true(value),
            "manifest-hashes" => conf.manifest_hashes = words(&value.to_ascii_uppercase()),
            "manifest-required-hashes" => required = Some(words(&value.to_ascii_uppercase())),
            "cache-formats" => conf.cache_formats = words(&value.to_ascii_lowercase()),
            _ => {}
        }
    }
    conf.manifest_required_hashes = required.unwrap_or_else(|| conf.manifest_hashes.clone());
    Ok(conf)
}

fn words(value: &str) -> Vec<String> {
    value.split_whitespace().map(str::to_owned).collect()
}

fn is_true(value: &str) -> bool {
    value.trim().eq_ignore_ascii_case("true")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_settings_of_an_overlay() {
        let conf = parse(
            b"# c\nmasters = gentoo other\nmanifest-hashes = BLAKE2B sha512\nthin-manifests = True\n\
              manifest-required-hashes=BLAKE2B\ncache-formats = md5-dict\nsign-manifests = false\nx = y = z\n",
        )
        .unwrap();
        assert_eq!(conf.masters.as_deref(), Some(["gentoo".to_owned(), "other".to_owned()].as_slice()));
        assert!(conf.thin_manifests && !conf.sign_manifests);
        assert_eq!(conf.manifest_hashes, ["BLAKE2B", "SHA512"]);
        assert_eq!(conf.manifest_required_hashes, ["BLAKE2B"]);
        assert_eq!(conf.cache_formats, ["md5-dict"]);
    }

    #[test]
    fn nothing_said_and_no_masters_are_different() {
        assert_eq!(parse(b"").unwrap().masters, None);
        assert_eq!(parse(b"masters =\n").unwrap().masters, Some(vec![]));
        assert!(matches!(parse(b"masters = a\nrubbish"), Err(Error::Line { line: 2, .. })));
    }

    proptest! {
        #[test]
        fn any_octets_are_settings_or_an_error(octets: Vec<u8>) {
            drop(parse(&octets));
        }
    }
}
