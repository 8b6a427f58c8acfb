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
