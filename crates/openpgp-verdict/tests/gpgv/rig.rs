//! Keys and signatures by `GnuPG`, and `gpgv`.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::Verdict;

/// When most keys are made.
pub(crate) const THEN: &str = "20200101T000000";
/// A little later, when most texts are signed.
pub(crate) const SOON: &str = "20200101T010000";
/// When what was valid for a day has expired.
pub(crate) const LATER: &str = "20200601T000000";

pub(crate) struct Rig {
    scratch: tempfile::TempDir,
}

impl Drop for Rig {
    fn drop(&mut self) {
        // The agent that gpg started for this home directory.
        drop(Command::new("gpgconf").args(["--kill", "all"]).env("GNUPGHOME", self.home()).status());
    }
}

impl Rig {
    pub(crate) fn create() -> Self {
        let rig = Self { scratch: tempfile::tempdir().unwrap() };
        fs::create_dir(rig.home()).unwrap();
        fs::set_permissions(rig.home(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        rig
    }

    fn home(&self) -> PathBuf {
        self.scratch.path().join("gnupg")
    }

    fn command(&self, time: &str, arguments: &[&str]) -> Command {
        let mut gpg = Command::new("gpg");
        gpg.args(["--quiet", "--no-tty", "--yes", "--pinentry-mode", "loopback", "--passphrase", ""]);
        gpg.args(["--no-auto-check-trustdb", "--trust-model", "always", "--faked-system-time", time]);
        gpg.args(arguments).env("GNUPGHOME", self.home()).env("LC_ALL", "C");
        gpg
    }

    /// What gpg prints at a time, given an input.
    pub(crate) fn gpg(&self, time: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut gpg = self.command(time, &[&["--batch"], arguments].concat());
        finish(&mut gpg, input, arguments)
    }

    /// Makes a primary key; its fingerprint.
    pub(crate) fn key(&self, time: &str, name: &str, algorithm: &str, usage: &str, lasts: &str) -> String {
        self.gpg(time, &["--quick-generate-key", name, algorithm, usage, lasts], b"");
        self.fingerprints(name).swap_remove(0)
    }

    /// Makes a subkey for signing; its fingerprint.
    pub(crate) fn subkey(&self, time: &str, primary: &str, algorithm: &str, lasts: &str) -> String {
        self.gpg(time, &["--quick-add-key", primary, algorithm, "sign", lasts], b"");
        self.fingerprints(primary).pop().unwrap()
    }

    fn fingerprints(&self, key: &str) -> Vec<String> {
        let listed = self.gpg(THEN, &["--with-colons", "--list-keys", key], b"");
        let listed = String::from_utf8(listed).unwrap();
        let lines = listed.lines().filter(|line| line.starts_with("fpr:"));
        lines.map(|line| line.split(':').nth(9).unwrap().to_owned()).collect()
    }

    /// Answers the questions of `--edit-key`.
    pub(crate) fn edit(&self, time: &str, key: &str, answers: &str) {
        let arguments = ["--command-fd", "0", "--expert", "--edit-key", key];
        finish(&mut self.command(time, &arguments), answers.as_bytes(), &arguments);
    }

    /// Revokes a primary key by the certificate that was made with it.
    pub(crate) fn revoke(&self, fingerprint: &str) {
        let path = self.home().join(format!("openpgp-revocs.d/{fingerprint}.rev"));
        let certificate = fs::read_to_string(path).unwrap().replace(":-----BEGIN", "-----BEGIN");
        self.gpg(LATER, &["--import"], certificate.as_bytes());
    }

    /// Public keys without armour.
    pub(crate) fn export(&self, keys: &[&str]) -> Vec<u8> {
        self.gpg(LATER, &[&["--export"], keys].concat(), b"")
    }

    /// A text signed by a key or by exactly one subkey.
    pub(crate) fn sign(&self, time: &str, key: &str, text: &[u8]) -> Vec<u8> {
        self.sign_with(time, &["--local-user", &format!("{key}!")], text)
    }

    pub(crate) fn sign_with(&self, time: &str, arguments: &[&str], text: &[u8]) -> Vec<u8> {
        self.gpg(time, &[arguments, &["--clearsign"]].concat(), text)
    }

    /// What `gpgv` says: one bad signature spoils the good ones, and what it says was signed is all there is.
    pub(crate) fn ask_gpgv(&self, keys: &[u8], octets: &[u8]) -> Verdict {
        let place = |name: &str| self.scratch.path().join(name);
        fs::write(place("keys.gpg"), keys).unwrap();
        fs::write(place("text"), octets).unwrap();
        let output = Command::new("gpgv")
            .args(["--status-fd", "1", "--homedir"])
            .arg(self.scratch.path())
            .arg("--keyring")
            .arg(place("keys.gpg"))
            .arg(place("text"))
            .env("LC_ALL", "C")
            .output()
            .expect("gpgv is needed: `cargo xtask test` installs it");
        judge(&String::from_utf8_lossy(&output.stdout), output.status.success())
    }
}

fn finish(command: &mut Command, input: &[u8], arguments: &[&str]) -> Vec<u8> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("gpg is needed: `cargo xtask test` installs it");
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // What it does not want to read it need not.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Reads gpgv's status lines (`GnuPG`'s doc/DETAILS).
fn judge(status: &str, succeeded: bool) -> Verdict {
    let mut good = false;
    let mut valid = false;
    let mut unchecked = false;
    for line in status.lines() {
        let Some(words) = line.strip_prefix("[GNUPG:] ") else { continue };
        match words.split(' ').next().unwrap_or_default() {
            "GOODSIG" => good = true,
            "VALIDSIG" => valid = true,
            "ERRSIG" => unchecked = true,
            "NO_PUBKEY" => return Verdict::UnknownKey,
            "EXPKEYSIG" => return Verdict::KeyExpired,
            "REVKEYSIG" => return Verdict::KeyRevoked,
            "EXPSIG" => return Verdict::SignatureExpired,
            "BADSIG" => return Verdict::Bad,
            _ => {}
        }
    }
    if good && valid && !unchecked && succeeded { Verdict::Good } else { Verdict::Refused }
}
