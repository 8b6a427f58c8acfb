//! The daemon's log as the stock daemon writes it: who connected, what was asked for, which files were sent, how it ended.
//!
//! It goes to files or to the system log, beside the one line a connection that the process's own log has. Lines are
//! made where the news is and written elsewhere (`journal`): a log that is slow, full or gone costs lines, and never a
//! client's time.

mod journal;
mod session;

use std::collections::HashMap;
use std::path::PathBuf;

use rsyncd_conf::log_format::LogFormat;
use rsyncd_conf::syslog::Facility;

pub(super) use journal::{Journal, Writer};
pub(super) use session::{HostName, SessionLog};

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LogTarget {
    /// They are appended to this file, which may be renamed at any moment.
    File(PathBuf),
    /// The system log.
    System {
        /// Its facility.
        facility: Facility,
        /// What lines start with.
        tag: String,
    },
}

/// What is logged of a module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModuleLog {
    /// Where; `None` for nowhere.
    pub target: Option<LogTarget>,
    /// A line for each file, in this format; `None` for none.
    pub transfers: Option<LogFormat>,
    /// Where the module's tree comes from, for `%P`.
    pub path: String,
}

/// One journal for each target, however many modules write to it.
#[derive(Default)]
pub(super) struct Journals {
    open: HashMap<LogTarget, Journal>,
    writers: Vec<Writer>,
}

impl Journals {
    pub(super) fn of(&mut self, target: Option<&LogTarget>) -> Option<Journal> {
        let target = target?;
        if let Some(journal) = self.open.get(target) {
            return Some(journal.clone());
        }
        let (journal, writer) = Journal::new(target);
        self.writers.push(writer);
        self.open.insert(target.clone(), journal.clone());
        Some(journal)
    }

    /// What has to run for lines to be written.
    pub(super) fn into_writers(self) -> Vec<Writer> {
        self.writers
    }
}
