//! `log format`: one line for each file that was sent.

use std::borrow::Cow;

/// The format when none is given.
pub const DEFAULT: &str = "%o %h [%a] %m (%u) %f %l";

/// A format, taken apart once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFormat {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Escape { width: usize, left: bool, zeros: bool, grouping: u8, letter: char },
}

/// What there is to say about one file. Names are octets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Record<'a> {
    /// `%a`: the client's address.
    pub address: &'a str,
    /// `%h`: its name, or what stands for one.
    pub host: &'a str,
    /// `%m`
    pub module: &'a str,
    /// `%P`: where the module's tree comes from.
    pub module_path: &'a str,
    /// `%u`: who logged in; empty for nobody.
    pub user: &'a str,
    /// `%f`: the file's path in the module.
    pub file: &'a [u8],
    /// `%n`: its name in the transfer, with a slash behind that of a directory.
    pub name: &'a [u8],
    /// `%L`: ` -> TARGET` for a symbolic link.
    pub link: &'a [u8],
    /// `%l`: how long it is.
    pub length: u64,
    /// `%b`: octets that were sent for it.
    pub sent: u64,
    /// `%c`: octets that the client sent to describe what it has.
    pub described: u64,
    /// `%C`: the checksum of what was sent; spaces where there is none.
    pub checksum: &'a str,
    /// `%i`: what was asked for, in eleven characters.
    pub item: &'a str,
    /// `%M`: when it was changed, as `2009/11/30-12:00:00`.
    pub modified: &'a str,
    /// `%B`: its permissions, as `rwxr-xr-x`.
    pub permissions: &'a str,
    /// `%U`: the number of the user that it belongs to.
    pub uid: u32,
    /// `%G`: the number of its group; `None`, shown as `DEFAULT`, if the client does not ask for groups.
    pub gid: Option<u32>,
    /// `%p`: what tells this session from others.
    pub session: u64,
    /// `%t`: now, as `2009/11/30 12:00:00`.
    pub now: &'a str,
}

/// Wider than any log line should be.
const WIDTH_MAX: usize = 1024;

/// Octets of a line, before [`visible`]; what is beyond is cut off. The stock daemon ends when a line has more than a third
/// of that.
pub const LINE_LEN_MAX: usize = 16 << 10;

impl LogFormat {
    /// Reads a format. What is no escape stands for itself.
    #[must_use]
    pub fn new(format: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = format;
        while let Some((text, after)) = rest.split_once('%') {
            pieces.push(Piece::Text(text.to_owned()));
            if let Some((escape, len)) = escape(after) {
                pieces.push(escape);
                rest = &after[len..];
            } else if let Some(after) = after.strip_prefix('%') {
                pieces.push(Piece::Text("%".to_owned()));
                rest = after;
            } else {
                pieces.push(Piece::Text("%".to_owned()));
                rest = after;
            }
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Self { pieces }
    }

    /// Whether lines show what was asked for (`%i`): then there is one for directories, links and attributes, too.
    #[must_use]
    pub fn shows_items(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Escape { letter: 'i', .. }))
    }

    /// Writes the line, without its end and as it is: see [`visible`]. At most [`LINE_LEN_MAX`] octets.
    #[must_use]
    pub fn line(&self, record: &Record<'_>) -> Vec<u8> {
        let mut line = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => line.extend_from_slice(text.as_bytes()),
                Piece::Escape { width, left, zeros, grouping, letter } => {
                    let value = value(record, *letter, *grouping);
                    let padding = if *zeros && !*left { b'0' } else { b' ' };
                    let end = line.len() + width.max(&value.len());
                    if *left {
                        line.extend_from_slice(&value);
                        line.resize(end, padding);
                    } else {
                        line.resize(end - value.len(), padding);
                        line.extend_from_slice(&value);
                    }
                }
            }
            if line.len() >= LINE_LEN_MAX {
                line.truncate(LINE_LEN_MAX);
                break;
            }
        }
        line
    }
}

/// An escape after its sign, and how long it is.
fn escape(text: &str) -> Option<(Piece, usize)> {
    let quotes = text.bytes().take_while(|&c| c == b'\'').count();
    let after = &text[quotes..];
    let left = after.starts_with('-');
    let digits = &after[usize::from(left)..];
    let len = digits.bytes().take_while(u8::is_ascii_digit).count();
    let letter = digits[len..].chars().next().filter(|letter| "abBcCfGhilLmMnopPtuU".contains(*letter))?;
    let width = if len == 0 { 0 } else { digits[..len].parse::<usize>().ok()?.min(WIDTH_MAX) };
    let grouping = u8::try_from(quotes).unwrap_or(u8::MAX);
    let piece = Piece::Escape { width, left, zeros: digits[..len].starts_with('0'), grouping, letter };
    Some((piece, quotes + usize::from(left) + len + 1))
}

