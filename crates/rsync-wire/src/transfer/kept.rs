//! Bodies that were made once: what follows the head of a reply, for a whole file, octet for octet the same for every
//! client that negotiated the same.

use std::io;

use super::batch::Current;
use super::{Answered, Record, Records, Request, Sender, SenderConfig};
use crate::compress::CompressorKind;
use crate::flist::Entry;
use crate::limits::{MADE_LEN_MAX, READ_LEN_MAX};
use crate::sums::{ChecksumKind, ChecksumOctets};
use crate::{TreeView, WireError};

/// What a body depends on besides the file's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BodyForm {
    /// How its contents are compressed, at the level that is the default.
    pub compressor: CompressorKind,
    /// The sum at its end.
    pub checksum: ChecksumKind,
}

impl BodyForm {
    /// The form of a connection's bodies, if they are worth being kept: those that cost no compression are not, and
    /// no client is to fill the room with forms that nobody else asks for.
    pub(super) fn of(config: &SenderConfig) -> Option<Self> {
        let compression = config.compression;
        let is_default = compression.level.is_none() && !compression.stores;
        let is_common = !matches!(config.checksum, ChecksumKind::SeededMd4 { .. } | ChecksumKind::None);
        (is_default && is_common && compression.kind != CompressorKind::None)
            .then_some(Self { compressor: compression.kind, checksum: config.checksum })
    }
}

/// Where a body lies among those that are kept. No other body ever has the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptBody {
    /// Its first octet.
    pub at: u64,
    /// Its length.
    pub len: usize,
}

/// A kept body of which a part was sent.
#[derive(Debug)]
pub(super) struct OpenBody {
    body: KeptBody,
    done: usize,
    answered: Answered,
}

/// A stretch of kept bodies: files are asked for in the order of the list, and bodies were mostly made in it.
#[derive(Debug, Default)]
pub(super) struct Window {
    at: u64,
    octets: Vec<u8>,
    len: usize,
}

impl Window {
    /// `len` octets from a place on, read if need be, and what follows along with them; at most [`READ_LEN_MAX`].
    pub(super) fn load(&mut self, tree: &impl TreeView, at: u64, len: usize) -> io::Result<&[u8]> {
        let is_inside = |window: &Self| {
            let start = usize::try_from(at.checked_sub(window.at)?).ok()?;
            Some(start).filter(|start| start.saturating_add(len) <= window.len)
        };
        if is_inside(self).is_none() {
            self.read(tree, at, len)?;
        }
        let start = is_inside(self).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(&self.octets[start..start + len])
    }

    /// Reads on beyond what is wanted where the last reading ended: elsewhere that is not what comes next.
    fn read(&mut self, tree: &impl TreeView, at: u64, len: usize) -> io::Result<()> {
        self.octets.resize(READ_LEN_MAX, 0);
        let goes_on = (self.at..=self.at + self.len as u64).contains(&at);
        let end = if goes_on { READ_LEN_MAX } else { len };
        (self.at, self.len) = (at, 0);
        while self.len < len {
            match tree.read_kept(at + self.len as u64, &mut self.octets[self.len..end])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => self.len += more,
            }
        }
        Ok(())
    }
}

impl Sender {
    /// Answers with all of a file, whether it has to be made or was kept. `false`: it is neither short nor can it be
    /// kept, and has to be sent as it is read.
    pub(super) fn whole_file(
        &mut self,
        tree: &impl TreeView,
        request: &Request,
        answered: Answered,
    ) -> Result<bool, WireError> {
        let file = answered.entry.node;
        let form = self.form.filter(|_| answered.entry.size <= MADE_LEN_MAX as u64);
        if let Some(body) = form.and_then(|form| tree.kept_body(file, form))
            && self.begin_kept(tree, request, answered, body)
        {
            return Ok(true);
        }
        let is_short = answered.entry.size <= READ_LEN_MAX as u64;
        if !is_short && form.is_none() {
            return Ok(false);
        }
        let Some(sum) = self.make(tree, answered.entry)? else {
            self.no_send(tree, request.index, file);
            return Ok(true);
        };
        if let Some(form) = form {
            tree.keep_body(file, form, &self.body);
        }
        if is_short {
            let before = self.frames.len();
            self.put_item_head(request);
            let body = std::mem::take(&mut self.body);
            self.frames.data(&body);
            self.body = body;
            self.files_sent += 1;
            let written = (self.frames.len() - before) as u64;
            let checksum = Some((self.config.checksum, sum));
            self.record(Records::Contents, || Record::Answered(Answered { written, checksum, ..answered }));
            return Ok(true);
        }
        // It is too much for one batch.
        self.body = Vec::new();
        let kept = form.and_then(|form| tree.kept_body(file, form));
        Ok(kept.is_some_and(|body| self.begin_kept(tree, request, answered, body)))
    }

