//! Logging in to a module: a challenge, and a digest of password and challenge in answer (section 3.4).
//!
//! The random octets of the challenge and the passwords come from the owner of the session. Nothing here shows a
//! response, not even in debug output.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use md4::Md4;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq as _;

use crate::Protocol;

/// Octets of a challenge before they are written as text.
pub const CHALLENGE_LEN: usize = 32;

/// A digest, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuthDigest {
    /// MD4.
    Md4,
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl AuthDigest {
    /// All of them, the strongest first, as the greeting names them.
    pub const ALL: [Self; 5] = [Self::Sha512, Self::Sha256, Self::Sha1, Self::Md5, Self::Md4];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Md4 => "md4",
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Finds one by its name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|digest| digest.as_str() == name)
    }

    fn of(self, parts: &[&[u8]]) -> Vec<u8> {
        fn digest<D: Digest>(parts: &[&[u8]]) -> Vec<u8> {
            let mut digest = D::new();
            for part in parts {
                digest.update(part);
            }
            digest.finalize().to_vec()
        }
        match self {
            Self::Md4 => digest::<Md4>(parts),
            Self::Md5 => digest::<Md5>(parts),
            Self::Sha1 => digest::<Sha1>(parts),
            Self::Sha256 => digest::<Sha256>(parts),
            Self::Sha512 => digest::<Sha512>(parts),
        }
    }
}

/// How a client makes its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheme {
    digest: AuthDigest,
    /// Four zeros come first: MD4 as clients without a list use it.
    zeros: bool,
}

impl Scheme {
    /// What a client uses: the first name of its list that is one of ours; without a list MD5, or MD4
    /// before protocol 30. `None` if it has none of ours.
    #[must_use]
    pub fn of_client(greeting: &str, protocol: Protocol) -> Option<Self> {
        let names = greeting.splitn(3, ' ').nth(2).unwrap_or_default();
        if names.trim().is_empty() {
            let old = protocol.number() < 30;
            let digest = if old { AuthDigest::Md4 } else { AuthDigest::Md5 };
            return Some(Self { digest, zeros: old });
        }
        let digest = names.split_ascii_whitespace().find_map(AuthDigest::from_name)?;
        Some(Self { digest, zeros: false })
    }

    /// The digest.
    #[must_use]
    pub fn digest(self) -> AuthDigest {
        self.digest
    }
}

/// Random octets as a challenge is written.
#[must_use]
pub fn challenge_text(octets: [u8; CHALLENGE_LEN]) -> String {
    STANDARD_NO_PAD.encode(octets)
}

/// One attempt of a client to log in.
#[derive(Clone)]
pub struct Login {
    user: String,
    scheme: Scheme,
    challenge: String,
    response: String,
}

impl Login {
    /// Reads a client's answer to a challenge; `None` if it is no user and a response.
    #[must_use]
    pub fn parse(line: &str, scheme: Scheme, challenge: String) -> Option<Self> {
        let (user, response) = line.split_once(' ')?;
        let fits = !user.is_empty() && !user.contains(char::is_control) && !response.is_empty();
        fits.then(|| Self { user: user.to_owned(), scheme, challenge, response: response.to_owned() })
    }

    /// Who it says that it is.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether it was made with this password. How long this takes says nothing about how much of it was right.
    #[must_use]
    pub fn is_made_with(&self, password: &[u8]) -> bool {
        let zeros: &[u8] = if self.scheme.zeros { &[0; 4] } else { &[] };
        let expected = self.scheme.digest.of(&[zeros, password, self.challenge.as_bytes()]);
        let expected = STANDARD_NO_PAD.encode(expected);
        expected.as_bytes().ct_eq(self.response.as_bytes()).into()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .field("scheme", &self.scheme)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheme(greeting: &str) -> Option<(AuthDigest, bool)> {
        let protocol = crate::prologue::parse_greeting(greeting).unwrap();
        Scheme::of_client(greeting, protocol).map(|scheme| (scheme.digest, scheme.zeros))
    }

    #[test]
    fn the_clients_order_decides() {
        assert_eq!(scheme("@RSYNCD: 32.0 sha512 sha256 sha1 md5 md4"), Some((AuthDigest::Sha512, false)));
        assert_eq!(scheme("@RSYNCD: 32.0 foo md4 md5"), Some((AuthDigest::Md4, false)));
        assert_eq!(scheme("@RSYNCD: 31.0"), Some((AuthDigest::Md5, false)));
        assert_eq!(scheme("@RSYNCD: 29.0"), Some((AuthDigest::Md4, true)));
        assert_eq!(scheme("@RSYNCD: 29.0 sha1 md4"), Some((AuthDigest::Sha1, false)));
        assert_eq!(scheme("@RSYNCD: 32.0 foo"), None);
    }

    #[test]
    fn only_the_right_password_will_do_and_nothing_is_shown() {
        for digest in AuthDigest::ALL {
            assert_eq!(AuthDigest::from_name(digest.as_str()), Some(digest));
            let scheme = Scheme { digest, zeros: false };
            let response = STANDARD_NO_PAD.encode(digest.of(&[b"moo", b"challenge"]));
            let line = format!("larry {response}");
            let login = Login::parse(&line, scheme, "challenge".to_owned()).unwrap();
            assert!(login.is_made_with(b"moo") && !login.is_made_with(b"mo") && !login.is_made_with(b""));
            assert!(!format!("{login:?}").contains(&response));
            let short = Login::parse(&line[..line.len() - 1], scheme, "challenge".to_owned()).unwrap();
            assert!(!short.is_made_with(b"moo"));
        }
        for line in ["", "larry", " x", "larry ", "la\u{1}rry x"] {
            assert!(
                Login::parse(line, Scheme { digest: AuthDigest::Md5, zeros: false }, String::new()).is_none()
            );
        }
        assert!(AuthDigest::Md4 < AuthDigest::Sha256);
    }
}
