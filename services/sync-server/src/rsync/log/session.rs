//! What is said of one connection, in the stock daemon's words.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::{Timestamp, Zoned, tz::TimeZone};
use rsync_wire::session::{CloseReason, Keeps, Session, Summary};
use rsync_wire::transfer::{Answered, Record, Records};
use rsync_wire::{ExitCode, NodeKind, TreeView};
use rsyncd_conf::log_format;

use super::ModuleLog;
use super::journal::{Journal, TIME};

/// What is known of a host's name.
#[derive(Debug, Clone, Default)]
pub(in super::super) enum HostName {
    /// It was not looked up.
    #[default]
    Undetermined,
    /// It has none, or a false one.
    Unknown,
    Known(String),
}

impl HostName {
    pub(in super::super) fn found(name: Option<String>) -> Self {
        name.map_or(Self::Unknown, Self::Known)
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Undetermined => "UNDETERMINED",
            Self::Unknown => "UNKNOWN",
            Self::Known(name) => name,
        }
    }
}

/// The log of one connection. Copies write to the same place.
#[derive(Debug, Clone)]
pub(in super::super) struct SessionLog {
    number: u64,
    address: String,
    host: HostName,
    user: String,
    journal: Option<Journal>,
    module: Option<Arc<ModuleLog>>,
    module_name: String,
    keeps: Keeps,
    begun: bool,
}

impl SessionLog {
    /// Until a module is chosen, `journal` is the daemon's own.
    pub(in super::super) fn new(journal: Option<Journal>, host: IpAddr) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            address: host.to_string(),
            host: HostName::default(),
            user: String::new(),
            journal,
            module: None,
            module_name: String::new(),
            keeps: Keeps::default(),
            begun: false,
        }
    }

    fn peer(&self) -> String {
        format!("{} ({})", self.host.as_str(), self.address)
    }

    fn say(&self, text: String) {
        if let Some(journal) = &self.journal {
            journal.write(self.number, &Zoned::now(), [text.into_bytes()]);
        }
    }

    pub(in super::super) fn connected(&self) {
        self.say(format!("connect from {}", self.peer()));
    }

    pub(in super::super) fn modules_listed(&self) {
        self.say(format!("module-list request from {}", self.peer()));
    }

    /// What came of looking up the host's name.
    pub(in super::super) fn named(&mut self, host: HostName) {
        if !matches!(host, HostName::Undetermined) {
            self.host = host;
        }
    }

    pub(in super::super) fn allowed(&self, module: &str) {
        self.say(format!("rsync allowed access on module {module} from {}", self.peer()));
    }

    /// A connection that gets no module. `detail` is what only the one who decided knows.
    pub(in super::super) fn turned_away(&self, module: &str, reason: CloseReason, detail: Option<&str>) {
        let peer = self.peer();
        let detail = detail.unwrap_or_default();
        self.say(if reason == CloseReason::UnknownModule {
            format!("unknown module '{module}' tried from {peer}")
        } else if reason == CloseReason::AccessDenied {
            format!("rsync denied on module {module} from {peer}")
        } else if reason == CloseReason::Busy {
            format!("max connections ({detail}) reached")
        } else if reason == CloseReason::LoginFailed {
            format!("auth failed on module {module} from {peer}{detail}")
        } else {
            format!("module {module} not served to {peer}: {}", reason.as_str())
        });
    }

    /// From here on it is the module's log.
    pub(in super::super) fn entered(
        &mut self,
        name: &str,
        log: Arc<ModuleLog>,
        journal: Option<Journal>,
        user: Option<&str>,
    ) {
        name.clone_into(&mut self.module_name);
        user.unwrap_or_default().clone_into(&mut self.user);
        (self.module, self.journal) = (Some(log), journal);
    }

    /// What a session must tell for this log.
    pub(in super::super) fn records(journal: Option<&Journal>, log: &ModuleLog) -> Records {
        match (journal, &log.transfers) {
            (None, _) => Records::Nothing,
            (Some(_), None) => Records::Failures,
            (Some(_), Some(format)) if format.shows_items() => Records::Items,
            (Some(_), Some(_)) => Records::Contents,
        }
    }

    /// The client has said what it wants.
    pub(in super::super) fn begin(&mut self, session: &Session) {
        let Some(request) = session.request().filter(|_| !self.begun) else { return };
        self.begun = true;
        self.keeps = session.keeps();
        let at = if self.user.is_empty() { "" } else { "@" };
        self.say(format!("rsync on {request} from {}{at}{}", self.user, self.peer()));
    }

    pub(in super::super) fn building(&self) {
        self.say("building file list".to_owned());
    }

    pub(in super::super) fn texts(&self, texts: &[String]) {
        for text in texts {
            self.say(text.clone());
        }
    }

    /// What a batch did.
    pub(in super::super) fn records_of(&self, tree: &impl TreeView, records: &[Record]) {
        let (Some(journal), Some(module)) = (&self.journal, &self.module) else { return };
        if records.is_empty() {
            return;
        }
        let now = Zoned::now();
        let line = |record: &Record| match record {
            Record::Failure(text) => Some(text.clone().into_bytes()),
            Record::Answered(answered) => self.line(module, tree, answered, &now),
        };
        journal.write(self.number, &now, records.iter().filter_map(line));
    }

    fn line(
        &self,
        module: &ModuleLog,
        tree: &impl TreeView,
        answered: &Answered,
        now: &Zoned,
    ) -> Option<Vec<u8>> {
        let format = module.transfers.as_ref()?;
        let entry = answered.entry;
        let node = tree.node(entry.node);
        let path = tree.path(entry.node);
        let (file, mut name) = names(&path, entry.depth);
        if node.kind == NodeKind::Directory {
            name.push(b'/');
        }
        let link = match node.symlink_target {
            [] => Vec::new(),
            target => [b" -> ", target].concat(),
        };
        let modified = Timestamp::from_second(node.mtime_s).unwrap_or_default().to_zoned(TimeZone::system());
        Some(format.line(&log_format::Record {
            address: &self.address,
            host: self.host.as_str(),
            module: &self.module_name,
            module_path: &module.path,
            user: &self.user,
            file: &file,
            name: &name,
            link: &link,
            length: node.size,
            sent: answered.written,
            described: answered.described,
            checksum: &format!("{:32}", answered.checksum_text()),
            item: &answered.itemized(node.kind, self.keeps.times),
            modified: &modified.strftime("%Y/%m/%d-%H:%M:%S").to_string(),
            permissions: &permissions(node.mode),
            uid: node.uid,
            gid: Some(node.gid).filter(|_| self.keeps.group),
            session: self.number,
            now: &now.strftime(TIME).to_string(),
        }))
    }

    /// The last lines; nothing if the client never said what it wants. `None`: the connection broke.
    pub(in super::super) fn ended(&mut self, session: &Session, reason: Option<CloseReason>) {
        self.begin(session);
        if !self.begun {
            return;
        }
        if let Some(refusal) = session.refusal() {
            self.say(refusal.text().to_owned());
        }
        let Summary { written, read, total_size, .. } = session.summary();
        self.say(format!("sent {written} bytes  received {read} bytes  total size {total_size}"));
        if let Some((words, code)) = failure(session, reason) {
            self.say(format!("rsync error: {words} (code {code})"));
        }
    }
}

