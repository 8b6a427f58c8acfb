//! From octets to a request's head (RFC 9112, sections 2 to 5), in the types of `http`.
//!
//! Stricter than the recommendation where leniency lets two programs read two different requests (section 2.2): a lone
//! LF ends no line here.

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version, request};

/// What a head may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Fields.
    pub headers_max: usize,
    /// Octets, the empty line at its end included.
    pub octets_max: usize,
}

const END: &[u8] = b"\r\n\r\n";
/// Empty lines before a request that are overlooked (section 2.2).
const EMPTY_LINES_MAX: usize = 8;

/// What is wrong with a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    /// It is no head of HTTP/1.
    #[error("this is no request of HTTP/1")]
    Malformed,
    /// It is one of another major version.
    #[error("of HTTP, versions 1.1 and 1.0 are spoken here, and no other")]
    Version,
    /// An LF without a CR before it.
    #[error("a line ends with a lone line feed")]
    LoneLineFeed,
    /// Its target is no URI.
    #[error("the request's target is no URI")]
    Target,
    /// More headers than are taken.
    #[error("too many headers")]
    TooManyHeaders,
    /// More octets than are taken.
    #[error("the request's head is too long")]
    TooLong,
}

/// A head that is still coming.
#[derive(Debug, Default)]
pub struct Awaited {
    /// So much of it was looked at: each octet is looked at once, however they come.
    seen: usize,
    empty_lines: usize,
}

impl Awaited {
    /// Takes the head from `received` if all of it is there.
    ///
    /// # Errors
    /// What it is instead of a head; nothing more can be read then.
    pub fn look(
        &mut self,
        received: &mut BytesMut,
        limits: Limits,
    ) -> Result<Option<request::Parts>, HeadFault> {
        // Its CR may have come alone.
        while self.seen < 2 && received.starts_with(b"\r\n") {
            self.empty_lines += 1;
            if self.empty_lines > EMPTY_LINES_MAX {
                return Err(HeadFault::Malformed);
            }
            received.advance(2);
            self.seen = 0;
        }
        let is_first = self.seen == 0;
        let end = self.find_end(received)?;
        if end.unwrap_or(received.len()) > limits.octets_max {
            return Err(HeadFault::TooLong);
        }
        let Some(end) = end else {
            if is_first {
                // What is no HTTP at all is told so before its time is over.
                refuse_other(received, limits)?;
            }
            return Ok(None);
        };
        parse(&received.split_to(end).freeze(), limits).map(Some)
    }

    fn find_end(&mut self, received: &[u8]) -> Result<Option<usize>, HeadFault> {
        for (at, octet) in received.iter().enumerate().skip(self.seen) {
            if *octet == b'\n' {
                if at.checked_sub(1).is_none_or(|before| received[before] != b'\r') {
                    return Err(HeadFault::LoneLineFeed);
                }
                if received[..=at].ends_with(END) {
                    return Ok(Some(at + 1));
                }
            }
        }
        self.seen = received.len();
        Ok(None)
    }
}

fn refuse_other(begun: &[u8], limits: Limits) -> Result<(), HeadFault> {
    let mut headers = vec![httparse::EMPTY_HEADER; limits.headers_max];
    match httparse::Request::new(&mut headers).parse(begun) {
        // It may not be all there.
        Err(httparse::Error::Version) => version(begun).map(|_| ()),
        Err(error) => Err(fault(error)),
        Ok(_) => Ok(()),
    }
}

fn fault(error: httparse::Error) -> HeadFault {
    if error == httparse::Error::TooManyHeaders { HeadFault::TooManyHeaders } else { HeadFault::Malformed }
}

const VERSION: &[u8] = b"HTTP/D.D";

