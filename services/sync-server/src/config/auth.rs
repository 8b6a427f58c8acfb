//! Who may log in.

use rsync_wire::login::AuthDigest;
use rsyncd_conf::auth::AuthRule;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Users and groups, each with `:deny`, `:ro` or `:rw` if need be; the first one that matches decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthUsers(pub Vec<AuthRule>);

impl<'de> Deserialize<'de> for AuthUsers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let rules = texts.iter().map(|text| text.trim().parse());
        rules.collect::<Result<_, String>>().map(Self).map_err(D::Error::custom)
    }
}

impl Serialize for AuthUsers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

/// `"sha512"`, `"sha256"`, `"sha1"`, `"md5"` or `"md4"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestName(pub AuthDigest);

impl<'de> Deserialize<'de> for DigestName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let names = AuthDigest::ALL.map(AuthDigest::as_str).join(", ");
        let found = AuthDigest::from_name(&name);
        found.map(Self).ok_or_else(|| D::Error::custom(format!("one of {names}")))
    }
}

impl Serialize for DigestName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}
