//! Which algorithms and extensions are accepted.

use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{SignatureConfig, SubpacketData};
use pgp::types::{EcdsaPublicParams, EddsaLegacyPublicParams, PublicParams};
use rsa_bits::bits;

/// Below it a key can be broken by those who want to badly enough.
const RSA_BITS_MIN: usize = 2048;

/// Whether nobody can make two texts with one digest.
pub(crate) fn is_strong_hash(hash: HashAlgorithm) -> bool {
    use HashAlgorithm::{Sha3_256, Sha3_512, Sha224, Sha256, Sha384, Sha512};
    matches!(hash, Sha224 | Sha256 | Sha384 | Sha512 | Sha3_256 | Sha3_512)
}

/// Whether a digest is good enough for what a key's owner says of the key: nobody else chooses what is signed there, so
/// that two texts with one digest don't help; `pgp` besides refuses SHA-1 where such a pair shows. Keys that were
/// renewed for many years still have such back-signatures, and `GnuPG` takes them too.
pub(crate) fn is_own_hash(hash: HashAlgorithm) -> bool {
    hash == HashAlgorithm::Sha1 || is_strong_hash(hash)
}

/// Whether a key's kind and size are accepted for signatures: no DSA, no curves that are not widely used.
pub(crate) fn is_strong_key(key: &PublicParams) -> bool {
    match key {
        PublicParams::RSA(rsa) => bits(rsa) >= RSA_BITS_MIN,
        PublicParams::ECDSA(ecdsa) => matches!(
            ecdsa,
            EcdsaPublicParams::P256 { .. } | EcdsaPublicParams::P384 { .. } | EcdsaPublicParams::P521 { .. }
        ),
        PublicParams::EdDSALegacy(eddsa) => matches!(eddsa, EddsaLegacyPublicParams::Ed25519 { .. }),
        PublicParams::Ed25519(_) | PublicParams::Ed448(_) => true,
        PublicParams::DSA(_)
        | PublicParams::ECDH(_)
        | PublicParams::Elgamal(_)
        | PublicParams::X25519(_)
        | PublicParams::X448(_)
        | PublicParams::Unknown { .. } => false,
    }
}

/// RFC 9580, 5.2.3.7: a signature that has a critical subpacket which isn't understood says something else than it
/// seems to.
pub(crate) fn has_unknown_critical(config: &SignatureConfig) -> bool {
    config.hashed_subpackets().filter(|subpacket| subpacket.is_critical).any(|subpacket| {
        matches!(
            subpacket.data,
            SubpacketData::Experimental(..)
                | SubpacketData::Other(..)
                | SubpacketData::Notation(_)
                | SubpacketData::RegularExpression(_)
                | SubpacketData::TrustSignature(..)
                | SubpacketData::IntendedRecipientFingerprint(_)
                | SubpacketData::SignatureTarget(..)
        )
    })
}

mod rsa_bits {
    use pgp::ser::Serialize as _;
    use pgp::types::RsaPublicParams;

    /// The length of the modulus, which is written first, after the number of its bits.
    pub(super) fn bits(rsa: &RsaPublicParams) -> usize {
        let octets = rsa.to_bytes().unwrap_or_default();
        octets.first_chunk().map_or(0, |&length| usize::from(u16::from_be_bytes(length)))
    }
}
