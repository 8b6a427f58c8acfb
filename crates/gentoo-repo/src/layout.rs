//! Where a distfile lies on a mirror, and the `layout.conf` that says so (GLEP 75, "Split distfile mirror directory
//! structure").

use std::fmt::Write as _;

use blake2::{Blake2b512, Digest as _};

use crate::{DistfileName, Error};

/// What `distfiles/layout.conf` of a mirror with both layouts holds: hashed directories first, as the public mirrors
/// say it, and the old flat one for those who ask for it.
pub const MIRROR_LAYOUT_CONF: &str = "[structure]\n0=filename-hash BLAKE2B 8\n1=flat\n";

/// Longer than any real `layout.conf`.
pub const OCTETS_MAX: usize = 64 << 10;

/// One way to lay out a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// `flat`: every file directly below `distfiles/`.
    Flat,
    /// `filename-hash BLAKE2B CUTOFFS`: below directories named by the first bits of the name's digest.
    FilenameHash {
        /// Bits per directory level, each a multiple of 4, at most 512 together.
        cutoffs_bits: Vec<u16>,
    },
}

impl Layout {
    /// The path of `name` below `distfiles/`. It is a path, not a URL: the name is not percent-encoded.
    #[must_use]
    pub fn path(&self, name: &DistfileName) -> String {
        match self {
            Self::Flat => name.to_string(),
            Self::FilenameHash { cutoffs_bits } => {
                let digits = hex::encode(Blake2b512::digest(name.as_str().as_bytes()));
                let mut rest = digits.as_str();
                let mut path = String::new();
                for bits in cutoffs_bits {
                    let (directory, further) = rest.split_at(rest.len().min(usize::from(bits / 4)));
                    path.push_str(directory);
                    path.push('/');
                    rest = further;
                }
                path.push_str(name.as_str());
                path
            }
        }
    }

    /// Reads the words after `N=`; `None` for a layout that this crate cannot compute.
    fn from_words(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let layout = match words.next()? {
            "flat" => Self::Flat,
            "filename-hash" if words.next() == Some("BLAKE2B") => {
                let cutoffs =
                    words.next()?.split(':').map(|bits| bits.parse::<u16>().ok().filter(|b| b % 4 == 0));
                let cutoffs_bits = cutoffs.collect::<Option<Vec<_>>>()?;
                let total: u32 = cutoffs_bits.iter().copied().map(u32::from).sum();
                (total <= 512 && !cutoffs_bits.contains(&0)).then_some(Self::FilenameHash { cutoffs_bits })?
            }
            _ => return None,
        };
        words.next().is_none().then_some(layout)
    }
}

/// Reads a mirror's `distfiles/layout.conf`: the layouts that this crate can compute, in the mirror's order of
/// preference. Layouts of other kinds are left out, as Portage does. Empty means flat.
///
/// # Errors
/// [`Error::Line`] if there is no `[structure]`, if an entry of it is not `N = LAYOUT…`, or for what is not UTF-8;
/// [`Error::TooLong`] beyond [`OCTETS_MAX`].
pub fn parse_mirror_layout_conf(octets: &[u8]) -> Result<Vec<Layout>, Error> {
    if octets.len() > OCTETS_MAX {
        return Err(Error::TooLong { what: "layout.conf", max: OCTETS_MAX, found: octets.len() });
    }
    let mut entries = std::collections::BTreeMap::new();
    let (mut seen, mut inside) = (false, false);
    for (index, line) in octets.split(|octet| *octet == b'\n').enumerate() {
        let refused = |expected| Error::line(index + 1, expected, line);
        let text = std::str::from_utf8(line).map_err(|_| refused("UTF-8"))?.trim();
        if text.is_empty() || text.starts_with(['#', ';']) {
            continue;
        }
        if text.starts_with('[') {
            inside = text == "[structure]";
            seen |= inside;
        } else if inside {
            let (number, layout) = text.split_once('=').ok_or_else(|| refused("N = LAYOUT"))?;
            let number: u32 = number.trim().parse().map_err(|_| refused("N = LAYOUT"))?;
            entries.insert(number, Layout::from_words(layout));
        }
    }
    if !seen {
        return Err(Error::line(1, "[structure]", b""));
    }
    // A gap in the numbers ends the list.
    Ok((0..).map_while(|number| entries.remove(&number)).flatten().collect())
}

