//! One file: what is known of it, what is decided, and what came of it.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use blob_store::{Adopted, BeginError, BlobDigest, Expected, Scope, Source, Store, Verifier};
use cache_policy::import::{Listed, NameKind, Outcome, Plan, Sighting, Stored, plan_import};
use gentoo_repo::DistfileName;
use rustix::fs::Stat;
use tokio_util::sync::CancellationToken;

use super::Order;
use super::walk::{Found, shown};
use crate::app::App;
use crate::beneath::{Root, is_same};
use crate::catalogue::KnownDistfile;
use crate::farm::CommittedBlob;

/// Bytes that are read in one go where nothing is stored.
const PIECE_BYTES: usize = 1 << 20;

/// What became of a file, and words for people.
type Told = (Outcome, String);

/// Imports the files of one directory.
pub(super) struct Importer<'a> {
    app: &'a Arc<App>,
    order: &'a Order,
    root: Arc<Root>,
}

/// What a module's tree says of a name, and what the store has of it.
struct Version {
    known: KnownDistfile,
    /// `None`: no digest that can be checked.
    expected: Option<Expected>,
    scope: Scope,
    stored: Stored,
    /// What it is compared with.
    blob: Option<BlobDigest>,
}

/// What the blocking part of an import works with.
struct Work {
    store: Store,
    root: Arc<Root>,
    dir: PathBuf,
    path: PathBuf,
    stop: CancellationToken,
    is_to_go: bool,
    is_dry_run: bool,
}

impl<'a> Importer<'a> {
    pub(super) fn new(app: &'a Arc<App>, order: &'a Order, root: Root) -> Self {
        Self { app, order, root: Arc::new(root) }
    }

    /// Does what is to be done with one file.
    pub(super) async fn import(&self, found: &Found) -> Told {
        let text = found.name.to_str();
        let name = text.and_then(|text| DistfileName::try_from(text).ok());
        let name_kind = text.map_or(NameKind::Bad, |text| NameKind::of(text, name.is_some()));
        let sighting = Sighting {
            kind: found.kind,
            name: name_kind,
            size_bytes: found.size_bytes,
            is_settled: found.is_settled,
            is_to_go: self.order.is_to_go,
        };
        let Some(name) = name.filter(|_| name_kind == NameKind::Distfile) else {
            return leave(&sighting, None);
        };
        let versions = match self.versions(&name).await {
            Ok(versions) => versions,
            Err(error) => return (Outcome::Failed, error),
        };
        if versions.is_empty() {
            return self.without_version(&sighting, &name, found).await;
        }
        let mut first = None;
        for version in versions {
            let told = self.as_version(&sighting, version, found).await;
            if told.0.is_stored() {
                return told;
            }
            first.get_or_insert(told);
        }
        first.unwrap_or((Outcome::Unknown, String::new()))
    }

    /// What each module means by the name: the first one is what `/distfiles` serves, others that differ
    /// are at `/m/MODULE/distfiles`.
    async fn versions(&self, name: &DistfileName) -> Result<Vec<Version>, String> {
        let all = self.app.catalogue.resolve_all(name).await.map_err(|error| error.to_string())?;
        let mut versions: Vec<Version> = Vec::new();
        for known in all {
            let distfile = &known.distfile;
            let is_listed = |other: &Version| {
                other.known.distfile.size_bytes == distfile.size_bytes
                    && other.known.distfile.digests.agrees_with(&distfile.digests)
            };
            if versions.iter().any(is_listed) {
                continue;
            }
            let scope = if versions.is_empty() { None } else { Scope::module(&known.module) };
            let scope = scope.unwrap_or(Scope::DISTFILES);
            let expected = Expected::new(name.clone(), distfile.size_bytes, distfile.digests.clone()).ok();
            let (stored, blob) = self.stored(&scope, name, expected.as_ref()).await?;
            versions.push(Version { known, expected, scope, stored, blob });
        }
        Ok(versions)
    }

