//! What strangers send to the rsync daemon: each target brings a session to one phase, and the input is what comes then.

use std::sync::Arc;
use std::time::Instant;

use rsync_wire::memory::MemoryTree;
use rsync_wire::session::{Challenge, Grant, Selection};
use rsync_wire::transfer::{ItemFlags, Record, Records};
use rsync_wire::{CloseReason, Command, NodeId, Session, SessionConfig};
use rsyncd_conf::log_format::{self, LogFormat, visible};
use rsyncd_conf::{Found, RsyncdConf, Surroundings};

/// Answers to commands are bounded by what was heard; a session that goes on without is a finding.
const COMMANDS_MAX: usize = 100_000;

/// How octets come, and how soon what the session commands is done.
#[derive(Debug, Clone, Copy)]
struct Pace {
    octets: usize,
    /// One command a piece, and its outcome with the next one; the client may be gone before its list is there.
    is_late: bool,
}

/// A session, and what became of it.
struct Talk {
    session: Session,
    tree: MemoryTree,
    now: Instant,
    wants_login: bool,
    is_late: bool,
    /// A command that is under way.
    held: Option<Command>,
    commands: usize,
    answered: Vec<Answered>,
    closed: Option<CloseReason>,
}

/// A request that was answered: what it was about, what was wanted of it, and how much it described. Or one for what
/// can't be sent.
type Answered = Option<(NodeId, ItemFlags, u64)>;

/// What must be the same, however the octets came.
#[derive(Debug, PartialEq, Eq)]
struct End {
    reason: CloseReason,
    refusal: Option<String>,
    request: Option<String>,
    answered: Vec<Answered>,
}

impl End {
    /// Only a client that gives up or goes away does not get all that it had asked for: how much of that it gets
    /// depends on when it goes, and goes for what it asked for first.
    fn is_that_of(&self, other: &Self) -> bool {
        if !matches!(self.reason, CloseReason::ClientError | CloseReason::ClientClosed) {
            return self == other;
        }
        let known = self.answered.len().min(other.answered.len());
        self.answered[..known] == other.answered[..known]
            && (self.reason, &self.refusal, &self.request) == (other.reason, &other.refusal, &other.request)
    }
}

impl Talk {
    fn new(wants_login: bool, is_late: bool) -> Self {
        let now = Instant::now();
        let session = Session::new(SessionConfig { motd: String::new(), seed: 7 }, now);
        let mut tree = MemoryTree::new(1_700_000_000);
        tree.file("a/b/c.ebuild", b"EAPI=8\n", 0o644, (1, 2));
        tree.file("a/.rules", b"- *.o\n+ c*\n- /a\n", 0o644, (1, 0));
        let big = tree.file("big", &[7; 5000], 0o755, (3, 0));
        tree.own(big, 250, 70_000);
        tree.link("a/big", big);
        tree.name_user(250, "portage");
        tree.symlink("link", "a/b", 4);
        let (held, answered, closed) = (None, Vec::new(), None);
        Self { session, tree, now, wants_login, is_late, held, commands: 0, answered, closed }
    }

    fn hear(&mut self, octets: &[u8]) {
        self.session.handle_input(octets, self.now);
        if self.is_late && self.session.wants_input() {
            if let Some(command) = self.held.take() {
                self.obey(command);
            }
            self.held = self.session.poll();
        } else {
            while let Some(command) = self.next() {
                self.obey(command);
            }
        }
    }

    fn next(&mut self) -> Option<Command> {
        self.held.take().or_else(|| self.session.poll())
    }

