//! Manifests: thin ones, full ones and the `MetaManifest` (GLEP 74, "Manifest file specification").
//!
//! [`entries`] goes on after a broken line, for a report that names each; [`parse`] takes the armour off and stops at
//! the first.

use std::fmt;

use crate::cleartext::{self, Cleartext};
use crate::error::Error;
use crate::tree_path::{TreePath, escape, unescape};
use crate::{Digests, DistfileName, HashAlgorithm, timestamp};

/// A longer line is refused: the longest path there is with every digest there is needs less.
pub const LINE_OCTETS_MAX: usize = 16 << 10;

/// What the longest algorithm gives.
const DIGEST_OCTETS_MAX: usize = 64;
const HEXADECIMAL: &str = "digests in small hexadecimal digits";

/// One line of a Manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// `TIMESTAMP`: when the top Manifest was made, in seconds since the Unix epoch.
    Timestamp(i64),
    /// `IGNORE`: a path that is not verified, with everything below it.
    Ignore(TreePath),
    /// `OPTIONAL`: a path that may be missing.
    Optional(TreePath),
    /// `DIST`: a distfile.
    Dist(Dist),
    /// A file of the tree.
    File(File),
}

/// A `DIST` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dist {
    /// The file's name in `DISTDIR`.
    pub name: DistfileName,
    /// Its length.
    pub size_bytes: u64,
    /// Never empty.
    pub digests: Digests,
}

/// A line for a file of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// What the line calls it.
    pub tag: FileTag,
    /// As in the line; see [`File::tree_path`].
    pub path: TreePath,
    /// Its length.
    pub size_bytes: u64,
    /// Never empty.
    pub digests: Digests,
}

impl File {
    /// Where the file is below the Manifest's directory: the path of an `AUX` line is below `files/`.
    #[must_use]
    pub fn tree_path(&self) -> String {
        match self.tag {
            FileTag::Aux => format!("files/{}", self.path.as_str()),
            FileTag::Manifest | FileTag::Data | FileTag::Misc | FileTag::Ebuild => {
                self.path.as_str().to_owned()
            }
        }
    }
}

/// The word at the beginning of a line for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileTag {
    /// `MANIFEST`: a Manifest further down, perhaps compressed.
    Manifest,
    /// `DATA`
    Data,
    /// `MISC`: today the same as `DATA`.
    Misc,
    /// `EBUILD`: the same as `DATA`.
    Ebuild,
    /// `AUX`: a file below `files/`.
    Aux,
}

impl FileTag {
    const ALL: [Self; 5] = [Self::Manifest, Self::Data, Self::Misc, Self::Ebuild, Self::Aux];

    /// The word itself.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manifest => "MANIFEST",
            Self::Data => "DATA",
            Self::Misc => "MISC",
            Self::Ebuild => "EBUILD",
            Self::Aux => "AUX",
        }
    }
}

/// The line, without its end.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timestamp(unix_seconds) => {
                write!(f, "TIMESTAMP {}", timestamp::format_manifest(*unix_seconds))
            }
            Self::Ignore(path) => write!(f, "IGNORE {path}"),
            Self::Optional(path) => write!(f, "OPTIONAL {path}"),
            Self::Dist(Dist { name, size_bytes, digests }) => {
                write!(f, "DIST {} {size_bytes} {digests}", escape(name.as_str()))
            }
            Self::File(File { tag, path, size_bytes, digests }) => {
                write!(f, "{} {path} {size_bytes} {digests}", tag.as_str())
            }
        }
    }
}

/// A whole Manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its lines in the order of the file, blank ones left out.
    pub entries: Vec<Entry>,
    /// Whether it has `OpenPGP` armour. Nothing was verified.
    pub is_signed: bool,
}

/// Reads a Manifest, signed or not.
///
/// # Errors
/// [`Error::Line`] with the number of the first line that is wrong, counted as in the file.
pub fn parse(octets: &[u8]) -> Result<Manifest, Error> {
    let text = cleartext::strip(octets)?;
    let entries = entries(&text).map(|(_, entry)| entry).collect::<Result<_, _>>()?;
    Ok(Manifest { entries, is_signed: text.is_signed })
}

/// Every line that is not blank, with its number in the file, as an entry or as what is wrong with it.
pub fn entries<'a>(text: &'a Cleartext<'_>) -> impl Iterator<Item = (usize, Result<Entry, Error>)> + 'a {
    lines(text).map(|(number, line)| (number, parse_line(number, line)))
}

/// Every line that is not blank, with its number in the file.
pub fn lines<'a>(text: &'a Cleartext<'_>) -> impl Iterator<Item = (usize, &'a [u8])> + 'a {
    let body = text.body.strip_suffix(b"\n").unwrap_or(&text.body);
    body.split(|octet| *octet == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .map(|(index, line)| (text.first_line + index, line))
}

