//! What each package version adds to a distfile: its sources and how far they may be used.

use std::collections::BTreeMap;

use super::builder::Uri;
use super::{Fault, FaultKind};
use crate::mirrors::{NoExpansion, ThirdPartyMirrors, is_fetchable};
use crate::restrict::Restrict;
use crate::{Distfile, DistfileName, Restriction};

/// Sources of one distfile beyond this many are dropped; the most that real trees give is some hundred.
pub const SOURCES_MAX: usize = 1000;

/// A distfile of which not every source is known yet.
pub(super) struct Known {
    pub(super) distfile: Distfile,
    /// The most permissive one so far; `None` while no version said anything.
    pub(super) restriction: Option<Restriction>,
}

impl Known {
    pub(super) fn finish(self) -> Distfile {
        Distfile { restriction: self.restriction.unwrap_or_default(), ..self.distfile }
    }
}

/// The URIs of one version by the file that they give, each in the order of the text.
pub(super) fn by_name(uris: &[Uri]) -> BTreeMap<&DistfileName, Vec<&Uri>> {
    let mut files: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for uri in uris {
        files.entry(&uri.name).or_default().push(uri);
    }
    files
}

/// Adds the sources that one version gives.
pub(super) struct Sources<'a> {
    pub(super) mirrors: &'a ThirdPartyMirrors,
    /// Of the cache entry.
    pub(super) path: &'a str,
    pub(super) faults: &'a mut Vec<Fault>,
}

impl Sources<'_> {
    pub(super) fn add(&mut self, known: &mut Known, restrict: Restrict, uris: &[&Uri]) {
        let highest = uris.iter().map(|uri| uri.lift).max().unwrap_or_default();
        let restriction = restrict.for_file(highest);
        known.restriction = Some(known.restriction.map_or(restriction, |earlier| earlier.min(restriction)));
        for uri in uris.iter().filter(|uri| restrict.permits(uri.lift)).filter_map(|uri| uri.text.as_deref())
        {
            for source in self.expand(uri) {
                let sources = &mut known.distfile.sources;
                if sources.contains(&source) {
                    continue;
                }
                if sources.len() == SOURCES_MAX {
                    let detail = format!("{} has more than {SOURCES_MAX} sources", known.distfile.name);
                    return self.fault(FaultKind::TooManySources, detail);
                }
                sources.push(source);
            }
        }
    }

    fn expand(&mut self, uri: &str) -> Vec<String> {
        if let Some(name_and_path) = uri.strip_prefix("mirror://") {
            return self.mirrors.expand(name_and_path).unwrap_or_else(|reason| {
                let detail = match reason {
                    NoExpansion::UnknownMirror(name) => format!("no list knows mirror://{name}/"),
                    NoExpansion::NoPath => format!("{uri} has no path"),
                };
                self.fault(FaultKind::UnknownMirror, detail);
                Vec::new()
            });
        }
        if is_fetchable(uri) {
            return vec![uri.to_owned()];
        }
        self.fault(FaultKind::UnsupportedSource, format!("{uri} is neither http, https nor ftp"));
        Vec::new()
    }

    pub(super) fn fault(&mut self, kind: FaultKind, detail: String) {
        self.faults.push(Fault { kind, path: self.path.to_owned(), detail });
    }
}
