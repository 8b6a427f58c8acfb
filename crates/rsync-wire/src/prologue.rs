//! The lines before the arguments (section 3).

use crate::Protocol;
use crate::limits::{EARLY_INPUT_LEN_MAX, LINE_LEN_MAX};

/// Our greeting. The digests are those of an authentication, which version 32 must name.
pub const GREETING: &str = "@RSYNCD: 32.0 sha512 sha256 sha1 md5 md4\n";
/// After it the client sends arguments.
pub const OK: &str = "@RSYNCD: OK\n";
/// Ends a list of modules.
pub const EXIT: &str = "@RSYNCD: EXIT\n";
/// What something else on the port is told.
pub const STARTUP_ERROR: &str = "@ERROR: protocol startup error\n";

const GREETING_START: &[u8] = b"@RSYNCD: ";

/// What [`take_line`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A line, without its end and without carriage returns, and how many octets it took.
    Whole(String, usize),
    /// No line end so far.
    Partial,
    /// Too long, a NUL, or not UTF-8: not one of ours.
    Bad,
}

/// Finds the first line of what a client sent.
#[must_use]
pub fn take_line(octets: &[u8]) -> Line {
    let head = &octets[..octets.len().min(LINE_LEN_MAX + 1)];
    let end = head.iter().position(|&o| o == b'\n');
    let line = &head[..end.unwrap_or(head.len())];
    if line.contains(&0) {
        return Line::Bad;
    }
    match end {
        Some(end) => match std::str::from_utf8(line) {
            Ok(line) => Line::Whole(line.replace('\r', ""), end + 1),
            Err(_) => Line::Bad,
        },
        None if head.len() > LINE_LEN_MAX => Line::Bad,
        None => Line::Partial,
    }
}

/// Whether what came so far can still become a greeting. A web browser's first octet can't.
#[must_use]
pub fn may_be_greeting(octets: &[u8]) -> bool {
    // As in whole lines.
    let octets = octets.iter().filter(|&&octet| octet != b'\r');
    octets.zip(GREETING_START).all(|(octet, expected)| octet == expected)
}

/// Reads a client's greeting.
///
/// # Errors
/// The line to answer with before closing (3.1).
pub fn parse_greeting(line: &str) -> Result<Protocol, String> {
    let mismatch = || STARTUP_ERROR.to_owned();
    let rest = line.strip_prefix("@RSYNCD: ").ok_or_else(mismatch)?;
    let (number, digests) = rest.split_once(' ').unwrap_or((rest, ""));
    let (version, sub) = match number.split_once('.') {
        Some((version, sub)) => (version, Some(sub)),
        None => (number, None),
    };
    let version: u32 = version.parse().map_err(|_| mismatch())?;
    let sub: Option<u32> = sub.map(str::parse).transpose().map_err(|_| mismatch())?;
    let shown = crate::error::printable(line.as_bytes());
    if version >= 30 && sub.is_none() {
        return Err(format!("@ERROR: your client omitted the subprotocol value: {shown}\n"));
    }
    if version > 31 && digests.trim().is_empty() {
        return Err(format!("@ERROR: your client omitted the digest name list: {shown}\n"));
    }
    Protocol::negotiate(version, sub.unwrap_or(0)).ok_or_else(|| {
        format!(
            "@ERROR: protocol version mismatch -- this server speaks {} to {} (rsync 2.6.4 or newer), your client {version}\n",
            Protocol::OLDEST.number(),
            Protocol::NEWEST.number(),
        )
    })
}

/// What a client asks for in the line after its greeting (3.3).
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// The list of modules.
    List,
    /// So many octets to drop, then another request line.
    EarlyInput(usize),
    /// A module by its name.
    Module(String),
    /// Nothing that we know; the line to answer with.
    Unknown(String),
}

/// Reads a request line.
#[must_use]
pub fn parse_request(line: &str) -> Request {
    if line.is_empty() || line == "#list" {
        return Request::List;
    }
    if let Some(len) = line.strip_prefix("#early_input=") {
        return match len.parse() {
            Ok(len @ 1..=EARLY_INPUT_LEN_MAX) => Request::EarlyInput(len),
            _ => Request::Unknown("@ERROR: invalid early_input length\n".to_owned()),
        };
    }
    if line.starts_with('#') {
        let shown = crate::error::printable(line.as_bytes());
        return Request::Unknown(format!("@ERROR: Unknown command '{shown}'\n"));
    }
    Request::Module(line.to_owned())
}

/// One line of a list of modules.
#[must_use]
pub fn module_line(name: &str, comment: &str) -> String {
    format!("{name:<15}\t{comment}\n")
}

