//! From the greeting to the seed: lines, arguments, names; nothing is framed yet.

use super::phase::{CloseReason, Incoming, Phase};
use super::{Command, Session};
use crate::codec::{Reader, put_varint};
use crate::login::Scheme;
use crate::mux::{Code, FrameReader, FrameWriter};
use crate::options::ArgumentFraming;
use crate::prologue::{self, Line};
use crate::setup::{CompatFlags, Exchange};
use crate::{ExitCode, Protocol, Refusal, WireError};
use bytes::Bytes;
use std::time::Duration;

impl Session {
    /// Goes on until more octets or an answer are needed.
    pub(super) fn advance(&mut self) {
        while self.needs_input() {
            match self.step() {
                Ok(true) => {}
                Ok(false) | Err(WireError::Short) if self.input_has_ended => self.starve(),
                Ok(false) | Err(WireError::Short) => return,
                Err(error) => self.fail(error),
            }
        }
    }

    /// Whether nothing but the client's octets moves it on. What comes behind the last word says nothing, however
    /// early it comes.
    fn needs_input(&self) -> bool {
        let is_others_turn = matches!(
            self.phase,
            Phase::AwaitingModules
                | Phase::AwaitingModule
                | Phase::AwaitingLogin
                | Phase::AwaitingList
                | Phase::Finishing(_)
                | Phase::Closed
        );
        !is_others_turn && !self.has_enough_to_answer()
    }

    /// Ends the session if more is needed than the client has said.
    fn starve(&mut self) {
        if self.needs_input() {
            let was_told = matches!(self.phase, Phase::EmptyList { .. });
            self.close(if was_told { CloseReason::EmptyList } else { CloseReason::ClientClosed });
        }
    }

    /// One step; whether another one may be possible.
    fn step(&mut self) -> Result<bool, WireError> {
        match &mut self.phase {
            Phase::Greeting => Ok(self.greeting()),
            Phase::Request => Ok(self.request_line()),
            Phase::EarlyInput { left } => {
                let now = (*left).min(self.raw.len());
                drop(self.raw.split_to(now));
                *left -= now;
                let is_over = *left == 0;
                if is_over {
                    self.phase = Phase::Request;
                }
                Ok(is_over)
            }
            Phase::Arguments { secluded } => {
                let secluded = *secluded;
                self.argument(secluded)
            }
            Phase::Names(exchange) => {
                let exchange = *exchange;
                self.names(exchange)
            }
            Phase::Login { scheme, challenge } => {
                let (scheme, challenge) = (*scheme, challenge.clone());
                Ok(self.login(scheme, challenge))
            }
            Phase::AwaitingModules
            | Phase::AwaitingModule
            | Phase::AwaitingLogin
            | Phase::AwaitingList
            | Phase::Finishing(_)
            | Phase::Closed => Ok(false),
            Phase::Filters(_) | Phase::FilesFrom(_) | Phase::EmptyList { .. } | Phase::Loop(_) => {
                self.framed_step()
            }
        }
    }

    fn greeting(&mut self) -> bool {
        let line = match prologue::take_line(&self.raw) {
            Line::Whole(line, len) => {
                drop(self.raw.split_to(len));
                line
            }
            Line::Partial if prologue::may_be_greeting(&self.raw) => return false,
            Line::Partial | Line::Bad => String::new(),
        };
        match prologue::parse_greeting(&line) {
            Ok(protocol) => {
                self.protocol = protocol;
                self.scheme = Scheme::of_client(&line, protocol);
                self.frames = FrameWriter::new(protocol);
                self.summary.protocol = Some(protocol.number());
                self.phase = Phase::Request;
                true
            }
            Err(answer) => self.turn_away(&answer, CloseReason::StartupError),
        }
    }

    fn request_line(&mut self) -> bool {
        let line = match prologue::take_line(&self.raw) {
            Line::Whole(line, len) => {
                drop(self.raw.split_to(len));
                line
            }
            Line::Partial => return false,
            Line::Bad => return self.turn_away("", CloseReason::StartupError),
        };
        match prologue::parse_request(&line) {
            prologue::Request::List => {
                self.phase = Phase::AwaitingModules;
                self.commands.push_back(Command::ListModules);
            }
            prologue::Request::EarlyInput(left) => self.phase = Phase::EarlyInput { left },
            prologue::Request::Unknown(answer) => return self.turn_away(&answer, CloseReason::StartupError),
            prologue::Request::Module(module) => {
                self.module.clone_from(&module);
                self.phase = Phase::AwaitingModule;
                self.commands.push_back(Command::SelectModule(module));
            }
        }
        true
    }

