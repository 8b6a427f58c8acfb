//! Where a distfile may come from, in the order in which it is tried.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cache_policy::UnixMs;
use cache_policy::score::{self, Observed, Scores};
use cache_policy::standing::{Standing, Standings, Terms};
use gentoo_repo::layout::hash_directory;
use gentoo_repo::{Distfile, DistfileName, Restriction};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::fault::SourceFault;
use super::upstream::Trust;
use crate::app::now_ms;
use crate::config::MirrorUrl;
use crate::farm::Farm;

/// How long it is remembered that several sources gave a wrong file together.
const MIXED_FOR: Duration = Duration::from_mins(10);
/// Files remembered for that.
const MIXED_MAX: usize = 1024;

/// Everything but what RFC 3986 calls unreserved.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What kind of place it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Another replica of this farm.
    Peer,
    /// A configured mirror, in the layout that Gentoo's mirrors have.
    Mirror,
    /// The same mirror, flat; only worth asking after the former said 404.
    FlatMirror,
    /// One of the distfile's own sources.
    Source,
    /// The URL that the client asked for.
    Asked,
}

/// One place that may give a distfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) url: Url,
    pub(crate) trust: Trust,
    pub(crate) kind: Kind,
}

impl Candidate {
    /// Scheme, host and port.
    pub(crate) fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// What a place outside the farm did is told to maintenance. That it lacks a file is an answer, and that
    /// we don't connect to it is not its fault.
    pub(crate) fn note(&self, farm: &Farm, fault: Option<&SourceFault>) {
        if self.kind == Kind::Peer || matches!(fault, Some(SourceFault::Refused(_))) {
            return;
        }
        let fault = fault.filter(|fault| !matches!(fault, SourceFault::Missing(_))).map(ToString::to_string);
        farm.record_source(&self.origin(), fault.as_deref());
    }
}

/// What sources gave lately: wrong files, and how quickly.
#[derive(Debug)]
pub(crate) struct Demotions {
    standings: Mutex<Standings>,
    scores: Mutex<Scores>,
    /// Files that several sources gave wrongly together, and whom to ask first, alone.
    mixed: Mutex<HashMap<DistfileName, (Url, Instant)>>,
}

impl Default for Demotions {
    fn default() -> Self {
        Self {
            standings: Mutex::new(Standings::new(Terms::DEFAULT)),
            scores: Mutex::new(Scores::new(score::Terms::DEFAULT)),
            mixed: Mutex::default(),
        }
    }
}

impl Demotions {
    /// `origin` gave `name` wrongly: it is asked last for that, and after several such files for all.
    pub(crate) fn demote(&self, origin: &str, name: &DistfileName) {
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        standings.note_wrong(origin, name.as_str(), UnixMs::new(now_ms()));
    }

    /// How quickly a place outside the farm answered, or that it did not.
    pub(crate) fn observe(&self, candidate: &Candidate, observed: Observed) {
        if candidate.kind != Kind::Peer {
            let mut scores = self.scores.lock().unwrap_or_else(PoisonError::into_inner);
            scores.note(&candidate.origin(), observed, UnixMs::new(now_ms()));
        }
    }

    /// Puts those first that answer much better than those before them.
    fn order(&self, candidates: &[Candidate]) -> Vec<Candidate> {
        let origins: Vec<String> = candidates.iter().map(Candidate::origin).collect();
        let origins: Vec<&str> = origins.iter().map(String::as_str).collect();
        let scores = self.scores.lock().unwrap_or_else(PoisonError::into_inner);
        let order = scores.order(&origins, UnixMs::new(now_ms()));
        order.into_iter().filter_map(|at| candidates.get(at).cloned()).collect()
    }

    /// How `origin` stands when it is to give `name`.
    pub(crate) fn standing(&self, origin: &str, name: &DistfileName) -> Standing {
        let standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        standings.of(origin, name.as_str(), UnixMs::new(now_ms()))
    }

