//! `log format`: one line for each file that was sent.

use std::fmt::Write as _;

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

/// What there is to say about one file.
#[derive(Debug, Clone, Default)]
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
    /// `%f` and `%n`: the file's path in the module.
    pub file: &'a str,
    /// `%l`: how long it is.
    pub length: u64,
    /// `%b`: octets that were sent for it.
    pub sent: u64,
    /// `%M`: when it was changed, as `2009/11/30-12:00:00`.
    pub modified: &'a str,
    /// `%B`: its permissions, as `rwxr-xr-x`.
    pub permissions: &'a str,
    /// `%p`: what tells this session from others.
    pub session: u64,
    /// `%t`: now, as `2009/11/30 12:00:00`.
    pub now: &'a str,
}

/// Wider than any log line should be.
const WIDTH_MAX: usize = 1024;

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
            } else {
                pieces.push(Piece::Text("%".to_owned()));
                rest = after;
            }
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Self { pieces }
    }

    /// Writes the line, without its end. Control characters of names are shown as `\#ooo`.
    #[must_use]
    pub fn line(&self, record: &Record<'_>) -> String {
        let mut line = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => line.push_str(text),
                Piece::Escape { width, left, zeros, grouping, letter } => {
                    let value = value(record, *letter, *grouping);
                    let width = *width;
                    // Writing to a String can't fail.
                    let _ = match (left, zeros) {
                        (true, _) => write!(line, "{value:<width$}"),
                        (false, true) => write!(line, "{value:0>width$}"),
                        (false, false) => write!(line, "{value:>width$}"),
                    };
                }
            }
        }
        visible(&line)
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

fn value(record: &Record<'_>, letter: char, grouping: u8) -> String {
    match letter {
        'a' => record.address.to_owned(),
        'b' => number(record.sent, grouping),
        'B' => record.permissions.to_owned(),
        'C' | 'L' => String::new(),
        'f' | 'n' => record.file.to_owned(),
        // Generations keep no owners, and block sums are not counted.
        'c' | 'G' | 'U' => "0".to_owned(),
        'h' => record.host.to_owned(),
        'i' => "<f+++++++++".to_owned(),
        'l' => number(record.length, grouping),
        'm' => record.module.to_owned(),
        'M' => record.modified.to_owned(),
        'o' => "send".to_owned(),
        'p' => record.session.to_string(),
        'P' => record.module_path.to_owned(),
        't' => record.now.to_owned(),
        'u' => record.user.to_owned(),
        other => format!("%{other}"),
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
    let hundredths = u128::from(value) * 100 / u128::from(scale);
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

fn visible(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        if c.is_control() {
            let mut octets = [0; 4];
            for octet in c.encode_utf8(&mut octets).bytes() {
                let _ = write!(out, "\\#{octet:03o}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: &str) -> String {
        LogFormat::new(format).line(&Record {
            address: "10.13.18.102",
            host: "ws2",
            module: "m",
            file: "a/b\nc",
            length: 1_234_567,
            sent: 999,
            session: 7,
            ..Record::default()
        })
    }

    #[test]
    fn lines_look_like_those_of_rsync() {
        assert_eq!(line(DEFAULT), "send ws2 [10.13.18.102] m () a/b\\#012c 1234567");
        assert_eq!(line("%-5m|%5m|%05p|%'l|%''l|%'''l|%'b"), "m    |    m|00007|1,234,567|1.23M|1.17M|999");
        assert_eq!(line("100% %z %"), "100% %z %");
        assert_eq!(line("%99999m").len(), WIDTH_MAX);
    }
}