fn value<'a>(record: &Record<'a>, letter: char, grouping: u8) -> Cow<'a, [u8]> {
    let text = |text: &'a str| Cow::Borrowed(text.as_bytes());
    match letter {
        'a' => text(record.address),
        'b' => number(record.sent, grouping).into_bytes().into(),
        'B' => text(record.permissions),
        'C' => text(record.checksum),
        'c' => number(record.described, grouping).into_bytes().into(),
        'f' => record.file.into(),
        'G' => record.gid.map_or(text("DEFAULT"), |gid| gid.to_string().into_bytes().into()),
        'h' => text(record.host),
        'i' => text(record.item),
        'l' => number(record.length, grouping).into_bytes().into(),
        'L' => record.link.into(),
        'm' => text(record.module),
        'M' => text(record.modified),
        'n' => record.name.into(),
        'o' => text("send"),
        'p' => record.session.to_string().into_bytes().into(),
        'P' => text(record.module_path),
        't' => text(record.now),
        'u' => text(record.user),
        'U' => record.uid.to_string().into_bytes().into(),
        other => format!("%{other}").into_bytes().into(),
    }
}

/// One apostrophe groups digits, two shorten by thousands, three by 1024s.
fn number(value: u64, grouping: u8) -> String {
    let unit = match grouping {
        0 => return value.to_string(),
        1 => return grouped(value),
        2 => 1000,
        _ => 1024,
    };
    let mut scale = 1_u64;
    let mut suffix = "";
    for next in ["K", "M", "G", "T", "P"] {
        if value / scale < unit {
            break;
        }
        scale *= unit;
        suffix = next;
    }
    if suffix.is_empty() {
        return value.to_string();
    }
    let scale = u128::from(scale);
    let hundredths = (u128::from(value) * 100 + scale / 2) / scale;
    format!("{}.{:02}{suffix}", hundredths / 100, hundredths % 100)
}

fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let first = digits.len() % 3;
    let mut out = digits[..first].to_owned();
    for group in digits.as_bytes()[first..].chunks(3) {
        if !out.is_empty() {
            out.push(',');
        }
        out.extend(group.iter().copied().map(char::from));
    }
    out
}

/// Shows what a line's names must not do to a log or a terminal: control octets as `\#ooo`, and what looks like that
/// already with its backslash so. Tabs stay, and so do octets above 127: names may be in any encoding.
#[must_use]
pub fn visible(line: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len());
    for (at, &octet) in line.iter().enumerate() {
        // U+0080 to U+009F, which terminals obey, too.
        let is_c1 = (0x80..0xA0).contains(&octet) && at > 0 && line[at - 1] == 0xC2;
        let is_escape = matches!(&line[at..], [b'\\', b'#', a, b, c, ..]
            if [a, b, c].iter().all(|digit| digit.is_ascii_digit()));
        if is_escape || is_c1 || (octet.is_ascii_control() && octet != b'\t') {
            let digit = |shift: u8| b'0' + (octet >> shift & 7);
            out.extend_from_slice(&[b'\\', b'#', digit(6), digit(3), digit(0)]);
        } else {
            out.push(octet);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: &str) -> String {
        let line = LogFormat::new(format).line(&Record {
            address: "10.13.18.102",
            host: "ws2",
            module: "m",
            file: b"a/b\nc",
            name: b"b\nc",
            length: 1_234_567,
            sent: 999,
            described: 16,
            item: "<f+++++++++",
            session: 7,
            uid: 250,
            gid: Some(4_294_967_294),
            ..Record::default()
        });
        String::from_utf8(visible(&line)).unwrap()
    }

    #[test]
    fn lines_look_like_those_of_rsync() {
        assert_eq!(line(DEFAULT), "send ws2 [10.13.18.102] m () a/b\\#012c 1234567");
        assert_eq!(line("%-5m|%5m|%05p|%'l|%''l|%'''l|%'b"), "m    |    m|00007|1,234,567|1.23M|1.18M|999");
        assert_eq!(line("100% %z %% % %n %c %i"), "100% %z % % b\\#012c 16 <f+++++++++");
        assert_eq!(line("%U:%G|%-12G|%012U"), "250:4294967294|4294967294  |000000000250");
        assert_eq!(LogFormat::new("%U:%G").line(&Record::default()), b"0:DEFAULT");
        assert_eq!(line("%99999m").len(), WIDTH_MAX);
        assert_eq!(line(&"%1000m".repeat(1000)).len(), LINE_LEN_MAX);
        assert!(LogFormat::new("%o %-20i").shows_items() && !LogFormat::new("i %%m").shows_items());
    }

    /// As in the log of stock rsync for files with these names; only a DEL it lets through.
    #[test]
    fn names_are_shown_and_not_obeyed() {
        for (name, expected) in [
            (&b"a\\#123b"[..], &b"a\\#134#123b"[..]),
            (b"a\\#12b", b"a\\#12b"),
            (b"back\\slash", b"back\\slash"),
            (b"c1\xC2\x9Bx", b"c1\xC2\\#233x"),
            (b"t\tab", b"t\tab"),
            (b"bad\xFFname", b"bad\xFFname"),
            (b"\xC3\xBCmlaut", b"\xC3\xBCmlaut"),
            (b"\x1B[2J\r\n\x7F", b"\\#033[2J\\#015\\#012\\#177"),
        ] {
            assert_eq!(visible(name).escape_ascii().to_string(), expected.escape_ascii().to_string());
        }
    }
}