/// Where the minor version stands in a request line that ends with one of HTTP/1 (RFC 9112, section 2.3); `None` while it
/// may become that.
fn version(begun: &[u8]) -> Result<Option<usize>, HeadFault> {
    let line_end = begun.windows(2).position(|pair| pair == b"\r\n");
    let line = &begun[..line_end.unwrap_or(begun.len())];
    // Its LF may be still to come.
    let line = if line_end.is_none() { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
    let start = line.iter().rposition(|octet| *octet == b' ').map_or(0, |space| space + 1);
    let said = &line[start..];
    let is_one = |(octet, of): (&u8, &u8)| octet == of || (*of == b'D' && octet.is_ascii_digit());
    let is_begun = said.len() <= VERSION.len() && said.iter().zip(VERSION).all(is_one);
    match (is_begun, line_end) {
        (true, None) => Ok(None),
        (true, Some(end)) if said.len() == VERSION.len() => {
            if said[5] == b'1' {
                Ok(Some(end - 1))
            } else {
                Err(HeadFault::Version)
            }
        }
        _ => Err(HeadFault::Malformed),
    }
}

/// The head as one of the latest version that is spoken here: what a later minor version says more is nothing that must be
/// understood (RFC 9110, section 2.5).
fn as_known(head: &Bytes) -> Result<Bytes, HeadFault> {
    let minor = version(head)?.ok_or(HeadFault::Malformed)?;
    if head[minor] <= b'1' {
        return Ok(head.clone());
    }
    let mut known = head.to_vec();
    known[minor] = b'1';
    Ok(known.into())
}

fn parse(head: &Bytes, limits: Limits) -> Result<request::Parts, HeadFault> {
    let head = &as_known(head)?;
    let mut headers = vec![httparse::EMPTY_HEADER; limits.headers_max];
    let mut parsed = httparse::Request::new(&mut headers);
    if parsed.parse(head).map_err(fault)? != httparse::Status::Complete(head.len()) {
        return Err(HeadFault::Malformed);
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(HeadFault::Malformed);
    };
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|_| HeadFault::Malformed)?;
    // It would be dropped in silence; who looks at this request before us may take it for a part of the path.
    if target.contains('#') {
        return Err(HeadFault::Target);
    }
    let target = head.slice_ref(target.as_bytes());
    *request.uri_mut() = Uri::from_maybe_shared(target).map_err(|_| HeadFault::Target)?;
    *request.version_mut() = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| HeadFault::Malformed)?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(header.value));
        let value = value.map_err(|_| HeadFault::Malformed)?;
        request.headers_mut().try_append(name, value).map_err(|_| HeadFault::TooManyHeaders)?;
    }
    Ok(request.into_parts().0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { headers_max: 4, octets_max: 200 };

    /// What comes of `octets` when they come in pieces of `step`: the targets of the heads, and the end.
    fn heard(octets: &[u8], step: usize) -> (Vec<String>, Option<HeadFault>) {
        let (mut received, mut awaited, mut targets) = (BytesMut::new(), Awaited::default(), Vec::new());
        for piece in octets.chunks(step) {
            received.extend_from_slice(piece);
            loop {
                match awaited.look(&mut received, LIMITS) {
                    Ok(Some(head)) => targets.push(head.uri.to_string()),
                    Ok(None) => break,
                    Err(fault) => return (targets, Some(fault)),
                }
                awaited = Awaited::default();
            }
        }
        (targets, None)
    }

    #[test]
    fn heads_are_read_wherever_they_are_cut() {
        let sent = b"\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\nHEAD http://y/b HTTP/1.0\r\n\r\nCONNECT z:443 HTTP/1.1\r\n\r\nGET";
        for step in 1..=sent.len() {
            let expected = ["/a", "http://y/b", "z:443"].map(str::to_owned).to_vec();
            assert_eq!(heard(sent, step), (expected, None), "{step}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_head() {
        for (sent, fault) in [
            (&b"GET /a HTTP/1.1\nHost: x\r\n\r\n"[..], HeadFault::LoneLineFeed),
            (b"GET /a HTTP/1.1\r\nHost: x\n\r\n", HeadFault::LoneLineFeed),
            (b"\nGET /a HTTP/1.1\r\n\r\n", HeadFault::LoneLineFeed),
            (b"GET /a HTTP/1.1\r\n folded: x\r\n\r\n", HeadFault::Malformed),
            (b"GET /a HTTP/1.1\r\nHost : x\r\n\r\n", HeadFault::Malformed),
            (b"GET /a HTTP/1.1\r\nHost: x\rX: y\r\n\r\n", HeadFault::Malformed),
            (b"GET  /a HTTP/1.1\r\n\r\n", HeadFault::Malformed),
            (b"GET /a\r\n\r\n", HeadFault::Malformed),
            (b"GET /a HTTP/2.0\r\n\r\n", HeadFault::Version),
            (b"GET /a HTTP/0.9\r\n\r\n", HeadFault::Version),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HeadFault::Version),
            (b"GET /a HTTP/2\r\n\r\n", HeadFault::Malformed),
            (b"GET /a HTTP/11.1\r\n\r\n", HeadFault::Malformed),
            (b"GET /a HTTP/1.10\r\n\r\n", HeadFault::Malformed),
            (b"GET /a http/1.1\r\n\r\n", HeadFault::Malformed),
            (b"GET /a HTTPS/1.1\r\n\r\n", HeadFault::Malformed),
            (b"GET a:b:c HTTP/1.1\r\n\r\n", HeadFault::Target),
            (b"GET /a HTTP/1.1\r\na: b\r\na: b\r\na: b\r\na: b\r\na: b\r\n\r\n", HeadFault::TooManyHeaders),
            (&[&b"GET /"[..], &[b'a'; 200], b" HTTP/1.1\r\n\r\n"].concat(), HeadFault::TooLong),
            (&[b'a'; 300], HeadFault::TooLong),
            (b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET /a HTTP/1.1\r\n\r\n", HeadFault::Malformed),
        ] {
            for step in [1, 7, sent.len()] {
                assert_eq!(heard(sent, step), (Vec::new(), Some(fault)), "{} by {step}", sent.escape_ascii());
            }
        }
    }

    #[test]
    fn a_later_minor_version_is_the_latest_one_that_is_known() {
        for (minor, version) in
            [(0, Version::HTTP_10), (1, Version::HTTP_11), (2, Version::HTTP_11), (9, Version::HTTP_11)]
        {
            let sent = format!("GET /a HTTP/1.{minor}\r\nHost: x\r\n\r\n");
            for first in 1..sent.len() {
                let mut received = BytesMut::from(&sent.as_bytes()[..first]);
                let mut awaited = Awaited::default();
                assert!(awaited.look(&mut received, LIMITS).unwrap().is_none(), "{first} of {sent:?}");
                received.extend_from_slice(&sent.as_bytes()[first..]);
                let head = awaited.look(&mut received, LIMITS).unwrap().unwrap();
                assert_eq!((head.version, head.headers["host"].as_bytes()), (version, &b"x"[..]));
            }
        }
    }

    #[test]
    fn what_is_no_http_is_told_at_once() {
        for sent in [&b"\x16\x03\x01\x02\0\x01"[..], b"SSH-2.0-OpenSSH_9.6\r\n", b"@RSYNCD: 31.0"] {
            assert_eq!(heard(sent, sent.len()).1, Some(HeadFault::Malformed), "{}", sent.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn pieces_don_t_matter(
            octets in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' '), Just(b':'), any::<u8>()], 0..300),
            step in 1..50_usize,
        ) {
            let whole = [b"GET /a HTTP/1.1\r\n".as_slice(), &octets].concat();
            let (once, pieces) = (heard(&whole, whole.len()), heard(&whole, step));
            // Only what is not whole may be told to be wrong later.
            prop_assert_eq!(&once.0, &pieces.0);
            prop_assert!(once.1.is_some() || pieces.1.is_none());
        }
    }
}
