//! Why keys or signatures are of no use.

use std::fmt;

/// Why a file is no set of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// There is more than anybody's keys need.
    #[error("more than {} MiB of keys", crate::KEYS_BYTES_MAX >> 20)]
    TooLarge,
    /// Something else, or nothing.
    #[error("expected an OpenPGP public key")]
    None,
    /// Someone's private key, which has no business here.
    #[error("expected an OpenPGP public key, not a secret key")]
    Secret,
    /// It begins as keys do and is damaged.
    #[error("{0}")]
    Damaged(String),
    /// There are keys, but none that is understood.
    #[error("no OpenPGP public key that can be used: {0}")]
    Unusable(String),
}

/// Why a text does not count as signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The key that is said to have made the signature, in upper-case hexadecimal digits; empty if none is.
    pub key: String,
    /// What is wrong.
    pub reason: Reason,
}

impl Refusal {
    pub(crate) const fn of_text(reason: Reason) -> Self {
        Self { key: String::new(), reason }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}", self.reason),
            key => write!(f, "{}: {key}", self.reason),
        }
    }
}

impl std::error::Error for Refusal {}

/// What is wrong with a signature, or with the key that made it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// There is no signature.
    #[error("not signed")]
    NotSigned,
    /// The text around the signature, or the signature's own octets, make no sense.
    #[error("{0}")]
    Malformed(String),
    /// More than anybody needs, each of which takes work.
    #[error("more than {} signatures", crate::signature::SIGNATURES_MAX)]
    TooMany,
    /// Of a version or an algorithm that is not accepted.
    #[error("{0}, which is not accepted, made by key")]
    Unsupported(String),
    /// It names no key of ours.
    #[error("signed by a key that is not in openpgp_key")]
    UnknownKey,
    /// The text was changed, or the signature belongs to another.
    #[error("the signature does not fit the text, made by key")]
    Bad,
    /// It was valid for a time that has passed.
    #[error("the signature has expired")]
    SignatureExpired,
    /// The clock of its maker or of this host is wrong.
    #[error(
        "signed at a time that has not come yet, by a key that is not valid yet; is this host's clock right? Made by \
         key"
    )]
    KeyNotYet,
    /// A signature older than its key.
    #[error("signed before the key was made")]
    BeforeKey,
    /// The key, or the one that it belongs to, has expired by now.
    #[error("signed by a key that has expired")]
    KeyExpired,
    /// The key, or the one that it belongs to, was revoked.
    #[error("signed by a key that was revoked")]
    KeyRevoked,
    /// The key's owner did not make it for signing.
    #[error("signed by a key that is not for signing")]
    NotForSigning,
    /// No self-signature that counts says that it is a key of its owner.
    #[error("signed by a key without a valid self-signature")]
    Unbound,
    /// A subkey that does not say itself that it belongs to the key that claims it.
    #[error("signed by a subkey without a valid back-signature")]
    NoBackSignature,
    /// Too short, or of a kind that is not accepted.
    #[error("signed by a key of a kind that is not accepted")]
    WeakKey,
}
