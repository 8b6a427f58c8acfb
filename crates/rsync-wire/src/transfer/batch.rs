//! Replies in batches: each batch is a bounded piece of work that may block on a disk and burn a core, so that
//! whoever runs it can do so away from a reactor.

use super::delta::{Matcher, Piece};
use super::kept::{BodyForm, OpenBody, Window};
use super::{Answered, BlockSums, Record, Records, Reply, Request};
use crate::codec::{Ndx, NdxWriter, put_long, put_varint};
use crate::compress::{Compression, CompressorKind, TokenWriter};
use crate::flist::Entry;
use crate::limits::{BATCH_LEN_MAX, READ_LEN_MAX};
use crate::mux::{Code, FrameWriter};
use crate::sums::{BlockChecksum, Checksum, ChecksumKind};
use crate::{FileList, NodeId, Protocol, TreeView, WireError};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Something could not be read.
const IO_ERROR_GENERAL: i32 = 1;

/// What replies depend on, for a whole connection.
#[derive(Debug)]
pub struct SenderConfig {
    /// The protocol of the connection.
    pub protocol: Protocol,
    /// The list that indexes refer to.
    pub list: Arc<FileList>,
    /// The module's name, for texts.
    pub module: String,
    /// The sum after a file's contents.
    pub checksum: ChecksumKind,
    /// The sum of a client's blocks, if they are compared.
    pub blocks: Option<BlockChecksum>,
    /// Blocks that the client has overwritten are gone.
    pub in_place: bool,
    /// How contents are sent.
    pub compression: Compression,
    /// No contents at all.
    pub dry_run: bool,
    /// `--append` was given once: the sum covers only what is sent.
    pub sums_appended_only: bool,
    /// What is told to a log.
    pub records: Records,
}

/// The writing half of a connection in the transfer loop.
#[derive(Debug)]
pub struct Sender {
    pub(super) config: SenderConfig,
    pub(super) frames: FrameWriter,
    ndx: NdxWriter,
    pub(super) tokens: TokenWriter,
    io_error: i32,
    pub(super) current: Option<Current>,
    pub(super) buffer: Vec<u8>,
    /// What bodies that are kept look like; `None` once a client asks again for what did not fit its sum.
    pub(super) form: Option<BodyForm>,
    pub(super) window: Window,
    pub(super) body: Vec<u8>,
    scratch: Vec<u8>,
    pub(super) files_sent: u64,
    records: Vec<Record>,
}

/// What was sent in part.
#[derive(Debug)]
pub(super) enum Current {
    File(OpenFile),
    Kept(OpenBody),
}

/// A file of which a part was sent.
#[derive(Debug)]
pub(super) struct OpenFile {
    entry: Entry,
    offset: u64,
    checksum: Checksum,
    spoilt: bool,
    /// It is compared with what the client has.
    matcher: Option<Box<Matcher>>,
    /// What will be told of it.
    answered: Answered,
}

/// A piece of work: the sender, on loan, and what it has to answer.
#[derive(Debug)]
pub struct Batch {
    pub(crate) sender: Box<Sender>,
    pub(crate) replies: VecDeque<Reply>,
    pub(crate) error: Option<WireError>,
}

impl Batch {
    /// What was done in the last run, for a log; at most as much as [`SenderConfig::records`] wants.
    pub fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.sender.records)
    }

    /// Answers until there is nothing left to answer or enough to write. Failures are kept for the session.
    pub fn run(&mut self, tree: &impl TreeView) {
        while self.error.is_none() && self.sender.frames.len() < BATCH_LEN_MAX {
            let step = if self.sender.current.is_some() {
                self.sender.go_on(tree)
            } else if let Some(reply) = self.replies.pop_front() {
                self.sender.reply(tree, reply)
            } else {
                break;
            };
            self.error = step.err();
        }
    }
}

impl Sender {
    pub(crate) fn new(config: SenderConfig) -> Self {
        Self {
            tokens: TokenWriter::new(config.compression),
            frames: FrameWriter::new(config.protocol),
            ndx: NdxWriter::new(config.protocol),
            form: BodyForm::of(&config),
            window: Window::default(),
            body: Vec::new(),
            config,
            io_error: 0,
            current: None,
            buffer: Vec::new(),
            scratch: Vec::with_capacity(64),
            files_sent: 0,
            records: Vec::new(),
        }
    }

    pub(crate) fn frames(&mut self) -> &mut FrameWriter {
        &mut self.frames
    }

    /// Whether a file is only partly sent.
    pub(crate) fn is_amid_file(&self) -> bool {
        self.current.is_some()
    }

