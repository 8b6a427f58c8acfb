//! A Gentoo box with the real Portage, on whatever host the tests run.
//!
//! A box is a Python environment with Portage's own wheels: the environment is the prefix and the configuration
//! root, so each box needs its own. Nothing of the host's Portage, if there is one, plays a part.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use farm_sim::tree::{PROFILE, REPOSITORY};
use tokio::process::Command;

use crate::program;

/// What a box is made of.
const WHEELS: &[&str] = &["portage==3.0.83", "gemato==20.15"];

/// Longer than any command of a box takes over a small tree, Portage's own time-outs included.
const COMMAND_DEADLINE: Duration = Duration::from_mins(5);

/// What a command of a box ended with.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Whether the exit code was 0.
    pub is_success: bool,
    /// Standard output, then standard error.
    pub output: String,
}

impl Finished {
    /// Itself, if the command succeeded.
    ///
    /// # Errors
    /// It did not; what it printed is in the message.
    pub fn success(self) -> Result<Self> {
        ensure!(self.is_success, "{}", self.output);
        Ok(self)
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        let text = [output.stdout, output.stderr].concat();
        Self { is_success: output.status.success(), output: String::from_utf8_lossy(&text).into_owned() }
    }
}

/// How a box reaches its mirror: `/etc/portage` in a few lines.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `sync-uri` of the repository.
    pub sync_uri: String,
    /// A public key file: the tree has to be signed by it.
    pub openpgp_key: Option<PathBuf>,
    /// `GENTOO_MIRRORS`, separated by spaces.
    pub gentoo_mirrors: String,
    /// The `local` line of `/etc/portage/mirrors`: asked first, for restricted files too.
    pub local_mirrors: String,
    /// `USE`: sources that stand under a flag are fetched only where it is set.
    pub use_flags: String,
}

/// One box.
#[derive(Debug)]
pub struct PortageBox {
    dir: PathBuf,
}