    async fn stored(
        &self,
        scope: &Scope,
        name: &DistfileName,
        expected: Option<&Expected>,
    ) -> Result<(Stored, Option<BlobDigest>), String> {
        let store = &self.app.store;
        if let Some(blob) = expected.and_then(Expected::blob)
            && store.info(&blob).is_some()
        {
            return Ok((Stored::AsListed, Some(blob)));
        }
        let Some(blob) = store.named(scope, name) else { return Ok((Stored::Nothing, None)) };
        let Some(expected) = expected.cloned() else { return Ok((Stored::Otherwise, Some(blob))) };
        let store = store.clone();
        let matched = tokio::task::spawn_blocking(move || store.matches(&blob, &expected)).await;
        match matched {
            Ok(Ok(true)) => Ok((Stored::AsListed, Some(blob))),
            Ok(Ok(false)) => Ok((Stored::Otherwise, Some(blob))),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// No tree knows the name; it may be stored from when one did.
    async fn without_version(&self, sighting: &Sighting, name: &DistfileName, found: &Found) -> Told {
        let blob = self.app.store.named(&Scope::DISTFILES, name);
        let stored = if blob.is_some() { Stored::Otherwise } else { Stored::Nothing };
        match (plan_import(sighting, None, stored), blob) {
            (Plan::Compare { differs, is_to_go }, Some(blob)) => {
                let work = Work { is_to_go, ..self.work(found) };
                blocking(move || work.compare(&blob, differs, None)).await
            }
            (Plan::Leave(outcome), _) => (outcome, reason(outcome, sighting, None)),
            (Plan::Adopt | Plan::Compare { .. }, _) => (Outcome::Unknown, String::new()),
        }
    }

    async fn as_version(&self, sighting: &Sighting, version: Version, found: &Found) -> Told {
        let listed = Listed {
            size_bytes: version.known.distfile.size_bytes,
            is_verifiable: version.expected.is_some(),
        };
        let plan = plan_import(sighting, Some(listed), version.stored);
        let work = self.work(found);
        match (plan, version.expected, version.blob) {
            (Plan::Adopt, Some(expected), _) if self.order.is_dry_run => {
                blocking(move || work.would_adopt(expected)).await
            }
            (Plan::Adopt, Some(expected), _) => {
                let scope = version.scope;
                let (told, blob) = blocking(move || work.adopt(&expected, scope)).await;
                if let Some(blob) = blob {
                    self.report(version.known, &blob);
                }
                told
            }
            (Plan::Compare { differs, is_to_go }, expected, Some(blob)) => {
                let work = Work { is_to_go, ..work };
                let name = expected.map(|expected| (version.scope, expected.name().clone()));
                blocking(move || work.compare(&blob, differs, name)).await
            }
            (Plan::Leave(outcome), _, _) => (outcome, reason(outcome, sighting, Some(listed))),
            (Plan::Adopt | Plan::Compare { .. }, _, _) => (Outcome::Unverifiable, String::new()),
        }
    }

    fn work(&self, found: &Found) -> Work {
        Work {
            store: self.app.store.clone(),
            root: Arc::clone(&self.root),
            dir: self.order.dir.clone(),
            path: found.path.clone(),
            stop: self.app.tasks.soft(),
            is_to_go: self.order.is_to_go,
            is_dry_run: self.order.is_dry_run,
        }
    }

    fn report(&self, known: KnownDistfile, digest: &BlobDigest) {
        let names = self.app.store.info(digest).map(|info| info.names).unwrap_or_default();
        self.app.farm.report_commit(CommittedBlob {
            known: Arc::new(known),
            blake2b: *digest.as_bytes(),
            names: names.iter().map(|name| name.as_str().to_owned()).collect(),
            last_access_ms: 0,
            source: format!("import of {}", shown(&self.order.dir)),
            upstream_bytes: 0,
        });
    }
}

impl Work {
    /// Verifies without storing.
    fn would_adopt(&self, expected: Expected) -> Told {
        let checked = (|| {
            let (file, opened) = self.open()?;
            let mut verifier = Verifier::new(expected);
            let mut piece = vec![0; PIECE_BYTES];
            let mut reader = &file;
            loop {
                let read = std::io::Read::read(&mut reader, &mut piece)?;
                if read == 0 {
                    break;
                }
                if self.stop.is_cancelled() {
                    return Err(std::io::Error::other("the replica is stopping"));
                }
                verifier.update(&piece[..read]);
            }
            Ok((verifier.is_right(), is_same(&rustix::fs::fstat(&file)?, &opened)))
        })();
        match checked {
            Ok((_, false)) => (Outcome::Growing, "it changed while it was read".to_owned()),
            Ok((true, true)) if self.is_to_go => (Outcome::Removed, String::new()),
            Ok((true, true)) => (Outcome::Adopted, String::new()),
            Ok((false, true)) => (Outcome::Damaged, "a digest differs from the tree's".to_owned()),
            Err(error) => (Outcome::Failed, error.to_string()),
        }
    }

    /// Stores it; the blob, if that became one.
    fn adopt(&self, expected: &Expected, scope: Scope) -> (Told, Option<BlobDigest>) {
        let (file, opened) = match self.open() {
            Ok(opened) => opened,
            Err(error) => return ((Outcome::Failed, error.to_string()), None),
        };
        let shown_path = self.dir.join(&self.path);
        let source = Source { file: &file, path: &shown_path };
        match self.store.adopt(source, expected, &[scope], |_| self.go_on()) {
            Ok(Adopted::Stored { digest, is_reflink }) => {
                let how = if is_reflink { "reflinked" } else { "copied" };
                (self.remove_adopted(&digest, source, &opened, how), Some(digest))
            }
            Ok(Adopted::Mismatch { what }) => {
                ((Outcome::Damaged, format!("{what} differs from the tree's")), None)
            }
            Ok(Adopted::Changed) => ((Outcome::Growing, "it changed while it was copied".to_owned()), None),
            Err(error @ BeginError::Full { .. }) => ((Outcome::NoRoom, error.to_string()), None),
            Err(BeginError::Store(error)) if error.is_full() => ((Outcome::NoRoom, error.to_string()), None),
            Err(error @ (BeginError::Busy | BeginError::Store(_))) => {
                ((Outcome::Failed, error.to_string()), None)
            }
        }
    }

    /// The blob is durable; the file goes if it is to and equals what the disk gives back.
    fn remove_adopted(&self, digest: &BlobDigest, source: Source<'_>, opened: &Stat, how: &str) -> Told {
        if !self.is_to_go {
            return (Outcome::Adopted, how.to_owned());
        }
        let kept = |why: &str| (Outcome::AdoptedNotRemoved, why.to_owned());
        match self.store.equals(digest, source, |_| self.go_on()) {
            Ok(Some(true)) => match self.remove(opened) {
                Ok(()) => (Outcome::Removed, String::new()),
                Err(why) => kept(&why),
            },
            Ok(Some(false)) => kept("what is stored differs from it"),
            Ok(None) => kept("it is not stored any more"),
            Err(error) => kept(&error.to_string()),
        }
    }

    /// Removes the file, which equals what is stored; else why it stays.
    fn remove(&self, opened: &Stat) -> Result<(), String> {
        match self.root.remove_if_same(&self.path, opened) {
            Ok(true) => Ok(()),
            Ok(false) => Err("it changed since it was opened".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Compares it with what is stored; `name`: what the tree calls it, which it may not be stored under.
    fn compare(&self, digest: &BlobDigest, differs: Outcome, name: Option<(Scope, DistfileName)>) -> Told {
        let compared = self.open().map_err(|error| error.to_string()).and_then(|(file, opened)| {
            let shown_path = self.dir.join(&self.path);
            let source = Source { file: &file, path: &shown_path };
            let equal = self.store.equals(digest, source, |_| self.go_on());
            Ok((equal.map_err(|error| error.to_string())?, opened))
        });
        match compared {
            Ok((Some(true), opened)) => self.known_already(digest, &opened, name),
            Ok((Some(false), _)) => (differs, "not what is stored under its name".to_owned()),
            Ok((None, _)) => (Outcome::Failed, "what was stored has just gone".to_owned()),
            Err(error) => (Outcome::Failed, error),
        }
    }

    /// It equals what is stored. The contents may have come under another name, so that its own is given to
    /// them before the file goes.
    fn known_already(&self, digest: &BlobDigest, opened: &Stat, name: Option<(Scope, DistfileName)>) -> Told {
        let done = if self.is_to_go { Outcome::StoredRemoved } else { Outcome::AlreadyStored };
        if self.is_dry_run {
            return (done, String::new());
        }
        if let Some((scope, name)) = name
            && let Err(error) = self.store.name(&scope, &name, digest)
        {
            return (Outcome::Failed, error.to_string());
        }
        match if self.is_to_go { self.remove(opened) } else { Ok(()) } {
            Ok(()) => (done, String::new()),
            Err(why) => (Outcome::StoredNotRemoved, why),
        }
    }

    fn open(&self) -> std::io::Result<(File, Stat)> {
        let file = self.root.file(&self.path)?;
        let stat = rustix::fs::fstat(&file)?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
            return Err(std::io::Error::other("it is no plain file any more"));
        }
        Ok((file, stat))
    }

    fn go_on(&self) -> ControlFlow<()> {
        if self.stop.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// What a plan that needs no look-up says.
fn leave(sighting: &Sighting, listed: Option<Listed>) -> Told {
    match plan_import(sighting, listed, Stored::Nothing) {
        Plan::Leave(outcome) => (outcome, reason(outcome, sighting, listed)),
        Plan::Adopt | Plan::Compare { .. } => (Outcome::BadName, String::new()),
    }
}

/// Words where the outcome's own name does not say it all.
fn reason(outcome: Outcome, sighting: &Sighting, listed: Option<Listed>) -> String {
    match (outcome, listed) {
        (Outcome::Damaged, Some(listed)) => {
            format!("{} bytes, the tree lists {}", sighting.size_bytes, listed.size_bytes)
        }
        (Outcome::Growing, _) => "changed less than a minute ago; import again later".to_owned(),
        _ => String::new(),
    }
}

async fn blocking<T: Lost + Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| T::lost(error.to_string()))
}

/// What is said of work whose thread died.
trait Lost {
    fn lost(why: String) -> Self;
}

impl Lost for Told {
    fn lost(why: String) -> Self {
        (Outcome::Failed, why)
    }
}

impl Lost for (Told, Option<BlobDigest>) {
    fn lost(why: String) -> Self {
        (Told::lost(why), None)
    }
}