    /// How many files were sent.
    pub(crate) fn files_sent(&self) -> u64 {
        self.files_sent
    }

    fn reply(&mut self, tree: &impl TreeView, reply: Reply) -> Result<(), WireError> {
        match reply {
            Reply::Item(request) => self.item(tree, request)?,
            Reply::PhaseDone | Reply::Goodbye => {
                self.form = None;
                self.put_ndx(Ndx::Done);
            }
            Reply::LoopDone { read, written } => self.loop_done(read, written),
            Reply::DeletionStats(stats) => {
                self.put_ndx(Ndx::DeletionStats);
                self.put_scratch(|out| stats.iter().for_each(|&value| put_varint(out, value)));
            }
        }
        Ok(())
    }

    fn loop_done(&mut self, read: u64, written: u64) {
        if self.io_error & !self.config.list.io_error() != 0 {
            self.frames.number(Code::IoError, self.io_error | self.config.list.io_error());
        }
        self.put_ndx(Ndx::Done);
        let protocol = self.config.protocol;
        let stats = [read, written, self.config.list.total_size(), 0, 0];
        self.put_scratch(|out| {
            for value in stats {
                put_long(out, i64::try_from(value).unwrap_or(i64::MAX), 3, protocol);
            }
        });
    }

    /// The session has checked that the index is in the list, and a file if contents are asked for.
    fn item(&mut self, tree: &impl TreeView, mut request: Request) -> Result<(), WireError> {
        let entry = self.config.list.entries().get(request.index as usize).copied();
        let entry = entry.ok_or(WireError::Malformed("file index out of range"))?;
        let mut answered = Answered { entry, flags: request.flags, written: 0, described: 0, checksum: None };
        if !request.flags.is_transfer() || self.config.dry_run {
            self.put_item_head(&request);
            if request.flags.is_significant() && !self.config.dry_run {
                self.record(Records::Items, || Record::Answered(answered));
            }
            return Ok(());
        }
        answered.described = request.described_len();
        let before = self.frames.len();
        let from = request.append_from.unwrap_or(0);
        let usable =
            |sums: &BlockSums| self.config.protocol >= Protocol::V31 || !self.is_beyond_old_zlib(sums);
        let sums = request.sums.take().filter(usable).zip(self.config.blocks);
        let covers_all = from == 0 || self.config.sums_appended_only;
        let is_handled = from == 0 && sums.is_none() && self.whole_file(tree, &request, answered)?;
        if is_handled {
            return Ok(());
        }
        let first = if from > entry.size { None } else { self.first_read(tree, entry, from) };
        if first.is_none() {
            self.no_send(tree, request.index, entry.node);
            return Ok(());
        }
        self.put_item_head(&request);
        self.files_sent += 1;
        let in_place = self.config.in_place;
        let matcher = sums.map(|(sums, kind)| Box::new(Matcher::new(sums, kind, in_place, entry.size)));
        answered.written = (self.frames.len() - before) as u64;
        let checksum = self.config.checksum.start();
        let mut open = OpenFile { entry, offset: from, checksum, spoilt: false, matcher, answered };
        if !covers_all {
            self.sum_existing(tree, &mut open, from);
        }
        self.current = Some(Current::File(open));
        Ok(())
    }

    /// Before protocol 31 clients take the first part of such a block into their history again and again (9.3).
    fn is_beyond_old_zlib(&self, sums: &BlockSums) -> bool {
        const REMEMBERED_LEN_MAX: usize = 0xFFFF;
        self.config.compression.kind == CompressorKind::Zlib && sums.block_len() > REMEMBERED_LEN_MAX
    }

    /// The first piece of a file, read before anything is announced; `None` if it can't be read.
    fn first_read(&mut self, tree: &impl TreeView, entry: Entry, from: u64) -> Option<usize> {
        let want = usize::try_from(entry.size - from).unwrap_or(usize::MAX).min(READ_LEN_MAX);
        if self.buffer.is_empty() {
            self.buffer.resize(READ_LEN_MAX, 0);
        }
        let mut len = 0;
        while len < want {
            match tree.read_at(entry.node, from + len as u64, &mut self.buffer[len..want]) {
                Ok(0) | Err(_) => return None,
                Ok(more) => len += more,
            }
        }
        Some(len)
    }

    /// `--append` twice: the sum covers what the client has as well.
    fn sum_existing(&mut self, tree: &impl TreeView, open: &mut OpenFile, len: u64) {
        let mut offset = 0;
        while offset < len && !open.spoilt {
            let want = usize::try_from(len - offset).unwrap_or(usize::MAX).min(READ_LEN_MAX);
            match tree.read_at(open.entry.node, offset, &mut self.buffer[..want]) {
                Ok(0) | Err(_) => open.spoilt = true,
                Ok(more) => {
                    open.checksum.update(&self.buffer[..more]);
                    offset += more as u64;
                }
            }
        }
    }

