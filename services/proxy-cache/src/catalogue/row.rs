//! One distfile as a row: what comes over gRPC, what is in the columns, what the crate works with.
//!
//! The columns hold what a person with an sqlite shell can read: digests as in a DIST line, one source
//! to a line, packages with spaces between them.

use gentoo_repo::{Digests, Distfile, DistfileName, HashAlgorithm, PackageKey, Restriction};
use rookery_proto::v1;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

/// Why a distfile that came over the wire is left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    /// Its name can't be one path element.
    #[error(transparent)]
    Name(#[from] gentoo_repo::Error),
    /// Nothing that it is served as could be trusted.
    #[error("{0}: no digest of a hash without known collisions")]
    Unverifiable(String),
    /// Does not fit the column.
    #[error("{0}: larger than 2^63 octets")]
    Size(String),
}

/// Checks what came over the wire. Sources and packages that hold white space are left out: no URL and
/// no package name does, and the columns use it to separate.
pub(super) fn from_wire(wire: &v1::Distfile) -> Result<Distfile, Unusable> {
    let name = DistfileName::try_from(wire.name.as_str())?;
    let digests: Digests = wire
        .digests
        .iter()
        .filter_map(|digest| {
            Some((HashAlgorithm::from_manifest_name(&digest.algorithm)?, digest.value.clone()))
        })
        .collect();
    if i64::try_from(wire.size_bytes).is_err() {
        return Err(Unusable::Size(wire.name.clone()));
    }
    let distfile = Distfile {
        name,
        size_bytes: wire.size_bytes,
        digests,
        sources: words(&wire.sources).map(str::to_owned).collect(),
        restriction: match wire.restriction() {
            v1::Restriction::Unspecified | v1::Restriction::None => Restriction::None,
            v1::Restriction::Mirror => Restriction::Mirror,
            v1::Restriction::Fetch => Restriction::Fetch,
        },
        packages: words(&wire.packages).map(PackageKey::from).collect(),
    };
    if distfile.is_verifiable() { Ok(distfile) } else { Err(Unusable::Unverifiable(wire.name.clone())) }
}

fn words(all: &[String]) -> impl Iterator<Item = &str> {
    let is_word =
        |text: &&str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    all.iter().map(String::as_str).filter(is_word)
}

/// The columns that follow `id`, `module` and `name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) size_bytes: i64,
    pub(super) restriction: i64,
    pub(super) digests: String,
    pub(super) sources: String,
    pub(super) packages: String,
}

impl Columns {
    pub(super) fn encode(distfile: &Distfile) -> Self {
        Self {
            size_bytes: i64::try_from(distfile.size_bytes).unwrap_or(i64::MAX),
            restriction: match distfile.restriction {
                Restriction::None => 0,
                Restriction::Mirror => 1,
                Restriction::Fetch => 2,
            },
            digests: distfile.digests.to_string(),
            sources: distfile.sources.join("\n"),
            packages: distfile.packages.join(" "),
        }
    }
}

/// Reads `name, size_bytes, restriction, digests, sources, packages`.
pub(super) fn decode(row: &SqliteRow) -> Result<Distfile, sqlx::Error> {
    let name: &str = row.try_get("name")?;
    let digests: &str = row.try_get("digests")?;
    let sources: &str = row.try_get("sources")?;
    let packages: &str = row.try_get("packages")?;
    let unreadable = |column: &str, why: String| sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: why.into(),
    };
    Ok(Distfile {
        name: DistfileName::try_from(name).map_err(|error| unreadable("name", error.to_string()))?,
        size_bytes: u64::try_from(row.try_get::<i64, _>("size_bytes")?)
            .map_err(|error| unreadable("size_bytes", error.to_string()))?,
        digests: decode_digests(digests).ok_or_else(|| unreadable("digests", "no digest line".to_owned()))?,
        sources: sources.lines().map(str::to_owned).collect(),
        restriction: match row.try_get::<i64, _>("restriction")? {
            0 => Restriction::None,
            1 => Restriction::Mirror,
            2 => Restriction::Fetch,
            other => return Err(unreadable("restriction", format!("{other} is none"))),
        },
        packages: packages.split_ascii_whitespace().map(PackageKey::from).collect(),
    })
}

fn decode_digests(text: &str) -> Option<Digests> {
    let mut digests = Digests::default();
    let mut words = text.split_ascii_whitespace();
    while let Some(algorithm) = words.next() {
        let value = hex::decode(words.next()?).ok()?;
        digests.insert(HashAlgorithm::from_manifest_name(algorithm)?, value).ok()?;
    }
    Some(digests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(name: &str) -> v1::Distfile {
        v1::Distfile {
            name: name.to_owned(),
            size_bytes: 7,
            digests: vec![v1::Digest { algorithm: "BLAKE2B".to_owned(), value: vec![7; 64] }],
            ..v1::Distfile::default()
        }
    }

    #[test]
    fn what_cannot_be_verified_or_named_is_left_out() {
        assert!(from_wire(&wire("foo-1.tgz")).is_ok());
        assert!(matches!(from_wire(&wire("../etc/passwd")), Err(Unusable::Name(_))));
        let no_digest = v1::Distfile { digests: Vec::new(), ..wire("a") };
        assert!(matches!(from_wire(&no_digest), Err(Unusable::Unverifiable(_))));
        let broken_hash = v1::Digest { algorithm: "MD5".to_owned(), value: vec![1; 16] };
        let weak = v1::Distfile { digests: vec![broken_hash], ..wire("a") };
        assert!(matches!(from_wire(&weak), Err(Unusable::Unverifiable(_))));
        let huge = v1::Distfile { size_bytes: u64::MAX, ..wire("a") };
        assert!(matches!(from_wire(&huge), Err(Unusable::Size(_))));
    }

    #[test]
    fn a_source_with_white_space_cannot_become_two() {
        let sources = vec!["http://a/b\nhttp://evil/c".to_owned(), "http://a/d".to_owned(), String::new()];
        let distfile = from_wire(&v1::Distfile { sources, ..wire("a") }).unwrap();
        assert_eq!(distfile.sources, ["http://a/d"]);
    }

    #[test]
    fn digests_survive_their_column() {
        let distfile = from_wire(&wire("a")).unwrap();
        assert_eq!(decode_digests(&distfile.digests.to_string()), Some(distfile.digests));
        assert_eq!(decode_digests("BLAKE2B"), None);
        assert_eq!(decode_digests("BLAKE2B 00"), None);
        assert_eq!(decode_digests(""), Some(Digests::default()));
    }
}