/// Writes a mirror's `distfiles/layout.conf`.
#[must_use]
pub fn format_mirror_layout_conf(layouts: &[Layout]) -> String {
    let mut text = "[structure]\n".to_owned();
    for (number, layout) in layouts.iter().enumerate() {
        // Writing to a String cannot fail.
        let _infallible = match layout {
            Layout::Flat => writeln!(text, "{number}=flat"),
            Layout::FilenameHash { cutoffs_bits } => {
                let bits: Vec<_> = cutoffs_bits.iter().map(ToString::to_string).collect();
                writeln!(text, "{number}=filename-hash BLAKE2B {}", bits.join(":"))
            }
        };
    }
    text
}

/// The two hexadecimal digits of the directory that holds `name` under `filename-hash BLAKE2B 8`.
#[must_use]
pub fn hash_directory(name: &DistfileName) -> String {
    hex::encode(&Blake2b512::digest(name.as_str().as_bytes())[..1])
}

/// The path of `name` below `distfiles/` under `filename-hash BLAKE2B 8`: `ab/foo-1.tar.gz`.
///
/// It is a path, not a URL: the name is not percent-encoded.
#[must_use]
pub fn hash_path(name: &DistfileName) -> String {
    format!("{}/{name}", hash_directory(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_directory_is_what_b2sum_prints_first() {
        // printf %s NAME | b2sum | cut -c1-4
        for (name, first, second) in [
            ("foo-1.tar.gz", "1b", "32"),
            ("gtk+-3.24.41.tar.xz", "b1", "c4"),
            ("a%2Fb@1.tgz", "e2", "25"),
            ("x{y}.zip", "33", "3a"),
        ] {
            let name: DistfileName = name.parse().unwrap();
            assert_eq!(hash_path(&name), format!("{first}/{name}"));
            assert_eq!(Layout::FilenameHash { cutoffs_bits: vec![8] }.path(&name), hash_path(&name));
            let two = Layout::FilenameHash { cutoffs_bits: vec![8, 8] };
            assert_eq!(two.path(&name), format!("{first}/{second}/{name}"));
            assert_eq!(Layout::Flat.path(&name), name.as_str());
        }
    }

    #[test]
    fn our_own_layout_conf_reads_back() {
        let layouts = parse_mirror_layout_conf(MIRROR_LAYOUT_CONF.as_bytes()).unwrap();
        assert_eq!(layouts, [Layout::FilenameHash { cutoffs_bits: vec![8] }, Layout::Flat]);
        assert_eq!(format_mirror_layout_conf(&layouts), MIRROR_LAYOUT_CONF);
    }

    #[test]
    fn layouts_of_other_kinds_are_left_out_and_a_gap_ends_the_list() {
        let text = b"# x\n[other]\nrubbish\n[structure]\n1 = flat\n0 = content-hash SHA512 8:8:8\n3=flat\n";
        assert_eq!(parse_mirror_layout_conf(text).unwrap(), [Layout::Flat]);
        for text in ["", "<html>", "[structure]\nx=flat", "[structure]\nflat"] {
            assert!(parse_mirror_layout_conf(text.as_bytes()).is_err(), "{text}");
        }
        let odd = b"[structure]\n0=filename-hash BLAKE2B 7\n1=filename-hash MD5 8\n2=filename-hash BLAKE2B 8:1000\n";
        assert_eq!(parse_mirror_layout_conf(odd).unwrap(), []);
    }

    proptest! {
        #[test]
        fn layouts_come_back(layouts in proptest::collection::vec(prop_oneof![
            Just(Layout::Flat),
            proptest::collection::vec((1u16..9).prop_map(|digits| digits * 4), 1..5)
                .prop_map(|cutoffs_bits| Layout::FilenameHash { cutoffs_bits }),
        ], 0..5)) {
            prop_assert_eq!(parse_mirror_layout_conf(format_mirror_layout_conf(&layouts).as_bytes()), Ok(layouts));
        }

        #[test]
        fn any_octets_are_layouts_or_an_error(octets: Vec<u8>, text in "\\[structure\\]\n(0=[ a-z:0-9]*\n)?\\PC*") {
            drop(parse_mirror_layout_conf(&octets));
            drop(parse_mirror_layout_conf(text.as_bytes()));
        }
    }
}