    /// Several sources gave a wrong file `name` together. `first` is asked first from now on.
    pub(crate) fn note_mixed(&self, name: &DistfileName, first: &Url) {
        let now = Instant::now();
        let mut mixed = self.mixed.lock().unwrap_or_else(PoisonError::into_inner);
        if mixed.len() >= MIXED_MAX {
            mixed.retain(|_, (_, since)| now.duration_since(*since) < MIXED_FOR);
        }
        if mixed.len() < MIXED_MAX {
            mixed.insert(name.clone(), (first.clone(), now));
        }
    }

    /// Whom to ask first for `name` if all of it has to come from one source.
    pub(crate) fn mixed(&self, name: &DistfileName) -> Option<Url> {
        let mixed = self.mixed.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, since) = mixed.get(name)?;
        (since.elapsed() < MIXED_FOR).then(|| first.clone())
    }
}

/// `BASE/distfiles/XX/NAME`, or flat.
fn mirror_url(base: &str, name: &DistfileName, is_hashed: bool) -> Option<Url> {
    let encoded = utf8_percent_encode(name.as_str(), SEGMENT);
    let url = if is_hashed {
        format!("{base}/distfiles/{}/{encoded}", hash_directory(name))
    } else {
        format!("{base}/distfiles/{encoded}")
    };
    Url::parse(&url).ok()
}

/// The configured mirrors for a name, hashed and then flat, each.
pub(crate) fn from_mirrors(mirrors: &[MirrorUrl], name: &DistfileName) -> Vec<Candidate> {
    let kinds = [(Kind::Mirror, true), (Kind::FlatMirror, false)];
    let each = |mirror: &MirrorUrl| {
        kinds.map(|(kind, is_hashed)| {
            let url = mirror_url(mirror.as_str(), name, is_hashed)?;
            Some(Candidate { url, trust: Trust::Operator, kind })
        })
    };
    mirrors.iter().flat_map(each).flatten().collect()
}

/// The replica at `advertise`.
pub(crate) fn from_peer(advertise: &str, name: &DistfileName, module: Option<&str>) -> Option<Candidate> {
    let base = advertise.trim_end_matches('/');
    let base = match module {
        Some(module) => format!("{base}/m/{}", utf8_percent_encode(module, SEGMENT)),
        None => base.to_owned(),
    };
    let url = mirror_url(&base, name, true).filter(|url| matches!(url.scheme(), "http" | "https"))?;
    Some(Candidate { url, trust: Trust::Peer, kind: Kind::Peer })
}

/// Mirrors unless they are not to be asked, then the distfile's own sources; of these, who answers much better
/// lately comes first. Then the URL that the client asked for. Who gave wrong files lately comes last of all.
/// Nothing for RESTRICT=fetch.
pub(crate) fn for_distfile(
    distfile: &Distfile,
    mirrors: &[MirrorUrl],
    asked: Option<&Url>,
    demotions: &Demotions,
) -> Vec<Candidate> {
    let mut candidates = match distfile.restriction {
        Restriction::Fetch => return Vec::new(),
        Restriction::Mirror => Vec::new(),
        Restriction::None => from_mirrors(mirrors, &distfile.name),
    };
    let sources = distfile.sources.iter().filter_map(|source| Url::parse(source).ok());
    let new = |candidates: &[Candidate], url: Url, kind: Kind| {
        let is_new = candidates.iter().all(|known| known.url != url);
        let is_usable = is_new && matches!(url.scheme(), "http" | "https");
        is_usable.then_some(Candidate { url, trust: Trust::Checked, kind })
    };
    for url in sources {
        let source = new(&candidates, url, Kind::Source);
        candidates.extend(source);
    }
    let asked = asked.and_then(|url| new(&candidates, url.clone(), Kind::Asked));
    let mut candidates = demotions.order(&candidates);
    candidates.extend(asked);
    // Stable: the order among equals stays.
    candidates.sort_by_cached_key(|candidate| demotions.standing(&candidate.origin(), &distfile.name));
    candidates
}

#[cfg(test)]
mod tests {
    use gentoo_repo::Digests;

    use super::*;

