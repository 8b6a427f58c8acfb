//! What a certificate's self-signatures mean at a time, read as `GnuPG` reads them: the newest one counts.

use crate::binding::{Grant, Saying};
use crate::certificate::{Certificate, Key, Subkey, grants};
use crate::refusal::Reason;

/// How long a key is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Until {
    /// Seconds since the Unix epoch.
    Seconds(u64),
    /// It does not expire.
    Forever,
}

impl Until {
    fn after(made_s: u64, lasts_s: Option<u64>) -> Self {
        lasts_s.map_or(Self::Forever, |lasts_s| Self::Seconds(made_s.saturating_add(lasts_s)))
    }
}

/// What is known of one key at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Terms {
    until: Until,
    is_for_signing: bool,
}

/// Why a key can't sign, or until when it can, which may have passed.
pub(crate) fn signs_until(certificate: &Certificate, key: Key<'_>, now_s: u64) -> Result<Until, Reason> {
    let primary = Key::Primary(&certificate.primary);
    if primary.made_s() > now_s || key.made_s() > now_s {
        return Err(Reason::KeyNotYet);
    }
    if !primary.is_strong() || !key.is_strong() {
        return Err(Reason::WeakKey);
    }
    if certificate.is_revoked_by_other || is_revoked(&certificate.sayings) {
        return Err(Reason::KeyRevoked);
    }
    let terms = of_primary(certificate, now_s).ok_or(Reason::Unbound)?;
    let (until, is_for_signing) = match key {
        Key::Primary(_) => (terms.until, terms.is_for_signing),
        Key::Subkey(subkey) => {
            let own = of_subkey(subkey, now_s)?;
            (terms.until.min(own.until), own.is_for_signing)
        }
    };
    if is_for_signing { Ok(until) } else { Err(Reason::NotForSigning) }
}

fn is_revoked(sayings: &[Saying]) -> bool {
    sayings.iter().any(|saying| matches!(saying, Saying::Revocation(_)))
}

/// A direct signature says it, or the names' newest ones do. Names that say nothing of the matter are passed over.
fn of_primary(certificate: &Certificate, now_s: u64) -> Option<Terms> {
    let direct = newest(grants(&certificate.sayings, now_s));
    let names: Vec<&Grant> = certificate.identities.iter().filter_map(|name| of_name(name, now_s)).collect();
    if direct.is_none() && names.is_empty() {
        return None;
    }
    let lasts_s = direct.and_then(|direct| direct.key_lasts_s).or_else(|| {
        newest(with(&names, |name| name.key_lasts_s.is_some())).and_then(|name| name.key_lasts_s)
    });
    let is_for_signing = direct.and_then(|direct| direct.is_for_signing).or_else(|| {
        newest(with(&names, |name| name.is_for_signing.is_some())).and_then(|name| name.is_for_signing)
    });
    let made_s = Key::Primary(&certificate.primary).made_s();
    // A key whose owner says nothing of its use can do whatever its algorithm can.
    Some(Terms { until: Until::after(made_s, lasts_s), is_for_signing: is_for_signing.unwrap_or(true) })
}

/// `None` if the name was revoked after it was last signed.
fn of_name(sayings: &[Saying], now_s: u64) -> Option<&Grant> {
    let revoked_s = sayings.iter().filter_map(|saying| match saying {
        Saying::Revocation(made_s) => Some(*made_s),
        Saying::Grant(_) => None,
    });
    let revoked_s = revoked_s.max();
    newest(grants(sayings, now_s)).filter(|grant| revoked_s.is_none_or(|revoked_s| grant.made_s > revoked_s))
}

fn of_subkey(subkey: &Subkey, now_s: u64) -> Result<Terms, Reason> {
    if is_revoked(&subkey.sayings) {
        return Err(Reason::KeyRevoked);
    }
    let binding = newest(grants(&subkey.sayings, now_s)).ok_or(Reason::Unbound)?;
    let is_for_signing = binding.is_for_signing.unwrap_or(true);
    if is_for_signing && !binding.is_returned {
        return Err(Reason::NoBackSignature);
    }
    let made_s = Key::Subkey(subkey).made_s();
    Ok(Terms { until: Until::after(made_s, binding.key_lasts_s), is_for_signing })
}

fn with<'a>(grants: &[&'a Grant], has: fn(&Grant) -> bool) -> impl Iterator<Item = &'a Grant> {
    grants.iter().copied().filter(move |grant| has(grant))
}

/// Of two of one second the later in the file counts.
fn newest<'a>(grants: impl Iterator<Item = &'a Grant>) -> Option<&'a Grant> {
    grants.max_by_key(|grant| grant.made_s)
}
