//! Signatures over a text, each judged by the keys that may make them.

use pgp::packet::{Signature, SignatureConfig, SignatureType, SignatureVersionSpecific};
use pgp::types::{Fingerprint, KeyId, Tag};

use crate::armour;
use crate::certificate::{Certificate, Key};
use crate::packets;
use crate::policy;
use crate::refusal::{Reason, Refusal};
use crate::ring::Certificates;
use crate::validity::{self, Until};

pub(crate) const BEGIN: &str = "-----BEGIN PGP SIGNATURE-----";
pub(crate) const END: &str = "-----END PGP SIGNATURE-----";

/// Of one text. Each may take a digest of all of it.
pub(crate) const SIGNATURES_MAX: usize = 8;

/// Who made a good signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The fingerprint of the key or subkey, in upper-case hexadecimal digits.
    pub key: String,
    /// When, in seconds since the Unix epoch.
    pub made_s: u64,
}

/// Takes signatures out of their armour.
pub(crate) fn read(armour: &str) -> Result<Vec<Signature>, Refusal> {
    let malformed = |why: String| Refusal::of_text(Reason::Malformed(format!("the signature: {why}")));
    let octets = armour::blocks(armour, BEGIN, END).map_err(malformed)?;
    let mut signatures = Vec::new();
    for packet in packets::split(&octets) {
        let packet = packet.map_err(malformed)?;
        if packet.tag != Tag::Signature {
            return Err(malformed(format!("a packet of type {}", u8::from(packet.tag))));
        }
        if signatures.len() == SIGNATURES_MAX {
            return Err(Refusal::of_text(Reason::TooMany));
        }
        signatures
            .push(packet.parse(|header, body| Signature::try_from_reader(header, body)).map_err(malformed)?);
    }
    if signatures.is_empty() { Err(Refusal::of_text(Reason::NotSigned)) } else { Ok(signatures) }
}

/// Judges each signature over `text`, all of which have to be good and of the type that belongs to its form.
pub(crate) fn judge_all(
    signatures: &[Signature],
    form: SignatureType,
    text: &[u8],
    keys: &Certificates,
    now_s: u64,
) -> Result<Vec<Signer>, Refusal> {
    signatures.iter().map(|signature| judge(signature, form, text, keys, now_s)).collect()
}

fn judge(
    signature: &Signature,
    form: SignatureType,
    text: &[u8],
    keys: &Certificates,
    now_s: u64,
) -> Result<Signer, Refusal> {
    let Some(config) = signature.config() else {
        let what = format!("a signature of version {}", u8::from(signature.version()));
        return Err(Refusal::of_text(Reason::Unsupported(what)));
    };
    let (fingerprints, ids) = (config.issuer_fingerprint(), config.issuer_key_id());
    let refused = |reason| Refusal { key: name(&fingerprints, &ids), reason };
    let made_s = acceptable(config, form).map_err(|what| refused(Reason::Unsupported(what)))?;
    let candidates = named(keys, &fingerprints, &ids);
    if candidates.is_empty() {
        return Err(refused(Reason::UnknownKey));
    }
    if candidates.iter().all(|(_, key)| !key.is_strong()) {
        return Err(refused(Reason::WeakKey));
    }
    let Some((certificate, key)) = candidates.into_iter().find(|(_, key)| key.fits(signature, text)) else {
        return Err(refused(Reason::Bad));
    };
    let lasts_s = signature.signature_expiration_time().map(|lasts| u64::from(lasts.as_secs()));
    in_time(certificate, key, made_s, lasts_s, now_s).map_err(refused)?;
    Ok(Signer { key: digits(key.details().fingerprint().as_bytes()), made_s })
}

/// When it was made, if it is of a kind that is accepted.
fn acceptable(config: &SignatureConfig, form: SignatureType) -> Result<u64, String> {
    match config.version_specific {
        SignatureVersionSpecific::V4 | SignatureVersionSpecific::V6 { .. } => {}
        SignatureVersionSpecific::V2 { .. } | SignatureVersionSpecific::V3 { .. } => {
            return Err(format!("a signature of version {}", u8::from(config.version())));
        }
    }
    if config.typ() != form {
        return Err(format!(
            "a signature of type {:#04x} for text of type {:#04x}",
            u8::from(config.typ()),
            u8::from(form)
        ));
    }
    if !policy::is_strong_hash(config.hash_alg) {
        return Err(format!("a signature over a digest of {}", config.hash_alg));
    }
    if policy::has_unknown_critical(config) {
        return Err("a signature with an unknown critical part".to_owned());
    }
    let made = config.created().ok_or("a signature without a time")?;
    Ok(u64::from(made.as_secs()))
}

/// A signature of a time to come is taken, as `GnuPG` takes it: it is good for longer than this host's clock knows.
fn in_time(
    certificate: &Certificate,
    key: Key<'_>,
    made_s: u64,
    lasts_s: Option<u64>,
    now_s: u64,
) -> Result<(), Reason> {
    let until = validity::signs_until(certificate, key, now_s)?;
    if made_s < key.made_s() {
        return Err(Reason::BeforeKey);
    }
    if lasts_s.is_some_and(|lasts_s| lasts_s > 0 && made_s + lasts_s <= now_s) {
        return Err(Reason::SignatureExpired);
    }
    match until {
        Until::Seconds(until_s) if until_s <= now_s => Err(Reason::KeyExpired),
        Until::Seconds(_) | Until::Forever => Ok(()),
    }
}

/// The keys that are meant, by whatever they are named.
fn named<'a>(
    keys: &'a Certificates,
    fingerprints: &[&Fingerprint],
    ids: &[&KeyId],
) -> Vec<(&'a Certificate, Key<'a>)> {
    if fingerprints.is_empty() && ids.is_empty() {
        return Vec::new();
    }
    let is_meant = |key: &Key<'_>| {
        let details = key.details();
        (fingerprints.is_empty() || fingerprints.contains(&&details.fingerprint()))
            && (ids.is_empty() || ids.contains(&&details.legacy_key_id()))
    };
    keys.keys().filter(|(_, key)| is_meant(key)).collect()
}

/// As people see keys named: the last 16 digits.
fn name(fingerprints: &[&Fingerprint], ids: &[&KeyId]) -> String {
    match (ids.first(), fingerprints.first()) {
        (Some(id), _) => digits(id.as_ref()),
        (None, Some(fingerprint)) => digits(fingerprint.as_bytes()),
        (None, None) => "not named".to_owned(),
    }
}

fn digits(octets: &[u8]) -> String {
    use std::fmt::Write as _;
    octets.iter().fold(String::with_capacity(2 * octets.len()), |mut digits, octet| {
        // Writing to a string does not fail.
        let _written = write!(digits, "{octet:02X}");
        digits
    })
}
