//! What a request line asks for.

use std::borrow::Cow;

use gentoo_repo::DistfileName;
use gentoo_repo::layout::hash_directory;
use percent_encoding::percent_decode_str;

/// A file of the ready-made client configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientFile {
    /// `/client/make.conf`
    MakeConf,
    /// `/client/repos.conf`
    ReposConf,
    /// `/client/mirrors`
    Mirrors,
}

/// Whether an unknown name is asked of the mirrors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `/distfiles/…`: it is.
    Distfiles,
    /// `/NAME`, as http-replicator answered: it is not.
    Bare,
}

/// What the path of an origin-form request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestTarget {
    /// `layout.conf` of our own mirror.
    LayoutConf,
    /// A distfile by name.
    Distfile {
        /// The name, decoded.
        name: DistfileName,
        /// From `/m/MODULE/…`, decoded; never empty, `.` or `..`, and without `/`.
        module: Option<String>,
        /// How it was asked for.
        form: Form,
    },
    /// A file below an aliased directory.
    Alias {
        /// Which one.
        prefix: String,
        /// The rest of the path, decoded, no segment empty, `.` or `..`.
        segments: Vec<String>,
    },
    /// Configuration for a client.
    Client(ClientFile),
    /// `/healthz`
    Health,
    /// `/readyz`
    Ready,
    /// `/`
    Front,
    /// Nothing that we have.
    Unknown,
}

/// Longest path that is looked at.
const PATH_OCTETS_MAX: usize = 4096;

/// Reads the path of an origin-form request. It is split first and each part percent-decoded exactly
/// once, so an encoded slash never makes a new segment.
#[must_use]
pub fn parse_path(path: &str, alias_prefixes: &[String]) -> RequestTarget {
    let Some(segments) = decode_segments(path) else { return RequestTarget::Unknown };
    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    if let Some((prefix, rest)) = alias(&segments, alias_prefixes) {
        return RequestTarget::Alias { prefix, segments: rest };
    }
    match segments.as_slice() {
        [""] => RequestTarget::Front,
        ["healthz"] => RequestTarget::Health,
        ["readyz"] => RequestTarget::Ready,
        ["client", file] => match *file {
            "make.conf" => RequestTarget::Client(ClientFile::MakeConf),
            "repos.conf" => RequestTarget::Client(ClientFile::ReposConf),
            "mirrors" => RequestTarget::Client(ClientFile::Mirrors),
            _ => RequestTarget::Unknown,
        },
        ["distfiles", rest @ ..] => below_distfiles(rest, None),
        ["m", module, "distfiles", rest @ ..] if is_harmless(module) => below_distfiles(rest, Some(module)),
        [name] => distfile(name, None, Form::Bare),
        _ => RequestTarget::Unknown,
    }
}

/// The distfile that the path of an absolute URL names by its form, `…/distfiles/[XX/]NAME`; `None` for
/// anything else: the last part of a path alone says nothing.
#[must_use]
pub fn distfile_in_url(path: &str) -> Option<DistfileName> {
    let segments = decode_segments(path)?;
    let [before @ .., name] = segments.as_slice() else { return None };
    let name = DistfileName::try_from(name.as_ref()).ok()?;
    let named = match before {
        [.., distfiles] if distfiles == "distfiles" => name.as_str() != "layout.conf",
        [.., distfiles, hash] => distfiles == "distfiles" && *hash == hash_directory(&name),
        _ => false,
    };
    named.then_some(name)
}

fn decode_segments(path: &str) -> Option<Vec<Cow<'_, str>>> {
    let path = path.strip_prefix('/')?;
    if path.len() > PATH_OCTETS_MAX {
        return None;
    }
    path.split('/').map(|part| percent_decode_str(part).decode_utf8().ok()).collect()
}

fn alias(segments: &[&str], prefixes: &[String]) -> Option<(String, Vec<String>)> {
    for prefix in prefixes {
        let parts: Vec<&str> = prefix.split('/').collect();
        let Some(rest) = segments.strip_prefix(parts.as_slice()) else { continue };
        if !rest.is_empty() && rest.iter().all(|part| is_harmless(part)) {
            return Some((prefix.clone(), rest.iter().map(|&part| part.to_owned()).collect()));
        }
    }
    None
}

/// Whether a part of a path names something in its directory.
fn is_harmless(part: &str) -> bool {
    !matches!(part, "" | "." | "..") && !part.contains('/') && !part.bytes().any(|b| b.is_ascii_control())
}

