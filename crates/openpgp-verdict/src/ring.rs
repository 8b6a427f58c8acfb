//! A file of keys.

use std::collections::HashMap;

use pgp::types::{Fingerprint, KeyDetails, Tag};

use crate::armour;
use crate::certificate::{Certificate, Key};
use crate::packets::{self, Raw};
use crate::refusal::KeysError;
use crate::validity::{self, Until};

/// Of a file of keys, armoured or not.
pub const BYTES_MAX: usize = 16 << 20;
const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";
const BEGIN_SECRET: &str = "-----BEGIN PGP PRIVATE KEY BLOCK-----";

/// The keys that may sign.
pub struct Certificates {
    certificates: Vec<Certificate>,
    unusable: Vec<String>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fingerprints =
            self.certificates.iter().map(|certificate| certificate.primary.fingerprint().to_string());
        f.debug_list().entries(fingerprints).finish()
    }
}

impl Certificates {
    /// Reads a file of public keys, armoured (any number of blocks) or not, and checks all self-signatures.
    ///
    /// A certificate that is there twice counts as one with all that is said of it in either place: what is newer counts,
    /// and a revocation does wherever it stands.
    ///
    /// # Errors
    /// It holds no public key, is damaged, or is too large.
    pub fn parse(octets: &[u8]) -> Result<Self, KeysError> {
        if octets.len() > BYTES_MAX {
            return Err(KeysError::TooLarge);
        }
        match std::str::from_utf8(octets) {
            Ok(text) if text.contains(BEGIN_SECRET) => Err(KeysError::Secret),
            Ok(text) if text.contains(BEGIN) => {
                let packets = armour::blocks(text, BEGIN, END).map_err(KeysError::Damaged)?;
                Self::of_packets(&packets)
            }
            _ => Self::of_packets(octets),
        }
    }

    fn of_packets(octets: &[u8]) -> Result<Self, KeysError> {
        let mut ring = Self { certificates: Vec::new(), unusable: Vec::new() };
        let mut by_fingerprint = HashMap::new();
        let mut current = None;
        for (number, packet) in packets::split(octets).enumerate() {
            let packet = match packet {
                Ok(packet) if number == 0 && packet.tag != Tag::PublicKey => return Err(not_a_key(&packet)),
                Ok(packet) => packet,
                Err(_) if number == 0 => return Err(KeysError::None),
                Err(why) => return Err(KeysError::Damaged(why)),
            };
            if matches!(packet.tag, Tag::SecretKey | Tag::SecretSubkey) {
                return Err(KeysError::Secret);
            } else if packet.tag == Tag::PublicKey {
                current = ring.begin(&packet, &mut by_fingerprint);
            } else if let Some(index) = current {
                ring.certificates[index].take(&packet);
            }
        }
        ring.certificates.iter_mut().for_each(Certificate::finish);
        match (ring.certificates.is_empty(), ring.unusable.first()) {
            (true, Some(why)) => Err(KeysError::Unusable(why.clone())),
            (true, None) => Err(KeysError::None),
            (false, _) => Ok(ring),
        }
    }

    /// The index of the certificate that the packet begins or goes on with, if it is understood.
    fn begin(&mut self, packet: &Raw<'_>, known: &mut HashMap<Fingerprint, usize>) -> Option<usize> {
        match Certificate::begin(packet) {
            Ok(certificate) => {
                let index =
                    *known.entry(certificate.primary.fingerprint()).or_insert(self.certificates.len());
                if index == self.certificates.len() {
                    self.certificates.push(certificate);
                } else {
                    self.certificates[index].resume();
                }
                Some(index)
            }
            Err(why) => {
                self.unusable.push(why);
                None
            }
        }
    }

    /// Why certificates of the file were passed over.
    #[must_use]
    pub fn unusable(&self) -> &[String] {
        &self.unusable
    }

    /// Until when each certificate can sign, by itself or by one of its subkeys: in the order of the file, and without
    /// those that can't at all, now or ever before.
    pub fn sign_until(&self, now_s: u64) -> impl Iterator<Item = Until> {
        self.certificates.iter().filter_map(move |certificate| {
            let keys = certificate.keys();
            keys.filter_map(|key| validity::signs_until(certificate, key, now_s).ok()).max()
        })
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = (&Certificate, Key<'_>)> {
        self.certificates.iter().flat_map(|certificate| certificate.keys().map(move |key| (certificate, key)))
    }
}

fn not_a_key(packet: &Raw<'_>) -> KeysError {
    if packet.tag == Tag::SecretKey { KeysError::Secret } else { KeysError::None }
}
