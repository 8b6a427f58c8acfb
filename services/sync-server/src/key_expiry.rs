//! When the keys that may sign a module's tree expire, so that somebody can get new ones in time.
//!
//! It decides nothing: what an expired key signed is refused by whoever checks the signature.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::Command;

use crate::config::{ModulePlan, VerifyMode};
use crate::upstream::{PROGRAM_STDOUT_BYTES_MAX, run_program};

/// Some keys are listed in well under a second.
const GPG_TIME_MAX: Duration = Duration::from_secs(20);
/// Far more than any distribution signs with.
const KEYS_MAX: usize = 1000;

/// Until when each key of a file can sign.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeyExpiry {
    /// Milliseconds since the Unix epoch; `None`: it does not expire.
    keys: Vec<Option<i64>>,
}

impl KeyExpiry {
    /// When the next of the keys expires. If all have expired: when the last of them did. 0 if none does, or
    /// nothing is known.
    pub(crate) fn next_ms(&self, now_ms: i64) -> i64 {
        let ahead = self.keys.iter().flatten().filter(|&&at_ms| at_ms > now_ms).min();
        if let Some(&next) = ahead {
            return next;
        }
        if self.keys.iter().any(Option::is_none) {
            return 0;
        }
        self.keys.iter().flatten().max().copied().unwrap_or(0)
    }
}

/// Asks gpg about the keys of a module whose signatures are checked; why it is not known otherwise goes to the
/// log, because nothing but the warning depends on it.
pub(crate) async fn of(plan: &ModulePlan) -> KeyExpiry {
    let key = &plan.config.openpgp_key;
    match plan.config.verify {
        VerifyMode::None | VerifyMode::Consistent => return KeyExpiry::default(),
        VerifyMode::Signed | VerifyMode::Commit => {}
    }
    match ask_gpg(key).await {
        Ok(expiry) => expiry,
        Err(error) => {
            tracing::warn!(
                module = %plan.name, key = %key.display(), error = format!("{error:#}"),
                "it is not known when the keys expire, so nobody is warned before they do"
            );
            KeyExpiry::default()
        }
    }
}

async fn ask_gpg(key: &Path) -> anyhow::Result<KeyExpiry> {
    // A home directory of its own: neither the user's options nor keys play a part.
    let home = tempfile::Builder::new().prefix("rookery-gpg-").tempdir().context("a directory for gpg")?;
    let nothing = File::open("/dev/null").context("/dev/null")?;
    let mut gpg = Command::new("gpg");
    gpg.args(["--batch", "--quiet", "--no-options", "--no-autostart", "--no-default-keyring", "--homedir"])
        .arg(home.path())
        .args(["--with-colons", "--fixed-list-mode", "--show-keys", "--"])
        .arg(key);
    let listing = run_program(gpg, &nothing, GPG_TIME_MAX).await?;
    anyhow::ensure!((listing.len() as u64) < PROGRAM_STDOUT_BYTES_MAX, "gpg lists too many keys");
    Ok(parse(&String::from_utf8_lossy(&listing)))
}

/// Reads what gpg lists with colons (`GnuPG`'s doc/DETAILS). A key signs by itself or by its subkeys, each as long
/// as it and the key are valid; what is revoked, invalid or disabled, or can't sign, doesn't count.
fn parse(listing: &str) -> KeyExpiry {
    let mut keys = Vec::new();
    let mut primary = None;
    let mut until = None;
    for line in listing.lines() {
        let fields: Vec<_> = line.split(':').collect();
        let kind = fields.first().copied().unwrap_or_default();
        if kind != "pub" && kind != "sub" {
            continue;
        }
        let own = Until::of(&fields);
        let limit = if kind == "pub" {
            keys.extend(until.take().map(Until::at_ms));
            primary = own;
            own
        } else {
            primary.zip(own).map(|(primary, own)| primary.min(own))
        };
        // Lower case: what this key can do itself.
        if fields.get(11).is_some_and(|capabilities| capabilities.contains('s')) {
            until = until.max(limit);
        }
    }
    keys.extend(until.map(Until::at_ms));
    keys.truncate(KEYS_MAX);
    KeyExpiry { keys }
}

/// How long a key is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Until {
    Seconds(i64),
    Forever,
}

