//! A module's directory: which generations are there, which one is live, what may go.
//!
//! ```text
//! state_dir/MODULE/lock                     held while a process has the store open
//!                  packs/00000001.pack      contents; the file may have another module's name, too
//!                  generations/00000001.index, .catalogue; .seen and .known of the newest
//!                  temporary/               emptied at every start
//! ```
//!
//! # Contents that several modules have
//! One that a build does not find in the generation before but in another module's live one is not stored again: the
//! pack that it lies in gets a name in this module's directory. From then on the two know nothing of each other: each
//! removes its own name when none of its generations refers to the pack, and the space is free with the last.
//!
//! # Killed at any moment
//! The newest whole index *is* the live generation: nothing else says so, so nothing can disagree.
//! [`Store::publish`] goes through these moments; a kill
//! - before a pack's rename (one that was adopted, or the new one) leaves a temporary file, which the next start removes;
//! - after it leaves a pack that no index refers to, which the next start removes;
//! - after the catalogue's rename leaves a catalogue without an index: removed likewise;
//! - after the index's rename leaves the new generation whole: its pack and its catalogue were durable
//!   before. Only the hints may be missing, and the next build reads every file once more.
//!
//! [`Store::collect`] removes an index before what it refers to: a kill in between leaves packs
//! and catalogues that nothing refers to, again removed by the next start. An index that is damaged is
//! passed over, and its number is not given out again.

mod revive;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use gentoo_repo::catalogue::Catalogue;

use crate::TreeError;
use crate::build::{self, BuildRequest};
use crate::candidate::{Built, Candidate};
use crate::catalogue;
use crate::compare::{self, Compared};
use crate::contents::{Contents, Packed};
use crate::durable::{StepHook, Steps};
use crate::generation::{self, Generation, Inner};
use crate::index::{Index, Summary};
use crate::lend::Adopted;
use crate::lock::StoreLock;
use crate::name::ModuleName;
use crate::pack::{Pack, PackWriter};
use crate::sightings::Sightings;

/// What the files of one generation are called.
const KINDS: [&str; 4] = ["index", "catalogue", "seen", "known"];
/// Those of them that only spare the next build some work.
const HINTS: [&str; 2] = ["seen", "known"];

/// The generations of one module. One process at a time, any number of threads.
pub struct Store {
    module: ModuleName,
    directory: PathBuf,
    state: Mutex<State>,
    /// Held while building, publishing and collecting: these exclude each other, not the readers.
    changing: Mutex<()>,
    steps: Steps,
    _lock: StoreLock,
}

#[derive(Default)]
struct State {
    live: Option<Generation>,
    /// Whole generations on disk and the packs that each refers to.
    kept: BTreeMap<u64, Vec<u32>>,
    /// Generations that somebody may still hold.
    loaded: BTreeMap<u64, Weak<Inner>>,
    packs: BTreeMap<u32, Weak<Pack>>,
    /// The highest number ever seen, damaged ones included.
    number_max: u64,
    pack_max: u32,
}

/// What [`Store::collect`] removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Numbers of generations that are gone.
    pub generations: Vec<u64>,
    /// How many packs went with them.
    pub packs: usize,
}

impl Store {
    /// Opens or creates `state_dir/MODULE` and finds the newest whole generation.
    ///
    /// # Errors
    /// The directory can't be created or read, or another process has it.
    pub fn open(state_dir: &Path, module: ModuleName) -> Result<Self, TreeError> {
        Self::open_with(state_dir, module, None)
    }

