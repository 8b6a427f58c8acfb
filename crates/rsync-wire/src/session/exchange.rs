//! From the filters to the goodbye: all is framed.

use super::phase::{CloseReason, Ending, FilesFrom, Incoming, LoopState, Phase};
use super::{Command, Session};
use crate::codec::Reader;
use crate::compress::Compression;
use crate::filter::FilterList;
use crate::flist::{FileList, ListPlan};
use crate::mux::{Code, Message, Received};
use crate::options::{SourcePath, parse_files_from_name, parse_path};
use crate::setup::Agreement;
use crate::sums::BlockChecksum;
use crate::transfer::{ClientWord, Reply, Request, RequestForm, RequestReader, Sender, SenderConfig};
use crate::{Protocol, WireError, limits};
use std::sync::Arc;
use std::time::Instant;

/// `--delete` reports once; a client that also retries reports a few times.
const DELETION_STATS_MAX: u8 = 8;
/// How often a client ends a phase before the loop is over.
const PHASES: u8 = 3;

impl Session {
    pub(super) fn framed_step(&mut self) -> Result<bool, WireError> {
        // What is there is understood before more is taken: names of a list may follow a frame without being one, and
        // a frame may end the talk.
        match self.understand() {
            Ok(false) | Err(WireError::Short) => self.receive(),
            other => other,
        }
    }

    /// Whether the rest stays unread until some replies are made: frames, too, because the words in front of one count
    /// first.
    pub(super) fn has_enough_to_answer(&self) -> bool {
        self.replies.len() >= limits::REQUESTS_WAITING_MAX
            || self.sums_waiting >= limits::BLOCK_SUMS_WAITING_MAX
    }

    /// Each part does nothing in another phase.
    fn understand(&mut self) -> Result<bool, WireError> {
        Ok(self.filter_rule()? || self.files_from_name()? || self.client_word()?)
    }

    /// Takes in a frame, or whatever there is where the client sends none.
    fn receive(&mut self) -> Result<bool, WireError> {
        if self.data.len() >= limits::INPUT_LEN_MAX || self.awaits_unframed_names() {
            return Ok(false);
        }
        match &mut self.incoming {
            Incoming::Unframed => Ok(false),
            Incoming::Plain => {
                let has_some = !self.raw.is_empty();
                self.data.unsplit(self.raw.split());
                Ok(has_some)
            }
            Incoming::Framed(reader) => match reader.read(&mut self.raw, &mut self.data)? {
                Received::Nothing => Ok(false),
                Received::Data => Ok(true),
                Received::Message(message) => {
                    self.message(&message);
                    Ok(!self.is_closed())
                }
            },
        }
    }

    /// Protocol 30 forgot to frame the list of names (6.5).
    fn awaits_unframed_names(&self) -> bool {
        self.protocol == Protocol::V30 && matches!(self.phase, Phase::FilesFrom(_))
    }

    fn message(&mut self, message: &Message) {
        match message.code {
            Code::ErrorExit => {
                // A code is answered, an empty one is the answer (12.3).
                if !message.payload.is_empty() {
                    self.frames.message(Code::ErrorExit, &[]);
                    self.flush();
                }
                let is_report = matches!(self.phase, Phase::EmptyList { .. });
                self.close(if is_report { CloseReason::EmptyList } else { CloseReason::ClientError });
            }
            Code::ErrorXfer | Code::Info | Code::Error | Code::Warning => {
                let text = crate::error::printable(message.payload.trim_ascii_end());
                self.commands.push_back(Command::Note(text));
            }
            Code::Data | Code::IoError | Code::IoTimeout | Code::Noop | Code::Deleted | Code::NoSend => {}
        }
    }

    fn filter_rule(&mut self) -> Result<bool, WireError> {
        let Phase::Filters(filters) = &mut self.phase else { return Ok(false) };
        let mut input = Reader::new(&self.data);
        let len = usize::try_from(input.int()?).map_err(|_| WireError::Malformed("filter rule length"))?;
        if len > limits::RULE_LEN_MAX {
            return Err(WireError::Limit { what: "a filter rule's length", limit: limits::RULE_LEN_MAX });
        }
        if len > 0 {
            filters.push(input.take(len)?)?;
        }
        let filters = (len == 0).then(|| std::mem::take(&mut **filters));
        let taken = input.position();
        drop(self.data.split_to(taken));
        if let Some(filters) = filters {
            self.filters_done(filters)?;
        }
        Ok(true)
    }