    fn obey(&mut self, command: Command) {
        self.commands += 1;
        assert!(self.commands < COMMANDS_MAX, "no end of commands");
        match command {
            Command::Write(octets) => {
                self.session.handle_written(octets.len(), self.now);
            }
            Command::ListModules => self.session.modules_listed([("m", "a module")]),
            Command::SelectModule(name) => {
                assert!(!name.contains(['\n', '\0']), "{name:?}");
                self.session.module_selected(self.selection(), self.now);
            }
            Command::CheckLogin(login) => {
                assert!(!login.user().contains(char::is_control), "{login:?}");
                // Nobody guesses it.
                assert!(!login.is_made_with(b"7 octets at least"));
                self.wants_login = false;
                self.session.module_selected(self.selection(), self.now);
            }
            Command::BuildList(plan) => {
                let built = plan.build(&self.tree).map(Arc::new);
                self.session.list_built(built, self.now);
            }
            Command::SendFiles(mut batch) => {
                batch.run(&self.tree);
                for record in batch.take_records() {
                    self.answered.push(match record {
                        Record::Answered(answered) => {
                            Some((answered.entry.node, answered.flags, answered.described))
                        }
                        Record::Failure(_) => None,
                    });
                }
                self.session.batch_done(*batch);
            }
            Command::Note(text) => assert!(!text.contains(char::is_control), "{text:?}"),
            Command::Close(reason) => self.closed = Some(reason),
        }
    }

    fn selection(&self) -> Selection {
        if self.wants_login {
            return Selection::LogIn(Challenge { text: "c2FsdA".to_owned(), weakest: None });
        }
        Selection::Accepted(Grant { records: Records::Items, ..Grant::default() })
    }

    fn end(mut self) -> End {
        while let Some(command) = self.next() {
            if self.is_late && matches!(command, Command::BuildList(_) | Command::SendFiles(_)) {
                self.session.handle_end_of_input();
            }
            self.obey(command);
        }
        self.session.handle_end_of_input();
        while let Some(command) = self.next() {
            self.obey(command);
        }
        let request = self.session.request().map(str::to_owned);
        assert!(request.iter().all(|request| !request.contains(char::is_control)), "{request:?}");
        End {
            reason: self.closed.expect("a client that is gone has no end"),
            refusal: self.session.refusal().map(ToString::to_string),
            request,
            answered: self.answered,
        }
    }
}

/// In how many octets at a time it comes must not matter, nor how fast this side is.
fn talk(start: &[u8], input: &[u8], wants_login: bool) {
    let end = |pace: Pace| {
        let mut talk = Talk::new(wants_login, pace.is_late);
        talk.hear(start);
        for piece in input.chunks(pace.octets.clamp(1, 64 << 10)) {
            talk.hear(piece);
        }
        talk.end()
    };
    let whole = end(Pace { octets: usize::MAX, is_late: false });
    let piece_len = 1 + input.len() / 5;
    for pace in [Pace { octets: piece_len, is_late: false }, Pace { octets: piece_len, is_late: true }] {
        let other = end(pace);
        assert!(whole.is_that_of(&other), "{whole:?}, but {other:?} at {pace:?}");
    }
}

/// A client up to the frames. The first octet of an input chooses among them.
fn hello(choice: u8) -> Vec<u8> {
    const OPTIONS: [&str; 8] = [
        "-ltpre.LsfxC",
        "-ltprze.LsfxC",
        "-ltprogDHRe.LsfxC",
        "-dne.LsfxC",
        "-ltprce.LsfxCI\0--inplace",
        "-ltpre.LsfxC\0--append",
        "-rLe.LsfxC\0--append\0--append",
        "-lrze.LsfxC\0--compress-choice=lz4",
    ];
    let options = OPTIONS[usize::from(choice & 7)];
    let version = [31, 32, 30, 29][usize::from(choice >> 3 & 3)];
    let list = if version == 32 { " md5" } else { "" };
    let sub = if version == 29 { "" } else { ".0" };
    let arguments = format!("--server\0--sender\0{options}\0.\0m/\0\0");
    let arguments = if version == 29 { arguments.replace('\0', "\n") } else { arguments };
    format!("@RSYNCD: {version}{sub}{list}\nm\n{arguments}").into_bytes()
}

fn frames(data: &[u8]) -> Vec<u8> {
    let frame = |piece: &[u8]| {
        let [a, b, c, _] = u32::try_from(piece.len()).unwrap_or(0).to_le_bytes();
        [&[a, b, c, 7][..], piece].concat()
    };
    data.chunks(1000).flat_map(frame).collect()
}

/// Whether the client of [`hello`] frames what it says.
fn is_framed(choice: u8) -> bool {
    choice >> 3 & 3 != 3
}

