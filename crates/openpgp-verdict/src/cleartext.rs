//! The cleartext signature framework (RFC 9580, section 7): a text with its signatures below.
//!
//! `gentoo_repo::cleartext` says where text and signature begin and end; whoever parses the text parses the very octets
//! that are judged here, so that the two can't disagree.

use gentoo_repo::cleartext::Cleartext;
use pgp::packet::{Signature, SignatureType};

use crate::refusal::{Reason, Refusal};
use crate::ring::Certificates;
use crate::signature::{self, Signer};

/// Checks that every signature of `text` is good at a time; who made them.
///
/// # Errors
/// What is wrong with the text or with one of the signatures.
pub fn verify(text: &Cleartext<'_>, keys: &Certificates, now_s: u64) -> Result<Vec<Signer>, Refusal> {
    if !text.is_signed {
        return Err(Refusal::of_text(Reason::NotSigned));
    }
    let hashes = hashes(text.headers)?;
    let signatures = std::str::from_utf8(text.signature)
        .map_err(|_| malformed("the signature: armour that is not text".to_owned()))?;
    let signatures = signature::read(signatures)?;
    for hash in signatures.iter().filter_map(Signature::hash_alg) {
        let name = hash.to_string();
        if !hashes.contains(&name.as_str()) {
            return Err(malformed(format!("a signature over {name}, which no Hash: header announces")));
        }
    }
    signature::judge_all(&signatures, SignatureType::Text, &canonical(&text.body)?, keys, now_s)
}

/// The digests that the headers announce. RFC 9580, 7: there is `Hash` and nothing else. Any other line would look as if
/// it were part of what is signed, and `GnuPG`'s `NotDashEscaped` would make it another text. RFC 4880, 7: they announce
/// every digest; `GnuPG`, which boxes have, relies on it.
fn hashes(headers: &[u8]) -> Result<Vec<&str>, Refusal> {
    let wrong =
        |line: &[u8]| malformed(format!("expected Hash: headers, found {:?}", String::from_utf8_lossy(line)));
    let mut hashes = Vec::new();
    for line in headers.split(|&octet| octet == b'\n').filter(|line| !line.is_empty()) {
        let text = std::str::from_utf8(line).map_err(|_| wrong(line))?;
        let names = text.strip_prefix("Hash: ").ok_or_else(|| wrong(line))?;
        for name in names.split(',').map(str::trim) {
            if name.is_empty() || !name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-') {
                return Err(wrong(line));
            }
            hashes.push(name);
        }
    }
    Ok(hashes)
}

/// The text as it is signed: no white space at the ends of lines, which end in CR LF, and no end of the last line.
///
/// A carriage return within a line is refused. Signatures over text take it for the end of a line, parsers don't: a
/// signed line could be hidden at the end of another.
fn canonical(body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut canonical = Vec::with_capacity(body.len() + body.len() / 32);
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    for (number, line) in body.split(|&octet| octet == b'\n').enumerate() {
        let end =
            line.iter().rposition(|octet| !matches!(octet, b' ' | b'\t' | b'\r')).map_or(0, |last| last + 1);
        let line = &line[..end];
        if line.contains(&b'\r') {
            return Err(malformed(format!("a carriage return within signed line {}", number + 1)));
        }
        if number > 0 {
            canonical.extend_from_slice(b"\r\n");
        }
        canonical.extend_from_slice(line);
    }
    Ok(canonical)
}

fn malformed(why: String) -> Refusal {
    Refusal::of_text(Reason::Malformed(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_made_canonical() {
        for (body, expected) in [
            ("", ""),
            ("\n", ""),
            ("a\n", "a"),
            ("a", "a"),
            ("a \t\r\n b\n", "a\r\n b"),
            ("a\n\n\n", "a\r\n\r\n"),
            ("a\x0c\n", "a\x0c"),
        ] {
            assert_eq!(canonical(body.as_bytes()), Ok(expected.as_bytes().to_vec()), "{body:?}");
        }
        let error = canonical(b"a\nb\rc\n").unwrap_err().to_string();
        assert_eq!(error, "a carriage return within signed line 2");
    }

    #[test]
    fn only_hash_headers_are_taken() {
        for (good, names) in [
            ("", &[][..]),
            ("Hash: SHA512\n", &["SHA512"]),
            ("Hash: SHA256\nHash: SHA3-512\n", &["SHA256", "SHA3-512"]),
            ("Hash: SHA1, SHA256\r\n", &["SHA1", "SHA256"]),
        ] {
            assert_eq!(hashes(good.as_bytes()), Ok(names.to_vec()), "{good:?}");
        }
        for bad in
            ["NotDashEscaped: x\n", "Hash: \n", "IGNORE a\n", "Hash: SHA512\nDATA x\n", "Hash: SHA512 x\n"]
        {
            assert!(hashes(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
