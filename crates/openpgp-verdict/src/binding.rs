//! What a key's owner says of it: self-signatures (RFC 9580, 5.2.1 and 10.1.1), checked arithmetically.

use pgp::packet::{PublicKey, PublicSubkey, Signature, SignatureConfig, SignatureType, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::{KeyDetails, Tag};

use crate::policy;

/// What a self-signature stands behind.
pub(crate) enum Target<'a> {
    Primary,
    /// A user ID or attribute, as it came.
    Identity {
        tag: Tag,
        octets: &'a [u8],
    },
    Subkey(&'a PublicSubkey),
}

/// What is said, once it is known to be said by the key's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Saying {
    Grant(Grant),
    /// At this time.
    Revocation(u64),
}

/// That a key belongs to its owner, or a name to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Default))]
pub(crate) struct Grant {
    pub(crate) made_s: u64,
    /// The saying itself counts until then.
    pub(crate) until_s: Option<u64>,
    /// The key is valid for so long after it was made.
    pub(crate) key_lasts_s: Option<u64>,
    /// Whether the key is for signing, if that is said.
    pub(crate) is_for_signing: Option<bool>,
    /// Whether the subkey says so too.
    pub(crate) is_returned: bool,
}

/// `None` for what others say, for what makes no sense here, and for what can't be believed.
///
/// A revocation is believed whatever its digest: to forge one does no harm that its forger could use.
pub(crate) fn check(signature: &Signature, primary: &PublicKey, target: &Target<'_>) -> Option<Saying> {
    let config = signature.config()?;
    if !is_by(config, primary) {
        return None;
    }
    let is_revocation = is_revocation(config.typ(), target)?;
    let made_s = u64::from(config.created()?.as_secs());
    let may_grant = || policy::is_own_hash(config.hash_alg) && !policy::has_unknown_critical(config);
    if !is_revocation && !may_grant() {
        return None;
    }
    let checked = match target {
        Target::Primary => signature.verify_key(primary),
        Target::Identity { tag, octets } => signature.verify_certification(primary, *tag, &AsItCame(octets)),
        Target::Subkey(subkey) => signature.verify_subkey_binding(primary, subkey),
    };
    checked.ok()?;
    if is_revocation {
        return Some(Saying::Revocation(made_s));
    }
    let lasts_s = signature.signature_expiration_time().map(|lasts| u64::from(lasts.as_secs()));
    let key_lasts_s = signature.key_expiration_time().map(|lasts| u64::from(lasts.as_secs()));
    Some(Saying::Grant(Grant {
        made_s,
        // 0: for ever.
        until_s: lasts_s.filter(|&lasts_s| lasts_s > 0).map(|lasts_s| made_s + lasts_s),
        key_lasts_s: key_lasts_s.filter(|&lasts_s| lasts_s > 0),
        is_for_signing: is_for_signing(config),
        is_returned: matches!(target, Target::Subkey(subkey) if is_returned(config, primary, subkey)),
    }))
}

/// Whether it names this key in each way in which it names one, or nobody at all.
fn is_by(config: &SignatureConfig, key: &PublicKey) -> bool {
    let (fingerprints, ids) = (config.issuer_fingerprint(), config.issuer_key_id());
    (fingerprints.is_empty() || fingerprints.contains(&&key.fingerprint()))
        && (ids.is_empty() || ids.contains(&&key.legacy_key_id()))
}

fn is_revocation(kind: SignatureType, target: &Target<'_>) -> Option<bool> {
    use SignatureType as Type;
    match (kind, target) {
        (Type::Key, Target::Primary)
        | (Type::SubkeyBinding, Target::Subkey(_))
        | (
            Type::CertGeneric | Type::CertPersona | Type::CertCasual | Type::CertPositive,
            Target::Identity { .. },
        ) => Some(false),
        (Type::KeyRevocation, Target::Primary)
        | (Type::CertRevocation, Target::Identity { .. })
        | (Type::SubkeyRevocation, Target::Subkey(_)) => Some(true),
        _ => None,
    }
}

fn is_for_signing(config: &SignatureConfig) -> Option<bool> {
    config.hashed_subpackets().find_map(|subpacket| {
        let SubpacketData::KeyFlags(flags) = &subpacket.data else { return None };
        Some(flags.sign())
    })
}

/// A subkey for signing has to sign the primary key back: anybody could claim a stranger's key otherwise. One that is
/// to expire by itself is not known to be used by anybody, and doesn't count.
fn is_returned(config: &SignatureConfig, primary: &PublicKey, subkey: &PublicSubkey) -> bool {
    let mut embedded = config.hashed_subpackets().chain(config.unhashed_subpackets());
    embedded.any(|subpacket| {
        let SubpacketData::EmbeddedSignature(back) = &subpacket.data else { return false };
        let counts = |back: &SignatureConfig| {
            policy::is_own_hash(back.hash_alg) && !policy::has_unknown_critical(back)
        };
        back.config().is_some_and(counts)
            && back.signature_expiration_time().is_none_or(|lasts| lasts.as_secs() == 0)
            && back.verify_primary_key_binding(subkey, primary).is_ok()
    })
}

/// Who else may revoke the key (RFC 9580, 5.2.3.23), by fingerprint.
pub(crate) fn revokers(signature: &Signature) -> impl Iterator<Item = &[u8]> {
    let hashed = signature.config().into_iter().flat_map(SignatureConfig::hashed_subpackets);
    hashed.filter_map(|subpacket| {
        let SubpacketData::RevocationKey(key) = &subpacket.data else { return None };
        Some(key.fingerprint.as_slice())
    })
}

/// Octets that are hashed as they came, rather than as `pgp` would write them.
struct AsItCame<'a>(&'a [u8]);

impl Serialize for AsItCame<'_> {
    fn to_writer<W: std::io::Write>(&self, writer: &mut W) -> pgp::errors::Result<()> {
        Ok(writer.write_all(self.0)?)
    }

    fn write_len(&self) -> usize {
        self.0.len()
    }
}