/// A message of the day as it is sent: nothing if it is empty, never with a line that a client would take
/// for the protocol's own.
#[must_use]
pub fn motd_text(motd: &str) -> String {
    let mut text = String::new();
    for line in motd.lines() {
        if line.starts_with("@RSYNCD:") || line.starts_with("@ERROR") {
            text.push(' ');
        }
        text.push_str(line);
        text.push('\n');
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// The answer to a module that is not there, or that this host must not know of.
#[must_use]
pub fn unknown_module(name: &str) -> String {
    format!("@ERROR: Unknown module '{}'\n", crate::error::printable(name.as_bytes()))
}

/// The answer to a host that may know of a module but not use it.
#[must_use]
pub fn access_denied(name: &str, address: &str) -> String {
    let name = crate::error::printable(name.as_bytes());
    format!("@ERROR: access denied to {name} from UNDETERMINED ({address})\n")
}

/// Asks a client to log in.
#[must_use]
pub fn challenge_line(challenge: &str) -> String {
    format!("@RSYNCD: AUTHREQD {challenge}\n")
}

/// The answer to a login that failed, whatever was wrong with it.
#[must_use]
pub fn login_failed(name: &str) -> String {
    format!("@ERROR: auth failed on module {}\n", crate::error::printable(name.as_bytes()))
}

/// The answer to a client that knows none of the digests for logging in.
#[must_use]
pub fn no_common_digest() -> String {
    let names = crate::login::AuthDigest::ALL.map(crate::login::AuthDigest::as_str).join(" ");
    format!("@ERROR: your client does not support one of our daemon-auth checksums: {names}\n")
}

/// The answer when all connections are in use and the wait was too long.
#[must_use]
pub fn connections_exhausted(connections_max: i64) -> String {
    format!("@ERROR: max connections ({connections_max}) reached -- try again later\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_of_known_clients() {
        let number = |line| parse_greeting(line).map(Protocol::number);
        assert_eq!(number("@RSYNCD: 32.0 sha512 sha256 sha1 md5 md4"), Ok(32));
        assert_eq!(number("@RSYNCD: 31.0 md5 md4"), Ok(31));
        assert_eq!(number("@RSYNCD: 31.0"), Ok(31));
        assert!(number("@RSYNCD: 32.0").unwrap_err().contains("digest name list"));
        assert!(number("@RSYNCD: 31").unwrap_err().contains("subprotocol"));
        assert_eq!(number("@RSYNCD: 30.0"), Ok(30));
        assert_eq!((number("@RSYNCD: 29"), number("@RSYNCD: 29.0 md5 md4")), (Ok(29), Ok(29)));
        assert!(number("@RSYNCD: 28").unwrap_err().contains("29 to 32"));
        for line in ["", "GET / HTTP/1.1", "@RSYNCD: x.y", "@RSYNCD: 99999999999.0 md5"] {
            assert_eq!(number(line), Err(STARTUP_ERROR.to_owned()), "{line}");
        }
    }

    #[test]
    fn lines_end_are_bounded_and_have_no_nul() {
        assert_eq!(take_line(b"abc\r\ndef"), Line::Whole("abc".to_owned(), 5));
        assert_eq!(take_line(b"abc"), Line::Partial);
        assert_eq!(take_line(b"a\0c"), Line::Bad);
        assert_eq!(take_line(&[b'a'; LINE_LEN_MAX]), Line::Partial);
        assert_eq!(take_line(&[b'a'; LINE_LEN_MAX + 1]), Line::Bad);
        assert!(may_be_greeting(b"@RS") && may_be_greeting(b"@RSYNCD: 3"));
        assert!(!may_be_greeting(b"G") && !may_be_greeting(&[0x16, 0x03]));
    }

    #[test]
    fn requests() {
        assert_eq!(parse_request(""), Request::List);
        assert_eq!(parse_request("#list"), Request::List);
        assert_eq!(parse_request("#early_input=5120"), Request::EarlyInput(5120));
        assert_eq!(parse_request("gentoo-portage"), Request::Module("gentoo-portage".to_owned()));
        for line in ["#early_input=0", "#early_input=5121", "#early_input=x", "#frobnicate"] {
            assert!(matches!(parse_request(line), Request::Unknown(_)), "{line}");
        }
    }

    #[test]
    fn a_motd_cannot_speak_for_the_protocol() {
        assert_eq!(motd_text(""), "");
        assert_eq!(motd_text("hello\n@ERROR: no\n"), "hello\n @ERROR: no\n\n");
    }
}
