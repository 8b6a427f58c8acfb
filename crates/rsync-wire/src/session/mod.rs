//! One connection from its first octet to its last.
//!
//! The phases in order: greeting → request line → (early input) → module → arguments → names → filters →
//! (list of names) → file list → transfer loop → goodbye. [`Session::handle_input`] and the answers to commands
//! move it on; [`Session::poll`] says what to do next. Nothing here blocks: what takes a while is handed out as
//! [`Command::BuildList`] and [`Command::SendFiles`], to be run elsewhere and handed back.

mod exchange;
mod handshake;
mod login;
mod phase;

use crate::flist::{FileList, ListPlan};
use crate::limits;
use crate::login::{Login, Scheme};
use crate::mux::{Code, FrameWriter};
use crate::options::{ArgumentList, Arguments};
use crate::prologue;
use crate::setup::{Agreement, CompatFlags};
use crate::transfer::{Batch, Reply, Sender};
use crate::{Protocol, Refusal, WireError};
use bytes::{Bytes, BytesMut};
use phase::{Ending, Incoming, Phase};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use phase::{Challenge, CloseReason, Grant, Refuses, Selection};

/// What differs from one connection to another.
#[derive(Debug, Clone, Default)]
pub struct SessionConfig {
    /// The message of the day; empty for none.
    pub motd: String,
    /// A random number for the checksum seed; a client may choose its own.
    pub seed: i32,
}

/// What the owner of the connection has to do next, in this order.
#[derive(Debug)]
pub enum Command {
    /// Write these octets.
    Write(Bytes),
    /// Answer with [`Session::modules_listed`].
    ListModules,
    /// Decide about this host and this module; answer with [`Session::module_selected`].
    SelectModule(String),
    /// Check an attempt to log in to the module; answer with [`Session::module_selected`].
    CheckLogin(Login),
    /// Run [`ListPlan::build`] on the module's tree, or find the list of an equal plan; answer with
    /// [`Session::list_built`].
    BuildList(Box<ListPlan>),
    /// Run [`Batch::run`] on the module's tree; answer with [`Session::batch_done`].
    SendFiles(Box<Batch>),
    /// The client says something about itself, for a log.
    Note(String),
    /// Write what is left, then close: first the writing side, then after [`limits::LINGER_MAX`] all.
    Close(CloseReason),
}

/// What a session did, for a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// The protocol's version, once it is known.
    pub protocol: Option<u8>,
    /// Octets from the client.
    pub read: u64,
    /// Octets to the client.
    pub written: u64,
    /// Entries of the file list.
    pub entries: usize,
    /// Octets of all files and links of the list.
    pub total_size: u64,
    /// Files of which contents were sent.
    pub files_sent: u64,
}

/// What a client takes over besides contents, as far as a log shows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keeps {
    /// Times of files.
    pub times: bool,
    /// Groups.
    pub group: bool,
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    phase: Phase,
    commands: VecDeque<Command>,
    /// What came and was not understood yet; frames are taken apart into `data` once they start.
    raw: BytesMut,
    incoming: Incoming,
    data: BytesMut,
    /// The client says nothing more.
    input_has_ended: bool,
    /// Frames that belong to no reply: timeouts, errors, keep-alives.
    frames: FrameWriter,
    protocol: Protocol,
    module: String,
    argument_list: ArgumentList,
    arguments: Arguments,
    flags: CompatFlags,
    agreement: Option<Agreement>,
    /// The writing half of the loop, unless it is on loan in a batch.
    sender: Option<Box<Sender>>,
    replies: VecDeque<Reply>,
    /// Octets of block sums in requests that were not answered yet.
    sums_waiting: usize,
    /// The checksum seed in force.
    seed: i32,
    /// The agreed timeout, or the one that we use all the same.
    timeout: Duration,
    grant: Grant,
    /// What the client asked for: its path arguments.
    request: Option<String>,
    /// Why the session can't go on.
    refusal: Option<Refusal>,
    /// How the client would log in; `None` if it has no digest of ours.
    scheme: Option<Scheme>,
    handshake_until: Instant,
    last_heard: Instant,
    last_written: Instant,
    kept_alive: Instant,
    summary: Summary,
}

