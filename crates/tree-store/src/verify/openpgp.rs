//! The signature of the top-level Manifest, checked by `GnuPG`'s `gpgv`.
//!
//! The keys are the ones in the configured file and no others: gpgv gets a home directory of its own, so
//! neither the user's keyring nor an agent plays a part. What gpgv says was signed is compared with what
//! we are about to parse, so the two can't disagree about where the signed text begins and ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gentoo_repo::cleartext;

use crate::TreeError;
use crate::report::FaultKind;

const KEY_BYTES_MAX: u64 = 16 << 20;
const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";

/// The keys that may sign a module's tree.
#[derive(Clone)]
pub struct Keyring {
    path: PathBuf,
    /// Packets, without armour: the only form that gpgv reads.
    keys: Arc<Vec<u8>>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring({})", self.path.display())
    }
}

impl Keyring {
    /// Reads a file of public keys, armoured or not.
    ///
    /// # Errors
    /// [`TreeError::Setting`] if it can't be read or holds no public key, or if this host has no gpgv.
    pub fn open(path: &Path) -> Result<Self, TreeError> {
        let setting = |why: String| TreeError::Setting { what: path.display().to_string(), why };
        let bytes = fs::metadata(path).map_err(|error| setting(error.to_string()))?.len();
        if bytes > KEY_BYTES_MAX {
            return Err(setting("more than 16 MiB of keys".to_owned()));
        }
        let octets = fs::read(path).map_err(|error| setting(error.to_string()))?;
        let keys = without_armour(&octets).map_err(|why| setting(why.to_owned()))?;
        // RFC 9580, 4.2: a packet starts with the high bit; 6 is the type of a public key.
        let is_key = match keys.first() {
            Some(head) if head & 0xc0 == 0xc0 => head & 0x3f == 6,
            Some(head) if head & 0x80 != 0 => (head >> 2) & 0x0f == 6,
            _ => false,
        };
        if !is_key {
            return Err(setting("expected an OpenPGP public key".to_owned()));
        }
        gpgv()
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(|error| TreeError::Setting {
                what: "gpgv".to_owned(),
                why: format!("{error}: signatures are checked by GnuPG's gpgv; install it, or set verify to \"consistent\""),
            })?;
        Ok(Self { path: path.to_owned(), keys: Arc::new(keys) })
    }

    /// Checks that `octets` is a clearsigned text with only good signatures by keys that are neither
    /// expired nor revoked.
    ///
    /// # Errors
    /// [`TreeError::Refused`] with what is wrong with the signature.
    pub(super) fn verify(&self, octets: &[u8]) -> Result<(), TreeError> {
        let refused = |why: String| TreeError::refused(FaultKind::Signature, b"Manifest", why);
        let text = cleartext::strip(octets).map_err(|error| refused(error.to_string()))?;
        if !text.is_signed {
            return Err(refused("not signed".to_owned()));
        }
        let scratch = tempfile::Builder::new().prefix("rookery-gpgv-").tempdir();
        let scratch = scratch.map_err(TreeError::store(std::env::temp_dir(), "create a directory"))?;
        let place = |name: &str| scratch.path().join(name);
        for (name, octets) in [("keys.gpg", self.keys.as_slice()), ("Manifest", octets)] {
            fs::write(place(name), octets).map_err(TreeError::store(place(name), "write"))?;
        }
        let output = gpgv()
            .args(["--status-fd", "1", "--homedir"])
            .arg(scratch.path())
            .arg("--keyring")
            .arg(place("keys.gpg"))
            .arg("--output")
            .arg(place("signed"))
            .arg(place("Manifest"))
            .output()
            .map_err(TreeError::store("gpgv", "run"))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let status = String::from_utf8_lossy(&output.stdout);
        judge(&status, output.status.success(), now.as_secs()).map_err(&refused)?;
        let signed = fs::read(place("signed")).map_err(TreeError::store(place("signed"), "read"))?;
        if lines(&signed).eq(lines(&text.body)) {
            Ok(())
        } else {
            Err(refused("what was signed is not what stands between the armour lines".to_owned()))
        }
    }
}