impl PortageBox {
    /// Makes a box at `dir`, which is not there yet.
    ///
    /// # Errors
    /// The wheels are not at hand, or the environment could not be made.
    pub async fn create(dir: &Path, settings: &Settings) -> Result<Self> {
        let Some(wheels) = std::env::var_os("ROOKERY_TEST_WHEELS") else {
            bail!("ROOKERY_TEST_WHEELS is not set: `cargo xtask test` downloads Portage and sets it");
        };
        let mut make = Command::from(program::stock("python3"));
        make.args(["-m", "venv"]).arg(dir);
        run(make).await?.success().context("python3 -m venv")?;
        let portage_box = Self { dir: dir.to_owned() };
        let mut install = portage_box.command("pip");
        install.args(["install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]);
        install.arg("--find-links").arg(wheels).args(WHEELS);
        run(install).await?.success().context("pip install")?;
        fs::create_dir_all(portage_box.repository())?;
        fs::create_dir_all(portage_box.distdir())?;
        portage_box.configure(settings).await?;
        Ok(portage_box)
    }

    /// Another box with the same programs at `dir`, which is not there yet: quicker than a new environment.
    ///
    /// # Errors
    /// It can't be copied.
    pub async fn copy(&self, dir: &Path, settings: &Settings) -> Result<Self> {
        let mut copy = Command::from(program::stock("cp"));
        copy.arg("--archive").arg(&self.dir).arg(dir);
        run(copy).await?.success().context("cp")?;
        // Scripts name the interpreter of their environment.
        let (old, new) = (format!("#!{}/", self.dir.display()), format!("#!{}/", dir.display()));
        for entry in fs::read_dir(dir.join("bin"))? {
            let path = entry?.path();
            if let Some(rest) =
                fs::read_to_string(&path).ok().as_deref().and_then(|text| text.strip_prefix(&old))
            {
                fs::write(&path, new.clone() + rest)?;
            }
        }
        let portage_box = Self { dir: dir.to_owned() };
        portage_box.configure(settings).await?;
        Ok(portage_box)
    }

    /// Where its repository is.
    #[must_use]
    pub fn repository(&self) -> PathBuf {
        self.dir.join("var/db/repos").join(REPOSITORY)
    }

    /// Where its distfiles are.
    #[must_use]
    pub fn distdir(&self) -> PathBuf {
        self.dir.join("var/cache/distfiles")
    }

    /// Writes `/etc/portage`.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub async fn configure(&self, settings: &Settings) -> Result<()> {
        let etc = self.dir.join("etc/portage");
        fs::create_dir_all(etc.join("repos.conf"))?;
        fs::write(etc.join("make.conf"), self.make_conf(settings).await?)?;
        fs::write(etc.join("repos.conf/gentoo.conf"), self.repos_conf(settings))?;
        fs::write(etc.join("mirrors"), format!("local {}\n", settings.local_mirrors))?;
        let profile = etc.join("make.profile");
        if profile.is_symlink() {
            fs::remove_file(&profile)?;
        }
        Ok(std::os::unix::fs::symlink(self.repository().join("profiles").join(PROFILE), profile)?)
    }

    async fn make_conf(&self, settings: &Settings) -> Result<String> {
        let (user, group) = (identity("-un").await?, identity("-gn").await?);
        Ok(format!(
            "PORTAGE_USERNAME=\"{user}\"\nPORTAGE_GRPNAME=\"{group}\"\n\
             DISTDIR=\"{}\"\nPKGDIR=\"{1}/var/cache/binpkgs\"\nPORTAGE_TMPDIR=\"{1}/var/tmp\"\n\
             GENTOO_MIRRORS=\"{2}\"\nUSE=\"{3}\"\nACCEPT_LICENSE=\"*\"\n\
             FEATURES=\"-sandbox -usersandbox -userpriv -userfetch -usersync -ipc-sandbox \
             -network-sandbox -pid-sandbox -mount-sandbox -news\"\n",
            self.distdir().display(),
            self.dir.display(),
            settings.gentoo_mirrors,
            settings.use_flags,
        ))
    }

    fn repos_conf(&self, settings: &Settings) -> String {
        let verification = match &settings.openpgp_key {
            Some(key) => format!(
                "sync-rsync-verify-metamanifest = yes\nsync-rsync-verify-max-age = 0\n\
                 sync-openpgp-key-path = {}\nsync-openpgp-key-refresh = no\n",
                key.display()
            ),
            None => "sync-rsync-verify-metamanifest = no\n".to_owned(),
        };
        format!(
            "[DEFAULT]\nmain-repo = {REPOSITORY}\n\n[{REPOSITORY}]\nlocation = {}\nsync-type = rsync\n\
             sync-uri = {}\nauto-sync = yes\n{verification}",
            self.repository().display(),
            settings.sync_uri,
        )
    }

    /// `emerge` with the given arguments.
    ///
    /// # Errors
    /// It could not be run, or did not end in time. That it failed is in [`Finished`].
    pub async fn emerge(&self, arguments: &[&str]) -> Result<Finished> {
        let mut emerge = self.command("emerge");
        emerge.args(["--color=n", "--nospinner"]).args(arguments);
        run(emerge).await
    }

    /// A script that runs a program of the box as the box does, for whoever is told its path.
    ///
    /// # Errors
    /// It can't be written.
    pub fn script(&self, name: &str) -> Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt as _;
        let (bin, host_path) = (self.dir.join("bin"), std::env::var("PATH").unwrap_or_default());
        let text = format!(
            "#!/bin/sh\nexec env -i PATH={0}:{host_path} HOME={1} LANG=C.UTF-8 TERM=dumb {0}/{name} \"$@\"\n",
            bin.display(),
            self.dir.display()
        );
        let path = self.dir.join(format!("{name}.sh"));
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    /// A program of the box, with nothing of the host's environment but the way to its programs.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.dir.join("bin").join(name));
        let host_path = std::env::var("PATH").unwrap_or_default();
        command
            .env_clear()
            .env("PATH", format!("{}:{host_path}", self.dir.join("bin").display()))
            .env("HOME", &self.dir)
            .env("LANG", "C.UTF-8")
            .env("TERM", "dumb");
        command
    }
}