impl Session {
    /// Starts a session; the greeting is the first command.
    #[must_use]
    pub fn new(config: SessionConfig, now: Instant) -> Self {
        let hello = [prologue::GREETING, &prologue::motd_text(&config.motd)].concat();
        Self {
            config,
            phase: Phase::Greeting,
            commands: VecDeque::from([Command::Write(hello.into())]),
            raw: BytesMut::new(),
            incoming: Incoming::Unframed,
            data: BytesMut::new(),
            input_has_ended: false,
            frames: FrameWriter::default(),
            protocol: Protocol::NEWEST,
            module: String::new(),
            argument_list: ArgumentList::default(),
            arguments: Arguments::default(),
            flags: CompatFlags::NONE,
            agreement: None,
            sender: None,
            replies: VecDeque::new(),
            sums_waiting: 0,
            seed: 0,
            timeout: limits::IDLE_MAX,
            grant: Grant::default(),
            request: None,
            refusal: None,
            scheme: None,
            handshake_until: now + limits::HANDSHAKE_MAX,
            last_heard: now,
            last_written: now,
            kept_alive: now,
            summary: Summary::default(),
        }
    }

    /// Takes octets from the client.
    pub fn handle_input(&mut self, octets: &[u8], now: Instant) {
        if self.is_closed() {
            return;
        }
        self.last_heard = now;
        self.summary.read += octets.len() as u64;
        self.raw.extend_from_slice(octets);
        self.advance();
    }

    /// Takes note that the client will send nothing more: the session ends once it would need more.
    pub fn handle_end_of_input(&mut self) {
        self.input_has_ended = true;
        if self.phase.waits_for_admission() {
            // Nobody stands in a queue for a client that is gone.
            self.close(CloseReason::ClientClosed);
        }
        self.advance();
    }

    /// Takes note that the client took some octets.
    pub fn handle_written(&mut self, octets: usize, now: Instant) {
        self.last_written = now;
        self.summary.written += octets as u64;
    }

    /// Takes note of the time: nothing happens before [`Self::deadline`].
    pub fn handle_time(&mut self, now: Instant) {
        if self.is_closed() || now < self.deadline() {
            return;
        }
        if matches!(self.phase, Phase::EmptyList { .. }) {
            self.close(CloseReason::EmptyList);
        } else if self.phase.is_handshake() {
            self.close(CloseReason::HandshakeTimeout);
        } else if now >= self.idle_deadline() {
            self.close(CloseReason::IdleTimeout);
        } else {
            // We are busy, and the client should know. Old ones don't expect to hear it before the list.
            if self.protocol >= Protocol::V31 || self.phase.is_loop() {
                self.frames.message(Code::Data, &[]);
                self.flush();
            }
            self.kept_alive = now;
        }
    }

