//! The `OpenPGP` cleartext armour around a signed Manifest (RFC 9580, section 7; GLEP 74, "Cryptographic signature").
//!
//! This only takes the armour off, with line numbers kept. It verifies nothing: whoever holds the keys does that over
//! the octets as they came.

use std::borrow::Cow;

use crate::Error;

const BEGIN_MESSAGE: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";
const BEGIN_SIGNATURE: &[u8] = b"-----BEGIN PGP SIGNATURE-----";
const END_SIGNATURE: &[u8] = b"-----END PGP SIGNATURE-----";

/// The text inside of a clearsigned file, or all of a file that is not signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleartext<'a> {
    /// The text with dash-escapes undone.
    pub body: Cow<'a, [u8]>,
    /// The number of the body's first line in the file, from 1.
    pub first_line: usize,
    /// Whether there was armour.
    pub is_signed: bool,
    /// The lines between the one that begins the message and the empty one before the text.
    pub headers: &'a [u8],
    /// The signatures with their own lines of armour.
    pub signature: &'a [u8],
}

/// Takes the armour off.
///
/// As gemato does, it insists on armour that is whole and has nothing but blank lines around it: unsigned lines beside
/// a signature would otherwise pass for signed ones.
///
/// # Errors
/// [`Error::Line`] for armour that is cut off, that is not in its place, or that has other text around it.
pub fn strip(octets: &[u8]) -> Result<Cleartext<'_>, Error> {
    let mut lines = Lines { rest: Some(octets), offset: 0, number: 0 };
    while let Some(line) = lines.next() {
        if line.text == BEGIN_MESSAGE {
            return signed(octets, lines);
        }
        if !is_blank(line.text) {
            break;
        }
    }
    if let Some(line) = Lines::new(octets).find(|line| is_armour(line.text)) {
        return Err(Error::line(line.number, "no OpenPGP armour after the first line", line.text));
    }
    Ok(Cleartext {
        body: Cow::Borrowed(octets),
        first_line: 1,
        is_signed: false,
        headers: b"",
        signature: b"",
    })
}

/// Everything after the line that begins the message.
fn signed<'a>(octets: &'a [u8], mut lines: Lines<'a>) -> Result<Cleartext<'a>, Error> {
    // `Hash:` headers up to an empty line.
    let headers_start = lines.offset;
    let mut headers_end = headers_start;
    for line in lines.by_ref() {
        if is_blank(line.text) {
            break;
        }
        if is_armour(line.text) {
            return Err(Error::line(line.number, "armour headers", line.text));
        }
        headers_end = line.offset + line.text.len();
    }
    let (start, first_line) = (lines.offset, lines.number + 1);
    let mut end = None;
    let mut escaped = false;
    for line in lines.by_ref() {
        if line.text == BEGIN_SIGNATURE {
            end = Some(line.offset);
            break;
        }
        if is_armour(line.text) {
            return Err(Error::line(line.number, "-----BEGIN PGP SIGNATURE-----", line.text));
        }
        escaped |= line.text.starts_with(b"- ");
    }
    let Some(end) = end else {
        return Err(Error::line(lines.number + 1, "-----BEGIN PGP SIGNATURE-----", b""));
    };
    end_of_signature(&mut lines)?;
    let body = &octets[start..end];
    let body = if escaped { Cow::Owned(unescape(body)) } else { Cow::Borrowed(body) };
    let (headers, signature) = (&octets[headers_start..headers_end], &octets[end..]);
    Ok(Cleartext { body, first_line, is_signed: true, headers, signature })
}

fn end_of_signature(lines: &mut Lines<'_>) -> Result<(), Error> {
    match lines.by_ref().find(|line| is_armour(line.text)) {
        Some(line) if line.text == END_SIGNATURE => {}
        Some(line) => return Err(Error::line(line.number, "-----END PGP SIGNATURE-----", line.text)),
        None => return Err(Error::line(lines.number + 1, "-----END PGP SIGNATURE-----", b"")),
    }
    match lines.by_ref().find(|line| !is_blank(line.text)) {
        None => Ok(()),
        Some(line) => Err(Error::line(line.number, "nothing after the signature", line.text)),
    }
}