fn below_distfiles(rest: &[&str], module: Option<&str>) -> RequestTarget {
    match rest {
        ["layout.conf"] => RequestTarget::LayoutConf,
        [name] => distfile(name, module, Form::Distfiles),
        [hash, name] if is_hash(hash) => distfile(name, module, Form::Distfiles),
        _ => RequestTarget::Unknown,
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn distfile(name: &str, module: Option<&str>, form: Form) -> RequestTarget {
    match DistfileName::try_from(name) {
        Ok(name) => RequestTarget::Distfile { name, module: module.map(str::to_owned), form },
        Err(_) => RequestTarget::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> RequestTarget {
        parse_path(path, &["binpkgs".to_owned(), "a/b".to_owned()])
    }

    fn named(name: &str, module: Option<&str>, form: Form) -> RequestTarget {
        let name = DistfileName::try_from(name).unwrap();
        RequestTarget::Distfile { name, module: module.map(str::to_owned), form }
    }

    #[test]
    fn each_form_of_the_contract_is_known() {
        let flat = named("foo-1.tar.gz", None, Form::Distfiles);
        assert_eq!(parse("/distfiles/foo-1.tar.gz"), flat);
        assert_eq!(parse("/distfiles/1b/foo-1.tar.gz"), flat);
        assert_eq!(parse("/foo-1.tar.gz"), named("foo-1.tar.gz", None, Form::Bare));
        let guru = named("foo-1.tar.gz", Some("guru"), Form::Distfiles);
        assert_eq!(parse("/m/guru/distfiles/1b/foo-1.tar.gz"), guru);
        assert_eq!(parse("/distfiles/layout.conf"), RequestTarget::LayoutConf);
        assert_eq!(parse("/m/guru/distfiles/layout.conf"), RequestTarget::LayoutConf);
        assert_eq!(parse("/client/make.conf"), RequestTarget::Client(ClientFile::MakeConf));
        assert_eq!(parse("/healthz"), RequestTarget::Health);
        assert_eq!(parse("/readyz"), RequestTarget::Ready);
        assert_eq!(parse("/"), RequestTarget::Front);
    }

    #[test]
    fn a_path_is_decoded_exactly_once() {
        assert_eq!(parse("/distfiles/gtk%2B-3.tar"), named("gtk+-3.tar", None, Form::Distfiles));
        assert_eq!(parse("/distfiles/%40s%252Fp-1.tgz"), named("@s%2Fp-1.tgz", None, Form::Distfiles));
        assert_eq!(parse("/distfiles/a{b}.zip"), named("a{b}.zip", None, Form::Distfiles));
        assert_eq!(parse("/distfiles/a%2Fb"), RequestTarget::Unknown);
    }

    #[test]
    fn nothing_climbs() {
        for path in [
            "/distfiles/..",
            "/distfiles/%2e%2e",
            "/distfiles/../etc/passwd",
            "/distfiles/ab/..%2fx",
            "/distfiles/a%00b",
            "/distfiles/%ff",
            "/distfiles//x",
            "/distfiles/",
            "/m//distfiles/ab/x/y",
            "/m//distfiles/x",
            "/m/../distfiles/x",
            "/m/%2e%2e/distfiles/x",
            "/m/a%2f..%2fb/distfiles/x",
            "/m/a%00/distfiles/x",
            "/binpkgs/../x",
            "/binpkgs/%2e%2e/x",
            "/binpkgs/a%2f..%2fb",
            "/binpkgs/",
            "/binpkgs//x",
            "/distfiles/zz/x/y",
            "relative",
        ] {
            assert_eq!(parse(path), RequestTarget::Unknown, "{path}");
        }
        assert_eq!(parse(&format!("/{}", "x/".repeat(3000))), RequestTarget::Unknown);
    }

    #[test]
    fn an_alias_is_a_prefix_of_whole_parts() {
        let alias = |prefix: &str, rest: &[&str]| RequestTarget::Alias {
            prefix: prefix.to_owned(),
            segments: rest.iter().map(|&part| part.to_owned()).collect(),
        };
        assert_eq!(parse("/binpkgs/Packages.gz"), alias("binpkgs", &["Packages.gz"]));
        assert_eq!(parse("/a/b/c/d%20e"), alias("a/b", &["c", "d e"]));
        assert_eq!(parse("/binpkgsX/Packages"), RequestTarget::Unknown);
    }

    #[test]
    fn a_url_is_a_distfile_by_its_form_only() {
        let is = |path: &str| distfile_in_url(path).map(|name| name.as_str().to_owned());
        assert_eq!(is("/distfiles/foo-1.tar.gz").as_deref(), Some("foo-1.tar.gz"));
        assert_eq!(is("/pub/gentoo/distfiles/1b/foo-1.tar.gz").as_deref(), Some("foo-1.tar.gz"));
        assert_eq!(is("/gentoo/distfiles/ff/foo-1.tar.gz"), None, "another name's directory");
        assert_eq!(is("/releases/foo-1.tar.gz"), None);
        assert_eq!(is("/foo-1.tar.gz"), None);
        assert_eq!(is("/distfiles/layout.conf"), None);
        assert_eq!(is("/distfiles/"), None);
    }
}