fn gpgv() -> Command {
    let mut command = Command::new("gpgv");
    command.env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// Reads gpgv's status lines (`GnuPG`'s doc/DETAILS): one bad signature spoils the good ones.
fn judge(status: &str, succeeded: bool, now_s: u64) -> Result<(), String> {
    let mut good = false;
    let mut valid = false;
    let mut unchecked = None;
    for line in status.lines() {
        let Some(words) = line.strip_prefix("[GNUPG:] ") else { continue };
        let mut words = words.split(' ');
        let keyword = words.next().unwrap_or_default();
        let key = words.next().unwrap_or_default();
        let wrong = match keyword {
            "GOODSIG" => {
                good = true;
                continue;
            }
            "VALIDSIG" => {
                valid = true;
                continue;
            }
            "ERRSIG" => {
                // A line that says why comes after it, but not if the key or the clock is of the wrong time.
                let made_s = words.nth(3).and_then(|time| time.parse::<u64>().ok());
                unchecked.get_or_insert(match made_s {
                    Some(made_s) if made_s > now_s => format!(
                        "signed at a time that has not come yet, by a key that is not valid yet: {key}; is this \
                         host's clock right?"
                    ),
                    _ => format!("a signature that can't be checked, made by key: {key}"),
                });
                continue;
            }
            "NO_PUBKEY" => "signed by a key that is not in openpgp_key",
            "EXPKEYSIG" => "signed by a key that has expired",
            "REVKEYSIG" => "signed by a key that was revoked",
            "EXPSIG" => "the signature has expired",
            "BADSIG" => "the signature does not fit the text, made by key",
            _ => continue,
        };
        return Err(format!("{wrong}: {key}"));
    }
    match unchecked {
        Some(why) => Err(why),
        None if good && valid && succeeded => Ok(()),
        None => Err("no good signature".to_owned()),
    }
}

/// Lines as signatures see them (RFC 9580, 7.2): without white space at their ends.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = text.trim_ascii_end().len();
    text[..end].split(|&octet| octet == b'\n').map(<[u8]>::trim_ascii_end)
}

/// The packets of all armoured blocks (RFC 9580, 6.2); binary keys as they are.
fn without_armour(octets: &[u8]) -> Result<Vec<u8>, &'static str> {
    let text = match std::str::from_utf8(octets) {
        Ok(text) if text.contains(BEGIN) => text,
        _ => return Ok(octets.to_vec()),
    };
    let mut packets = Vec::new();
    for block in text.split(BEGIN).skip(1) {
        let (block, _) = block.split_once(END).ok_or("an armoured key block that does not end")?;
        // The rest of the armour line, then headers up to an empty line; the checksum starts with `=`.
        let body = block.lines().skip(1).map(str::trim).skip_while(|line| !line.is_empty());
        let digits: String = body.filter(|line| !line.starts_with('=')).collect();
        packets.extend(STANDARD.decode(digits).map_err(|_| "an armoured key block that is not base64")?);
    }
    Ok(packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG AB me\n[GNUPG:] VALIDSIG CD 2026\n";

    #[test]
    fn only_good_signatures_count() {
        assert_eq!(judge(GOOD, true, 5), Ok(()));
        assert!(judge(GOOD, false, 5).is_err());
        assert!(judge("", true, 5).is_err());
        assert!(judge("GOODSIG AB\nVALIDSIG AB\n", true, 5).is_err());
        for bad in ["NO_PUBKEY", "EXPKEYSIG", "REVKEYSIG", "EXPSIG", "BADSIG"] {
            let error = judge(&format!("{GOOD}[GNUPG:] {bad} 1234 me\n"), true, 5).unwrap_err();
            assert!(error.ends_with(": 1234"), "{error}");
        }
        let unchecked = "[GNUPG:] NEWSIG\n[GNUPG:] ERRSIG AB 22 8 01 9 6 CD\n";
        let error = judge(unchecked, false, 8).unwrap_err();
        assert!(error.contains("not valid yet: AB") && error.contains("clock"), "{error}");
        let error = judge(unchecked, false, 9).unwrap_err();
        assert!(error.ends_with("can't be checked, made by key: AB"), "{error}");
        assert!(
            judge(&format!("{GOOD}{unchecked}"), true, 9).is_err(),
            "one bad signature spoils the good ones"
        );
        let error = judge(&format!("{unchecked}[GNUPG:] NO_PUBKEY AB\n"), false, 8).unwrap_err();
        assert!(error.contains("openpgp_key"), "{error}");
    }

    #[test]
    fn armour_comes_off_every_block() {
        let block = |body: &str| format!("{BEGIN}\nComment: x\n\n{body}\n=abcd\n{END}\n");
        let two = format!("note\n{}{}", block("mQE="), block("mQI="));
        assert_eq!(without_armour(two.as_bytes()), Ok(vec![0x99, 1, 0x99, 2]));
        assert_eq!(without_armour(&[0x99, 0xff]), Ok(vec![0x99, 0xff]));
        assert!(without_armour(two.trim_end().trim_end_matches('-').as_bytes()).is_err());
    }
}