    /// Sends the next piece of the current file, or its end.
    fn go_on(&mut self, tree: &impl TreeView) -> Result<(), WireError> {
        let mut open = match self.current.take() {
            Some(Current::File(open)) => open,
            Some(Current::Kept(open)) => return self.go_on_kept(tree, open),
            None => return Ok(()),
        };
        let before = self.frames.len();
        let more = self.go_on_with(tree, &mut open)?;
        open.answered.written += (self.frames.len() - before) as u64;
        if more {
            self.current = Some(Current::File(open));
        } else {
            self.record(Records::Contents, || Record::Answered(open.answered));
        }
        Ok(())
    }

    /// Whether there is more of it.
    fn go_on_with(&mut self, tree: &impl TreeView, open: &mut OpenFile) -> Result<bool, WireError> {
        if let Some(mut matcher) = open.matcher.take() {
            match self.compare(tree, open, &mut matcher)? {
                Ok(true) => {
                    open.matcher = Some(matcher);
                    return Ok(true);
                }
                Ok(false) => open.offset = open.entry.size,
                Err(_) => open.spoilt = true,
            }
        }
        let left = open.entry.size - open.offset;
        if left > 0 && !open.spoilt {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(READ_LEN_MAX);
            match tree.read_at(open.entry.node, open.offset, &mut self.buffer[..want]) {
                // What was announced is kept up; the sum tells the client that it is not right (8.6).
                Ok(0) | Err(_) => open.spoilt = true,
                Ok(len) => {
                    open.checksum.update(&self.buffer[..len]);
                    open.offset += len as u64;
                    self.tokens.literal(&self.buffer[..len], &mut self.frames)?;
                }
            }
            return Ok(true);
        }
        self.tokens.finish_file(&mut self.frames)?;
        let sum = std::mem::replace(&mut open.checksum, ChecksumKind::None.start()).finish();
        open.answered.checksum = Some((self.config.checksum, sum));
        let sum = if open.spoilt { sum.spoilt() } else { sum };
        self.frames.data(sum.as_slice());
        if open.spoilt {
            self.io_error |= IO_ERROR_GENERAL;
            self.fail(tree, "read errors mapping", open.entry.node);
        }
        Ok(false)
    }

    /// Sends the next piece of a file as blocks and literals; whether there is more.
    fn compare(
        &mut self,
        tree: &impl TreeView,
        open: &mut OpenFile,
        matcher: &mut Matcher,
    ) -> Result<io::Result<bool>, WireError> {
        let (tokens, frames) = (&mut self.tokens, &mut self.frames);
        matcher.step(tree, open.entry.node, &mut |piece| match piece {
            Piece::Literal(octets) => {
                open.checksum.update(octets);
                tokens.literal(octets, frames)
            }
            Piece::Block(number, octets) => {
                open.checksum.update(octets);
                tokens.block(number, octets, frames)
            }
        })
    }

    /// A file that can't be sent has no reply (8.6).
    pub(super) fn no_send(&mut self, tree: &impl TreeView, index: u32, node: NodeId) {
        self.io_error |= IO_ERROR_GENERAL;
        self.fail(tree, "send_files failed to open", node);
        self.frames.message(Code::NoSend, &index.to_le_bytes());
    }

    fn fail(&mut self, tree: &impl TreeView, what: &str, node: NodeId) {
        let name = crate::error::printable(&tree.path(node));
        let module = &self.config.module;
        let text = format!("rsync: [sender] {what} \"{name}\" (in {module}): Input/output error (5)");
        self.frames.text(Code::ErrorXfer, &text);
        self.record(Records::Failures, || Record::Failure(text));
    }

    pub(super) fn record(&mut self, level: Records, record: impl FnOnce() -> Record) {
        if self.config.records >= level {
            self.records.push(record());
        }
    }

    pub(super) fn put_item_head(&mut self, request: &Request) {
        self.put_ndx(Ndx::Entry(request.index));
        self.put_scratch(|out| request.put_head(out));
    }

    fn put_ndx(&mut self, ndx: Ndx) {
        self.scratch.clear();
        self.ndx.put(&mut self.scratch, ndx);
        self.frames.data(&self.scratch);
    }

    fn put_scratch(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        self.scratch.clear();
        put(&mut self.scratch);
        self.frames.data(&self.scratch);
    }
}
