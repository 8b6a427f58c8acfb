//! When the keys that may sign a module's tree expire, so that somebody can get new ones in time.
//!
//! It decides nothing: what an expired key signed is refused by whoever checks the signature.

use std::path::Path;

use tree_store::{Keyring, TreeError};

use crate::config::{ModulePlan, VerifyMode};

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

/// Asks the keys of a module whose signatures are checked; why it is not known otherwise goes to the log, because
/// nothing but the warning depends on it.
pub(crate) async fn of(plan: &ModulePlan) -> KeyExpiry {
    match plan.config.verify {
        VerifyMode::None | VerifyMode::Consistent => return KeyExpiry::default(),
        VerifyMode::Signed | VerifyMode::Commit => {}
    }
    let key = plan.config.openpgp_key.clone();
    let asked = tokio::task::spawn_blocking(move || ask(&key)).await;
    match asked.map_err(anyhow::Error::from).and_then(|asked| asked.map_err(anyhow::Error::from)) {
        Ok(expiry) => expiry,
        Err(error) => {
            tracing::warn!(
                module = %plan.name, key = %plan.config.openpgp_key.display(), error = format!("{error:#}"),
                "it is not known when the keys expire, so nobody is warned before they do"
            );
            KeyExpiry::default()
        }
    }
}

fn ask(key: &Path) -> Result<KeyExpiry, TreeError> {
    let until_s = Keyring::open(key)?.sign_until();
    let keys = until_s.into_iter().map(|until_s| until_s.map(|seconds| seconds.saturating_mul(1000)));
    Ok(KeyExpiry { keys: keys.take(KEYS_MAX).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_one_counts_and_the_last_once_all_are_gone() {
        let expiry = KeyExpiry { keys: vec![Some(30), Some(10), Some(20)] };
        assert_eq!([0, 10, 20, 30].map(|now_ms| expiry.next_ms(now_ms)), [10, 20, 30, 30]);
        let one_stays = KeyExpiry { keys: vec![Some(10), None] };
        assert_eq!([0, 10].map(|now_ms| one_stays.next_ms(now_ms)), [10, 0]);
        assert_eq!(KeyExpiry::default().next_ms(5), 0);
    }

    #[test]
    fn real_keys_are_asked() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/tree-store/tests/signed-tree");
        let expired = ask(&data.join("expired.asc")).unwrap();
        assert_eq!(expired.next_ms(i64::MAX), 1_580_428_800_000);
        let lasting = ask(&data.join("signer.asc")).unwrap();
        assert_eq!(lasting, KeyExpiry { keys: vec![None] });
        let error = ask(Path::new("/nowhere/key.asc")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/key.asc"), "{error}");
    }
}