/// A key to sign trees with, in a home directory of its own.
#[derive(Debug)]
pub struct SigningKey {
    home: PathBuf,
    /// The public key, for a box's `sync-openpgp-key-path` and a mirror's `openpgp_key`.
    pub public: PathBuf,
}

impl SigningKey {
    /// Makes a key without a passphrase below `dir`, which is there. `GnuPG`'s sockets need its path to be short.
    ///
    /// # Errors
    /// `gpg` failed.
    pub async fn generate(dir: &Path) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let key = Self { home: dir.join("gnupg"), public: dir.join("public.asc") };
        fs::create_dir_all(&key.home)?;
        fs::set_permissions(&key.home, fs::Permissions::from_mode(0o700))?;
        let parameters = ["--quick-generate-key", Self::USER, "ed25519", "sign", "never"];
        key.gpg(&parameters).await?;
        let exported = key.gpg(&["--armor", "--export", Self::USER]).await?;
        fs::write(&key.public, exported.output)?;
        Ok(key)
    }

    const USER: &str = "Tree Signer <signer@example.org>";

    async fn gpg(&self, arguments: &[&str]) -> Result<Finished> {
        let mut gpg = Command::from(program::stock("gpg"));
        gpg.args(["--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""]);
        gpg.args(arguments).env("GNUPGHOME", &self.home);
        run(gpg).await?.success().context("gpg")
    }

    /// Signs the tree at `dir` with full Manifests, by the `gemato` of `portage_box`, after whatever changed in it.
    ///
    /// # Errors
    /// `gemato` failed.
    pub async fn sign_tree(&self, portage_box: &PortageBox, dir: &Path) -> Result<()> {
        let mut gemato = portage_box.command("gemato");
        let verb = if dir.join("Manifest").is_file() { "update" } else { "create" };
        gemato.args([verb, "-p", "old-ebuild", "-k", Self::USER, "-s", "-t", "."]);
        gemato.current_dir(dir).env("GNUPGHOME", &self.home);
        run(gemato).await?.success().context("gemato")?;
        // Two signings within one second often make Manifests of one size: rsync's clients could not tell
        // them apart. The tree's own time can.
        let of_tree = fs::metadata(dir.join("metadata/timestamp.chk"))?.modified()?;
        date_manifests(dir, of_tree)
    }
}

/// Gives the Manifests below `dir` that are younger than `time` that time.
fn date_manifests(dir: &Path, time: SystemTime) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            date_manifests(&entry.path(), time)?;
        } else if entry.file_name().as_encoded_bytes().starts_with(b"Manifest") && metadata.modified()? > time
        {
            fs::File::options().write(true).open(entry.path())?.set_modified(time)?;
        }
    }
    Ok(())
}

impl Drop for SigningKey {
    fn drop(&mut self) {
        // The agent that gpg started for this home directory.
        let mut kill = program::stock("gpgconf");
        drop(kill.args(["--kill", "all"]).env("GNUPGHOME", &self.home).status());
    }
}

async fn identity(option: &str) -> Result<String> {
    let mut id = Command::from(program::stock("id"));
    id.arg(option);
    Ok(run(id).await?.success()?.output.trim().to_owned())
}

/// Runs to the end, or for as long as [`COMMAND_DEADLINE`].
async fn run(mut command: Command) -> Result<Finished> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let what = format!("{:?}", command.as_std());
    let output = tokio::time::timeout(COMMAND_DEADLINE, command.output())
        .await
        .with_context(|| format!("did not end in time: {what}"))?;
    Ok(output.with_context(|| what)?.into())
}
