//! `rsync://[USER@]HOST[:PORT]/MODULE[/PATH]`, as rsync(1) and Portage's `sync-uri` have it.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// More upstreams than anybody lists.
const UPSTREAMS_MAX: usize = 32;

/// A directory of an rsync daemon, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RsyncUrl(String);

impl RsyncUrl {
    /// The directory's contents, as an argument of rsync.
    pub(super) fn contents(&self) -> String {
        format!("{}/", self.0)
    }

    /// One file in it.
    pub(super) fn file(&self, path: &str) -> String {
        format!("{}/{path}", self.0)
    }
}

impl FromStr for RsyncUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("expected rsync://HOST/MODULE, found {text:?}");
        let parsed = url::Url::parse(text).map_err(|_| refused())?;
        let host = parsed.host_str().unwrap_or_default();
        let module = parsed.path().trim_matches('/');
        let plain = !text.contains(|letter: char| letter.is_whitespace() || letter.is_control());
        // rsync takes the password from RSYNC_PASSWORD only; one that stands here would be logged.
        let fits = parsed.scheme() == "rsync" && parsed.password().is_none() && parsed.query().is_none();
        if !plain || !fits || host.is_empty() || module.is_empty() {
            return Err(refused());
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for RsyncUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A branch of a git repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GitUrl {
    repository: String,
    branch: Option<String>,
}

impl GitUrl {
    /// `repository` is a URL; without a `branch` it is the repository's own default.
    ///
    /// # Errors
    /// What was expected instead.
    pub(crate) fn new(repository: &str, branch: Option<&str>) -> Result<Self, String> {
        let refused =
            || format!("expected https://HOST/PATH, ssh://…, git://… or file:///PATH, found {repository:?}");
        let parsed = url::Url::parse(repository).map_err(|_| refused())?;
        let plain = !repository.contains(|letter: char| letter.is_whitespace() || letter.is_control());
        let is_known = ["https", "http", "ssh", "git", "file"].contains(&parsed.scheme());
        // A password that stands here would be logged; git has credential helpers for it.
        if !plain || !is_known || parsed.password().is_some() {
            return Err(refused());
        }
        let fits = |branch: &str| {
            let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"._/+-".contains(&octet);
            !branch.is_empty() && !branch.starts_with(['-', '/']) && branch.bytes().all(is_plain)
        };
        match branch {
            Some(branch) if !fits(branch) => Err(format!("expected the name of a branch, found {branch:?}")),
            branch => Ok(Self { repository: repository.to_owned(), branch: branch.map(str::to_owned) }),
        }
    }

    pub(super) fn repository(&self) -> &str {
        &self.repository
    }

    /// What git calls the branch on the other side.
    pub(super) fn reference(&self) -> String {
        self.branch.as_ref().map_or_else(|| "HEAD".to_owned(), |branch| format!("refs/heads/{branch}"))
    }
}

impl fmt::Display for GitUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.branch {
            Some(branch) => write!(f, "{} (branch {branch})", self.repository),
            None => f.write_str(&self.repository),
        }
    }
}

/// One URL or a list of them, in the order to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstreams(pub Vec<RsyncUrl>);

#[derive(Deserialize)]
#[serde(untagged, expecting = "a text such as \"rsync://HOST/MODULE\" or a list of them")]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl<'de> Deserialize<'de> for Upstreams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = match OneOrMore::deserialize(deserializer)? {
            OneOrMore::One(text) => vec![text],
            OneOrMore::More(texts) => texts,
        };
        if !(1..=UPSTREAMS_MAX).contains(&texts.len()) {
            return Err(D::Error::custom(format!("1 to {UPSTREAMS_MAX} upstreams")));
        }
        let urls: Result<_, _> = texts.iter().map(|text| text.parse()).collect();
        urls.map(Self).map_err(D::Error::custom)
    }
}

impl Serialize for Upstreams {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [url] => serializer.collect_str(url),
            urls => serializer.collect_seq(urls.iter().map(ToString::to_string)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_host_and_a_module() {
        for (text, contents) in [
            ("rsync://rsync.gentoo.org/gentoo-portage", "rsync://rsync.gentoo.org/gentoo-portage/"),
            ("rsync://u@h:8730/m/a/", "rsync://u@h:8730/m/a/"),
            ("rsync://[::1]/m", "rsync://[::1]/m/"),
        ] {
            assert_eq!(text.parse::<RsyncUrl>().unwrap().contents(), contents);
        }
        let url: RsyncUrl = "rsync://h/m/".parse().unwrap();
        assert_eq!(url.file("metadata/timestamp.chk"), "rsync://h/m/metadata/timestamp.chk");
    }

    #[test]
    fn a_repository_is_a_url_and_a_branch_a_plain_name() {
        let url = GitUrl::new("https://h/r.git", Some("a/b-1.0")).unwrap();
        assert_eq!(
            (url.reference().as_str(), url.to_string().as_str()),
            ("refs/heads/a/b-1.0", "https://h/r.git (branch a/b-1.0)")
        );
        assert_eq!(GitUrl::new("file:///r", None).unwrap().reference(), "HEAD");
        for (repository, branch) in [
            ("/r", None),
            ("--upload-pack=sh", None),
            ("ext::sh -c x", None),
            ("https://u:secret@h/r", None),
            ("https://h/r", Some("")),
            ("https://h/r", Some("-x")),
            ("https://h/r", Some("a b")),
            ("https://h/r", Some("a:b")),
        ] {
            assert!(GitUrl::new(repository, branch).is_err(), "{repository} {branch:?}");
        }
    }

    #[test]
    fn what_is_not_one_is_refused() {
        for text in [
            "",
            "h::m",
            "rsync://h",
            "rsync://h/",
            "rsync:///m",
            "http://h/m",
            "-e sh",
            "rsync://h/m n",
            "rsync://h/m?a",
            "rsync://u:secret@h/m",
            "/var/db/repos/gentoo",
        ] {
            assert!(text.parse::<RsyncUrl>().is_err(), "{text}");
        }
    }
}
