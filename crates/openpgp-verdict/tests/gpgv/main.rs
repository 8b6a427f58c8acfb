//! The same keys and the same texts, good and damaged, before our verdict and that of the stock `gpgv`.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(clippy::print_stdout, reason = "the table of verdicts is for people")]

mod commits;
mod damage;
mod rig;
mod scenes;

use std::time::{SystemTime, UNIX_EPOCH};

use gentoo_repo::cleartext;
use openpgp_verdict::{Certificates, Reason};
use rig::Rig;

/// What is wrong with a text, as far as both have a word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    UnknownKey,
    Bad,
    SignatureExpired,
    KeyExpired,
    KeyRevoked,
    /// Whatever else.
    Refused,
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Our verdict, and the words of it.
fn ask_ourselves(keys: &[u8], octets: &[u8]) -> (Verdict, String) {
    let keys = match Certificates::parse(keys) {
        Ok(keys) => keys,
        Err(error) => return (Verdict::Refused, error.to_string()),
    };
    let text = match cleartext::strip(octets) {
        Ok(text) => text,
        Err(error) => return (Verdict::Refused, error.to_string()),
    };
    match cleartext_verdict(&text, &keys) {
        Ok(()) => (Verdict::Good, String::new()),
        Err((verdict, words)) => (verdict, words),
    }
}

fn cleartext_verdict(text: &cleartext::Cleartext<'_>, keys: &Certificates) -> Result<(), (Verdict, String)> {
    openpgp_verdict::cleartext::verify(text, keys, now_s()).map(drop).map_err(|refusal| {
        let verdict = match refusal.reason {
            Reason::UnknownKey => Verdict::UnknownKey,
            Reason::Bad => Verdict::Bad,
            Reason::SignatureExpired => Verdict::SignatureExpired,
            Reason::KeyExpired => Verdict::KeyExpired,
            Reason::KeyRevoked => Verdict::KeyRevoked,
            Reason::NotSigned
            | Reason::Malformed(_)
            | Reason::TooMany
            | Reason::Unsupported(_)
            | Reason::KeyNotYet
            | Reason::BeforeKey
            | Reason::NotForSigning
            | Reason::Unbound
            | Reason::NoBackSignature
            | Reason::WeakKey => Verdict::Refused,
        };
        (verdict, refusal.to_string())
    })
}

/// Where the verdicts differ on purpose, ours first, and why.
const DIFFERENT: &[(&str, Verdict, Verdict, &str)] = &[
    ("secp256k1", Verdict::Refused, Verdict::Good, "nobody signs trees with it"),
    ("brainpool", Verdict::Refused, Verdict::Good, "the crate does not know these curves"),
    ("RSA 1024", Verdict::Refused, Verdict::Good, "it can be broken"),
    (
        "DSA 2048",
        Verdict::Refused,
        Verdict::Good,
        "it gives its key away where randomness is bad; nobody needs it any more",
    ),
    ("SHA-1", Verdict::Refused, Verdict::Good, "two texts with one digest can be made"),
    ("RIPEMD-160", Verdict::Refused, Verdict::Good, "it is too short to rely on"),
    ("a critical notation", Verdict::Refused, Verdict::Bad, "we say what is wrong"),
    (
        "not dash-escaped",
        Verdict::Refused,
        Verdict::Good,
        "of GnuPG alone, and another text than everybody else reads",
    ),
    (
        "the key as it was, then as it is",
        Verdict::Good,
        Verdict::KeyExpired,
        "gpgv looks at the first alone; a key that was appended to the file is meant to count",
    ),
    (
        "a carriage return in a line",
        Verdict::Refused,
        Verdict::Good,
        "where a line ends depends on who reads it: a signed line must not be hidden at the end of another",
    ),
    ("a line joined by CR", Verdict::Refused, Verdict::Bad, "we say what is wrong"),
    (
        "text before",
        Verdict::Refused,
        Verdict::Good,
        "gpgv prints what was signed and leaves the rest; we, as gemato, read a file",
    ),
    ("text behind", Verdict::Refused, Verdict::Good, "the same"),
    ("no end of armour", Verdict::Refused, Verdict::Good, "something is missing"),
    (
        "white space behind the first line",
        Verdict::Refused,
        Verdict::Good,
        "gemato takes such a file for one that is not signed",
    ),
    (
        "a subkey without its key",
        Verdict::Refused,
        Verdict::UnknownKey,
        "the file is no keys; we say it when it is opened",
    ),
    (
        "CR LF everywhere",
        Verdict::Refused,
        Verdict::Good,
        "no tree has it: each line would be another than its digest says",
    ),
    (
        "another checksum",
        Verdict::Good,
        Verdict::Refused,
        "RFC 9580, 6.1, says that it must not matter; the signature guards itself",
    ),
];

#[test]
fn our_verdict_is_gpgvs() {
    let rig = Rig::create();
    let mut wrong = Vec::new();
    let scenes = scenes::all(&rig);
    for (name, keys, octets) in &scenes {
        let (ours, words) = ask_ourselves(keys, octets);
        let theirs = rig.ask_gpgv(keys, octets);
        println!("{name}\n    ours:  {ours:?} {words}\n    gpgv:  {theirs:?}");
        let excused = DIFFERENT.iter().find(|(excused, ..)| excused == name);
        let expected = excused.map_or((theirs, theirs), |&(_, ours, theirs, _)| (ours, theirs));
        if (ours, theirs) != expected {
            wrong.push(format!("{name}: ours {ours:?} {words}, gpgv {theirs:?}"));
        }
    }
    for (name, .., why) in DIFFERENT {
        println!("otherwise than gpgv: {name}: {why}");
        assert!(scenes.iter().any(|(scene, ..)| scene == name), "{name} is no scene");
    }
    println!("{} texts, {} of them with another verdict on purpose", scenes.len(), DIFFERENT.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