    fn distfile(restriction: Restriction) -> Distfile {
        Distfile {
            name: "gtk+-3.24.41.tar.xz".parse().unwrap(),
            size_bytes: 1,
            digests: Digests::default(),
            sources: ["https://a.example/x.tar.xz", "ftp://b.example/x", "http://c.example/x"]
                .map(str::to_owned)
                .into(),
            restriction,
            packages: Vec::new(),
        }
    }

    fn urls(restriction: Restriction, asked: Option<&str>, demotions: &Demotions) -> Vec<String> {
        let mirrors = [MirrorUrl::try_from("http://m.example/gentoo".to_owned()).unwrap()];
        let asked = asked.map(|url| Url::parse(url).unwrap());
        for_distfile(&distfile(restriction), &mirrors, asked.as_ref(), demotions)
            .into_iter()
            .map(|candidate| candidate.url.into())
            .collect()
    }

    const HASHED: &str = "http://m.example/gentoo/distfiles/b1/gtk%2B-3.24.41.tar.xz";
    const FLAT: &str = "http://m.example/gentoo/distfiles/gtk%2B-3.24.41.tar.xz";
    const A: &str = "https://a.example/x.tar.xz";
    const C: &str = "http://c.example/x";

    #[test]
    fn restrictions_are_kept() {
        let demotions = Demotions::default();
        assert_eq!(urls(Restriction::None, None, &demotions), [HASHED, FLAT, A, C]);
        assert_eq!(urls(Restriction::Mirror, None, &demotions), [A, C]);
        assert!(urls(Restriction::Fetch, Some("http://d.example/x"), &demotions).is_empty());
    }

    #[test]
    fn the_url_asked_for_comes_last_and_once() {
        let demotions = Demotions::default();
        assert_eq!(
            urls(Restriction::Mirror, Some("http://d.example/x"), &demotions),
            [A, C, "http://d.example/x"]
        );
        assert_eq!(urls(Restriction::Mirror, Some(C), &demotions), [A, C]);
    }

    #[test]
    fn who_gave_a_wrong_file_is_asked_last_for_it_and_after_several_for_all() {
        let demotions = Demotions::default();
        let wrong = |name: &str| demotions.demote("http://m.example", &name.parse().unwrap());
        wrong("other-1.tar");
        wrong("other-2.tar");
        assert_eq!(urls(Restriction::None, None, &demotions), [HASHED, FLAT, A, C]);
        wrong("other-3.tar");
        assert_eq!(urls(Restriction::None, None, &demotions), [A, C, HASHED, FLAT]);
        let demotions = Demotions::default();
        demotions.demote("http://m.example", &distfile(Restriction::None).name);
        assert_eq!(urls(Restriction::None, None, &demotions), [A, C, HASHED, FLAT]);
    }

    #[test]
    fn who_failed_or_is_slow_comes_after_the_others_but_the_url_asked_for_stays_last() {
        let demotions = Demotions::default();
        let mirror = from_mirrors(
            &[MirrorUrl::try_from("http://m.example".to_owned()).unwrap()],
            &"x".parse().unwrap(),
        );
        demotions.observe(&mirror[0], Observed::Failed);
        let asked = "http://d.example/x";
        assert_eq!(urls(Restriction::None, Some(asked), &demotions), [A, C, HASHED, FLAT, asked]);
        demotions.observe(&mirror[0], Observed::FirstByte { after_ms: 1 });
        demotions.observe(&mirror[0], Observed::FirstByte { after_ms: 1 });
        assert_eq!(urls(Restriction::None, Some(asked), &demotions), [HASHED, FLAT, A, C, asked]);
    }

    #[test]
    fn a_peer_is_asked_in_the_modules_directory_if_modules_disagree() {
        let name: DistfileName = "foo-1.tar.gz".parse().unwrap();
        let url = |module| from_peer("http://r1:8080/", &name, module).unwrap().url.to_string();
        assert_eq!(url(None), "http://r1:8080/distfiles/1b/foo-1.tar.gz");
        assert_eq!(url(Some("guru")), "http://r1:8080/m/guru/distfiles/1b/foo-1.tar.gz");
        assert_eq!(from_peer("file:///etc", &name, None), None);
    }
}