/// The path in the module and the name in the transfer; the top of a transfer is a `.`.
fn names(path: &[u8], depth: u16) -> (Vec<u8>, Vec<u8>) {
    if depth == 0 {
        let file = if path.is_empty() { b".".to_vec() } else { [path, b"/."].concat() };
        return (file, b".".to_vec());
    }
    let parts: Vec<&[u8]> = path.split(|&octet| octet == b'/').collect();
    let name = parts[parts.len().saturating_sub(depth.into())..].join(&b'/');
    (path.to_vec(), name)
}

/// What went wrong, as rsync(1) calls its exit codes.
fn failure(session: &Session, reason: Option<CloseReason>) -> Option<(&'static str, i32)> {
    if let Some(refusal) = session.refusal() {
        let words = match refusal.code() {
            ExitCode::Usage => "syntax or usage error",
            ExitCode::Protocol => "protocol incompatibility",
            ExitCode::Selection => "errors selecting input/output files, dirs",
            ExitCode::Unsupported => "requested action not supported",
            ExitCode::FileIo => "error in file IO",
            ExitCode::DataStream => "error in rsync protocol data stream",
        };
        return Some((words, refusal.code().number()));
    }
    match reason {
        Some(CloseReason::Complete | CloseReason::EmptyList) => None,
        Some(CloseReason::IdleTimeout | CloseReason::HandshakeTimeout) => {
            Some(("timeout in data send/receive", 30))
        }
        Some(CloseReason::ClientError) => Some(("received an error exit from the client", 20)),
        None | Some(_) => Some(("error in socket IO", 10)),
    }
}

fn permissions(mode: u32) -> String {
    let plain = "rwxrwxrwx".chars().enumerate();
    let mut shown: Vec<char> =
        plain.map(|(at, letter)| if mode & (0o400 >> at) == 0 { '-' } else { letter }).collect();
    for (bit, at, with, without) in [(0o4000, 2, 's', 'S'), (0o2000, 5, 's', 'S'), (0o1000, 8, 't', 'T')] {
        if mode & bit != 0 {
            shown[at] = if shown[at] == 'x' { with } else { without };
        }
    }
    shown.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_module_and_of_the_transfer() {
        let text = |path: &str, depth| {
            let (file, name) = names(path.as_bytes(), depth);
            [file, name].map(|octets| String::from_utf8(octets).unwrap())
        };
        assert_eq!(text("", 0), [".", "."]);
        assert_eq!(text("sub", 0), ["sub/.", "."]);
        assert_eq!(text("sub/d/f", 2), ["sub/d/f", "d/f"]);
        assert_eq!(text("sub/d/f", 9), ["sub/d/f", "sub/d/f"]);
    }

    #[test]
    fn permissions_have_their_special_bits() {
        assert_eq!(permissions(0o100_644), "rw-r--r--");
        assert_eq!(permissions(0o047_755), "rwsr-sr-t");
        assert_eq!(permissions(0o101_644), "rw-r--r-T");
    }
}
