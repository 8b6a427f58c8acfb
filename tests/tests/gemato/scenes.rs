//! The trees that both verifiers are asked about.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use blake2::Digest as _;
use gentoo_repo::{HashAlgorithm, Hashers};
use rookery_tests::program;
use rookery_tests::signed::{
    EBUILD, PACKAGE, PATCH, Scene, Signer, damaged, good, line, package, with_package, with_top, write,
};
use sha2::Sha512;

const EBUILD_PATH: &str = "app-misc/a/a-1.ebuild";

/// Each scene: its name, the tree, and what our refusal starts with; empty if the tree is good.
pub(super) fn all() -> Result<Vec<(String, Scene, &'static str)>> {
    let damages = damages()?.into_iter().map(|(name, scene, expected)| (name.to_owned(), scene, expected));
    Ok(damages.chain(algorithms()).collect())
}

/// A Manifest's line for the ebuild with these digests alone, the last of them wrong if `is_wrong`.
fn ebuild_with(algorithms: &[HashAlgorithm], is_wrong: bool) -> String {
    let mut text = format!("EBUILD a-1.ebuild {}", EBUILD.len());
    for (at, &algorithm) in algorithms.iter().enumerate() {
        let mut hashers = Hashers::new([algorithm]);
        let is_last = at + 1 == algorithms.len();
        hashers.update(if is_wrong && is_last { PATCH } else { EBUILD });
        text.push(' ');
        text.push_str(&hashers.finish().to_string());
    }
    text + "\n"
}

/// The package's Manifest with that line in the place of the usual one.
fn package_with(ebuild: &str) -> Scene {
    with_package(package().replace(&line("EBUILD", "a-1.ebuild", EBUILD), ebuild))
}

/// For every algorithm, a tree whose ebuild has its digest beside SHA512, right and wrong.
fn algorithms() -> impl Iterator<Item = (String, Scene, &'static str)> {
    let both = HashAlgorithm::ALL.into_iter().filter(|&algorithm| algorithm != HashAlgorithm::Sha512);
    both.flat_map(|algorithm| {
        let scene = |is_wrong| package_with(&ebuild_with(&[HashAlgorithm::Sha512, algorithm], is_wrong));
        [(format!("{algorithm}"), scene(false), ""), (format!("wrong {algorithm}"), scene(true), EBUILD_PATH)]
    })
}

/// A tree whose package's Manifest has another name and these octets.
fn other_name(package_name: &'static str, octets: Vec<u8>) -> Scene {
    Scene { package_name, package: octets, ..good() }
}