    /// As [`Self::open`], with a hook before each step that changes the directory: for tests of what a
    /// failure or a kill at that moment leaves.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        state_dir: &Path,
        module: ModuleName,
        hook: Option<Box<StepHook>>,
    ) -> Result<Self, TreeError> {
        let directory = state_dir.join(module.as_str());
        for part in ["packs", "generations", "temporary"] {
            let path = directory.join(part);
            fs::create_dir_all(&path).map_err(TreeError::store(&path, "create"))?;
        }
        let lock = StoreLock::take(&directory.join("lock"))?;
        let state = Mutex::new(State::default());
        let store =
            Self { module, directory, state, changing: Mutex::new(()), steps: Steps::new(hook), _lock: lock };
        store.empty_temporary()?;
        store.find_generations()?;
        store.remove_unreferenced()?;
        Ok(store)
    }

    /// The module's name.
    #[must_use]
    pub fn module(&self) -> &ModuleName {
        &self.module
    }

    /// The newest whole generation.
    #[must_use]
    pub fn live(&self) -> Option<Generation> {
        self.state().live.clone()
    }

    /// The numbers of the generations on disk, oldest first.
    #[must_use]
    pub fn kept(&self) -> Vec<u64> {
        self.state().kept.keys().copied().collect()
    }

    /// Opens a kept generation. Blocking.
    ///
    /// # Errors
    /// It is not kept, or damaged.
    pub fn generation(&self, number: u64) -> Result<Generation, TreeError> {
        let mut state = self.state();
        if let Some(inner) = state.loaded.get(&number).and_then(Weak::upgrade) {
            return Ok(Generation::new(inner));
        }
        if !state.kept.contains_key(&number) {
            return Err(TreeError::NotKept { number });
        }
        self.load(&mut state, number)
    }

    /// Reads the catalogue of a kept generation. Blocking.
    ///
    /// # Errors
    /// It is not kept, or damaged.
    pub fn catalogue(&self, number: u64) -> Result<Catalogue, TreeError> {
        if !self.state().kept.contains_key(&number) {
            return Err(TreeError::NotKept { number });
        }
        let path = self.generation_path(number, "catalogue");
        let frame = match fs::read(&path) {
            Ok(frame) => frame,
            // Collected since we looked.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(TreeError::NotKept { number });
            }
            Err(error) => return Err(TreeError::store(&path, "read")(error)),
        };
        catalogue::decode(&frame).map_err(|why| TreeError::Damaged { path, why })
    }

    /// As [`Self::build_beside`] nothing.
    ///
    /// # Errors
    /// As there.
    pub fn build(&self, request: &BuildRequest<'_>) -> Result<Built, TreeError> {
        self.build_beside(request, &[])
    }

    /// Reads the source. What comes of it is not published yet. Contents that one of `others`, live generations of
    /// other modules, has on the same file system are not stored again. Blocking, and uses several threads.
    ///
    /// # Errors
    /// The source can't be read or changed meanwhile, or our own files can't be written.
    pub fn build_beside(
        &self,
        request: &BuildRequest<'_>,
        others: &[Generation],
    ) -> Result<Built, TreeError> {
        let _changing = self.changing();
        let base = self.live();
        let (number, writer, sweep) = self.new_pack()?;
        let trusted = base.as_ref().filter(|_| !request.afresh);
        let sightings = trusted.and_then(|base| self.read_sightings(base.number(), request.source));
        let adopt = |pack: &Pack| self.adopt(pack);
        let mut contents = Contents::new(trusted, others, &adopt, writer);
        let drawn = build::draw(request, trusted, sightings.as_ref(), &mut contents)?;
        let packed = contents.finish(|id| self.pack_path(id))?;
        let Packed { packs, pack_records, records, writer, adopted } = packed;
        let build::Drawn { owners, nodes, inodes, arena, .. } = drawn;
        let mut index = Index { packs: pack_records, contents: records, owners, nodes, inodes, arena };
        let compared = self.compare(&mut index, base.as_ref());
        if let Some(base) = base.as_ref().filter(|_| !compared.differs && !request.afresh) {
            if drawn.files_read > 0 {
                self.write_sightings(&drawn.sightings, base.number(), request.source);
            }
            return Ok(Built::Unchanged(base.clone()));
        }
        let Compared { changes, .. } = compared;
        let summary = Summary { files: drawn.files, bytes: drawn.bytes, changes, ..Summary::default() };
        let inner = Inner { module: self.module.clone(), number, summary, index: Arc::new(index), packs };
        Ok(Built::Candidate(Candidate {
            generation: Generation::new(Arc::new(inner)),
            writer: Box::new(writer),
            adopted,
            sightings: drawn.sightings,
            source: request.source.to_owned(),
            files_read: drawn.files_read,
            base: trusted.map(|base| (base.clone(), self.generation_path(base.number(), "known"))),
            memory: Mutex::default(),
            _sweep: sweep,
        }))
    }

    fn compare(&self, index: &mut Index, base: Option<&Generation>) -> Compared {
        let compared = compare::compare(index, base.map(|base| &**base.index()));
        if let Some(first) = compared.later_first {
            let (path, files) = (generation::path_of(index, first), compared.later_count);
            tracing::info!(
                module = %self.module,
                path = %String::from_utf8_lossy(&path),
                files,
                "changed, but not to a later second: served a second later, or boxes would keep the old ones"
            );
        }
        compared
    }

    /// The number of the next generation, and the pack for what is new in it.
    fn new_pack(&self) -> Result<(u64, PackWriter, Sweep), TreeError> {
        let id = self.new_pack_id();
        let number = self.state().number_max + 1;
        let writer = PackWriter::create(id, self.temporary_path(&format!("{id:08}.pack")))?;
        let sweep = Sweep(writer.path().to_owned());
        Ok((number, writer, sweep))
    }

    fn new_pack_id(&self) -> u32 {
        let mut state = self.state();
        state.pack_max += 1;
        state.pack_max
    }

    /// Gives another module's pack a name here, a temporary one until the generation is published that needs it.
    fn adopt(&self, pack: &Pack) -> Result<Adopted, TreeError> {
        let id = self.new_pack_id();
        let temporary = self.temporary_path(&format!("{id:08}.pack"));
        self.steps.link(pack.path(), &temporary)?;
        let pack = Arc::new(pack.renamed(id, self.pack_path(id)));
        Ok(Adopted { pack, temporary: Sweep(temporary) })
    }

    /// Makes a candidate the live generation. After `Ok` it survives a power cut. Blocking.
    ///
    /// `catalogue` is kept beside it; `published_ms` and `timestamp_ms` become part of its summary.
    ///
    /// # Errors
    /// A file could not be written: the live generation stays.
    pub fn publish(
        &self,
        candidate: Candidate,
        catalogue: &Catalogue,
        published_ms: i64,
        timestamp_ms: i64,
    ) -> Result<Generation, TreeError> {
        let _changing = self.changing();
        let number = candidate.generation.number();
        if number <= self.state().number_max {
            return Err(TreeError::NotKept { number });
        }
        let counts = catalogue::count(catalogue);
        let summary = Summary {
            published_ms,
            timestamp_ms,
            distfiles: counts.distfiles,
            distfiles_without_source: counts.without_source,
            ..*candidate.generation.summary()
        };
        let outcome = self.write_generation(&candidate, catalogue, &summary);
        if let Err(error) = outcome {
            // What got its name but is not referred to; the next start would do the same.
            if let Err(error) = self.remove_unreferenced() {
                tracing::warn!(module = %self.module, %error, "left for the next start to remove");
            }
            return Err(error);
        }
        let built = candidate.generation.inner();
        let inner = Arc::new(Inner {
            module: self.module.clone(),
            number,
            summary,
            index: Arc::clone(&built.index),
            packs: built.packs.clone(),
        });
        let generation = Generation::new(Arc::clone(&inner));
        let mut state = self.state();
        state.number_max = number;
        state.kept.insert(number, inner.index.packs.iter().map(|pack| pack.id).collect());
        state.loaded.insert(number, Arc::downgrade(&inner));
        for pack in &inner.packs {
            state.packs.insert(pack.id(), Arc::downgrade(pack));
        }
        state.live = Some(generation.clone());
        drop(state);
        self.write_hints(&candidate, number);
        drop(candidate);
        Ok(generation)
    }

    fn write_generation(
        &self,
        candidate: &Candidate,
        catalogue: &Catalogue,
        summary: &Summary,
    ) -> Result<(), TreeError> {
        let number = candidate.generation.number();
        let writer = &candidate.writer;
        for Adopted { pack, temporary } in &candidate.adopted {
            self.steps.name(pack.file(), &temporary.0, pack.path())?;
        }
        if !writer.is_empty() {
            self.steps.name(writer.file(), writer.path(), &self.pack_path(writer.id()))?;
        }
        self.write_beside(number, "catalogue", catalogue::encode(catalogue))?;
        let index = candidate.generation.index().encode(self.module.as_str(), number, summary);
        self.write_beside(number, "index", index)
    }

    /// Removes all but the newest `keep` generations, the live one and those that somebody holds, and the
    /// packs that only they referred to. Blocking.
    ///
    /// # Errors
    /// A file could not be removed; the rest is left for the next time.
    pub fn collect(&self, keep: usize) -> Result<Collected, TreeError> {
        let _changing = self.changing();
        let mut state = self.state();
        state.loaded.retain(|_, generation| generation.strong_count() > 0);
        state.packs.retain(|_, pack| pack.strong_count() > 0);
        let newest: BTreeSet<u64> = state.kept.keys().rev().take(keep.max(1)).copied().collect();
        let live = state.live.as_ref().map(Generation::number);
        let going: Vec<u64> = state
            .kept
            .keys()
            .filter(|&number| {
                !newest.contains(number) && Some(*number) != live && !state.loaded.contains_key(number)
            })
            .copied()
            .collect();
        for number in &going {
            self.steps.remove(&self.generation_path(*number, "index"))?;
            state.kept.remove(number);
        }
        drop(state);
        if !going.is_empty() {
            crate::durable::sync_directory(&self.directory.join("generations"))?;
        }
        let packs = self.remove_unreferenced()?;
        Ok(Collected { generations: going, packs })
    }

    /// Reads every content of a generation and says which paths are not what they were. Blocking.
    #[must_use]
    pub fn scrub(generation: &Generation) -> Vec<Vec<u8>> {
        crate::scrub::damaged_paths(generation)
    }

    fn empty_temporary(&self) -> Result<(), TreeError> {
        let directory = self.directory.join("temporary");
        for name in names(&directory)? {
            self.steps.remove(&directory.join(name))?;
        }
        Ok(())
    }

    /// Reads every index, newest first; the first whole one is live.
    fn find_generations(&self) -> Result<(), TreeError> {
        let mut state = self.state();
        for name in names(&self.directory.join("packs"))? {
            state.pack_max = state.pack_max.max(numbered(&name, "pack").unwrap_or(0).try_into().unwrap_or(0));
        }
        let mut numbers = BTreeSet::new();
        for name in names(&self.directory.join("generations"))? {
            for kind in KINDS {
                state.number_max = state.number_max.max(numbered(&name, kind).unwrap_or(0));
            }
            numbers.extend(numbered(&name, "index"));
        }
        for number in numbers.into_iter().rev() {
            match self.load(&mut state, number).and_then(|found| self.check_catalogue(number).map(|()| found))
            {
                Ok(generation) => {
                    let packs = generation.index().packs.iter().map(|pack| pack.id).collect();
                    state.kept.insert(number, packs);
                    state.live.get_or_insert(generation);
                }
                Err(error) => {
                    tracing::error!(module = %self.module, number, %error, "passed over a generation");
                }
            }
        }
        Ok(())
    }

    fn check_catalogue(&self, number: u64) -> Result<(), TreeError> {
        let path = self.generation_path(number, "catalogue");
        let frame = fs::read(&path).map_err(TreeError::store(&path, "read"))?;
        catalogue::check(&frame).map_err(|why| TreeError::Damaged { path, why })
    }

    fn load(&self, state: &mut State, number: u64) -> Result<Generation, TreeError> {
        let path = self.generation_path(number, "index");
        let frame = fs::read(&path).map_err(TreeError::store(&path, "read"))?;
        let (index, summary) = Index::decode(&frame, self.module.as_str(), number)
            .map_err(|why| TreeError::Damaged { path, why })?;
        let mut packs = Vec::with_capacity(index.packs.len());
        for record in &index.packs {
            let pack = match state.packs.get(&record.id).and_then(Weak::upgrade) {
                Some(open) => open,
                None => Arc::new(Pack::open(record.id, &self.pack_path(record.id), record.length)?),
            };
            state.packs.insert(record.id, Arc::downgrade(&pack));
            packs.push(pack);
        }
        let inner =
            Arc::new(Inner { module: self.module.clone(), number, summary, index: Arc::new(index), packs });
        state.loaded.insert(number, Arc::downgrade(&inner));
        Ok(Generation::new(inner))
    }

    /// Removes packs, catalogues, sightings and damaged indexes that belong to no kept generation. A
    /// damaged index stays as long as it has the highest number, so that the number is not reused.
    fn remove_unreferenced(&self) -> Result<usize, TreeError> {
        let (kept, number_max, packs) = {
            let state = self.state();
            let kept: BTreeSet<u64> = state.kept.keys().copied().collect();
            let packs: BTreeSet<u64> = state.kept.values().flatten().map(|&id| u64::from(id)).collect();
            (kept, state.number_max, packs)
        };
        let directory = self.directory.join("generations");
        for name in names(&directory)? {
            let number = KINDS.iter().find_map(|kind| numbered(&name, kind));
            let wanted = number.is_none_or(|number| {
                kept.contains(&number) || (number == number_max && numbered(&name, "index").is_some())
            });
            if !wanted {
                self.steps.remove(&directory.join(name))?;
            }
        }
        let directory = self.directory.join("packs");
        let mut removed = 0;
        for name in names(&directory)? {
            if numbered(&name, "pack").is_some_and(|id| !packs.contains(&id)) {
                self.steps.remove(&directory.join(name))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn read_sightings(&self, number: u64, source: &Path) -> Option<Sightings> {
        let frame = fs::read(self.generation_path(number, "seen")).ok()?;
        Sightings::decode(&frame, number, source)
            .inspect_err(|why| tracing::info!(module = %self.module, why, "reading every file again"))
            .ok()
    }

    /// Losing them costs time, never a generation.
    fn write_hints(&self, candidate: &Candidate, number: u64) {
        self.write_sightings(&candidate.sightings, number, &candidate.source);
        let memory = candidate.memory.lock().unwrap_or_else(PoisonError::into_inner).take();
        let written = memory.map_or(Ok(()), |frame| self.write_beside(number, "known", frame));
        if let Err(error) = written.and_then(|()| self.remove_hints_before(number)) {
            tracing::warn!(module = %self.module, %error, "hints for the next build");
        }
    }

    fn remove_hints_before(&self, number: u64) -> Result<(), TreeError> {
        let directory = self.directory.join("generations");
        for name in names(&directory)? {
            if HINTS.iter().filter_map(|kind| numbered(&name, kind)).any(|found| found < number) {
                self.steps.remove(&directory.join(name))?;
            }
        }
        Ok(())
    }

    /// Losing them costs time, never a generation.
    fn write_sightings(&self, sightings: &Sightings, number: u64, source: &Path) {
        if let Err(error) = self.write_beside(number, "seen", sightings.encode(number, source)) {
            tracing::warn!(module = %self.module, %error, "the next build will read every file again");
        }
    }

    fn write_beside(
        &self,
        number: u64,
        kind: &str,
        frame: std::io::Result<Vec<u8>>,
    ) -> Result<(), TreeError> {
        let temporary = self.temporary_path(&format!("{number:08}.{kind}"));
        let frame = frame.map_err(TreeError::store(&temporary, "compress"))?;
        self.steps.write(&frame, &temporary, &self.generation_path(number, kind))
    }

    fn generation_path(&self, number: u64, kind: &str) -> PathBuf {
        self.directory.join("generations").join(format!("{number:08}.{kind}"))
    }

    fn pack_path(&self, id: u32) -> PathBuf {
        self.directory.join("packs").join(format!("{id:08}.pack"))
    }

    fn temporary_path(&self, name: &str) -> PathBuf {
        self.directory.join("temporary").join(name)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// Removes a temporary file when a build or a candidate comes to nothing.
#[derive(Debug)]
pub(crate) struct Sweep(PathBuf);

impl Drop for Sweep {
    fn drop(&mut self) {
        // Published: it has another name by now. Otherwise the next start would remove it.
        if let Err(error) = fs::remove_file(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::debug!(path = %self.0.display(), %error, "left for the next start to remove");
        }
    }
}

/// The file names in a directory of ours. What is not UTF-8 is not ours.
fn names(directory: &Path) -> Result<Vec<String>, TreeError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(TreeError::store(directory, "list"))? {
        let entry = entry.map_err(TreeError::store(directory, "list"))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

/// The number in `NUMBER.KIND`.
fn numbered(name: &str, kind: &str) -> Option<u64> {
    name.strip_suffix(kind)?.strip_suffix('.')?.parse().ok()
}
