//! Small signed trees (GLEP 74), good and damaged, and gemato, which is asked about the same ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use blake2::{Blake2b512, Digest as _};
use sha2::Sha512;

use crate::program;

/// The path of the one package's Manifest.
pub const PACKAGE: &str = "app-misc/a/Manifest";
/// What its ebuild holds.
pub const EBUILD: &[u8] = b"EAPI=8\n";
/// What its patch holds.
pub const PATCH: &[u8] = b"+fix\n";

const OUTLIVED: Option<&str> = Some("20200101T000000");
const TO_COME: Option<&str> = Some("20990101T000000");

/// When a tree was made, one hour after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words say it")]
pub enum Made {
    Before,
    Then,
    After,
}

impl Made {
    fn hour(self) -> u32 {
        match self {
            Self::Before => 16,
            Self::Then => 17,
            Self::After => 18,
        }
    }

    /// The top-level Manifest's line.
    #[must_use]
    pub fn timestamp(self) -> String {
        format!("TIMESTAMP 2026-08-21T{}:31:03Z\n", self.hour())
    }

    /// `metadata/timestamp.chk`
    #[must_use]
    pub fn timestamp_chk(self) -> String {
        format!("Fri, 21 Aug 2026 {}:31:03 +0000\n", self.hour())
    }
}

/// Who signs, and what is in the key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// Its key is in the key file.
    Trusted,
    /// It is not.
    Unknown,
    /// The key had expired when it signed.
    Expired,
    /// It has expired since.
    Outlived,
    /// The signature is of a time that has not come yet.
    Early,
    /// So is its key, as a host sees it whose clock is slow.
    Unborn,
    /// There is no signature.
    Nobody,
}

/// One tree: its files, and what the top-level Manifest says beyond the lines for them.
pub struct Scene {
    /// Those of the package are not named by the top-level Manifest.
    pub files: Vec<(&'static str, Vec<u8>)>,
    /// The package's Manifest; the top-level one names it as it is.
    pub package: Vec<u8>,
    /// Its path.
    pub package_name: &'static str,
    /// The line that names it, if it is not the usual one.
    pub package_line: Option<String>,
    /// More lines.
    pub top: String,
    /// When it was made.
    pub made: Made,
    /// Who signs it.
    pub signer: Signer,
    /// What happens to the tree after it was signed.
    pub afterwards: fn(&Path) -> Result<()>,
}

/// A good tree.
#[must_use]
pub fn good() -> Scene {
    Scene {
        files: vec![
            ("profiles/repo_name", b"test\n".to_vec()),
            ("app-misc/metadata.xml", b"<x/>\n".to_vec()),
            ("app-misc/a/a-1.ebuild", EBUILD.to_vec()),
            ("app-misc/a/files/fix.patch", PATCH.to_vec()),
        ],
        package: package().into_bytes(),
        package_name: PACKAGE,
        package_line: None,
        top: Made::Then.timestamp(),
        made: Made::Then,
        signer: Signer::Trusted,
        afterwards: |_| Ok(()),
    }
}

/// A good tree that something happens to once it is signed.
pub fn damaged(afterwards: fn(&Path) -> Result<()>) -> Scene {
    Scene { afterwards, ..good() }
}

/// A tree signed with another package's Manifest.
pub fn with_package(text: impl Into<Vec<u8>>) -> Scene {
    Scene { package: text.into(), ..good() }
}

/// A tree with more lines in its top-level Manifest.
#[must_use]
pub fn with_top(more: &str) -> Scene {
    Scene { top: format!("{}{more}", Made::Then.timestamp()), ..good() }
}

/// The good package's Manifest.
#[must_use]
pub fn package() -> String {
    format!(
        "{}{}{}",
        line("DIST", "a-1.tgz", b"x"),
        line("EBUILD", "a-1.ebuild", EBUILD),
        line("AUX", "fix.patch", PATCH)
    )
}

/// A Manifest's line for a file of these octets.
#[must_use]
pub fn line(tag: &str, path: &str, octets: &[u8]) -> String {
    let (blake2b, sha512) = (hex::encode(Blake2b512::digest(octets)), hex::encode(Sha512::digest(octets)));
    format!("{tag} {path} {} BLAKE2B {blake2b} SHA512 {sha512}\n", octets.len())
}

/// Writes a file, and the directories above it.
///
/// # Errors
/// Whatever the file system says.
pub fn write(path: &Path, octets: &[u8]) -> Result<()> {
    fs::create_dir_all(path.parent().context("a path below the tree")?)?;
    Ok(fs::write(path, octets)?)
}

/// The signers' keys, and gemato.
pub struct Rig {
    scratch: tempfile::TempDir,
    gemato: PathBuf,
}

impl Rig {
    /// Makes the keys and installs gemato.
    ///
    /// # Errors
    /// `GnuPG`, Python or the wheels are missing.
    pub fn create() -> Result<Self> {
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
            ("unborn", TO_COME, "never"),
        ] {
            let home = rig.home(name);
            fs::create_dir_all(&home)?;
            run(rig.gpg(name, time).args(["--quick-generate-key", name, "ed25519", "sign", expiry]))?;
            run(rig.gpg(name, None).args(["--armor", "--output"]).arg(rig.key(name)).arg("--export"))?;
        }
        rig.let_expire("late", "expired")?;
        let [trusted, expired] = ["trusted", "expired"].map(|name| fs::read(rig.key(name)));
        fs::write(rig.keys(), [trusted?, expired?].concat())?;
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