    fn filters_done(&mut self, mut filters: FilterList) -> Result<(), WireError> {
        let options = &self.arguments.options;
        if options.cvs_exclude {
            filters.push_cvs()?;
        }
        // The one path that a list of names refers to is a place, not a relative name.
        let relative = options.relative && !options.files_from;
        let paths = std::mem::take(&mut self.arguments.paths);
        let sources = paths.iter().map(|path| parse_path(&self.module, path, relative));
        let mut sources = sources.collect::<Result<Vec<_>, _>>()?;
        if !options.files_from {
            return self.ask_for_list(filters, sources);
        }
        let base = sources.swap_remove(0);
        self.phase = Phase::FilesFrom(Box::new(FilesFrom { filters, base, sources, octets: 0 }));
        let is_amid_frame = matches!(&self.incoming, Incoming::Framed(reader) if reader.is_amid_frame());
        // What is left of the frame would be something else each time, depending on how much of it has come.
        if self.awaits_unframed_names() && (is_amid_frame || !self.data.is_empty()) {
            return Err(WireError::Malformed("names in the frame of the filters"));
        }
        Ok(())
    }

    /// Names end with a NUL, an empty one ends the list (6.5).
    fn files_from_name(&mut self) -> Result<bool, WireError> {
        let unframed = self.awaits_unframed_names();
        let Phase::FilesFrom(list) = &mut self.phase else { return Ok(false) };
        let names = if unframed { &mut self.raw } else { &mut self.data };
        let head = &names[..names.len().min(limits::FILES_FROM_NAME_LEN_MAX + 1)];
        let Some(end) = head.iter().position(|&o| o == 0) else {
            if head.len() > limits::FILES_FROM_NAME_LEN_MAX {
                return Err(WireError::Limit {
                    what: "the length of a listed name",
                    limit: limits::FILES_FROM_NAME_LEN_MAX,
                });
            }
            return Ok(false);
        };
        list.octets += end + 1;
        if list.octets > limits::FILES_FROM_LEN_MAX || list.sources.len() >= limits::FILES_FROM_NAMES_MAX {
            return Err(WireError::Limit { what: "the list of names", limit: limits::FILES_FROM_NAMES_MAX });
        }
        if end > 0 {
            let relative = self.arguments.options.relative;
            list.sources.push(parse_files_from_name(&list.base, &head[..end], relative)?);
        }
        let finished =
            (end == 0).then(|| (std::mem::take(&mut list.filters), std::mem::take(&mut list.sources)));
        drop(names.split_to(end + 1));
        if let Some((filters, sources)) = finished {
            self.ask_for_list(filters, sources)?;
        }
        Ok(true)
    }

    fn ask_for_list(&mut self, filters: FilterList, sources: Vec<SourcePath>) -> Result<(), WireError> {
        let agreement = self.agreement.ok_or(WireError::Malformed("no agreement"))?;
        let options = &self.arguments.options;
        let plan = ListPlan {
            module: self.module.clone(),
            protocol: self.protocol,
            sources,
            expands_wildcards: !options.files_from,
            filters,
            recurse: options.recurse,
            dirs: options.dirs,
            relative: options.relative,
            links: options.links,
            follow: options.follow,
            owner: options.owner,
            group: options.group,
            numeric_ids: options.numeric_ids,
            // Lists that name nobody are the same whoever may be named.
            names: (options.owner || options.group) && !(options.numeric_ids || self.grant.numeric_ids),
            hard_links: options.hard_links,
            implied_dirs: !options.no_implied_dirs || self.protocol >= Protocol::V30,
            varint_flags: self.flags.varint_flist_flags(),
            safe_list: self.flags.safe_file_list() || self.protocol >= Protocol::V31,
            id0_names: self.flags.id0_names(),
            checksum: options.checksum.then_some(agreement.list),
            ignore_missing: options.ignore_missing_args,
            ignore_errors: options.ignore_errors,
        };
        self.phase = Phase::AwaitingList;
        self.commands.push_back(Command::BuildList(Box::new(plan)));
        Ok(())
    }