/// Reads one line; `number` is for the error.
///
/// # Errors
/// [`Error::Line`] with what was expected.
pub fn parse_line(number: usize, line: &[u8]) -> Result<Entry, Error> {
    let refused = |expected| Error::line(number, expected, line);
    if line.len() > LINE_OCTETS_MAX {
        return Err(refused("at most 16 KiB"));
    }
    let text = std::str::from_utf8(line).map_err(|_| refused("UTF-8"))?;
    let mut words = text.split_whitespace();
    let tag = words.next().unwrap_or_default();
    let second = words.next();
    let entry = match tag {
        "TIMESTAMP" => {
            let seconds = second.and_then(|time| timestamp::parse_manifest(time).ok());
            Entry::Timestamp(seconds.ok_or_else(|| refused("TIMESTAMP YYYY-MM-DDTHH:MM:SSZ"))?)
        }
        "IGNORE" => Entry::Ignore(tree_path(second).ok_or_else(|| refused("IGNORE and a relative path"))?),
        "OPTIONAL" => {
            Entry::Optional(tree_path(second).ok_or_else(|| refused("OPTIONAL and a relative path"))?)
        }
        "DIST" => {
            let name = second.and_then(unescape).and_then(|name| DistfileName::try_from(name.as_str()).ok());
            let name = name.ok_or_else(|| refused("DIST and a file name"))?;
            let (size_bytes, digests) = size_and_digests(&mut words).map_err(refused)?;
            Entry::Dist(Dist { name, size_bytes, digests })
        }
        _ => {
            let known = FileTag::ALL.into_iter().find(|known| known.as_str() == tag);
            let tag = known.ok_or_else(|| refused("a known tag (DIST, DATA, MANIFEST, …)"))?;
            let path = tree_path(second).ok_or_else(|| refused("a tag and a relative path"))?;
            let (size_bytes, digests) = size_and_digests(&mut words).map_err(refused)?;
            Entry::File(File { tag, path, size_bytes, digests })
        }
    };
    match words.next() {
        None => Ok(entry),
        Some(_) => Err(refused("nothing after the path or time")),
    }
}

fn tree_path(escaped: Option<&str>) -> Option<TreePath> {
    TreePath::try_from(unescape(escaped?)?.as_str()).ok()
}

/// `SIZE (ALGORITHM HEX)+`, or what was expected instead.
///
/// Algorithms that this crate does not know are left out, as long as one is left: Manifests may gain new ones.
fn size_and_digests<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<(u64, Digests), &'static str> {
    let size = words.next().filter(|size| size.bytes().all(|octet| octet.is_ascii_digit()));
    let size_bytes = size.and_then(|size| size.parse().ok()).ok_or("a size in bytes after the name")?;
    let mut digests = Digests::new();
    while let Some(name) = words.next() {
        let digits = words.next().ok_or("a digest after each algorithm")?;
        let Some(algorithm) = HashAlgorithm::from_manifest_name(name) else { continue };
        let mut octets = [0; DIGEST_OCTETS_MAX];
        let digest = decode_small_hexadecimal(digits.as_bytes(), &mut octets).ok_or(HEXADECIMAL)?;
        if digests.get(algorithm).is_some() {
            return Err("each algorithm once");
        }
        digests.insert(algorithm, digest).map_err(|_| "digests of the length of their algorithm")?;
    }
    if digests.is_empty() { Err("a digest of a known algorithm") } else { Ok((size_bytes, digests)) }
}

/// Portage compares the text, so capitals would never match there. A tree has some hundred thousand digests: this does
/// both at once.
fn decode_small_hexadecimal<'a>(digits: &[u8], into: &'a mut [u8; DIGEST_OCTETS_MAX]) -> Option<&'a [u8]> {
    let (pairs, rest) = digits.as_chunks::<2>();
    let octets = into.get_mut(..pairs.len()).filter(|_| rest.is_empty())?;
    let mut wrong = 0;
    for ([high, low], octet) in pairs.iter().zip(octets.iter_mut()) {
        let (high, low) = (NIBBLES[usize::from(*high)], NIBBLES[usize::from(*low)]);
        wrong |= high | low;
        *octet = high << 4 | low;
    }
    // Only what is no digit has a bit above the fourth.
    (wrong < 16).then_some(octets)
}

