//! The files of one package: ebuilds, md5-cache entries, the thin Manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;

use md5::{Digest as _, Md5};

use super::plan::{Ebuild, Package, Restriction, Uri};
use super::write::Writer;
use super::{GeneratedDistfile, TreeSpec, mtime_s};

pub(super) fn write_package(
    spec: &TreeSpec,
    package: &Package,
    distfiles: &BTreeMap<String, GeneratedDistfile>,
    writer: &mut Writer,
) -> io::Result<()> {
    let Package { category, name, .. } = package;
    let dir = format!("{category}/{name}");
    for ebuild in &package.ebuilds {
        let text = ebuild_text(package, ebuild);
        let path = format!("{dir}/{name}-{}.ebuild", ebuild.version);
        writer.file(&path, text.as_bytes(), mtime_s(spec, &path, ebuild.revision))?;
        let entry = cache_entry(package, ebuild, &hex::encode(Md5::digest(text.as_bytes())));
        let path = format!("metadata/md5-cache/{category}/{name}-{}", ebuild.version);
        writer.file(&path, entry.as_bytes(), mtime_s(spec, &path, ebuild.revision))?;
    }
    let newest = package.ebuilds.iter().map(|ebuild| ebuild.revision).max().unwrap_or(0);
    let manifest = manifest(package, distfiles);
    if !manifest.is_empty() {
        let path = format!("{dir}/Manifest");
        writer.file(&path, manifest.as_bytes(), mtime_s(spec, &path, newest))?;
    }
    let path = format!("{dir}/metadata.xml");
    writer.file(&path, metadata_xml(package).as_bytes(), mtime_s(spec, &path, 0))?;
    if let Some(length) = package.patch_bytes {
        let path = format!("{dir}/files/{name}-build.patch");
        let octets = crate::contents::Contents::new(spec.seed, &path, length as u64 / 2).to_bytes();
        writer.file(&path, hex::encode(octets).as_bytes(), mtime_s(spec, &path, 0))?;
    }
    Ok(())
}

fn ebuild_text(package: &Package, ebuild: &Ebuild) -> String {
    let mut text = String::from("# Generated: nobody wrote this\n\nEAPI=8\n\n");
    let mut variable = |key: &str, value: &str| {
        if !value.is_empty() {
            // Writing to a String can't fail.
            let _ = writeln!(text, "{key}=\"{value}\"");
        }
    };
    variable("DESCRIPTION", &package.description);
    variable("HOMEPAGE", &homepage(package));
    let elements: Vec<String> = ebuild.uris.iter().map(src_uri_element).collect();
    let src_uri =
        if elements.is_empty() { String::new() } else { format!("\n\t{}\n", elements.join("\n\t")) };
    variable("SRC_URI", &src_uri);
    variable("S", "${WORKDIR}");
    variable("LICENSE", package.licence);
    variable("SLOT", &ebuild.slot);
    variable("KEYWORDS", "amd64");
    variable("IUSE", &iuse(ebuild));
    variable("RESTRICT", restrict(ebuild.restriction));
    text
}

/// The entry as `egencache` writes it: keys sorted, empty ones left out, white space folded.
fn cache_entry(package: &Package, ebuild: &Ebuild, md5: &str) -> String {
    let elements: Vec<String> = ebuild.uris.iter().map(src_uri_element).collect();
    let pairs = [
        ("DEFINED_PHASES", "-".to_owned()),
        ("DESCRIPTION", package.description.clone()),
        ("EAPI", "8".to_owned()),
        ("HOMEPAGE", homepage(package)),
        ("IUSE", iuse(ebuild)),
        ("KEYWORDS", "amd64".to_owned()),
        ("LICENSE", package.licence.to_owned()),
        ("RESTRICT", restrict(ebuild.restriction).to_owned()),
        ("SLOT", ebuild.slot.clone()),
        ("SRC_URI", elements.join(" ")),
        ("_md5_", md5.to_owned()),
    ];
    let mut entry = String::new();
    for (key, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(entry, "{key}={value}");
    }
    entry
}

fn manifest(package: &Package, distfiles: &BTreeMap<String, GeneratedDistfile>) -> String {
    let names: BTreeSet<&str> =
        package.ebuilds.iter().flat_map(|ebuild| &ebuild.uris).map(|uri| uri.name.as_str()).collect();
    let mut manifest = String::new();
    for file in names.into_iter().filter_map(|name| distfiles.get(name)) {
        let _ = writeln!(
            manifest,
            "DIST {} {} BLAKE2B {} SHA512 {}",
            file.name,
            file.size_bytes,
            hex::encode(file.digests.blake2b),
            hex::encode(file.digests.sha512),
        );
    }
    manifest
}

fn src_uri_element(uri: &Uri) -> String {
    let plain = match &uri.rename {
        Some(name) => format!("{} -> {name}", uri.written),
        None => uri.written.clone(),
    };
    match uri.flag {
        Some(flag) => format!("{flag}? ( {plain} )"),
        None => plain,
    }
}

fn iuse(ebuild: &Ebuild) -> String {
    let flags: BTreeSet<&str> = ebuild.uris.iter().filter_map(|uri| uri.flag).collect();
    flags.into_iter().collect::<Vec<_>>().join(" ")
}

fn restrict(restriction: Restriction) -> &'static str {
    match restriction {
        Restriction::None => "",
        Restriction::Mirror => "mirror",
        Restriction::Fetch => "fetch",
    }
}

fn homepage(package: &Package) -> String {
    format!("https://{}.example/", package.name.replace(['_', '+'], "-"))
}

fn metadata_xml(package: &Package) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE pkgmetadata SYSTEM \"https://www.gentoo.org/dtd/metadata.dtd\">\n\
         <pkgmetadata>\n\t<longdescription>{}</longdescription>\n</pkgmetadata>\n",
        package.description
    )
}