    pub(super) fn send_list(&mut self, list: Arc<FileList>, now: Instant) {
        let Some(agreement) = self.agreement else { return };
        self.summary.entries = list.entries().len();
        self.summary.total_size = list.total_size();
        self.commands.push_back(Command::Write(list.frames()));
        if list.entries().is_empty() {
            self.phase = Phase::EmptyList { until: now + limits::EMPTY_LIST_MAX };
            return;
        }
        let blocks = self.block_checksum(agreement);
        let options = &self.arguments.options;
        let reader = RequestReader::new(RequestForm {
            protocol: self.protocol,
            dry_run: options.dry_run,
            append: options.append > 0,
            strong_len_max: agreement.transfer.len(),
            keeps_sums: blocks.is_some(),
        });
        let state = LoopState { list: list.clone(), reader, done: 0, deletion_stats: 0, transfers: 0 };
        self.phase = Phase::Loop(Box::new(state));
        self.sender = Some(Box::new(Sender::new(SenderConfig {
            protocol: self.protocol,
            list,
            module: self.module.clone(),
            checksum: agreement.transfer,
            blocks,
            in_place: options.in_place,
            compression: Compression {
                kind: agreement.compressor,
                level: options.compress_level,
                stores: self.grant.dont_compress,
            },
            dry_run: options.dry_run,
            // Protocol 29 has only the other form.
            records: self.grant.records,
            sums_appended_only: options.append == 1 && self.protocol >= Protocol::V30,
        })));
    }

    /// How blocks are compared, if they are.
    fn block_checksum(&self, agreement: Agreement) -> Option<BlockChecksum> {
        BlockChecksum::new(agreement.transfer, self.seed, self.flags.seed_order_fix())
    }

    /// Reads one word of the loop or of the goodbye.
    fn client_word(&mut self) -> Result<bool, WireError> {
        let Phase::Loop(state) = &mut self.phase else { return Ok(false) };
        let skip = state.reader.take_skip(self.data.len());
        drop(self.data.split_to(skip));
        if state.reader.is_collecting() {
            let Some(request) = state.reader.collect(&mut self.data) else { return Ok(false) };
            return self.requested(request).map(|()| true);
        }
        let mut input = Reader::new(&self.data);
        let word = state.reader.read(&mut input, state.done == 0)?;
        let taken = input.position();
        drop(self.data.split_to(taken));
        let Some(word) = word else { return Ok(true) };
        match word {
            ClientWord::Request(request) => self.requested(request)?,
            ClientWord::Done => self.phase_done(),
            ClientWord::DeletionStats(counts) => {
                state.deletion_stats += 1;
                if state.deletion_stats > DELETION_STATS_MAX {
                    return Err(WireError::Malformed("too many deletion statistics"));
                }
                self.replies.push_back(Reply::DeletionStats(counts));
            }
        }
        Ok(true)
    }

    /// Checks what a reply relies on (8.1).
    fn requested(&mut self, request: Request) -> Result<(), WireError> {
        let Phase::Loop(state) = &mut self.phase else { return Ok(()) };
        if state.done >= PHASES {
            return Err(WireError::Malformed("request after the end"));
        }
        if self.protocol < Protocol::V30 && request.is_keep_alive(state.list.entries().len()) {
            return Ok(());
        }
        let entry = state.list.entries().get(request.index as usize);
        let entry = entry.ok_or(WireError::Malformed("file index out of range"))?;
        if request.flags.is_transfer() {
            if !entry.is_file || state.done == PHASES - 1 {
                return Err(WireError::Malformed("contents of what has none, or too late"));
            }
            state.transfers += 1;
            let transfers_max = limits::transfers_max(state.list.entries().len());
            if state.transfers > transfers_max {
                return Err(WireError::Limit { what: "the number of transfers", limit: transfers_max });
            }
        }
        self.sums_waiting += request.sums_len();
        self.replies.push_back(Reply::Item(request));
        Ok(())
    }

    /// Three ends are phases of the loop, two are the goodbye, or one before protocol 31 (11.1, 11.4).
    fn phase_done(&mut self) {
        let answers_goodbye = self.protocol >= Protocol::V31;
        let Phase::Loop(talk) = &mut self.phase else { return };
        talk.done += 1;
        match talk.done {
            1..PHASES => self.replies.push_back(Reply::PhaseDone),
            PHASES => self
                .replies
                .push_back(Reply::LoopDone { read: self.summary.read, written: self.summary.written }),
            4 if answers_goodbye => self.replies.push_back(Reply::Goodbye),
            _ => self.phase = Phase::Finishing(Ending::Complete),
        }
    }
}
