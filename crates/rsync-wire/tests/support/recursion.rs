//! Sessions in which the server sent each directory's list on its own (7.8), and what their client would have said to
//! one that declines to.

use super::client::{Entry, Input, Wishes, listen_to_lists, split_frames};
use rsync_wire::Protocol;
use rsync_wire::codec::{Ndx, NdxWriter};
use rsync_wire::flist::compare_names;

/// What stands where an index may (1.3), with what only a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Entry(usize),
    Done,
    DeletionStats,
    ListsEnd,
    ListOf(usize),
}

/// Reads one direction's indexes.
#[derive(Debug)]
pub struct Words {
    protocol: Protocol,
    positive: i32,
    negative: i32,
}

impl Words {
    pub fn new(protocol: Protocol) -> Self {
        Self { protocol, positive: -1, negative: 1 }
    }

    pub fn read(&mut self, input: &mut Input) -> Word {
        let value = if self.protocol < Protocol::V30 { input.int() } else { self.value(input) };
        match value {
            0.. => Word::Entry(usize::try_from(value).unwrap()),
            -1 => Word::Done,
            -2 => Word::ListsEnd,
            -3 => Word::DeletionStats,
            _ => Word::ListOf(usize::try_from(-101 - value).unwrap()),
        }
    }

    fn value(&mut self, input: &mut Input) -> i32 {
        let (counter, sign, first) = match input.byte() {
            0 => return -1,
            0xFF => (&mut self.negative, -1, input.byte()),
            first => (&mut self.positive, 1, first),
        };
        *counter = match first {
            0xFE => match (input.byte(), input.byte()) {
                (high @ 0x80.., low) => {
                    let (third, fourth) = (input.byte(), input.byte());
                    i32::from_le_bytes([low, third, fourth, high & 0x7F])
                }
                (high, low) => *counter + i32::from(u16::from_be_bytes([high, low])),
            },
            difference => *counter + i32::from(difference),
        };
        *counter * sign
    }
}

/// The lists of one server, and what indexes mean in them (7.6).
#[derive(Debug, Default)]
pub struct Lists {
    /// Where each one's indexes start, the directory that it is of, and its entries.
    lists: Vec<(usize, Vec<u8>, Vec<Entry>)>,
    /// In the order in which lists name them.
    directories: Vec<Vec<u8>>,
}

impl Lists {
    /// The next list: of a directory, or the first one.
    pub fn add(&mut self, directory: Option<usize>, mut entries: Vec<Entry>, is_recursive: bool) {
        sort(&mut entries);
        let start = match self.lists.last() {
            Some((start, _, last)) => start + last.len() + 1,
            None => usize::from(is_recursive),
        };
        let name = directory.map_or_else(|| b".".to_vec(), |number| self.directories[number].clone());
        self.directories.extend(entries.iter().filter(|entry| entry.is_directory()).map(|e| e.name.clone()));
        self.lists.push((start, name, entries));
    }

    /// How many there are besides the first one.
    pub fn more(&self) -> usize {
        self.lists.len() - 1
    }

    /// All entries in the order of one list.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<_> = self.lists.iter().flat_map(|(_, _, entries)| entries.clone()).collect();
        sort(&mut entries);
        entries
    }

    /// The entry at an index: the one before a list is the list's directory.
    pub fn name_at(&self, index: usize) -> &[u8] {
        let (start, directory, entries) =
            self.lists.iter().rfind(|(start, _, _)| start.saturating_sub(1) <= index).expect("no list");
        if index < *start { directory } else { &entries[index - start].name }
    }
}

fn sort(entries: &mut [Entry]) {
    let key = |entry: &Entry| (entry.name.clone(), entry.is_directory());
    entries.sort_by(|a, b| {
        let ((a, a_dir), (b, b_dir)) = (key(a), key(b));
        compare_names((&a, a_dir), (&b, b_dir))
    });
}

/// The client's octets with the indexes of one whole list, and without the ends of the others (11.1): in one frame, with
/// its messages behind that.
pub fn without_recursion(client: &[u8], server: &[u8]) -> Vec<u8> {
    let (said, lists) = listen_to_lists(server, client);
    let place = |index| {
        let name = lists.name_at(index);
        let place = said.entries.iter().position(|entry| entry.name == name).unwrap();
        u32::try_from(place).unwrap()
    };
    let wishes = Wishes::read(client, said.flags & 0x80 != 0);
    // No session is of these; what follows would be read wrongly (6.5, 8.5).
    assert_eq!(wishes.options.append, 0, "no sums follow the heads");
    assert!(!wishes.options.files_from || wishes.protocol > Protocol::V30, "the names are not framed");
    let (data, messages) = split_frames(&client[wishes.len..]);
    let mut input = Input::new(&data);
    skip_selection(&mut input, wishes.options.files_from);
    let mut out = data[..input.at()].to_vec();
    let (mut words, mut ndx) = (Words::new(wishes.protocol), NdxWriter::new(wishes.protocol));
    let mut list_ends = lists.more();
    while input.left() > 0 {
        let word = words.read(&mut input);
        let start = input.at();
        match word {
            Word::Done if list_ends > 0 => list_ends -= 1,
            Word::Done => ndx.put(&mut out, Ndx::Done),
            Word::DeletionStats => {
                let _counts = [(); 5].map(|()| input.varint());
                ndx.put(&mut out, Ndx::DeletionStats);
            }
            Word::Entry(index) => {
                skip_request(&mut input, wishes.options.dry_run);
                ndx.put(&mut out, Ndx::Entry(place(index)));
            }
            Word::ListsEnd | Word::ListOf(_) => panic!("a client said {word:?}"),
        }
        out.extend_from_slice(&data[start..input.at()]);
    }
    let frame = |code: u8, payload: &[u8]| {
        let [a, b, c, _] = u32::try_from(payload.len()).unwrap().to_le_bytes();
        [&[a, b, c, code + 7], payload].concat()
    };
    let messages = messages.iter().map(|(code, payload)| frame(*code, payload));
    [client[..wishes.len].to_vec(), frame(0, &out)].into_iter().chain(messages).flatten().collect()
}

/// Filters, and names of a list in DATA frames (6.1, 6.5).
fn skip_selection(input: &mut Input, names_follow: bool) {
    loop {
        match input.int() {
            0 => break,
            len => drop(input.take(usize::try_from(len).unwrap())),
        }
    }
    let mut is_over = !names_follow;
    while !is_over {
        is_over = input.byte() == 0;
        while !is_over && input.byte() != 0 {}
    }
}

/// What comes behind the index of a request (8.1).
fn skip_request(input: &mut Input, dry_run: bool) {
    let flags = input.short();
    if flags & 0x0800 != 0 {
        input.byte();
    }
    if flags & 0x1000 != 0 {
        input.vstring();
    }
    if flags & 0x8000 != 0 && !dry_run {
        let [count, _, strong_len, _] = [(); 4].map(|()| usize::try_from(input.int()).unwrap());
        input.take(count * (4 + strong_len));
    }
}
