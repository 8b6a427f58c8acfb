//! Why a module's last candidates were refused, kept for whoever has to find out: each fault, and copies of the files
//! that are at fault, because the source may have changed by the time that somebody looks.
//!
//! `state_dir/.refused/MODULE/N/`: `report.json`, the same for people in `report.txt`, and `files/1`, …: names of ours,
//! never those of a tree. The last [`KEPT_MAX`] are kept, until something is published. None of this decides anything:
//! what can't be written is missing, with a warning.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use service_kit::durable;
use tree_store::report::Fault;
use tree_store::{Generation, ModuleName, NodeKind, Refusal};

/// Refused candidates that are kept.
const KEPT_MAX: usize = 5;
/// Files of one candidate that are kept.
const FILES_MAX: usize = 64;
/// A larger one is not.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Nor are more than this together.
const FILES_BYTES_MAX: u64 = 16 << 20;

const REPORT: &str = "report.json";
const TEXT: &str = "report.txt";

/// What was wrong with one candidate. The field names are a contract: docs/formats.md.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    pub(crate) module: String,
    pub(crate) verify: String,
    /// When it was refused for the first time, and for the last one.
    pub(crate) refused_ms: u64,
    pub(crate) last_ms: u64,
    /// How often, one time after the other.
    pub(crate) times: u64,
    /// Its files, the faulty ones included.
    pub(crate) files: u64,
    /// Those that are not listed included.
    pub(crate) faults_count: u64,
    pub(crate) faults: Vec<FaultRecord>,
}

/// One fault.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct FaultRecord {
    pub(crate) path: String,
    pub(crate) line: u64,
    pub(crate) kind: String,
    pub(crate) why: String,
    pub(crate) expected: String,
    pub(crate) found: String,
    /// The copy of the file, relative to the report; empty if there is none.
    pub(crate) copy: String,
}

impl Report {
    fn new(verify: &str, generation: &Generation, refusal: &Refusal, now_ms: u64) -> Self {
        Self {
            module: generation.module().to_owned(),
            verify: verify.to_owned(),
            refused_ms: now_ms,
            last_ms: now_ms,
            times: 1,
            files: generation.summary().files,
            faults_count: refusal.count(),
            faults: refusal.faults().iter().map(FaultRecord::from).collect(),
        }
    }

    /// Whether both say the same is wrong.
    fn is_about_the_same(&self, other: &Self) -> bool {
        let faults = |report: &Self| {
            let without_copy = |fault: &FaultRecord| FaultRecord { copy: String::new(), ..fault.clone() };
            report.faults.iter().map(without_copy).collect::<Vec<_>>()
        };
        self.verify == other.verify
            && (self.files, self.faults_count) == (other.files, other.faults_count)
            && faults(self) == faults(other)
    }

    fn text(&self) -> String {
        let Self { module, verify, files, faults_count, .. } = self;
        let mut text =
            format!("module {module}, verify = {verify}: {files} files, {faults_count} faults\n\n");
        for fault in &self.faults {
            text += &fault.text();
        }
        let more = faults_count.saturating_sub(self.faults.len() as u64);
        if more > 0 {
            text.extend(["and ", &more.to_string(), " more\n"]);
        }
        text
    }
}

impl From<&Fault> for FaultRecord {
    fn from(fault: &Fault) -> Self {
        Self {
            path: fault.path.clone(),
            line: fault.line as u64,
            kind: fault.kind.as_str().to_owned(),
            why: fault.why.clone(),
            expected: fault.expected.clone(),
            found: fault.found.clone(),
            copy: String::new(),
        }
    }
}

impl FaultRecord {
    fn text(&self) -> String {
        let Self { path, line, kind, why, expected, found, copy } = self;
        let line = if *line == 0 { String::new() } else { format!(":{line}") };
        let mut text = format!("{kind}: {path}{line}: {why}\n");
        for (what, value) in [("expected", expected), ("found", found), ("kept as", copy)] {
            if !value.is_empty() {
                text.extend(["    ", what, " ", value, "\n"]);
            }
        }
        text
    }
}

/// One module's.
#[derive(Debug)]
pub(crate) struct Refusals {
    directory: PathBuf,
    /// Where the one is that this process kept last; none after [`Self::clear`].
    latest: Mutex<Option<PathBuf>>,
}

impl Refusals {
    pub(crate) fn new(state_dir: &Path, module: &ModuleName) -> Self {
        // No module's name starts with a dot.
        Self { directory: state_dir.join(".refused").join(module.as_str()), latest: Mutex::default() }
    }

