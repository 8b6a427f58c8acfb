//! The same signed trees, good and damaged, before our verification and gemato's: the same verdicts, and ours
//! names the path.
#![allow(clippy::print_stdout, reason = "the table of verdicts is for people")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use blake2::{Blake2b512, Digest as _};
use rookery_tests::program;
use sha2::Sha512;
use tree_store::{BuildRequest, Built, Excludes, Keyring, Store, Verify};

const TIMESTAMP: &str = "TIMESTAMP 2026-08-21T17:31:03Z\n";
const OUTLIVED: Option<&str> = Some("20200101T000000");
const PACKAGE: &str = "app-misc/a/Manifest";

/// What both verifiers are given.
struct Rig {
    scratch: tempfile::TempDir,
    gemato: PathBuf,
}

/// Who signs, and what is in the key file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signer {
    Trusted,
    Unknown,
    /// The key had expired when it signed.
    Expired,
    /// It has expired since.
    Outlived,
    Nobody,
}

/// One tree: its files, and what the top-level Manifest says beyond the lines for them.
struct Scene {
    files: Vec<(&'static str, Vec<u8>)>,
    /// The package's Manifest; the top-level one names it as it is.
    package: Vec<u8>,
    package_name: &'static str,
    top: String,
    signer: Signer,
    /// What happens to the tree after it was signed.
    afterwards: fn(&Path) -> Result<()>,
}

impl Rig {
    fn create() -> Result<Self> {
        let Some(wheels) = std::env::var_os("ROOKERY_TEST_WHEELS") else {
            bail!("ROOKERY_TEST_WHEELS is not set: `cargo xtask test` downloads gemato and sets it");
        };
        let scratch = tempfile::tempdir()?;
        let environment = scratch.path().join("venv");
        run(program::stock("python3").args(["-m", "venv"]).arg(&environment))?;
        let mut pip = Command::new(environment.join("bin/pip"));
        pip.args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-index",
            "--no-deps",
            "--find-links",
        ]);
        run(pip.arg(wheels).arg("gemato==20.15"))?;
        let rig = Self { gemato: environment.join("bin/gemato"), scratch };
        for (name, time, expiry) in [
            ("trusted", None, "never"),
            ("unknown", None, "never"),
            ("outlived", OUTLIVED, "1d"),
            ("late", OUTLIVED, "never"),
        ] {
            let home = rig.home(name);
            fs::create_dir_all(&home)?;
            run(rig.gpg(name, time).args(["--quick-generate-key", name, "ed25519", "sign", expiry]))?;
            run(rig.gpg(name, None).args(["--armor", "--output"]).arg(rig.key(name)).arg("--export"))?;
        }
        rig.let_expire("late", "expired")?;
        Ok(rig)
    }

    /// Writes the key of a signer as it would be if it had been made to expire before it signed.
    fn let_expire(&self, signer: &str, name: &str) -> Result<()> {
        run(Command::new("cp").arg("-r").arg(self.home(signer)).arg(self.home(name)))?;
        let listed = self.gpg(name, None).args(["--with-colons", "--list-keys"]).output()?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let line = listed.lines().find(|line| line.starts_with("fpr:")).context("a key")?;
        let fingerprint = line.split(':').nth(9).context("a fingerprint")?;
        run(self.gpg(name, Some("20200101T000005")).args(["--quick-set-expire", fingerprint, "1d"]))?;
        run(self.gpg(name, None).args(["--armor", "--output"]).arg(self.key(name)).arg("--export"))
    }

    fn home(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn key(&self, name: &str) -> PathBuf {
        self.scratch.path().join(format!("{name}.asc"))
    }

    fn gpg(&self, name: &str, time: Option<&str>) -> Command {
        let mut gpg = program::stock("gpg");
        gpg.args([
            "--batch",
            "--quiet",
            "--no-tty",
            "--yes",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
        ]);
        gpg.arg("--homedir").arg(self.home(name));
        if let Some(time) = time {
            gpg.args(["--faked-system-time", time]);
        }
        gpg
    }

    /// Writes the tree to an empty directory.
    fn lay_out(&self, scene: &Scene, dir: &Path) -> Result<()> {
        let mut top = String::new();
        for (path, octets) in &scene.files {
            write(&dir.join(path), octets)?;
            if !path.starts_with("app-misc/a/") {
                top += &line("DATA", path, octets);
            }
        }
        write(&dir.join("metadata/timestamp.chk"), b"Fri, 21 Aug 2026 17:31:03 +0000\n")?;
        write(&dir.join(scene.package_name), &scene.package)?;
        top += "IGNORE metadata/timestamp.chk\nIGNORE distfiles\n";
        top += &line("MANIFEST", scene.package_name, &scene.package);
        top += &scene.top;
        let manifest = dir.join("Manifest");
        fs::write(&manifest, top)?;
        let (name, time) = match scene.signer {
            Signer::Trusted => ("trusted", None),
            Signer::Unknown => ("unknown", None),
            Signer::Outlived => ("outlived", Some("20200101T000010")),
            Signer::Expired => ("late", Some("20200110T000000")),
            Signer::Nobody => return (scene.afterwards)(dir),
        };
        let signed = self.scratch.path().join("signed");
        run(self.gpg(name, time).arg("--output").arg(&signed).arg("--clearsign").arg(&manifest))?;
        fs::copy(&signed, &manifest)?;
        (scene.afterwards)(dir)
    }

    /// The key file that a scene's verifiers have.
    fn key_of(&self, scene: &Scene) -> PathBuf {
        self.key(match scene.signer {
            Signer::Expired => "expired",
            Signer::Outlived => "outlived",
            Signer::Trusted | Signer::Unknown | Signer::Nobody => "trusted",
        })
    }

    /// gemato's verdict, with its last words.
    fn ask_gemato(&self, scene: &Scene, dir: &Path) -> Result<Result<(), String>> {
        let mut gemato = Command::new(&self.gemato);
        gemato.args(["verify", "--require-signed-manifest", "--no-refresh-keys", "--openpgp-key"]);
        let output = gemato.arg(self.key_of(scene)).arg(dir).output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let words = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
        Ok(if output.status.success() { Ok(()) } else { Err(words) })
    }

    /// Our verdict.
    fn ask_ourselves(&self, scene: &Scene, dir: &Path) -> Result<Result<(), String>> {
        let state = tempfile::tempdir()?;
        let store = Store::open(state.path(), "m".parse()?)?;
        let request = BuildRequest {
            source: dir,
            excludes: &Excludes::new::<&str>([])?,
            started: SystemTime::now(),
            afresh: false,
            stop: &AtomicBool::new(false),
        };
        let Built::Candidate(candidate) = store.build(&request)? else { bail!("nothing to build") };
        let mode = Verify::Signed(Keyring::open(&self.key_of(scene))?);
        Ok(tree_store::verify(&candidate, None, &mode, &[]).map(drop).map_err(|error| error.to_string()))
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn write(path: &Path, octets: &[u8]) -> Result<()> {
    fs::create_dir_all(path.parent().context("a path below the tree")?)?;
    Ok(fs::write(path, octets)?)
}

fn line(tag: &str, path: &str, octets: &[u8]) -> String {
    let (blake2b, sha512) = (hex::encode(Blake2b512::digest(octets)), hex::encode(Sha512::digest(octets)));
    format!("{tag} {path} {} BLAKE2B {blake2b} SHA512 {sha512}\n", octets.len())
}

const EBUILD: &[u8] = b"EAPI=8\n";
const PATCH: &[u8] = b"+fix\n";

fn package() -> String {
    format!(
        "{}{}{}",
        line("DIST", "a-1.tgz", b"x"),
        line("EBUILD", "a-1.ebuild", EBUILD),
        line("AUX", "fix.patch", PATCH)
    )
}

fn good() -> Scene {
    Scene {
        files: vec![
            ("profiles/repo_name", b"test\n".to_vec()),
            ("app-misc/metadata.xml", b"<x/>\n".to_vec()),
            ("app-misc/a/a-1.ebuild", EBUILD.to_vec()),
            ("app-misc/a/files/fix.patch", PATCH.to_vec()),
        ],
        package: package().into_bytes(),
        package_name: PACKAGE,
        top: TIMESTAMP.to_owned(),
        signer: Signer::Trusted,
        afterwards: |_| Ok(()),
    }
}

/// A good tree that something happens to once it is signed.
fn damaged(afterwards: fn(&Path) -> Result<()>) -> Scene {
    Scene { afterwards, ..good() }
}

/// A tree signed with another package's Manifest.
fn with_package(text: impl Into<Vec<u8>>) -> Scene {
    Scene { package: text.into(), ..good() }
}

fn with_top(more: &str) -> Scene {
    Scene { top: format!("{TIMESTAMP}{more}"), ..good() }
}

/// Each scene: its name, the tree, and the path that the refusal starts with; empty if the tree is good.
#[allow(clippy::too_many_lines, reason = "a table")]
fn scenes() -> Vec<(&'static str, Scene, &'static str)> {
    let zeros = "00".repeat(64);
    let half = package().len() / 2;
    let other_sha512 = {
        let right = hex::encode(Sha512::digest(EBUILD));
        package().replace(&right, &zeros)
    };
    vec![
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
    ]
}

/// Trees that we refuse and gemato does not. Whoever has the key of somebody who let it expire can sign with any
/// date: for a tree on a box that may be right, for what a mirror publishes today it is not.
const STRICTER: &[&str] = &["key that has expired since"];

#[test]
fn our_verdict_is_gematos() -> Result<()> {
    let rig = Rig::create()?;
    let (mut cells, mut wrong) = (0, Vec::new());
    for (name, scene, expected) in scenes() {
        let dir = tempfile::tempdir()?;
        rig.lay_out(&scene, dir.path()).with_context(|| name)?;
        let (ours, theirs) = (rig.ask_ourselves(&scene, dir.path())?, rig.ask_gemato(&scene, dir.path())?);
        cells += 1;
        println!("{name}\n    ours:   {ours:?}\n    gemato: {theirs:?}");
        let agrees = ours.is_ok() == theirs.is_ok() || (ours.is_err() && STRICTER.contains(&name));
        let names_path =
            ours.as_ref().err().is_none_or(|error| !expected.is_empty() && error.starts_with(expected));
        if !agrees || !names_path {
            wrong.push(format!("{name}: ours {ours:?}, gemato {theirs:?}, expected {expected:?}"));
        }
    }
    println!("{cells} trees; gemato is asked to pass {} that we refuse", STRICTER.len());
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