fn put(choice: u8, data: &[u8]) -> Vec<u8> {
    if is_framed(choice) { frames(data) } else { data.to_vec() }
}

pub(crate) fn prologue(octets: &[u8]) {
    talk(b"", octets, false);
}

/// From the arguments on: the first octet says in which form.
pub(crate) fn arguments(octets: &[u8]) {
    let Some((&choice, octets)) = octets.split_first() else { return };
    let start: &[u8] = if choice & 1 == 0 { b"@RSYNCD: 31.0\nm\n" } else { b"@RSYNCD: 29\nm\n" };
    let octets = if choice & 2 == 0 { octets.to_vec() } else { [b"--server\0--sender\0", octets].concat() };
    talk(start, &octets, false);
}

pub(crate) fn login(octets: &[u8]) {
    talk(b"@RSYNCD: 32.0 sha512 md5\nm\n", octets, true);
}

/// One rule a line, then what they do to a list.
pub(crate) fn filters(octets: &[u8]) {
    let Some((&choice, octets)) = octets.split_first() else { return };
    let mut rules = Vec::new();
    for line in octets.split(|&octet| octet == b'\n').filter(|line| !line.is_empty()) {
        rules.extend_from_slice(&u32::try_from(line.len()).unwrap_or(0).to_le_bytes());
        rules.extend_from_slice(line);
    }
    rules.extend_from_slice(&[0; 4]);
    talk(&hello(choice), &put(choice, &rules), false);
}

/// Filter rules as octets, then names of a list of files.
pub(crate) fn files_from(octets: &[u8]) {
    let start = b"@RSYNCD: 31.0\nm\n--server\0--sender\0-ltprRe.LsfxC\0--files-from=-\0--from0\0.\0m/\0\0";
    talk(start, &frames(&[&[0; 4], octets].concat()), false);
}

/// What a generator says after the list.
pub(crate) fn requests(octets: &[u8]) {
    let Some((&choice, octets)) = octets.split_first() else { return };
    let start = [hello(choice), put(choice, &[0; 4])].concat();
    talk(&start, &put(choice, octets), false);
}

/// A request for a file, with what the client has of it: the head and the sums.
pub(crate) fn sum_heads(octets: &[u8]) {
    let Some((&choice, octets)) = octets.split_first() else { return };
    let index: &[u8] = if is_framed(choice) { &[2] } else { &[1, 0, 0, 0] };
    let start = [hello(choice), put(choice, &[0; 4])].concat();
    talk(&start, &put(choice, &[index, &[0, 0x80], octets].concat()), false);
}

/// Frames of any kind, whole or not.
pub(crate) fn frames_of_client(octets: &[u8]) {
    let Some((&choice, octets)) = octets.split_first() else { return };
    talk(&hello(choice & 0x17), octets, false);
}

/// Nothing else is there.
struct Alone;

impl Surroundings for Alone {
    fn read(&mut self, _: &str) -> Result<Found, String> {
        Ok(Found::File(b"- *.o\n+ kept\n".to_vec()))
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

pub(crate) fn conf(octets: &[u8]) {
    match RsyncdConf::parse("rsyncd.conf", octets, &mut Alone) {
        Ok(conf) => assert!(conf.modules.iter().all(|module| module.path.starts_with('/'))),
        Err(faults) => assert!(!faults.is_empty()),
    }
}

/// A format, and behind a NUL the name of a file: no line of a log can be made of two.
pub(crate) fn log_line(octets: &[u8]) {
    let (format, name) = octets.split_at(octets.iter().position(|&octet| octet == 0).unwrap_or(octets.len()));
    let format = LogFormat::new(&String::from_utf8_lossy(format));
    let line = visible(&format.line(&log_format::Record {
        file: name,
        name,
        link: name,
        ..log_format::Record::default()
    }));
    assert!(line.iter().all(|octet| !octet.is_ascii_control() || *octet == b'\t'));
    assert_eq!(visible(&line).len() == line.len(), !line.windows(5).any(is_escape));
}

fn is_escape(window: &[u8]) -> bool {
    matches!(window, [b'\\', b'#', digits @ ..] if digits.iter().all(u8::is_ascii_digit))
}
