//! Everything outside the packages: profiles, licences, eclasses, metadata.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;

use super::plan::{self, MIRRORS, Package};
use super::write::Writer;
use super::{PROFILE, REPOSITORY, TreeSpec, mtime_s, timestamp_s};

const LAYOUT_CONF: &str = "\
masters =
repo-name = gentoo
thin-manifests = true
sign-manifests = false
manifest-hashes = BLAKE2B SHA512
manifest-required-hashes = BLAKE2B
cache-formats = md5-dict
profile-formats = portage-2
";

const MAKE_DEFAULTS: &str = "\
ARCH=\"amd64\"
ACCEPT_KEYWORDS=\"amd64\"
CHOST=\"x86_64-pc-linux-gnu\"
ELIBC=\"glibc\"
KERNEL=\"linux\"
IUSE_IMPLICIT=\"prefix\"
USE_EXPAND=\"ELIBC KERNEL\"
USE_EXPAND_UNPREFIXED=\"ARCH\"
USE_EXPAND_IMPLICIT=\"ARCH ELIBC KERNEL\"
USE_EXPAND_VALUES_ARCH=\"amd64 arm64\"
USE_EXPAND_VALUES_ELIBC=\"glibc\"
USE_EXPAND_VALUES_KERNEL=\"linux\"
";

pub(super) fn write_skeleton(spec: &TreeSpec, packages: &[Package], writer: &mut Writer) -> io::Result<()> {
    let mut file =
        |path: &str, text: &str, revision| writer.file(path, text.as_bytes(), mtime_s(spec, path, revision));
    file("metadata/layout.conf", LAYOUT_CONF, 0)?;
    file("profiles/repo_name", &format!("{REPOSITORY}\n"), 0)?;
    file("profiles/eapi", "8\n", 0)?;
    file("profiles/arch.list", "amd64\narm64\n", 0)?;
    file("profiles/arches.desc", "amd64 stable\narm64 testing\n", 0)?;
    file("profiles/profiles.desc", &format!("amd64 {PROFILE} stable\n"), 0)?;
    file("profiles/license_groups", "FREE MIT Apache-2.0 GPL-2 BSD\nEULA Generated-EULA\n", 0)?;
    file("profiles/use.desc", "doc - Documentation\ntest - Tests\n", 0)?;
    file("profiles/package.mask", "# Nothing is masked\n", 0)?;
    file(&format!("profiles/{PROFILE}/eapi"), "8\n", 0)?;
    file(&format!("profiles/{PROFILE}/make.defaults"), MAKE_DEFAULTS, 0)?;
    for licence in ["MIT", "Apache-2.0", "GPL-2", "BSD", "Generated-EULA"] {
        file(&format!("licenses/{licence}"), "A stand-in for the licence's text.\n", 0)?;
    }
    let used: BTreeSet<&str> = packages.iter().map(|package| package.category.as_str()).collect();
    let categories: Vec<&str> = plan::categories().into_iter().filter(|name| used.contains(name)).collect();
    file("profiles/categories", &lines(&categories), 0)?;
    file("profiles/thirdpartymirrors", &thirdpartymirrors(spec), 0)?;
    let timestamp = rfc822(timestamp_s(spec, spec.revision));
    file("metadata/timestamp.chk", &format!("{timestamp}\n"), spec.revision)?;
    file(
        "metadata/timestamp.x",
        &format!("{} {timestamp}\n", timestamp_s(spec, spec.revision)),
        spec.revision,
    )
}

fn lines(names: &[&str]) -> String {
    names.iter().fold(String::new(), |mut text, name| {
        text.push_str(name);
        text.push('\n');
        text
    })
}

fn thirdpartymirrors(spec: &TreeSpec) -> String {
    let mut text = String::from("# name, white space, URLs\n");
    for mirror in MIRRORS {
        let [first, second] = plan::mirror_urls(spec, mirror);
        // Writing to a String can't fail.
        let _ = writeln!(text, "{mirror}\t{first} {second}");
    }
    text
}

/// A time as `metadata/timestamp.chk` writes it: `Thu, 15 Jan 2026 12:00:00 +0000`.
fn rfc822(timestamp_s: i64) -> String {
    let time = jiff::Timestamp::from_second(timestamp_s).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}