    /// The directory of the report of the last refusal, if something was refused since a tree was good.
    pub(crate) fn latest(&self) -> Option<PathBuf> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_latest(&self, place: Option<PathBuf>) {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    /// Keeps what is wrong with a candidate; gives where. The same faults once more are counted. Blocking, durable.
    pub(crate) fn keep(
        &self,
        verify: &str,
        candidate: &Generation,
        refusal: &Refusal,
        now_ms: u64,
    ) -> io::Result<PathBuf> {
        let kept = self.write(verify, candidate, refusal, now_ms);
        self.set_latest(kept.as_ref().ok().cloned());
        kept
    }

    fn write(
        &self,
        verify: &str,
        candidate: &Generation,
        refusal: &Refusal,
        now_ms: u64,
    ) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.directory)?;
        let mut report = Report::new(verify, candidate, refusal, now_ms);
        let numbers = self.numbers()?;
        let newest = numbers.last().copied();
        if let Some(number) = newest
            && let Some(mut known) = self.read(number)
            && known.is_about_the_same(&report)
        {
            (known.last_ms, known.times) = (now_ms, known.times.saturating_add(1));
            write_report(&self.place(number), &known)?;
            return Ok(self.place(number));
        }
        // What a kill left half made.
        let new = self.directory.join(".new");
        remove(&new)?;
        fs::create_dir_all(new.join("files"))?;
        copy_files(candidate, &mut report.faults, &new.join("files"))?;
        durable::create(&new.join(TEXT), report.text().as_bytes())?;
        write_report(&new, &report)?;
        let place = self.place(newest.unwrap_or(0) + 1);
        fs::rename(&new, &place)?;
        durable::sync_directory(&self.directory)?;
        let too_many = (numbers.len() + 1).saturating_sub(KEPT_MAX);
        for &number in &numbers[..too_many] {
            remove(&self.place(number))?;
        }
        Ok(place)
    }

    /// Something was published, or the source holds again what is served. Blocking.
    pub(crate) fn clear(&self) {
        self.set_latest(None);
        if let Err(error) = remove(&self.directory) {
            tracing::warn!(path = %self.directory.display(), %error, "old reports stay");
        }
    }

    /// Those that are kept with the directories that they lie in, newest first. Blocking.
    pub(crate) fn list(&self) -> io::Result<Vec<(PathBuf, Report)>> {
        let numbers = self.numbers()?.into_iter().rev();
        Ok(numbers.filter_map(|number| Some((self.place(number), self.read(number)?))).collect())
    }

    fn place(&self, number: u64) -> PathBuf {
        self.directory.join(number.to_string())
    }

    /// The oldest first.
    fn numbers(&self) -> io::Result<Vec<u64>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut numbers = Vec::new();
        for entry in entries {
            numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// `None` if it can't be read or understood: a later version's, or damaged.
    fn read(&self, number: u64) -> Option<Report> {
        serde_json::from_slice(&fs::read(self.place(number).join(REPORT)).ok()?).ok()
    }
}

/// Copies the faulty files as far as they are small and few, and says in each fault where to.
fn copy_files(candidate: &Generation, faults: &mut [FaultRecord], into: &Path) -> io::Result<()> {
    let mut copies: HashMap<String, String> = HashMap::new();
    let mut left_bytes = FILES_BYTES_MAX;
    for fault in faults {
        if let Some(copy) = copies.get(&fault.path) {
            fault.copy.clone_from(copy);
            continue;
        }
        let file = candidate.lookup(fault.path.as_bytes());
        let Some(id) = file.filter(|&id| candidate.node(id).kind == NodeKind::File) else { continue };
        let bytes = candidate.node(id).size;
        if copies.len() >= FILES_MAX || bytes > FILE_BYTES_MAX.min(left_bytes) {
            continue;
        }
        left_bytes -= bytes;
        let name = (copies.len() + 1).to_string();
        durable::create(&into.join(&name), &candidate.read(id, FILE_BYTES_MAX)?)?;
        fault.copy = format!("files/{name}");
        copies.insert(fault.path.clone(), fault.copy.clone());
    }
    durable::sync_directory(into)
}

fn write_report(place: &Path, report: &Report) -> io::Result<()> {
    let octets = serde_json::to_vec_pretty(report).map_err(io::Error::other)?;
    durable::replace(&place.join(REPORT), &place.join("report.new"), &octets)
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