fn unescape(body: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(body.len());
    for line in body.split_inclusive(|octet| *octet == b'\n') {
        text.extend_from_slice(line.strip_prefix(b"- ").unwrap_or(line));
    }
    text
}

fn is_blank(line: &[u8]) -> bool {
    line.trim_ascii().is_empty()
}

fn is_armour(line: &[u8]) -> bool {
    line.starts_with(b"-----") && line.trim_ascii_end().ends_with(b"-----")
}

struct Line<'a> {
    text: &'a [u8],
    offset: usize,
    number: usize,
}

/// The lines of a file without their ends.
struct Lines<'a> {
    rest: Option<&'a [u8]>,
    /// Where `rest` begins.
    offset: usize,
    /// Of the line given last, from 1.
    number: usize,
}

impl<'a> Lines<'a> {
    fn new(octets: &'a [u8]) -> Self {
        Self { rest: Some(octets), offset: 0, number: 0 }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let rest = self.rest.filter(|rest| !rest.is_empty())?;
        let end = rest.iter().position(|octet| *octet == b'\n');
        let text = &rest[..end.unwrap_or(rest.len())];
        let offset = self.offset;
        self.rest = end.map(|end| &rest[end + 1..]);
        self.offset += text.len() + usize::from(end.is_some());
        self.number += 1;
        Some(Line { text, offset, number: self.number })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIGNED: &str = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nIGNORE a\n- -x\nIGNORE b\n\
        -----BEGIN PGP SIGNATURE-----\n\niQ\n=ab\n-----END PGP SIGNATURE-----\n";

    #[test]
    fn armour_comes_off_and_lines_keep_their_numbers() {
        let text = strip(SIGNED.as_bytes()).unwrap();
        assert_eq!(&*text.body, b"IGNORE a\n-x\nIGNORE b\n");
        assert_eq!((text.first_line, text.is_signed), (4, true));
        assert_eq!(text.headers, b"Hash: SHA512");
        let signature = "-----BEGIN PGP SIGNATURE-----\n\niQ\n=ab\n-----END PGP SIGNATURE-----\n";
        assert_eq!(text.signature, signature.as_bytes());
        let plain = strip(b"IGNORE a\n").unwrap();
        assert_eq!((&*plain.body, plain.first_line, plain.is_signed), (&b"IGNORE a\n"[..], 1, false));
        assert_eq!(&*strip(b"").unwrap().body, b"");
    }

    #[test]
    fn every_cut_short_message_is_refused() {
        let whole = SIGNED.trim_end().len();
        for end in BEGIN_MESSAGE.len()..whole {
            assert!(strip(&SIGNED.as_bytes()[..end]).is_err(), "{end}");
        }
        assert!(strip(&SIGNED.as_bytes()[..whole]).is_ok());
    }

    #[test]
    fn nothing_unsigned_may_stand_beside_a_signature() {
        for text in [
            format!("IGNORE a\n{SIGNED}"),
            format!("{SIGNED}IGNORE a\n"),
            format!("{SIGNED}{SIGNED}"),
            SIGNED.replace("IGNORE b", "-----BEGIN PGP SIGNED MESSAGE-----"),
            SIGNED.replace("iQ", "-----BEGIN PGP SIGNATURE-----"),
            "-----END PGP SIGNATURE-----\n".to_owned(),
        ] {
            assert!(strip(text.as_bytes()).is_err(), "{text}");
        }
        assert!(strip(format!("\n{SIGNED}\n\n").as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn any_octets_are_text_or_an_error(octets: Vec<u8>) {
            drop(strip(&octets));
        }

        #[test]
        fn shuffled_armour_never_panics(lines in proptest::collection::vec(prop_oneof![
            Just("-----BEGIN PGP SIGNED MESSAGE-----"), Just("-----BEGIN PGP SIGNATURE-----"),
            Just("-----END PGP SIGNATURE-----"), Just(""), Just("- x"), Just("IGNORE x")], 0..12)) {
            if let Ok(text) = strip(lines.join("\n").as_bytes()) {
                prop_assert!(text.first_line <= lines.len() + 1);
            }
        }
    }
}
