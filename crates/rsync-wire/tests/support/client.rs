//! A client's understanding of what a server said, written from the notes and not from the encoders.

use super::recursion::{Lists, Word, Words};
use super::tokens::Tokens;
use rsync_wire::Protocol;
use rsync_wire::options::{ArgumentFraming, ArgumentList, Arguments, Capabilities, Options};
use rsync_wire::setup::{Agreement, CompatFlags, Exchange};
use rsync_wire::{codec, sums::ChecksumKind};
use std::collections::BTreeMap;

/// Octets of one direction.
#[derive(Debug)]
pub struct Input {
    octets: Vec<u8>,
    at: usize,
}

impl Input {
    pub fn new(octets: &[u8]) -> Self {
        Self { octets: octets.to_vec(), at: 0 }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    pub fn left(&self) -> usize {
        self.octets.len() - self.at
    }

    pub fn take(&mut self, len: usize) -> Vec<u8> {
        assert!(self.left() >= len, "{len} octets wanted, {} left", self.left());
        self.at += len;
        self.octets[self.at - len..self.at].to_vec()
    }

    fn read<T>(
        &mut self,
        read: impl FnOnce(&mut codec::Reader<'_>) -> Result<T, rsync_wire::WireError>,
    ) -> T {
        let mut reader = codec::Reader::new(&self.octets[self.at..]);
        let value = read(&mut reader).unwrap();
        self.at += reader.position();
        value
    }

    pub fn byte(&mut self) -> u8 {
        self.read(|reader| reader.byte())
    }

    pub fn short(&mut self) -> u16 {
        self.read(|reader| reader.short())
    }

    pub fn int(&mut self) -> i32 {
        self.read(|reader| reader.int())
    }

    pub fn varint(&mut self) -> i32 {
        self.read(|reader| reader.varint())
    }

    fn len(&mut self, protocol: Protocol) -> usize {
        usize::try_from(self.read(|reader| reader.number(protocol))).unwrap()
    }

    fn varlong(&mut self, octets_min: usize) -> i64 {
        self.read(|reader| reader.varlong(octets_min))
    }

    fn line(&mut self) -> String {
        let end = self.octets[self.at..].iter().position(|&o| o == b'\n').expect("a line");
        let line = self.take(end + 1);
        String::from_utf8(line[..end].to_vec()).unwrap()
    }

    fn short_name(&mut self) -> Vec<u8> {
        let len = usize::from(self.byte());
        self.take(len)
    }

    pub fn vstring(&mut self) -> String {
        String::from_utf8(self.read(|reader| Ok(reader.vstring(1000)?.to_vec()))).unwrap()
    }
}

/// What a client said before the frames.
#[derive(Debug)]
pub struct Wishes {
    pub module: String,
    pub options: Options,
    pub protocol: Protocol,
    /// Octets up to the first frame.
    pub len: usize,
    names: Vec<String>,
}

impl Wishes {
    /// `varint_flags` says whether the server granted the negotiation.
    pub fn read(octets: &[u8], varint_flags: bool) -> Self {
        let mut input = Input::new(octets);
        let greeting = input.line();
        let version = greeting["@RSYNCD: ".len()..].split(['.', ' ']).next().unwrap();
        let protocol = Protocol::negotiate(version.parse().unwrap(), 0).unwrap();
        let module = input.line();
        let mut arguments = Arguments::default();
        for secluded in [false, true] {
            if secluded && !arguments.options.secluded || input.left() == 0 {
                break;
            }
            let mut list = ArgumentList::default();
            loop {
                let (len, whole) =
                    list.take(&input.octets[input.at..], ArgumentFraming::of(protocol, secluded)).unwrap();
                input.at += len;
                if let Some(whole) = whole {
                    arguments.read(&whole, secluded);
                    break;
                }
            }
        }
        let options = arguments.options;
        let lists = usize::from(options.checksum_choice.is_none())
            + usize::from(options.compress && options.compress_choice.is_none());
        let lists = if varint_flags { lists } else { 0 };
        let names = (0..lists).map(|_| input.vstring()).collect();
        Self { module, options, protocol, len: input.at, names }
    }

    fn agreement(&self, flags: CompatFlags, seed: i32) -> Agreement {
        let mut octets = Vec::new();
        self.names.iter().for_each(|names| codec::put_vstring(&mut octets, names.as_bytes()));
        let exchange = Exchange::new(flags, &self.options);
        exchange.settle(&mut codec::Reader::new(&octets), &self.options, self.protocol, seed).unwrap()
    }
}

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    pub name: Vec<u8>,
    pub mode: i32,
    pub size: i64,
    pub mtime: (i64, i32),
    pub ids: (i32, i32),
    pub target: Vec<u8>,
    pub sum: Vec<u8>,
    /// Bits 0 and 8 of a directory's flags.
    pub directory_bits: i32,
    /// Of all names in the list that are its inode, the lowest; `None` if it was not said that there may be others.
    pub inode: Option<Vec<u8>>,
}

/// What tells inodes apart: device and number, or since protocol 30 the index of the first name.
type Inode = (i64, i64);

impl Entry {
    pub fn is_directory(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }

