//! A tree of the size and shape of Gentoo's: packages in categories, each with a Manifest, metadata, ebuilds and
//! patches, and the cache entry of each ebuild. Texts compress as such texts do: they are made of words.

use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::probe::TIMESTAMP;

const CATEGORIES: usize = 170;
/// The youngest file's time, in seconds since 1970; the others' lie up to some years before.
const NEWEST_S: u64 = 1_787_000_000;
const AGES_S: u64 = 150_000_000;
const WORDS: [&str; 24] = [
    "src_configure",
    "econf",
    "DEPEND=",
    "RDEPEND=",
    "KEYWORDS=",
    "~amd64",
    "inherit",
    "autotools",
    "SLOT=",
    "IUSE=",
    "virtual/pkgconfig",
    "dev-libs/openssl",
    "sys-libs/zlib",
    "HOMEPAGE=",
    "DESCRIPTION=",
    "die",
    "python_gen_cond_dep",
    "EAPI=8",
    "patches",
    "default",
    "use_enable",
    "emake",
    "doc",
    "test",
];

/// What was laid out.
#[derive(Debug, Default)]
pub(super) struct LaidOut {
    files: usize,
    directories: usize,
    octets: usize,
}

impl fmt::Display for LaidOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files, {} directories, {} MB", self.files, self.directories, self.octets / 1_000_000)
    }
}

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or(0) % bound.max(1)
    }

    /// Words and a few digits, about so many octets.
    fn text(&mut self, octets: usize) -> String {
        let mut text = String::with_capacity(octets + 32);
        while text.len() < octets {
            text.push_str(WORDS[self.below(WORDS.len())]);
            match self.below(6) {
                0 => text.push('\n'),
                1 => put(&mut text, format_args!(" {:06x}\n", self.below(1 << 24))),
                _ => text.push(' '),
            }
        }
        text
    }

    /// Digests, as they fill Manifests.
    fn manifest(&mut self, lines: usize) -> String {
        let mut text = String::new();
        for line in 0..lines {
            put(&mut text, format_args!("DIST package-{line}.tar.xz {} BLAKE2B ", self.below(1 << 24)));
            (0..16).for_each(|_| put(&mut text, format_args!("{:016x}", self.next())));
            text.push('\n');
        }
        text
    }
}

fn put(text: &mut String, words: fmt::Arguments<'_>) {
    // Writing to a string can't fail.
    let _ = text.write_fmt(words);
}

pub(super) fn lay_out(tree: &Path, packages: usize) -> io::Result<LaidOut> {
    let mut layout = Layout { tree, numbers: Numbers(0x9E37_79B9_7F4A_7C15), done: LaidOut::default() };
    layout.directory("metadata")?;
    layout.file("metadata/timestamp.chk", TIMESTAMP)?;
    for category in 0..CATEGORIES {
        layout.directory(&format!("category-{category}"))?;
        layout.directory(&format!("metadata/md5-cache/category-{category}"))?;
    }
    for package in 0..packages {
        layout.package(
            &format!("category-{}", package * CATEGORIES / packages),
            &format!("package{package}"),
        )?;
    }
    Ok(layout.done)
}

struct Layout<'a> {
    tree: &'a Path,
    numbers: Numbers,
    done: LaidOut,
}

impl Layout<'_> {
    fn package(&mut self, category: &str, package: &str) -> io::Result<()> {
        let place = format!("{category}/{package}");
        self.directory(&place)?;
        self.directory(&format!("{place}/files"))?;
        let lines = 1 + self.numbers.below(6);
        let manifest = self.numbers.manifest(lines);
        self.file(&format!("{place}/Manifest"), &manifest)?;
        self.text_file(&format!("{place}/metadata.xml"), 300, 600)?;
        for version in 1..=2 {
            self.text_file(&format!("{place}/{package}-{version}.ebuild"), 700, 5000)?;
            self.text_file(&format!("metadata/md5-cache/{place}-{version}"), 500, 1500)?;
        }
        for patch in 0..2 + usize::from(self.numbers.below(2) == 0) {
            self.text_file(&format!("{place}/files/{package}-{patch}.patch"), 400, 6000)?;
        }
        Ok(())
    }

    fn directory(&mut self, path: &str) -> io::Result<()> {
        self.done.directories += 1;
        fs::create_dir_all(self.tree.join(path))
    }

    fn text_file(&mut self, path: &str, least: usize, more: usize) -> io::Result<()> {
        let octets = least + self.numbers.below(more);
        let text = self.numbers.text(octets);
        self.file(path, &text)
    }

    fn file(&mut self, path: &str, text: &str) -> io::Result<()> {
        let path = self.tree.join(path);
        fs::write(&path, text)?;
        let age = Duration::from_secs(self.numbers.next() % AGES_S);
        let written = SystemTime::UNIX_EPOCH + Duration::from_secs(NEWEST_S) - age;
        File::options().write(true).open(&path)?.set_modified(written)?;
        self.done.files += 1;
        self.done.octets += text.len();
        Ok(())
    }
}