    /// Sends a body, or gets ready to send it in parts; `false`: it is kept no longer.
    fn begin_kept(
        &mut self,
        tree: &impl TreeView,
        request: &Request,
        answered: Answered,
        body: KeptBody,
    ) -> bool {
        let sum_len = self.config.checksum.len();
        // The sum first, so that nothing is announced that can't be read.
        let from = if body.len <= READ_LEN_MAX { 0 } else { body.len.saturating_sub(sum_len) };
        let mut window = std::mem::take(&mut self.window);
        let loaded = window.load(tree, body.at + from as u64, body.len - from);
        let is_there = loaded.is_ok();
        if let Ok(octets) = loaded {
            let sum = octets[octets.len().saturating_sub(sum_len)..].into();
            let before = self.frames.len();
            self.put_item_head(request);
            self.frames.data(if from == 0 { octets } else { &[] });
            self.files_sent += 1;
            let written = (self.frames.len() - before) as u64;
            let answered = Answered { written, checksum: Some((self.config.checksum, sum)), ..answered };
            if from == 0 {
                self.record(Records::Contents, || Record::Answered(answered));
            } else {
                self.current = Some(Current::Kept(OpenBody { body, done: 0, answered }));
            }
        }
        self.window = window;
        is_there
    }

    /// Sends the next part of a kept body, or its end.
    pub(super) fn go_on_kept(&mut self, tree: &impl TreeView, mut open: OpenBody) -> Result<(), WireError> {
        let before = self.frames.len();
        let len = (open.body.len - open.done).min(READ_LEN_MAX);
        if let Ok(octets) = self.window.load(tree, open.body.at + open.done as u64, len) {
            self.frames.data(octets);
            open.done += len;
        } else {
            // It went in the middle. Made again it has the same octets.
            let made = self.make(tree, open.answered.entry)?;
            let rest = made.and_then(|_| self.body.get(open.done..));
            let gone = || WireError::Compression("a kept body went, and its file can't be read".to_owned());
            self.frames.data(rest.ok_or_else(gone)?);
            (self.body, open.done) = (Vec::new(), open.body.len);
        }
        open.answered.written += (self.frames.len() - before) as u64;
        if open.done < open.body.len {
            self.current = Some(Current::Kept(open));
        } else {
            self.record(Records::Contents, || Record::Answered(open.answered));
        }
        Ok(())
    }

    /// Reads a file and makes its body; `None` if it can't be read.
    fn make(&mut self, tree: &impl TreeView, entry: Entry) -> Result<Option<ChecksumOctets>, WireError> {
        let len = usize::try_from(entry.size).unwrap_or(usize::MAX).min(MADE_LEN_MAX);
        let mut long = Vec::new();
        let octets = if len <= READ_LEN_MAX {
            self.buffer.resize(READ_LEN_MAX, 0);
            &mut self.buffer[..len]
        } else {
            long.resize(len, 0);
            &mut long[..]
        };
        let mut done = 0;
        while done < len {
            match tree.read_at(entry.node, done as u64, &mut octets[done..]) {
                Ok(0) | Err(_) => return Ok(None),
                Ok(more) => done += more,
            }
        }
        self.body.clear();
        self.tokens.whole_file(octets, &mut self.body)?;
        let sum = self.config.checksum.of(octets);
        self.body.extend_from_slice(sum.as_slice());
        Ok(Some(sum))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Batch, Reply};
    use super::*;
    use crate::compress::Compression;
    use crate::memory::MemoryTree;
    use crate::options::parse_path;
    use crate::{ListPlan, Node, NodeId, Protocol};
    use std::cell::{Cell, RefCell};
    use std::collections::{BTreeSet, HashMap};
    use std::sync::Arc;

