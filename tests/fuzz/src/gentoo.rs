//! The parsers of gentoo-repo.

use gentoo_repo::mirrors::ThirdPartyMirrors;
use gentoo_repo::{CatalogueBuilder, layout, timestamp};

/// What was read is written as it can be read again.
pub(crate) fn manifest(octets: &[u8]) {
    let Ok(read) = gentoo_repo::manifest::parse(octets) else { return };
    let written: String =
        read.entries.iter().flat_map(|entry| [entry.to_string(), "\n".to_owned()]).collect();
    let again = gentoo_repo::manifest::parse(written.as_bytes()).map(|manifest| manifest.entries);
    assert_eq!(again, Ok(read.entries));
}

pub(crate) fn md5_cache(octets: &[u8]) {
    if let Ok(entry) = gentoo_repo::md5_cache::parse(octets) {
        let (eapi, uris, restrict) = (entry.eapi(), entry.src_uri(), entry.restrict());
        drop((gentoo_repo::src_uri::parse(&uris, &eapi), gentoo_repo::restrict::parse(&restrict)));
    }
}

/// The first word is the EAPI. A name is a name again, and a URI is part of the text.
pub(crate) fn src_uri(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    let (eapi, text) = text.split_once('\n').unwrap_or(("8", text));
    for uri in gentoo_repo::src_uri::parse(text, eapi).unwrap_or_default() {
        assert_eq!(uri.name.as_str().parse().as_ref(), Ok(&uri.name));
        assert!(uri.uri.is_none_or(|uri| text.contains(uri)));
    }
}

pub(crate) fn restrict(octets: &[u8]) {
    drop(std::str::from_utf8(octets).map(gentoo_repo::restrict::parse));
}

pub(crate) fn layout_conf(octets: &[u8]) {
    drop(gentoo_repo::layout_conf::parse(octets));
}

/// The layouts that were read are written as they can be read again.
pub(crate) fn mirror_layout(octets: &[u8]) {
    let Ok(layouts) = layout::parse_mirror_layout_conf(octets) else { return };
    let again = layout::parse_mirror_layout_conf(layout::format_mirror_layout_conf(&layouts).as_bytes());
    assert_eq!(again, Ok(layouts));
}

/// After the first empty line comes what is expanded.
pub(crate) fn thirdpartymirrors(octets: &[u8]) {
    let at = octets.windows(2).position(|pair| pair == b"\n\n").unwrap_or(octets.len());
    let (list, wanted) = octets.split_at(at);
    let mut mirrors = ThirdPartyMirrors::new();
    drop(mirrors.add(list));
    if let Ok(wanted) = std::str::from_utf8(wanted) {
        for url in mirrors.expand(wanted.trim_start()).unwrap_or_default() {
            assert!(url.contains("://"), "{url}");
        }
    }
}

/// A time that was read is written as the same time.
pub(crate) fn timestamp(octets: &[u8]) {
    if let Ok(seconds) = timestamp::parse_chk(octets) {
        assert_eq!(timestamp::parse_chk(timestamp::format_chk(seconds).as_bytes()), Ok(seconds));
    }
    if let Some(seconds) =
        std::str::from_utf8(octets).ok().and_then(|text| timestamp::parse_manifest(text).ok())
    {
        assert_eq!(timestamp::parse_manifest(&timestamp::format_manifest(seconds)), Ok(seconds));
    }
    drop((timestamp::parse_x(octets), timestamp::parse_commit(octets)));
}

/// A Manifest, a cache entry and a mirror list, with lines of `%` between them. What a second builder recalls is
/// what the first one found.
pub(crate) fn catalogue(octets: &[u8]) {
    let separator = b"\n%\n";
    let mut parts = Vec::new();
    let mut rest = octets;
    while let Some(at) = rest.windows(separator.len()).position(|window| window == separator) {
        parts.push(&rest[..at]);
        rest = &rest[at + separator.len()..];
    }
    parts.push(rest);
    let part = |at: usize| parts.get(at).copied().unwrap_or_default();
    let mut builder = CatalogueBuilder::new();
    builder.add_thirdpartymirrors(part(2));
    builder.add_manifest("a", "b", part(0));
    builder.add_cache_entry("a", "b-1", part(1));
    builder.tag("a", "b", [1; 16]);
    let (catalogue, faults, facts) = builder.finish_with_facts();
    let mut resumed = CatalogueBuilder::resume(facts);
    resumed.add_thirdpartymirrors(part(2));
    assert!(resumed.recall("a", "b", [1; 16]));
    assert_eq!(resumed.finish(), (catalogue, faults));
}
