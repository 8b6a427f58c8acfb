//! The signature of a git commit: a header of the commit object, over the object without it.

use pgp::packet::SignatureType;

use crate::refusal::{Reason, Refusal};
use crate::ring::Certificates;
use crate::signature::{self, Signer};

/// Checks that every signature in the commit object `object` (what `git cat-file commit` prints) is good at a time; who
/// made them. `digits` is the length of its name: repositories by SHA-256 have a header of their own.
///
/// # Errors
/// What is wrong with the object or with one of the signatures.
pub fn verify(object: &[u8], digits: usize, keys: &Certificates, now_s: u64) -> Result<Vec<Signer>, Refusal> {
    let header: &[u8] = if digits == 64 { b"gpgsig-sha256" } else { b"gpgsig" };
    let (signed, signature) = split(object, header)?;
    let armour = String::from_utf8(signature).map_err(|_| malformed("its signature is not text"))?;
    if !armour.trim_start().starts_with(signature::BEGIN) {
        return Err(malformed("its signature is not one of OpenPGP"));
    }
    let signatures = signature::read(&armour)?;
    signature::judge_all(&signatures, SignatureType::Binary, &signed, keys, now_s)
}

/// What is signed, and the signature. git leaves out of what it signs whatever header begins with `gpgsig`.
fn split(object: &[u8], header: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
    if !object.starts_with(b"tree ") {
        return Err(malformed("expected a tree first"));
    }
    let mut signed = Vec::with_capacity(object.len());
    let mut signature: Option<Vec<u8>> = None;
    let mut at = At::Signed;
    let mut rest = object;
    while let Some(end) = rest.iter().position(|&octet| octet == b'\n') {
        let (line, after) = rest.split_at(end + 1);
        if line == b"\n" {
            break;
        }
        if let Some(more) = line.strip_prefix(b" ") {
            match (&at, &mut signature) {
                (At::Signed, _) => signed.extend_from_slice(line),
                (At::Signature, Some(signature)) => signature.extend_from_slice(more),
                (At::Signature, None) | (At::Other, _) => {}
            }
        } else if let Some(first) = line.strip_prefix(header).and_then(|rest| rest.strip_prefix(b" ")) {
            if signature.is_some() {
                return Err(malformed("two signature headers"));
            }
            signature = Some(first.to_vec());
            at = At::Signature;
        } else if line.starts_with(b"gpgsig") {
            at = At::Other;
        } else {
            signed.extend_from_slice(line);
            at = At::Signed;
        }
        rest = after;
    }
    signed.extend_from_slice(rest);
    Ok((signed, signature.ok_or(Refusal::of_text(Reason::NotSigned))?))
}

/// What a line that goes on belongs to.
enum At {
    Signed,
    Signature,
    Other,
}

fn malformed(why: &str) -> Refusal {
    Refusal::of_text(Reason::Malformed(format!("the commit object: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: &str = "tree 1\nparent 2\nauthor a\ngpgsig -----BEGIN\n \n iQ\n -----END\ngpgsig-sha256 x\n y\n\
        encoding z\n w\n\nsubject\n\ngpgsig body\n";

    #[test]
    fn the_signature_is_taken_out_and_the_message_stays() {
        let (signed, signature) = split(OBJECT.as_bytes(), b"gpgsig").unwrap();
        let expected = "tree 1\nparent 2\nauthor a\nencoding z\n w\n\nsubject\n\ngpgsig body\n";
        assert_eq!(String::from_utf8(signed).unwrap(), expected);
        assert_eq!(String::from_utf8(signature).unwrap(), "-----BEGIN\n\niQ\n-----END\n");
        assert_eq!(split(OBJECT.as_bytes(), b"gpgsig-sha256").unwrap().1, b"x\ny\n");
    }

    #[test]
    fn what_is_no_signed_commit_is_refused() {
        for bad in [
            OBJECT.replace("tree 1", "gpgsig-x\ntree 1"),
            OBJECT.replace("author a", "gpgsig x"),
            OBJECT.replace("gpgsig ", "other "),
            String::new(),
            "tree 1".to_owned(),
            "tree 1\n\ngpgsig x\n".to_owned(),
        ] {
            assert!(split(bad.as_bytes(), b"gpgsig").is_err(), "{bad}");
        }
    }
}