    /// A file with the trusted key and the one that has expired.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.key("trusted-and-expired")
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

    /// Writes the tree to an empty directory, or in the place of an earlier one.
    ///
    /// # Errors
    /// Whatever the file system or `GnuPG` says.
    pub fn lay_out(&self, scene: &Scene, dir: &Path) -> Result<()> {
        let mut top = String::new();
        for (path, octets) in &scene.files {
            write(&dir.join(path), octets)?;
            if !path.starts_with("app-misc/a/") {
                top += &line("DATA", path, octets);
            }
        }
        write(&dir.join("metadata/timestamp.chk"), scene.made.timestamp_chk().as_bytes())?;
        write(&dir.join(scene.package_name), &scene.package)?;
        top += "IGNORE metadata/timestamp.chk\nIGNORE distfiles\n";
        let usual = || line("MANIFEST", scene.package_name, &scene.package);
        top += &scene.package_line.clone().unwrap_or_else(usual);
        top += &scene.top;
        let manifest = dir.join("Manifest");
        fs::write(&manifest, top)?;
        let (name, time) = match scene.signer {
            Signer::Trusted => ("trusted", None),
            Signer::Unknown => ("unknown", None),
            Signer::Outlived => ("outlived", Some("20200101T000010")),
            Signer::Expired => ("late", Some("20200110T000000")),
            Signer::Early => ("trusted", TO_COME),
            Signer::Unborn => ("unborn", TO_COME),
            Signer::Nobody => return (scene.afterwards)(dir),
        };
        let signed = self.scratch.path().join("signed");
        run(self.gpg(name, time).arg("--output").arg(&signed).arg("--clearsign").arg(&manifest))?;
        fs::copy(&signed, &manifest)?;
        (scene.afterwards)(dir)
    }

    /// The key file that a scene's verifiers have.
    #[must_use]
    pub fn key_of(&self, scene: &Scene) -> PathBuf {
        self.key(match scene.signer {
            Signer::Expired => "expired",
            Signer::Outlived => "outlived",
            Signer::Unborn => "unborn",
            Signer::Trusted | Signer::Unknown | Signer::Early | Signer::Nobody => "trusted",
        })
    }

    /// gemato's verdict on a tree, with its last words.
    ///
    /// # Errors
    /// It can't be run.
    pub fn ask_gemato(&self, dir: &Path, keys: &Path) -> Result<Result<(), String>> {
        let mut gemato = Command::new(&self.gemato);
        gemato.args(["verify", "--require-signed-manifest", "--no-refresh-keys", "--openpgp-key"]);
        let output = gemato.arg(keys).arg(dir).output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let words = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
        Ok(if output.status.success() { Ok(()) } else { Err(words) })
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