    /// Keeps everything until it is told to forget.
    struct Keeper {
        tree: MemoryTree,
        places: RefCell<HashMap<(NodeId, BodyForm), KeptBody>>,
        octets: RefCell<Vec<u8>>,
        /// Which of the next reads of bodies fails.
        fails_at: Cell<Option<usize>>,
        files_read: RefCell<BTreeSet<NodeId>>,
    }

    impl TreeView for Keeper {
        fn root(&self) -> NodeId {
            self.tree.root()
        }

        fn lookup(&self, path: &[u8]) -> Option<NodeId> {
            self.tree.lookup(path)
        }

        fn node(&self, id: NodeId) -> Node<'_> {
            self.tree.node(id)
        }

        fn path(&self, id: NodeId) -> Vec<u8> {
            self.tree.path(id)
        }

        fn children(&self, directory: NodeId) -> impl Iterator<Item = NodeId> {
            self.tree.children(directory)
        }

        fn user_name(&self, uid: u32) -> Option<Vec<u8>> {
            self.tree.user_name(uid)
        }

        fn group_name(&self, gid: u32) -> Option<Vec<u8>> {
            self.tree.group_name(gid)
        }

        fn read_at(&self, file: NodeId, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
            self.files_read.borrow_mut().insert(file);
            self.tree.read_at(file, offset, buf)
        }

        fn kept_body(&self, file: NodeId, form: BodyForm) -> Option<KeptBody> {
            self.places.borrow().get(&(file, form)).copied()
        }

        fn read_kept(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
            let fails_at = self.fails_at.get();
            self.fails_at.set(fails_at.and_then(|at| at.checked_sub(1)));
            if fails_at == Some(0) {
                return Err(io::ErrorKind::NotFound.into());
            }
            let octets = self.octets.borrow();
            let rest = &octets[usize::try_from(at).unwrap().min(octets.len())..];
            let len = rest.len().min(buf.len());
            buf[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        }

        fn keep_body(&self, file: NodeId, form: BodyForm, body: &[u8]) {
            let mut octets = self.octets.borrow_mut();
            let place = KeptBody { at: octets.len() as u64, len: body.len() };
            octets.extend_from_slice(body);
            self.places.borrow_mut().insert((file, form), place);
        }
    }

    const FILES: u32 = 6;

    /// Empty, small, more than one read, too large to be made as a whole.
    fn keeper() -> Keeper {
        let mut tree = MemoryTree::new(0);
        for number in 0..FILES {
            let len = [0, 700, 20_000, 400_000, 131_072, MADE_LEN_MAX + 1][number as usize % 6];
            let mut x = number | 1;
            let mut noise = || {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                x.to_le_bytes()[3] & 0x3F
            };
            let contents: Vec<u8> = (0..len).map(|_| noise()).collect();
            tree.file(&format!("f{number:02}"), &contents, 0o644, (1, 0));
        }
        Keeper {
            tree,
            places: RefCell::default(),
            octets: RefCell::default(),
            fails_at: Cell::new(None),
            files_read: RefCell::default(),
        }
    }

    fn config(keeper: &Keeper, kind: CompressorKind, level: Option<i32>) -> SenderConfig {
        let source = parse_path("m", b"m/", false).unwrap();
        let plan =
            ListPlan { module: "m".to_owned(), sources: vec![source], recurse: true, ..ListPlan::default() };
        SenderConfig {
            protocol: Protocol::NEWEST,
            list: Arc::new(plan.build(keeper).unwrap()),
            module: "m".to_owned(),
            checksum: ChecksumKind::Xxh128,
            blocks: None,
            in_place: false,
            compression: Compression { kind, level, stores: false },
            dry_run: false,
            sums_appended_only: false,
            records: Records::Contents,
        }
    }