    pub fn is_file(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000
    }
}

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub index: usize,
    pub flags: u16,
    pub head: Vec<i32>,
    pub sum: Vec<u8>,
    pub literals: Vec<u8>,
    pub blocks: usize,
}

/// All that a server said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub flags: i32,
    pub seed: i32,
    /// Code and payload of every frame but DATA.
    pub messages: Vec<(u8, Vec<u8>)>,
    /// Sorted as both sides do.
    pub entries: Vec<Entry>,
    /// Of users, then groups: what the list says that numbers are called.
    pub names: [BTreeMap<i32, Vec<u8>>; 2],
    pub io_error: i32,
    pub items: Vec<Item>,
    pub deletion_stats: Vec<i32>,
    pub total_size: i64,
    /// `NDX_DONE` before the statistics, and after.
    pub done: (usize, usize),
}

/// Takes apart what a server said from its first frame on.
struct Listener<'a> {
    protocol: Protocol,
    options: &'a Options,
    flags: CompatFlagsSeen,
    agreement: Agreement,
    data: Input,
    words: Words,
    previous: Entry,
    device: i64,
    lists: Lists,
    said: Said,
}

#[derive(Clone, Copy)]
struct CompatFlagsSeen {
    recursive: bool,
    varint: bool,
    id0: bool,
}

/// Reads all of a server's octets; `client` are the client's.
pub fn listen(server: &[u8], client: &[u8]) -> Said {
    listen_to_lists(server, client).0
}

/// The same, with the lists as they came. What is said is as if it had been about one list.
pub fn listen_to_lists(server: &[u8], client: &[u8]) -> (Said, Lists) {
    let mut input = Input::new(server);
    while input.line() != "@RSYNCD: OK" {}
    let early = Wishes::read(client, false);
    let protocol = early.protocol;
    let flags = if protocol >= Protocol::V30 { input.varint() } else { 0 };
    let granted =
        CompatFlagsSeen { recursive: flags & 0x01 != 0, varint: flags & 0x80 != 0, id0: flags & 0x100 != 0 };
    let wishes = Wishes::read(client, granted.varint);
    for _ in &wishes.names {
        let _offer = input.vstring();
    }
    let seed = input.int();
    let (data, messages) = split_frames(&input.take(input.left()));
    let answered = CompatFlags::answer(if granted.varint {
        wishes.options.capabilities
    } else {
        // An old server grants less than its client can do; of that only this counts here (5.1).
        Capabilities::default()
    });
    let answered = if protocol >= Protocol::V30 { answered } else { CompatFlags::NONE };
    let agreement = wishes.agreement(answered, seed);
    let mut listener = Listener {
        protocol,
        options: &wishes.options,
        flags: granted,
        agreement,
        data: Input::new(&data),
        words: Words::new(protocol),
        previous: Entry::default(),
        device: 0,
        lists: Lists::default(),
        said: Said { flags, seed, messages, ..Said::default() },
    };
    if listener.data.left() > 0 {
        listener.list(None);
        listener.rest();
    }
    assert_eq!(listener.data.left(), 0, "more than a client would read");
    (listener.said, listener.lists)
}

/// The data stream, and code and payload of every other frame.
pub fn split_frames(octets: &[u8]) -> (Vec<u8>, Vec<(u8, Vec<u8>)>) {
    let mut input = Input::new(octets);
    let (mut data, mut messages) = (Vec::new(), Vec::new());
    while input.left() > 0 {
        let header = input.take(4);
        let len = usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16;
        let payload = input.take(len);
        match header[3] - 7 {
            0 => data.extend(payload),
            code => messages.push((code, payload)),
        }
    }
    (data, messages)
}