impl Until {
    /// `None` if the key is of no use, or the line makes no sense.
    fn of(fields: &[&str]) -> Option<Self> {
        if matches!(*fields.get(1)?, "r" | "i" | "d" | "n") {
            return None;
        }
        match *fields.get(6)? {
            "" => Some(Self::Forever),
            seconds => seconds.parse().ok().filter(|&seconds| seconds > 0).map(Self::Seconds),
        }
    }

    fn at_ms(self) -> Option<i64> {
        match self {
            Self::Seconds(seconds) => Some(seconds.saturating_mul(1000)),
            Self::Forever => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: &str, validity: &str, expires: &str, can: &str) -> String {
        format!(
            "{kind}:{validity}:255:22:C59773FAFD7582D6:1795700947:{expires}::-:::{can}:::::ed25519:::0:\n"
        )
    }

    fn keys(lines: &[String]) -> Vec<Option<i64>> {
        parse(&lines.concat()).keys
    }

    #[test]
    fn a_key_signs_as_long_as_it_and_one_that_can_sign_are_valid() {
        let subkey = |expires| line("sub", "-", expires, "s");
        assert_eq!(keys(&[line("pub", "-", "", "scSC")]), [None]);
        assert_eq!(keys(&[line("pub", "e", "100", "sc")]), [Some(100_000)]);
        assert_eq!(keys(&[line("pub", "-", "300", "cSC"), subkey("200")]), [Some(200_000)]);
        assert_eq!(
            keys(&[line("pub", "-", "300", "cSC"), subkey("")]),
            [Some(300_000)],
            "not beyond the key"
        );
        let renewed = [line("pub", "-", "", "cSC"), subkey("100"), subkey("900"), subkey("200")];
        assert_eq!(keys(&renewed), [Some(900_000)]);
        let encrypts = [line("pub", "-", "300", "cSC"), subkey("200"), line("sub", "-", "", "e")];
        assert_eq!(keys(&encrypts), [Some(200_000)]);
        let two = [line("pub", "-", "7", "sc"), line("uid", "-", "", ""), line("pub", "-", "9", "sc")];
        assert_eq!(keys(&two), [Some(7000), Some(9000)]);
    }

    #[test]
    fn what_can_not_sign_or_makes_no_sense_does_not_count() {
        for no_use in ["r", "i", "d", "n"] {
            assert_eq!(keys(&[line("pub", no_use, "100", "sc"), line("sub", "-", "200", "s")]), []);
            assert_eq!(keys(&[line("pub", "-", "", "cSC"), line("sub", no_use, "200", "s")]), []);
        }
        assert_eq!(keys(&[line("pub", "-", "100", "c")]), []);
        assert_eq!(keys(&[line("sub", "-", "100", "s")]), [], "of no key");
        for wrong in ["x", "-5", "99999999999999999999"] {
            assert_eq!(keys(&[line("pub", "-", wrong, "sc")]), []);
        }
        for text in ["", "pub", "pub:::::", "\n:::\n", "pub:-:255:22:C5:17:100"] {
            assert_eq!(parse(text), KeyExpiry::default(), "{text:?}");
        }
        assert_eq!(parse(&line("pub", "-", &i64::MAX.to_string(), "sc")).keys, [Some(i64::MAX)]);
        assert_eq!(parse(&line("pub", "-", "1", "sc").repeat(KEYS_MAX + 1)).keys.len(), KEYS_MAX);
    }

    #[test]
    fn the_next_one_counts_and_the_last_once_all_are_gone() {
        let expiry = KeyExpiry { keys: vec![Some(30), Some(10), Some(20)] };
        assert_eq!([0, 10, 20, 30].map(|now_ms| expiry.next_ms(now_ms)), [10, 20, 30, 30]);
        let one_stays = KeyExpiry { keys: vec![Some(10), None] };
        assert_eq!([0, 10].map(|now_ms| one_stays.next_ms(now_ms)), [10, 0]);
        assert_eq!(KeyExpiry::default().next_ms(5), 0);
    }

    #[tokio::test]
    async fn gpg_is_asked_about_real_keys() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/tree-store/tests/signed-tree");
        let expired = ask_gpg(&data.join("expired.asc")).await.unwrap();
        assert_eq!(expired.next_ms(i64::MAX), 1_580_428_800_000);
        let lasting = ask_gpg(&data.join("signer.asc")).await.unwrap();
        assert_eq!(lasting, KeyExpiry { keys: vec![None] });
        let error = ask_gpg(Path::new("/nowhere/key.asc")).await.unwrap_err();
        assert!(format!("{error:#}").contains("/nowhere/key.asc"), "{error:#}");
    }
}
