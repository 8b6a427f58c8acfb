//! Keys and signatures. The owner of the keys of the corpus has signed one text and one commit: whatever else is
//! accepted is a fault.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gentoo_repo::cleartext;
use openpgp_verdict::Certificates;

/// When the keys of the corpus were valid.
const NOW_S: u64 = 1_600_000_000;
const TEXT: &[u8] = include_bytes!("../corpus/openpgp-text/signed");
const COMMIT: &[u8] = include_bytes!("../corpus/openpgp-commit/signed");

/// An RSA key with a subkey, and an ed25519 key.
static KEYS: LazyLock<Option<Certificates>> = LazyLock::new(|| {
    let keys =
        [&include_bytes!("../corpus/openpgp-keys/rsa")[..], include_bytes!("../corpus/openpgp-keys/ed25519")];
    Certificates::parse(&keys.concat()).ok()
});

fn known() -> &'static Certificates {
    KEYS.as_ref().unwrap_or_else(|| unreachable!("a test reads the keys of the corpus"))
}

pub(crate) fn keys(octets: &[u8]) {
    let Ok(keys) = Certificates::parse(octets) else { return };
    for now_s in [0, NOW_S, u64::MAX] {
        let _until = keys.sign_until(now_s).count();
    }
    if let Ok(text) = cleartext::strip(TEXT) {
        let _judged = openpgp_verdict::cleartext::verify(&text, &keys, NOW_S);
    }
    let _judged = openpgp_verdict::commit::verify(COMMIT, 40, &keys, NOW_S);
}

/// Packets, to be put into armour: base64 would keep a fuzzer busy with nothing else.
pub(crate) fn signatures(packets: &[u8]) {
    let armour = format!(
        "-----BEGIN PGP SIGNATURE-----\n\n{}\n-----END PGP SIGNATURE-----\n",
        STANDARD.encode(packets)
    );
    let headers = "Hash: SHA256, SHA512, SHA1, SHA384, SHA224, SHA3-256, SHA3-512";
    text(format!("-----BEGIN PGP SIGNED MESSAGE-----\n{headers}\n\nIGNORE changed\n{armour}").as_bytes());
    let folded = armour.trim_end().replace('\n', "\n ");
    commit(format!("tree 0\ngpgsig {folded}\n\nchanged\n").as_bytes());
}

pub(crate) fn text(octets: &[u8]) {
    let Ok(found) = cleartext::strip(octets) else { return };
    if openpgp_verdict::cleartext::verify(&found, known(), NOW_S).is_ok() {
        let body = cleartext::strip(TEXT).map(|text| text.body);
        let same = body.is_ok_and(|body| lines(&body).eq(lines(&found.body)));
        assert!(same, "a text that nobody has signed: {}", found.body.escape_ascii());
    }
}

/// White space at the ends of lines is not signed.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.split(|&octet| octet == b'\n').map(<[u8]>::trim_ascii_end)
}

pub(crate) fn commit(octets: &[u8]) {
    if openpgp_verdict::commit::verify(octets, 40, known(), NOW_S).is_ok() {
        assert_eq!(unsigned(octets), unsigned(COMMIT), "a commit that nobody has signed");
    }
}

/// A commit without its signature headers.
fn unsigned(object: &[u8]) -> Vec<&[u8]> {
    let head = object.windows(2).position(|pair| pair == b"\n\n").unwrap_or(object.len());
    let (head, message) = object.split_at(head);
    let mut in_signature = false;
    let kept = head.split(|&octet| octet == b'\n').filter(|line| {
        in_signature = if line.starts_with(b" ") { in_signature } else { line.starts_with(b"gpgsig") };
        !in_signature
    });
    kept.chain([message]).collect()
}