    /// What a client is sent that asks for everything, twice if it says that some of it was wrong; and which files a log
    /// is told of, with their sums.
    fn sync(keeper: &Keeper, config: SenderConfig, again: bool) -> (Vec<u8>, Vec<(NodeId, ChecksumOctets)>) {
        let entries = u32::try_from(config.list.entries().len()).unwrap();
        let all = || (0..entries).map(Request::whole_file).map(Reply::Item);
        let is_file = |reply: &Reply| {
            let Reply::Item(request) = reply else { return true };
            config.list.entries()[request.index as usize].is_file
        };
        let redo = all().filter(|_| again);
        let replies = all().chain([Reply::PhaseDone]).chain(redo).filter(is_file).collect();
        let mut batch = Batch { sender: Box::new(Sender::new(config)), replies, error: None };
        let (mut octets, mut records) = (Vec::new(), Vec::new());
        loop {
            batch.run(keeper);
            assert!(batch.error.is_none(), "{:?}", batch.error);
            let frames = batch.sender.frames().take();
            records.extend(batch.take_records().into_iter().map(|record| match record {
                Record::Answered(answered) => (answered.entry.node, answered.checksum.unwrap().1),
                Record::Failure(text) => panic!("{text}"),
            }));
            // Frames are cut where batches are; the data is what counts.
            let mut rest = &frames[..];
            while let [a, b, c, 7, more @ ..] = rest {
                let (data, next) = more.split_at(u32::from_le_bytes([*a, *b, *c, 0]) as usize);
                octets.extend_from_slice(data);
                rest = next;
            }
            assert!(rest.is_empty());
            if batch.replies.is_empty() && !batch.sender.is_amid_file() {
                return (octets, records);
            }
        }
    }

    #[test]
    fn a_kept_body_is_sent_as_the_first_one_was() {
        for kind in [CompressorKind::Zstd, CompressorKind::Lz4, CompressorKind::Zlib, CompressorKind::Zlibx] {
            let keeper = keeper();
            let first = sync(&keeper, config(&keeper, kind, None), false);
            assert_eq!(first.1.len(), FILES as usize);
            keeper.files_read.borrow_mut().clear();
            let second = sync(&keeper, config(&keeper, kind, None), false);
            assert!(second.0 == first.0, "{kind:?}");
            assert_eq!(second.1, first.1, "{kind:?}");
            assert_eq!(keeper.files_read.borrow().len(), 1, "only what is too large is read again");
        }
    }

    #[test]
    fn a_body_that_goes_is_made_again_wherever_that_happens() {
        let keeper = keeper();
        let first = sync(&keeper, config(&keeper, CompressorKind::Zstd, None), false);
        for reads in 0..10 {
            keeper.fails_at.set(Some(reads));
            let now = sync(&keeper, config(&keeper, CompressorKind::Zstd, None), false);
            assert!(now.0 == first.0, "after {reads} reads");
            assert_eq!(now.1, first.1, "after {reads} reads");
        }
    }

    #[test]
    fn what_did_not_fit_its_sum_is_made_afresh() {
        let keeper = keeper();
        let (whole, _) = sync(&keeper, config(&keeper, CompressorKind::Zstd, None), true);
        // A disk that gives back something else.
        for octet in keeper.octets.borrow_mut().iter_mut() {
            *octet = !*octet;
        }
        let (spoilt, _) = sync(&keeper, config(&keeper, CompressorKind::Zstd, None), true);
        assert_eq!(spoilt.len(), whole.len());
        let second = whole.len() / 2 + 100;
        assert!(spoilt[..second] != whole[..second]);
        assert!(spoilt[second..] == whole[second..], "the second time it is right");
    }

    #[test]
    fn forms_that_few_ask_for_are_not_kept() {
        let keeper = keeper();
        sync(&keeper, config(&keeper, CompressorKind::Zstd, Some(9)), false);
        sync(&keeper, config(&keeper, CompressorKind::None, None), false);
        let seeded = ChecksumKind::SeededMd4 { seed: 7 };
        let config = SenderConfig { checksum: seeded, ..config(&keeper, CompressorKind::Zlib, None) };
        sync(&keeper, config, false);
        assert!(keeper.places.borrow().is_empty());
    }
}