    /// When [`Self::handle_time`] is due.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        if let Phase::EmptyList { until } = self.phase {
            return until;
        }
        if self.phase.waits_for_admission() {
            // The owner limits how long a client waits for its turn.
            return self.last_heard + limits::IDLE_MAX;
        }
        if self.phase.is_handshake() {
            return self.handshake_until;
        }
        if self.is_busy() {
            let spoken = self.last_written.max(self.kept_alive);
            return self.idle_deadline().min(spoken + self.timeout / 2);
        }
        self.idle_deadline()
    }

    fn idle_deadline(&self) -> Instant {
        self.last_heard.max(self.last_written) + self.timeout
    }

    /// Whether work is handed out and the client waits for it.
    fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::AwaitingList) || (self.phase.is_loop() && self.sender.is_none())
    }

    /// Whether the socket should be read: what a client sends ahead is bounded.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        !self.is_closed() && !self.input_has_ended && self.raw.len() + self.data.len() < limits::INPUT_LEN_MAX
    }

    /// What to do next; `None` until something else happens.
    pub fn poll(&mut self) -> Option<Command> {
        if let Some(command) = self.commands.pop_front() {
            return Some(command);
        }
        if self.is_closed() {
            return None;
        }
        let has_work = !self.replies.is_empty() || self.sender.as_ref().is_some_and(|s| s.is_amid_file());
        if has_work && let Some(sender) = self.sender.take() {
            let replies = std::mem::take(&mut self.replies);
            return Some(Command::SendFiles(Box::new(Batch { sender, replies, error: None })));
        }
        if self.sender.is_some() && matches!(self.phase, Phase::Finishing(_)) {
            self.finish();
        }
        self.commands.pop_front()
    }

    /// Answers [`Command::SendFiles`].
    pub fn batch_done(&mut self, batch: Batch) {
        let Batch { mut sender, mut replies, error } = batch;
        self.summary.files_sent = sender.files_sent();
        if self.is_closed() {
            return;
        }
        let frames = sender.frames().take();
        if !frames.is_empty() {
            self.commands.push_back(Command::Write(frames));
        }
        replies.append(&mut self.replies);
        self.replies = replies;
        self.sums_waiting = self.replies.iter().map(Reply::sums_len).sum();
        self.sender = Some(sender);
        match error {
            // There is nobody to make the other replies.
            Some(error) => self.end_over(&error),
            None => self.advance(),
        }
    }

    /// Answers [`Command::BuildList`].
    pub fn list_built(&mut self, built: Result<Arc<FileList>, WireError>, now: Instant) {
        if !matches!(self.phase, Phase::AwaitingList) {
            return;
        }
        match built {
            Ok(list) => self.send_list(list, now),
            Err(error) => self.fail(error),
        }
        self.advance();
    }

    /// What happened so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// The client's path arguments, printable, with spaces between; `None` before they are known.
    #[must_use]
    pub fn request(&self) -> Option<&str> {
        self.request.as_deref()
    }

    /// What the client was told, if it was refused after it had said what it wants.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// Whether the client sets files' times as they are listed, and whether it wants to know groups.
    #[must_use]
    pub fn keeps(&self) -> Keeps {
        let options = &self.arguments.options;
        Keeps { times: options.times, group: options.group }
    }

    /// KiB a second that the client wants at most, if it said so.
    #[must_use]
    pub fn bandwidth_kib(&self) -> Option<u32> {
        Some(self.arguments.options.bandwidth_kib).filter(|&kib| kib > 0)
    }

    /// Whether the client is known to have everything, or the session ended otherwise.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    fn close(&mut self, reason: CloseReason) {
        if !self.is_closed() {
            self.phase = Phase::Closed;
            self.raw = BytesMut::new();
            self.data = BytesMut::new();
            self.commands.push_back(Command::Close(reason));
        }
    }

    /// Ends the session after the last reply.
    fn finish(&mut self) {
        if let Phase::Finishing(Ending::Failed(error)) = &self.phase {
            self.end_over(&error.clone());
        } else {
            self.close(CloseReason::Complete);
        }
    }

    /// Ends the session over something that the client did, once what it asked for before is answered: how much of
    /// that is on its way by now depends on nothing but speed.
    fn fail(&mut self, error: WireError) {
        if matches!(self.phase, Phase::Loop(_)) {
            self.phase = Phase::Finishing(Ending::Failed(error));
        } else if matches!(self.phase, Phase::EmptyList { .. }) {
            // All was said to it, and it could as well have closed.
            self.close(CloseReason::EmptyList);
        } else {
            self.end_over(&error);
        }
    }

    fn end_over(&mut self, error: &WireError) {
        let reason = match error {
            WireError::Refused(_) => CloseReason::Refused,
            WireError::Compression(_) => CloseReason::ServerFault,
            WireError::Short | WireError::Malformed(_) | WireError::Limit { .. } => {
                CloseReason::ProtocolError
            }
        };
        self.commands.push_back(Command::Note(error.to_string()));
        if self.incoming.is_after_setup() {
            self.refuse(&error.refusal(), reason);
        } else {
            self.close(reason);
        }
    }

    /// Tells the client a text and the code to exit with (12.2).
    fn refuse(&mut self, refusal: &Refusal, reason: CloseReason) {
        self.frames.text(Code::Error, refusal.text());
        self.frames.number(Code::ErrorExit, refusal.code().number());
        self.flush();
        self.refusal = Some(refusal.clone());
        self.close(reason);
    }

    fn flush(&mut self) {
        if !self.frames.is_empty() {
            self.commands.push_back(Command::Write(self.frames.take()));
        }
    }

    fn write_line(&mut self, line: &str) {
        self.commands.push_back(Command::Write(Bytes::copy_from_slice(line.as_bytes())));
    }
}