impl Listener<'_> {
    fn list(&mut self, directory: Option<usize>) {
        let (mut entries, mut inodes): (Vec<Entry>, Vec<Option<Inode>>) = Default::default();
        while let Some(flags) = self.entry_flags() {
            let (entry, inode) = self.entry(flags, &entries);
            self.previous = entry.clone();
            entries.push(entry);
            inodes.push(inode);
        }
        let mut lowest = BTreeMap::new();
        for (entry, inode) in entries.iter().zip(&inodes) {
            let name = lowest.entry(*inode).or_insert_with(|| entry.name.clone());
            *name = entry.name.clone().min(name.clone());
        }
        for (entry, inode) in entries.iter_mut().zip(&inodes) {
            entry.inode = inode.map(|_| lowest[inode].clone());
        }
        self.lists.add(directory, entries, self.flags.recursive);
        if !self.options.numeric_ids && !self.flags.recursive {
            self.id_lists();
        }
        if self.protocol < Protocol::V30 {
            self.said.io_error = self.data.int();
        }
    }

    /// All behind the first list.
    fn rest(&mut self) {
        if !self.lists.entries().is_empty() {
            self.replies();
        } else if self.flags.recursive {
            assert_eq!(self.words.read(&mut self.data), Word::ListsEnd);
        }
        self.said.entries = self.lists.entries();
        let (lists, entries) = (&self.lists, &self.said.entries);
        for item in &mut self.said.items {
            // Of several with one name a client asks for the first: it drops the others (7.6).
            if self.flags.recursive {
                let name = lists.name_at(item.index);
                item.index = entries.iter().position(|entry| entry.name == name).unwrap();
            }
            assert!(item.head.is_empty() || entries[item.index].is_file());
        }
    }

    fn id_lists(&mut self) {
        for (kind, wanted) in [self.options.owner, self.options.group].into_iter().enumerate() {
            if !wanted {
                continue;
            }
            loop {
                let id = self.number();
                if id == 0 && !self.flags.id0 {
                    break;
                }
                let name = self.data.short_name();
                assert!(self.said.names[kind].insert(id, name).is_none(), "{id} has two names");
                if id == 0 {
                    break;
                }
            }
        }
    }

    fn number(&mut self) -> i32 {
        let protocol = self.protocol;
        self.data.read(|reader| reader.number(protocol))
    }

    /// The flags of the next entry; `None` at the end.
    fn entry_flags(&mut self) -> Option<i32> {
        if self.flags.varint {
            let flags = self.data.varint();
            if flags == 0 {
                self.said.io_error = self.data.varint();
                return None;
            }
            return Some(flags);
        }
        let mut flags = i32::from(self.data.byte());
        if flags & 4 != 0 {
            flags |= i32::from(self.data.byte()) << 8;
        }
        if flags == 0x1004 {
            self.said.io_error = self.data.varint();
            return None;
        }
        (flags != 0).then_some(flags)
    }

    /// The next entry, and what its inode is if it may have other names; `earlier` are those before it in its list.
    fn entry(&mut self, flags: i32, earlier: &[Entry]) -> (Entry, Option<Inode>) {
        let has = |bit: i32| flags & bit != 0;
        let protocol = self.protocol;
        let (data, previous) = (&mut self.data, &self.previous);
        let shared = if has(0x20) { usize::from(data.byte()) } else { 0 };
        let len = if has(0x40) { data.len(protocol) } else { usize::from(data.byte()) };
        let mut entry = Entry { name: previous.name[..shared].to_vec(), ..Entry::default() };
        entry.name.extend(data.take(len));
        let mut inode = None;
        if self.options.hard_links && has(0x200) && protocol >= Protocol::V30 {
            // In the lists of a recursive session indexes go on from one to the next; none of those has such names.
            assert!(!self.flags.recursive);
            let first = if has(0x1000) { earlier.len() } else { usize::try_from(data.varint()).unwrap() };
            inode = Some((0, i64::try_from(first).unwrap()));
            if let Some(first) = earlier.get(first) {
                return (Entry { name: entry.name, inode: None, ..first.clone() }, inode);
            }
            assert!(has(0x1000), "{first} is no name before this one");
        }
        entry.size = data.read(|reader| reader.long(3, protocol));
        let seconds = match (has(0x80), protocol >= Protocol::V30) {
            (true, _) => previous.mtime.0,
            (false, true) => data.varlong(4),
            (false, false) => i64::from(data.int()),
        };
        let nanoseconds = if has(0x2000) { data.varint() } else { 0 };
        entry.mtime = (seconds, nanoseconds);
        entry.mode = if has(0x02) { previous.mode } else { data.int() };
        entry.ids = previous.ids;
        if self.options.owner && !has(0x08) {
            entry.ids.0 = data.read(|reader| reader.number(protocol));
            if self.flags.recursive && has(0x400) {
                data.short_name();
            }
        }
        if self.options.group && !has(0x10) {
            entry.ids.1 = data.read(|reader| reader.number(protocol));
            if self.flags.recursive && has(0x800) {
                data.short_name();
            }
        }
        if self.options.links && entry.mode & 0o170_000 == 0o120_000 {
            let len = data.len(protocol);
            entry.target = data.take(len);
        }
        if self.options.hard_links && has(0x200) && protocol < Protocol::V30 {
            if !has(0x400) {
                self.device = data.read(|reader| reader.long(3, protocol));
            }
            inode = Some((self.device, data.read(|reader| reader.long(3, protocol))));
        }
        if self.options.checksum && entry.is_file() {
            entry.sum = data.take(self.agreement.list.len());
        }
        entry.directory_bits = if entry.is_directory() { flags & 0x0101 } else { 0 };
        (entry, inode)
    }

    fn replies(&mut self) {
        let mut tokens = Tokens::new(self.agreement.compressor);
        let protocol = self.protocol;
        loop {
            match self.words.read(&mut self.data) {
                Word::Entry(index) => self.item(index, &mut tokens),
                Word::DeletionStats => self.deletion_stats(),
                Word::ListOf(directory) => self.list(Some(directory)),
                Word::ListsEnd => {}
                Word::Done => {
                    self.said.done.0 += 1;
                    if self.said.done.0 == 3 + self.lists.more() {
                        break;
                    }
                }
            }
        }
        // One for the end of each list but the last (11.1).
        self.said.done.0 -= self.lists.more();
        let stats: Vec<i64> = (0..5).map(|_| self.data.read(|reader| reader.long(3, protocol))).collect();
        self.said.total_size = stats[2];
        while self.data.left() > 0 {
            match self.words.read(&mut self.data) {
                Word::DeletionStats => self.deletion_stats(),
                Word::Done => self.said.done.1 += 1,
                word @ (Word::Entry(_) | Word::ListsEnd | Word::ListOf(_)) => {
                    panic!("{word:?} after the end")
                }
            }
        }
    }

    fn deletion_stats(&mut self) {
        self.said.deletion_stats = (0..5).map(|_| self.data.varint()).collect();
    }

    fn item(&mut self, index: usize, tokens: &mut Tokens) {
        let flags = self.data.short();
        if flags & 0x0800 != 0 {
            self.data.byte();
        }
        if flags & 0x1000 != 0 {
            self.data.vstring();
        }
        let mut item =
            Item { index, flags, head: Vec::new(), sum: Vec::new(), literals: Vec::new(), blocks: 0 };
        if flags & 0x8000 != 0 && !self.options.dry_run {
            item.head = (0..4).map(|_| self.data.int()).collect();
            (item.literals, item.blocks) = tokens.file(&mut self.data);
            item.sum = self.data.take(self.agreement.transfer.len());
        }
        self.said.items.push(item);
    }
}

impl Said {
    /// The contents that were sent whole, by name.
    pub fn files(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let whole = self.items.iter().filter(|item| !item.head.is_empty() && item.blocks == 0);
        whole.map(|item| (self.entries[item.index].name.clone(), item.literals.clone())).collect()
    }

    /// Texts of a code.
    pub fn texts(&self, code: u8) -> Vec<String> {
        let of_code = self.messages.iter().filter(|(seen, _)| *seen == code);
        of_code.map(|(_, text)| String::from_utf8_lossy(text).into_owned()).collect()
    }

    /// Every sum is that of what was sent whole.
    pub fn check_sums(&self, kind: ChecksumKind) {
        for item in self.items.iter().filter(|item| !item.head.is_empty() && item.blocks == 0) {
            assert_eq!(kind.of(&item.literals).as_slice(), item.sum, "{}", item.index);
        }
    }
}