    pub(super) fn turn_away(&mut self, line: &str, reason: CloseReason) -> bool {
        if !line.is_empty() {
            self.write_line(line);
        }
        self.close(reason);
        false
    }

    /// Answers [`Command::ListModules`]: names and comments, in order.
    pub fn modules_listed<'a>(&mut self, modules: impl IntoIterator<Item = (&'a str, &'a str)>) {
        if !matches!(self.phase, Phase::AwaitingModules) {
            return;
        }
        let mut text: String =
            modules.into_iter().map(|(name, comment)| prologue::module_line(name, comment)).collect();
        text.push_str(prologue::EXIT);
        self.turn_away(&text, CloseReason::ModulesListed);
    }

    fn argument(&mut self, secluded: bool) -> Result<bool, WireError> {
        let (len, list) = self.argument_list.take(&self.raw, ArgumentFraming::of(self.protocol, secluded))?;
        drop(self.raw.split_to(len));
        let Some(list) = list else { return Ok(true) };
        self.arguments.read(&list, secluded);
        self.refuse_as_module(&list);
        if self.arguments.options.secluded && !secluded {
            self.phase = Phase::Arguments { secluded: true };
        } else {
            self.arguments.finish();
            self.request = Some(crate::error::printable(&self.arguments.paths.join(&b' ')));
            self.offer();
        }
        Ok(true)
    }

    /// What the module does not grant counts more than what this server can't do.
    fn refuse_as_module(&mut self, list: &[Vec<u8>]) {
        let refused = self.grant.refuses.as_ref().and_then(|refuses| refuses(list));
        if let Some(option) = refused {
            let text = format!("rsync: The server is configured to refuse {option}");
            self.arguments.refusal = Some(Refusal::new(ExitCode::Unsupported, text));
        }
    }

    /// Writes what needs no answer: flags, then our names (5.1).
    fn offer(&mut self) {
        let options = &self.arguments.options;
        let mut out = Vec::new();
        if self.protocol >= Protocol::V30 {
            self.flags = CompatFlags::answer(options.capabilities);
            put_varint(&mut out, self.flags.number());
        }
        let exchange = Exchange::new(self.flags, options);
        exchange.put_offers(&mut out);
        if !out.is_empty() {
            self.commands.push_back(Command::Write(out.into()));
        }
        self.phase = Phase::Names(exchange);
    }

    /// Reads the client's names, then writes the seed. From then on all is framed, refusals too.
    fn names(&mut self, exchange: Exchange) -> Result<bool, WireError> {
        let chosen = self.arguments.options.checksum_seed.filter(|&seed| seed != 0);
        let seed = chosen.unwrap_or(self.config.seed);
        self.seed = seed;
        let mut input = Reader::new(&self.raw);
        let settled = match exchange.settle(&mut input, &self.arguments.options, self.protocol, seed) {
            Err(WireError::Refused(refusal)) => Err(refusal),
            other => Ok(other?),
        };
        let len = input.position();
        drop(self.raw.split_to(len));
        self.commands.push_back(Command::Write(Bytes::copy_from_slice(&seed.to_le_bytes())));
        self.incoming = if self.protocol >= Protocol::V30 {
            Incoming::Framed(FrameReader::default())
        } else {
            Incoming::Plain
        };
        let refusal = self.arguments.refusal.take().or_else(|| settled.as_ref().err().cloned());
        if let Some(refusal) = refusal.or_else(|| self.unusable()) {
            self.commands.push_back(Command::Note(refusal.to_string()));
            self.refuse(&refusal, CloseReason::Refused);
            return Ok(false);
        }
        self.agreement = settled.ok();
        self.agree_timeout();
        self.phase = Phase::Filters(Box::default());
        Ok(true)
    }

    /// What is wrong with the arguments as a whole.
    fn unusable(&self) -> Option<Refusal> {
        let paths = self.arguments.paths.len();
        let files_from = self.arguments.options.files_from;
        match (files_from, paths) {
            (_, 0) => Some(Refusal::new(ExitCode::Usage, "rsync: no path was requested")),
            (true, 2..) => Some(Refusal::new(ExitCode::Usage, "rsync: --files-from goes with one path only")),
            _ => None,
        }
    }

    /// The smaller timeout of both sides is in force, and said first (12.4).
    fn agree_timeout(&mut self) {
        let wishes = [self.arguments.options.timeout_s, self.grant.timeout_s];
        if let Some(seconds) = wishes.into_iter().filter(|&seconds| seconds > 0).min() {
            let seconds = seconds.min(86_400);
            self.timeout = Duration::from_secs(u64::from(seconds));
            self.frames.number(Code::IoTimeout, i32::try_from(seconds).unwrap_or(86_400));
            self.flush();
        }
    }
}