/// By octet, the value of a small hexadecimal digit; 255 for what is none.
const NIBBLES: [u8; 256] = {
    let mut nibbles = [u8::MAX; 256];
    let digits = b"0123456789abcdef";
    let mut value = 0_u8;
    while (value as usize) < digits.len() {
        nibbles[digits[value as usize] as usize] = value;
        value += 1;
    }
    nibbles
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hexadecimal(algorithm: HashAlgorithm, octet: u8) -> String {
        hex::encode(vec![octet; algorithm.digest_octets()])
    }

    #[test]
    fn every_tag() {
        let (b, s) = (hexadecimal(HashAlgorithm::Blake2b, 1), hexadecimal(HashAlgorithm::Sha512, 2));
        let text = format!(
            "TIMESTAMP 2026-08-21T17:31:03Z\nIGNORE distfiles\nOPTIONAL ChangeLog\nDIST a%2Fb@1.tgz 12 BLAKE2B {b} SHA512 {s}\n\
             MANIFEST Manifest.files.gz 7 SHA512 {s} BLAKE2B {b}\nDATA a/b\\x20c 0 NEW7 xyz BLAKE2B {b}\n\n\
             MISC metadata.xml 1 BLAKE2B {b}\nEBUILD a-1.ebuild 1 BLAKE2B {b}\nAUX x/y.patch 1 BLAKE2B {b}\n"
        );
        let entries = parse(text.as_bytes()).unwrap().entries;
        assert_eq!(entries.len(), 9);
        assert_eq!(entries[0], Entry::Timestamp(1_787_333_463));
        let Entry::File(data) = &entries[5] else { panic!() };
        assert_eq!((data.tree_path().as_str(), data.digests.len()), ("a/b c", 1));
        let Entry::File(aux) = &entries[8] else { panic!() };
        assert_eq!(aux.tree_path(), "files/x/y.patch");
        let written: String = entries.iter().flat_map(|entry| [entry.to_string(), "\n".to_owned()]).collect();
        assert_eq!(parse(written.as_bytes()).unwrap().entries, entries);
    }

    #[test]
    fn errors_name_the_line_of_the_file() {
        let b = hexadecimal(HashAlgorithm::Blake2b, 1);
        let long = "x".repeat(LINE_OCTETS_MAX);
        for bad in [
            "RUBBISH a 1 MD5 x".to_owned(),
            "dist a 1".to_owned(),
            "DIST".to_owned(),
            "DIST a".to_owned(),
            format!("DIST a -1 BLAKE2B {b}"),
            format!("DIST a +1 BLAKE2B {b}"),
            format!("DIST a 18446744073709551616 BLAKE2B {b}"),
            "DIST a 1".to_owned(),
            "DIST a 1 BLAKE2B".to_owned(),
            "DIST a 1 BLAKE2B 00".to_owned(),
            "DIST a 1 NEW7 00".to_owned(),
            format!("DIST a 1 BLAKE2B {}", b.replace('0', "A")),
            format!("DIST a 1 BLAKE2B {b} BLAKE2B {b}"),
            format!("DIST a/b 1 BLAKE2B {b}"),
            format!("DIST .. 1 BLAKE2B {b}"),
            format!("DATA ../a 1 BLAKE2B {b}"),
            format!("DATA /a 1 BLAKE2B {b}"),
            format!("DATA a\\q 1 BLAKE2B {b}"),
            "IGNORE".to_owned(),
            "IGNORE a b".to_owned(),
            "TIMESTAMP yesterday".to_owned(),
            long,
        ] {
            let text = format!("IGNORE a\n\n{bad}\nIGNORE b\n");
            match parse(text.as_bytes()) {
                Err(Error::Line { line, .. }) => assert_eq!(line, 3, "{bad}"),
                other => panic!("{bad}: {other:?}"),
            }
        }
    }

    #[test]
    fn entries_go_on_after_a_broken_line() {
        let text = cleartext::strip(b"IGNORE a\nbroken\nIGNORE b\n").unwrap();
        let lines: Vec<_> = entries(&text).map(|(line, entry)| (line, entry.is_ok())).collect();
        assert_eq!(lines, [(1, true), (2, false), (3, true)]);
    }

    fn digests() -> impl Strategy<Value = Digests> {
        proptest::collection::btree_map(proptest::sample::select(&HashAlgorithm::ALL[..]), any::<u8>(), 1..4)
            .prop_map(|octets| {
                octets
                    .into_iter()
                    .map(|(algorithm, octet)| (algorithm, vec![octet; algorithm.digest_octets()]))
                    .collect()
            })
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let path = || {
            "[^/\\x00]{1,20}(/[^/\\x00]{1,20})?"
                .prop_filter_map("a path", |path| TreePath::try_from(path.as_str()).ok())
        };
        let name =
            any::<String>().prop_filter_map("a name", |name| DistfileName::try_from(name.as_str()).ok());
        let tag = proptest::sample::select(&FileTag::ALL[..]);
        prop_oneof![
            (0..253_402_300_800i64).prop_map(Entry::Timestamp),
            path().prop_map(Entry::Ignore),
            path().prop_map(Entry::Optional),
            (name, any::<u64>(), digests()).prop_map(|(name, size_bytes, digests)| Entry::Dist(Dist {
                name,
                size_bytes,
                digests
            })),
            (tag, path(), any::<u64>(), digests()).prop_map(|(tag, path, size_bytes, digests)| Entry::File(
                File { tag, path, size_bytes, digests }
            )),
        ]
    }

    proptest! {
        #[test]
        fn entries_come_back(entries in proptest::collection::vec(entry(), 0..5)) {
            let text: String = entries.iter().flat_map(|entry| [entry.to_string(), "\n".to_owned()]).collect();
            prop_assert_eq!(parse(text.as_bytes()).unwrap().entries, entries);
        }

        #[test]
        fn any_octets_are_a_manifest_or_an_error(octets: Vec<u8>, text in "(DIST|DATA|IGNORE) \\PC{0,30} [0-9]{1,3} (MD5|X) \\PC*") {
            drop(parse(&octets));
            drop(parse(text.as_bytes()));
        }
    }
}
