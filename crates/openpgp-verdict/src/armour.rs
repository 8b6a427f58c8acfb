//! Armour (RFC 9580, 6.2): base64 between lines of dashes.
//!
//! Its checksum is not looked at: it protects against nothing that a signature doesn't.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The packets of every block between lines of `begin` and `end`, one after the other; nothing where there is no block.
pub(crate) fn blocks(text: &str, begin: &str, end: &str) -> Result<Vec<u8>, String> {
    let mut packets = Vec::new();
    let mut lines = text.lines().map(str::trim_end);
    while lines.by_ref().any(|line| line == begin) {
        let mut block = Vec::new();
        loop {
            match lines.next() {
                Some(line) if line == end => break,
                Some(line) if line.starts_with("-----") => return Err(format!("{line:?} within armour")),
                Some(line) => block.push(line),
                None => return Err("armour that does not end".to_owned()),
            }
        }
        packets.extend(decode(&block)?);
    }
    Ok(packets)
}

/// Headers up to an empty line, base64, and perhaps a checksum.
fn decode(block: &[&str]) -> Result<Vec<u8>, String> {
    let start = block
        .iter()
        .position(|line| line.is_empty())
        .ok_or("armour without an empty line after its headers")?;
    let (headers, body) = (&block[..start], &block[start + 1..]);
    if let Some(line) = headers.iter().find(|line| !line.contains(": ") && !line.ends_with(':')) {
        return Err(format!("{line:?} among the headers of armour"));
    }
    let sum = body.iter().position(|line| line.starts_with('=')).unwrap_or(body.len());
    let (digits, rest) = body.split_at(sum);
    if rest.iter().skip(1).any(|line| !line.is_empty()) {
        return Err("armour that goes on after its checksum".to_owned());
    }
    STANDARD.decode(digits.concat()).map_err(|error| format!("armour that is not base64: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "-----BEGIN X-----";
    const END: &str = "-----END X-----";

    fn block(body: &str) -> String {
        format!("{BEGIN}\nComment: x\n\n{body}\n=abcd\n{END}\n")
    }

    #[test]
    fn armour_comes_off_every_block() {
        let two = format!("note\n{}between\n{}", block("mQE="), block("mQ\nI="));
        assert_eq!(blocks(&two, BEGIN, END), Ok(vec![0x99, 1, 0x99, 2]));
        assert_eq!(blocks(&two.replace('\n', "\r\n"), BEGIN, END), Ok(vec![0x99, 1, 0x99, 2]));
        assert_eq!(blocks("nothing", BEGIN, END), Ok(vec![]));
        assert_eq!(blocks(&format!("{BEGIN}\n\nmQE=\n{END}"), BEGIN, END), Ok(vec![0x99, 1]));
    }

    #[test]
    fn damaged_armour_is_refused() {
        let good = block("mQE=");
        let whole = good.trim_end().len();
        for cut in good.find('\n').unwrap_or(0)..whole {
            assert!(blocks(&good[..cut], BEGIN, END).is_err(), "{cut}");
        }
        for bad in [
            good.replace("\n\n", "\n"),
            good.replace("mQE=", "mQ*="),
            good.replace("mQE=", "mQE"),
            good.replace("=abcd", "=abcd\nmQE="),
            good.replace("Comment: x", "text"),
            good.replace("mQE=", "-----BEGIN Y-----"),
        ] {
            assert!(blocks(&bad, BEGIN, END).is_err(), "{bad}");
        }
    }
}