/// The good package's Manifest, packed by Python's own modules, as gemato unpacks it.
fn compressed(format: &str) -> Result<Vec<u8>> {
    let code = match format {
        "gz" => "import gzip; pack = gzip.compress",
        "bz2" => "import bz2; pack = bz2.compress",
        "xz" => "import lzma; pack = lzma.compress",
        _ => "import lzma; pack = lambda octets: lzma.compress(octets, format=lzma.FORMAT_ALONE)",
    };
    let code = format!("import sys; {code}; sys.stdout.buffer.write(pack(sys.stdin.buffer.read()))");
    let mut python = program::stock("python3");
    let mut python = python.args(["-c", &code]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    python.stdin.take().context("its input")?.write_all(package().as_bytes())?;
    let output = python.wait_with_output()?;
    ensure!(output.status.success(), "python3: {}", output.status);
    Ok(output.stdout)
}

/// Without its last third.
fn cut(mut octets: Vec<u8>) -> Vec<u8> {
    octets.truncate(octets.len() * 2 / 3);
    octets
}

/// A line with its digests in capitals.
fn capitals(line: &str) -> String {
    let words = line
        .split(' ')
        .map(|word| if word.trim_end().len() == 128 { word.to_uppercase() } else { word.to_owned() });
    words.collect::<Vec<_>>().join(" ")
}

/// Each scene: its name, the tree, and the path that the refusal starts with; empty if the tree is good.
#[allow(clippy::too_many_lines, reason = "a table")]
fn damages() -> Result<Vec<(&'static str, Scene, &'static str)>> {
    let linked = line("MANIFEST", "app-misc/b/Manifest", package().as_bytes());
    let zeros = "00".repeat(64);
    let half = package().len() / 2;
    let other_sha512 = {
        let right = hex::encode(Sha512::digest(EBUILD));
        package().replace(&right, &zeros)
    };
    let only = |algorithms: &[HashAlgorithm]| package_with(&ebuild_with(algorithms, false));
    let ebuild = line("EBUILD", "a-1.ebuild", EBUILD);
    let half_lines = |first: &[HashAlgorithm], second: &[HashAlgorithm], is_wrong| {
        package_with(&(ebuild_with(first, false) + &ebuild_with(second, is_wrong)))
    };
    Ok(vec![
        ("good", good(), ""),
        (
            "flipped byte",
            damaged(|dir| write(&dir.join("app-misc/a/a-1.ebuild"), b"EAPI=7\n")),
            "app-misc/a/a-1.ebuild",
        ),
        (
            "wrong size",
            damaged(|dir| write(&dir.join("app-misc/a/files/fix.patch"), b"+fix!\n")),
            "app-misc/a/files/fix.patch",
        ),
        (
            "missing",
            damaged(|dir| Ok(fs::remove_file(dir.join("profiles/repo_name"))?)),
            "profiles/repo_name",
        ),
        ("stray", damaged(|dir| write(&dir.join("app-misc/a/a-2.ebuild"), EBUILD)), "app-misc/a/a-2.ebuild"),
        ("stray directory", damaged(|dir| write(&dir.join("new/file"), EBUILD)), "new/file"),
        ("hidden stray", damaged(|dir| write(&dir.join(".hidden/file"), EBUILD)), ""),
        ("ignored stray", damaged(|dir| write(&dir.join("distfiles/x"), EBUILD)), ""),
        (
            "a file where a directory was",
            damaged(|dir| {
                fs::remove_dir_all(dir.join("app-misc/a/files"))?;
                write(&dir.join("app-misc/a/files"), b"")
            }),
            "app-misc/a/files",
        ),
        (
            "bad signature",
            damaged(|dir| {
                let text = fs::read_to_string(dir.join("Manifest"))?;
                Ok(fs::write(dir.join("Manifest"), text.replace("IGNORE distfiles", "IGNORE app-misc"))?)
            }),
            "Manifest",
        ),
        (
            "cut signature",
            damaged(|dir| {
                let octets = fs::read(dir.join("Manifest"))?;
                Ok(fs::write(dir.join("Manifest"), &octets[..octets.len() - 60])?)
            }),
            "Manifest",
        ),
        (
            "text before the signed text",
            damaged(|dir| {
                let text = fs::read_to_string(dir.join("Manifest"))?;
                Ok(fs::write(dir.join("Manifest"), format!("IGNORE app-misc\n{text}"))?)
            }),
            "Manifest",
        ),
        ("not signed", Scene { signer: Signer::Nobody, ..good() }, "Manifest"),
        ("no Manifest", damaged(|dir| Ok(fs::remove_file(dir.join("Manifest"))?)), "Manifest"),
        ("expired key", Scene { signer: Signer::Expired, ..good() }, "Manifest"),
        ("key that has expired since", Scene { signer: Signer::Outlived, ..good() }, "Manifest"),
        ("unknown key", Scene { signer: Signer::Unknown, ..good() }, "Manifest"),
        (
            "truncated sub-Manifest",
            damaged(|dir| {
                let octets = fs::read(dir.join(PACKAGE))?;
                Ok(fs::write(dir.join(PACKAGE), &octets[..octets.len() / 2])?)
            }),
            PACKAGE,
        ),
        ("missing sub-Manifest", damaged(|dir| Ok(fs::remove_file(dir.join(PACKAGE))?)), PACKAGE),
        ("sub-Manifest signed when truncated", with_package(&package().as_bytes()[..half]), PACKAGE),
        ("an unknown tag", with_package(package() + "NEWTAG a 1\n"), PACKAGE),
        ("a line of 1 MB", with_package(package() + &"x".repeat(1 << 20) + "\n"), PACKAGE),
        ("the same entry twice", with_package(package() + &line("EBUILD", "a-1.ebuild", EBUILD)), ""),
        (
            "duplicate entry that contradicts",
            with_package(package() + &line("EBUILD", "a-1.ebuild", PATCH)),
            PACKAGE,
        ),
        (
            "duplicate entry of another Manifest",
            with_top(&line("DATA", "app-misc/a/a-1.ebuild", PATCH)),
            PACKAGE,
        ),
        ("one wrong digest of two", with_package(other_sha512), "app-misc/a/a-1.ebuild"),
        ("a path out of the tree", with_top(&line("DATA", "../x", EBUILD)), "Manifest"),
        ("an absolute path", with_top(&line("DATA", "/etc/passwd", EBUILD)), "Manifest"),
        ("no size", with_package(package() + "DATA x\n"), PACKAGE),
        ("a negative size", with_package(package() + &format!("DATA x -1 SHA512 {zeros}\n")), PACKAGE),
        ("a wrong TIMESTAMP", Scene { top: "TIMESTAMP yesterday\n".to_owned(), ..good() }, "Manifest"),
        (
            "rubbish as a compressed sub-Manifest",
            Scene { package_name: "app-misc/a/Manifest.gz", ..good() },
            "app-misc/a/Manifest.gz",
        ),
        (
            "a key of a time to come",
            Scene { signer: Signer::Unborn, ..good() },
            "Manifest: signed at a time that has not come",
        ),
        ("a signature of a time to come", Scene { signer: Signer::Early, ..good() }, ""),
        ("digests of broken functions alone", only(&[HashAlgorithm::Sha1, HashAlgorithm::Md5]), EBUILD_PATH),
        ("RMD160 alone", only(&[HashAlgorithm::Rmd160]), EBUILD_PATH),
        ("STREEBOG512 alone", only(&[HashAlgorithm::Streebog512]), ""),
        (
            "a digest of an unknown function alone",
            package_with(&format!("EBUILD a-1.ebuild 7 NEW1 {zeros}\n")),
            PACKAGE,
        ),
        (
            "a digest of an unknown function beside a known one",
            package_with(&ebuild.replace(" SHA512", " NEW1 00 SHA512")),
            "",
        ),
        (
            "the same digest twice in a line",
            package_with(&(ebuild.trim_end().to_owned() + &ebuild[ebuild.find(" SHA512").unwrap_or(0)..])),
            PACKAGE,
        ),
        ("no digest", package_with("EBUILD a-1.ebuild 7\n"), PACKAGE),
        ("a digest in capitals", package_with(&capitals(&ebuild)), PACKAGE),
        (
            "two lines without a common digest",
            half_lines(&[HashAlgorithm::Blake2b], &[HashAlgorithm::Sha512], false),
            "",
        ),
        (
            "two lines without a common digest, the second wrong",
            half_lines(&[HashAlgorithm::Blake2b], &[HashAlgorithm::Sha512], true),
            EBUILD_PATH,
        ),
        ("DATA and EBUILD of one file", with_package(package() + &line("DATA", "a-1.ebuild", EBUILD)), ""),
        ("AUX and DATA of one file", with_package(package() + &line("DATA", "files/fix.patch", PATCH)), ""),
        ("MISC alone", package_with(&ebuild.replace("EBUILD", "MISC")), ""),
        ("MISC and DATA of one file", with_package(package() + &line("MISC", "a-1.ebuild", EBUILD)), PACKAGE),
        ("ignored and listed", with_package(package() + "IGNORE a-1.ebuild\n"), PACKAGE),
        ("ignored above and listed, right", with_top("IGNORE app-misc/a/files\n"), ""),
        (
            "ignored above and listed, wrong",
            Scene {
                afterwards: |dir| write(&dir.join("app-misc/a/files/fix.patch"), b"-fix\n"),
                ..with_top("IGNORE app-misc/a/files\n")
            },
            "app-misc/a/files/fix.patch",
        ),
        ("ignored and missing", with_top("IGNORE nothing/here\n"), ""),
        ("a path that may be missing", with_top("OPTIONAL ChangeLog\n"), ""),
        ("a TIMESTAMP further down", with_package(package() + "TIMESTAMP 2027-01-01T00:00:00Z\n"), ""),
        ("no TIMESTAMP", Scene { top: String::new(), ..good() }, ""),
        (
            "a link to a file that is listed",
            damaged(|dir| {
                fs::rename(dir.join("profiles/repo_name"), dir.join("profiles/.name"))?;
                Ok(symlink(".name", dir.join("profiles/repo_name"))?)
            }),
            "",
        ),
        (
            "a link to a file with other contents",
            damaged(|dir| {
                fs::remove_file(dir.join("profiles/repo_name"))?;
                Ok(symlink("../app-misc/metadata.xml", dir.join("profiles/repo_name"))?)
            }),
            "profiles/repo_name",
        ),
        (
            "a link that no line names",
            damaged(|dir| Ok(symlink("repo_name", dir.join("profiles/name"))?)),
            "profiles/name",
        ),
        (
            "a link to nothing",
            damaged(|dir| Ok(symlink("nothing", dir.join("profiles/name"))?)),
            "profiles/name",
        ),
        (
            "a link out of the tree",
            damaged(|dir| {
                fs::rename(dir.join("profiles/repo_name"), dir.join("profiles/.name"))?;
                Ok(symlink(dir.join("profiles/.name"), dir.join("profiles/repo_name"))?)
            }),
            "profiles/repo_name",
        ),
        (
            "a link to a directory, all of which is listed",
            Scene { afterwards: |dir| Ok(symlink("a", dir.join("app-misc/b"))?), ..with_top(&linked) },
            "",
        ),
        (
            "a link to a directory by way of others",
            Scene {
                afterwards: |dir| {
                    fs::create_dir(dir.join(".links"))?;
                    symlink("../.links/next", dir.join("app-misc/b"))?;
                    Ok(symlink("../profiles/../app-misc/./a/", dir.join(".links/next"))?)
                },
                ..with_top(&linked)
            },
            "",
        ),
        (
            "a link to a directory that is listed otherwise",
            Scene {
                afterwards: |dir| Ok(symlink("a", dir.join("app-misc/b"))?),
                ..with_top(&line("MANIFEST", "app-misc/b/Manifest", b"DIST x 1\n"))
            },
            "app-misc/b/Manifest",
        ),
        (
            "a link to a directory that no line names",
            damaged(|dir| Ok(symlink("a", dir.join("app-misc/b"))?)),
            "app-misc/b/",
        ),
        (
            "a link to an empty directory",
            damaged(|dir| {
                fs::create_dir(dir.join(".empty"))?;
                Ok(symlink("../.empty", dir.join("app-misc/b"))?)
            }),
            "",
        ),
        (
            "a link to the directory that it is in",
            damaged(|dir| Ok(symlink(".", dir.join("app-misc/b"))?)),
            "app-misc/b",
        ),
        (
            "two links to each other's directory",
            damaged(|dir| {
                symlink("../profiles", dir.join("app-misc/b"))?;
                Ok(symlink("../app-misc", dir.join("profiles/c"))?)
            }),
            "profiles/c/",
        ),
        (
            "an ignored link to the directory that it is in",
            Scene {
                afterwards: |dir| Ok(symlink(".", dir.join("app-misc/b"))?),
                ..with_top("IGNORE app-misc/b\n")
            },
            "",
        ),
        (
            "a link to a directory in the place of a listed file",
            damaged(|dir| {
                fs::remove_file(dir.join("profiles/repo_name"))?;
                fs::create_dir(dir.join(".empty"))?;
                Ok(symlink("../.empty", dir.join("profiles/repo_name"))?)
            }),
            "profiles/repo_name",
        ),
        (
            "a link in the place of a sub-Manifest",
            damaged(|dir| {
                fs::rename(dir.join(PACKAGE), dir.join("app-misc/a/.Manifest"))?;
                Ok(symlink(".Manifest", dir.join(PACKAGE))?)
            }),
            "",
        ),
        ("a Manifest of another name", other_name("app-misc/a/list", package().into_bytes()), ""),
        ("a Manifest of another name, compressed", other_name("app-misc/a/list.gz", compressed("gz")?), ""),
        ("sub-Manifest in gzip", other_name("app-misc/a/Manifest.gz", compressed("gz")?), ""),
        ("sub-Manifest in bzip2", other_name("app-misc/a/Manifest.bz2", compressed("bz2")?), ""),
        ("sub-Manifest in xz", other_name("app-misc/a/Manifest.xz", compressed("xz")?), ""),
        ("sub-Manifest in lzma", other_name("app-misc/a/Manifest.lzma", compressed("lzma")?), ""),
        (
            "sub-Manifest in zstd",
            other_name("app-misc/a/Manifest.zst", zstd::encode_all(package().as_bytes(), 1)?),
            "",
        ),
        (
            "sub-Manifest in gzip, cut",
            other_name("app-misc/a/Manifest.gz", cut(compressed("gz")?)),
            "app-misc/a/Manifest.gz",
        ),
        (
            "sub-Manifest in bzip2, cut",
            other_name("app-misc/a/Manifest.bz2", cut(compressed("bz2")?)),
            "app-misc/a/Manifest.bz2",
        ),
        (
            "sub-Manifest in xz, cut",
            other_name("app-misc/a/Manifest.xz", cut(compressed("xz")?)),
            "app-misc/a/Manifest.xz",
        ),
    ])
}
