//! One certificate (RFC 9580, 10.1): a primary key, its names and its subkeys, each with what its owner says of it.

use pgp::packet::{PublicKey, PublicSubkey, Signature, SignatureType};
use pgp::types::{KeyDetails, KeyVersion, PublicParams, Tag};

use crate::binding::{self, Grant, Saying, Target};
use crate::packets::Raw;
use crate::policy;

/// A primary key with all that hangs on it.
pub(crate) struct Certificate {
    pub(crate) primary: PublicKey,
    /// What is said of the primary key itself.
    pub(crate) sayings: Vec<Saying>,
    pub(crate) identities: Vec<Vec<Saying>>,
    pub(crate) subkeys: Vec<Subkey>,
    /// Somebody who may do so seems to have revoked it.
    pub(crate) is_revoked_by_other: bool,
    revokers: Vec<Vec<u8>>,
    /// Of revocations that are not the key's own.
    others: Vec<Vec<u8>>,
    identity_octets: Vec<(Tag, Vec<u8>)>,
    /// What the signatures that come next belong to.
    at: At,
}

/// A subkey and what is said of it.
pub(crate) struct Subkey {
    pub(crate) key: PublicSubkey,
    pub(crate) sayings: Vec<Saying>,
}

enum At {
    Primary,
    Identity(usize),
    Subkey(usize),
    /// Something that is not understood.
    Nothing,
}

/// One key of a certificate.
#[derive(Clone, Copy)]
pub(crate) enum Key<'a> {
    Primary(&'a PublicKey),
    Subkey(&'a Subkey),
}

impl Key<'_> {
    pub(crate) fn details(&self) -> &dyn KeyDetails {
        match self {
            Self::Primary(key) => *key,
            Self::Subkey(subkey) => &subkey.key,
        }
    }

    pub(crate) fn made_s(&self) -> u64 {
        u64::from(self.details().created_at().as_secs())
    }

    pub(crate) fn fits(&self, signature: &Signature, text: &[u8]) -> bool {
        match self {
            Self::Primary(key) => signature.verify(*key, text),
            Self::Subkey(subkey) => signature.verify(&subkey.key, text),
        }
        .is_ok()
    }

    pub(crate) fn is_strong(&self) -> bool {
        policy::is_strong_key(self.details().public_params())
    }
}

impl Certificate {
    /// From the packet that begins it.
    pub(crate) fn begin(packet: &Raw<'_>) -> Result<Self, String> {
        let primary = packet.parse(|header, body| PublicKey::try_from_reader(header, body))?;
        is_understood(&primary)?;
        Ok(Self {
            primary,
            sayings: Vec::new(),
            identities: Vec::new(),
            subkeys: Vec::new(),
            is_revoked_by_other: false,
            revokers: Vec::new(),
            others: Vec::new(),
            identity_octets: Vec::new(),
            at: At::Primary,
        })
    }

    /// The file has its primary key again: what follows is said of the same one.
    pub(crate) fn resume(&mut self) {
        self.at = At::Primary;
    }

    /// Takes the next packet of it.
    pub(crate) fn take(&mut self, packet: &Raw<'_>) {
        if matches!(packet.tag, Tag::UserId | Tag::UserAttribute) {
            self.at = At::Identity(self.identity(packet));
        } else if packet.tag == Tag::PublicSubkey {
            self.at = self.subkey(packet);
        } else if packet.tag == Tag::Signature
            // One that isn't understood says nothing: others' signatures come in all kinds.
            && let Ok(signature) = packet.parse(|header, body| Signature::try_from_reader(header, body))
        {
            self.signature(&signature);
        }
    }

    fn identity(&mut self, packet: &Raw<'_>) -> usize {
        let is_same = |(tag, octets): &(Tag, Vec<u8>)| *tag == packet.tag && octets == packet.body;
        self.identity_octets.iter().position(is_same).unwrap_or_else(|| {
            self.identity_octets.push((packet.tag, packet.body.to_vec()));
            self.identities.push(Vec::new());
            self.identities.len() - 1
        })
    }

    fn subkey(&mut self, packet: &Raw<'_>) -> At {
        let Ok(key) = packet.parse(|header, body| PublicSubkey::try_from_reader(header, body)) else {
            return At::Nothing;
        };
        if is_understood(&key).is_err() {
            return At::Nothing;
        }
        let known = self.subkeys.iter().position(|subkey| subkey.key.fingerprint() == key.fingerprint());
        At::Subkey(known.unwrap_or_else(|| {
            self.subkeys.push(Subkey { key, sayings: Vec::new() });
            self.subkeys.len() - 1
        }))
    }

    fn signature(&mut self, signature: &Signature) {
        let target = match self.at {
            At::Primary => Target::Primary,
            At::Identity(index) => {
                let (tag, octets) = &self.identity_octets[index];
                Target::Identity { tag: *tag, octets }
            }
            At::Subkey(index) => Target::Subkey(&self.subkeys[index].key),
            At::Nothing => return,
        };
        let Some(saying) = binding::check(signature, &self.primary, &target) else {
            if matches!(self.at, At::Primary) && signature.typ() == Some(SignatureType::KeyRevocation) {
                let issuers =
                    signature.issuer_fingerprint().into_iter().map(|issuer| issuer.as_bytes().to_vec());
                self.others.extend(issuers);
                let issuers = signature.issuer_key_id().into_iter().map(|issuer| issuer.as_ref().to_vec());
                self.others.extend(issuers);
            }
            return;
        };
        self.revokers.extend(binding::revokers(signature).map(<[u8]>::to_vec));
        match self.at {
            At::Primary => self.sayings.push(saying),
            At::Identity(index) => self.identities[index].push(saying),
            At::Subkey(index) => self.subkeys[index].sayings.push(saying),
            At::Nothing => {}
        }
    }

    /// To be called once all of it was taken.
    ///
    /// A revocation by somebody whom the owner named for that is believed without being checked, because that one's key
    /// need not be here: who could forge it could as well take the key out of the file.
    pub(crate) fn finish(&mut self) {
        // A key ID is the end of a fingerprint.
        let is_named = |other: &Vec<u8>| self.revokers.iter().any(|revoker| revoker.ends_with(other));
        self.is_revoked_by_other = self.others.iter().any(is_named);
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = Key<'_>> {
        std::iter::once(Key::Primary(&self.primary)).chain(self.subkeys.iter().map(Key::Subkey))
    }
}

fn is_understood(key: &impl KeyDetails) -> Result<(), String> {
    match (key.version(), key.public_params()) {
        (KeyVersion::V4 | KeyVersion::V6, PublicParams::Unknown { .. }) => {
            Err(format!("a key of algorithm {:?}", key.algorithm()))
        }
        (KeyVersion::V4 | KeyVersion::V6, _) => Ok(()),
        (version, _) => Err(format!("a key of version {}", u8::from(version))),
    }
}

/// Those that grant and count at a time. `GnuPG` takes those of a time to come, too: a key that was renewed a minute ago
/// must not be lost to a slow clock.
pub(crate) fn grants(sayings: &[Saying], now_s: u64) -> impl Iterator<Item = &Grant> {
    sayings.iter().filter_map(move |saying| match saying {
        Saying::Grant(grant) => {
            Some(grant).filter(|grant| grant.until_s.is_none_or(|until_s| until_s > now_s))
        }
        Saying::Revocation(_) => None,
    })
}
