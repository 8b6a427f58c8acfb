//! Keys of the kinds that trees are signed with, texts of every shape, and what can happen to either.

use super::rig::{LATER, Rig, SOON, THEN};

/// Its name, the keys, and the text.
pub(crate) type Scene = (&'static str, Vec<u8>, Vec<u8>);

pub(crate) const TEXT: &[u8] = b"IGNORE distfiles\nDATA a 1 SHA512 aa\nTIMESTAMP 2026-08-21T17:31:03Z\n";

pub(crate) fn all(rig: &Rig) -> Vec<Scene> {
    let mut scenes = kinds(rig);
    scenes.extend(lifetimes(rig));
    scenes.extend(revocations(rig));
    scenes.extend(self_signatures(rig));
    let key = rig.key(THEN, "plain", "ed25519", "sign", "never");
    let keys = rig.export(&[&key]);
    scenes.extend(options(rig, &key, &keys));
    scenes.extend(several(rig, &key, &keys));
    scenes.extend(texts(rig, &key, &keys));
    scenes.extend(armour(rig, &key, &keys));
    scenes
}

/// Algorithms.
fn kinds(rig: &Rig) -> Vec<Scene> {
    let rsa = rig.key(THEN, "rsa", "rsa4096", "cert", "never");
    let subkey = rig.subkey(THEN, &rsa, "rsa2048", "never");
    let rsa_signed = rig.sign(SOON, &subkey, TEXT);
    let mut scenes = vec![
        ("RSA 4096 with a subkey", rig.export(&[&rsa]), rsa_signed.clone()),
        ("armoured keys", rig.export(&[&rsa]), rsa_signed),
    ];
    for (name, algorithm) in [
        ("ed25519", "ed25519"),
        ("P-256", "nistp256"),
        ("P-384", "nistp384"),
        ("P-521", "nistp521"),
        ("secp256k1", "secp256k1"),
        ("brainpool", "brainpoolP256r1"),
        ("RSA 1024", "rsa1024"),
        ("DSA 2048", "dsa2048"),
    ] {
        let key = rig.key(THEN, name, algorithm, "sign", "never");
        scenes.push((name, rig.export(&[&key]), rig.sign(SOON, &key, TEXT)));
    }
    scenes
}

/// Keys and subkeys that expire, and what is said of that later.
fn lifetimes(rig: &Rig) -> Vec<Scene> {
    let subkeys = rig.key(THEN, "subkeys", "ed25519", "cert", "never");
    let short = rig.subkey(THEN, &subkeys, "ed25519", "1d");
    let by_short = rig.sign(SOON, &short, TEXT);
    let long = rig.subkey(SOON, &subkeys, "ed25519", "never");
    let by_long = rig.sign(SOON, &long, TEXT);
    let with_subkeys = rig.export(&[&subkeys]);

    let extended = rig.key(THEN, "extended", "ed25519", "sign", "1d");
    let by_extended = rig.sign(SOON, &extended, TEXT);
    let before = rig.export(&[&extended]);
    rig.gpg(LATER, &["--quick-set-expire", &extended, "never"], b"");
    let after = rig.export(&[&extended]);
    rig.gpg(LATER, &["--quick-set-expire", &extended, "1d"], b"");
    let again = rig.export(&[&extended]);

    rig.gpg(LATER, &["--quick-set-expire", &subkeys, "never", &short], b"");
    let subkey_extended = rig.export(&[&subkeys]);
    rig.gpg(LATER, &["--quick-set-expire", &subkeys, "1d"], b"");
    let primary_expired = rig.export(&[&subkeys]);

    let to_come = rig.key(THEN, "to come", "ed25519", "sign", "1d");
    let by_extended_to_come = rig.sign(SOON, &to_come, TEXT);
    rig.gpg("20990101T000000", &["--quick-set-expire", &to_come, "never"], b"");
    let will_be = rig.export(&[&to_come]);

    let unborn = rig.key("20990101T000000", "unborn", "ed25519", "sign", "never");
    let by_unborn = rig.sign("20990101T000001", &unborn, TEXT);
    vec![
        ("an expired subkey of a living key", with_subkeys.clone(), by_short.clone()),
        ("a living subkey beside an expired one", with_subkeys, by_long.clone()),
        ("a subkey whose expiry was extended", subkey_extended.clone(), by_short),
        ("a living subkey, the other extended", subkey_extended, by_long.clone()),
        ("a living subkey of an expired key", primary_expired, by_long),
        ("an expired key", before.clone(), by_extended.clone()),
        ("a key whose expiry was extended", after.clone(), by_extended.clone()),
        ("a key that was extended and then shortened", again, by_extended.clone()),
        ("the key as it was, then as it is", [before.clone(), after.clone()].concat(), by_extended.clone()),
        ("the key as it is, then as it was", [after, before].concat(), by_extended),
        ("a key and a signature of the future", rig.export(&[&unborn]), by_unborn),
        ("a key that will have been extended", will_be, by_extended_to_come),
    ]
}

fn revocations(rig: &Rig) -> Vec<Scene> {
    let key = rig.key(THEN, "revoked", "ed25519", "sign", "never");
    let subkey = rig.subkey(THEN, &key, "ed25519", "never");
    let (by_key, by_subkey) = (rig.sign(SOON, &key, TEXT), rig.sign(SOON, &subkey, TEXT));
    rig.edit(LATER, &key, "key 1\nrevkey\ny\n0\n\ny\nsave\n");
    let subkey_revoked = rig.export(&[&key]);
    rig.revoke(&key);
    let revoked = rig.export(&[&key]);

    let renamed = rig.key(THEN, "old name", "ed25519", "sign", "never");
    let by_renamed = rig.sign(SOON, &renamed, TEXT);
    rig.gpg(SOON, &["--quick-add-uid", &renamed, "new name"], b"");
    rig.gpg(LATER, &["--quick-revoke-uid", &renamed, "old name"], b"");
    vec![
        ("a revoked subkey", subkey_revoked.clone(), by_subkey.clone()),
        ("a key with a revoked subkey", subkey_revoked, by_key.clone()),
        ("a revoked key", revoked.clone(), by_key),
        ("a subkey of a revoked key", revoked, by_subkey),
        ("a key with a revoked name", rig.export(&[&renamed]), by_renamed),
    ]
}

/// What the owner says of the keys, or doesn't.
fn self_signatures(rig: &Rig) -> Vec<Scene> {
    let mut scenes = Vec::new();
    let signs = rig.key(THEN, "signs no more", "ed25519", "sign", "never");
    let by_signs = rig.sign(SOON, &signs, TEXT);
    rig.edit(LATER, &signs, "change-usage\nS\nQ\nsave\n");
    scenes.push(("a key that is for signing no more", rig.export(&[&signs]), by_signs));

    let owner = rig.key(THEN, "owner", "ed25519", "cert", "never");
    let subkey = rig.subkey(THEN, &owner, "ed25519", "never");
    let by_subkey = rig.sign(SOON, &subkey, TEXT);
    let keys = rig.export(&[&owner]);
    rig.edit(LATER, &owner, "key 1\nchange-usage\nS\nA\nQ\nsave\n");
    scenes.push(("a subkey that is for signing no more", rig.export(&[&owner]), by_subkey.clone()));

    let other = rig.export(&[&rig.key(THEN, "grafter", "ed25519", "cert", "never")]);
    let packets = split(&keys);
    let (above, below) = packets.split_at(packets.iter().position(|(tag, _)| *tag == SUBKEY).unwrap());
    let join = |packets: &[(u8, &[u8])]| -> Vec<u8> {
        packets.iter().flat_map(|(_, octets)| *octets).copied().collect()
    };
    let without = |unwanted: u8| -> Vec<u8> {
        join(&packets.iter().filter(|(tag, _)| *tag != unwanted).copied().collect::<Vec<_>>())
    };
    scenes.push(("a subkey grafted upon another key", [other, join(below)].concat(), by_subkey.clone()));
    scenes.push(("a subkey without its key", join(below), by_subkey.clone()));
    scenes.push(("a subkey without a binding", [join(above), join(&below[..1])].concat(), by_subkey.clone()));
    scenes.push(("no self-signatures", without(SIGNATURE), by_subkey.clone()));
    let no_name: Vec<_> = [&packets[..1], below].concat();
    scenes.push(("a key without a name", join(&no_name), by_subkey.clone()));
    scenes.push(("no back-signature", without_back_signature(&packets), by_subkey));

    let weak = ["--cert-digest-algo", "SHA1", "--allow-weak-digest-algos"];
    rig.gpg(THEN, &[&weak[..], &["--quick-generate-key", "weak", "rsa2048", "sign", "never"]].concat(), b"");
    let by_weak = rig.sign_with(SOON, &["--local-user", "weak"], TEXT);
    scenes.push(("a self-signature over SHA-1", rig.export(&["weak"]), by_weak));
    let strong = rig.key(THEN, "set weakly", "rsa2048", "sign", "never");
    let by_strong = rig.sign(SOON, &strong, TEXT);
    rig.gpg(SOON, &[&weak[..], &["--quick-set-expire", &strong, "1d"]].concat(), b"");
    scenes.push(("an expiry over SHA-1", rig.export(&[&strong]), by_strong));
    scenes
}

const SIGNATURE: u8 = 2;
const SUBKEY: u8 = 14;

/// Packets with their types; gpg writes lengths of the old form for keys.
fn split(mut octets: &[u8]) -> Vec<(u8, &[u8])> {
    let mut packets = Vec::new();
    while let [head, rest @ ..] = octets {
        assert_eq!(head & 0xc0, 0x80, "a packet of the old form");
        let digits = 1 << (head & 3);
        let length = rest[..digits].iter().fold(0, |length, &octet| length << 8 | usize::from(octet));
        let (packet, after) = octets.split_at(1 + digits + length);
        packets.push(((head >> 2) & 0x0f, packet));
        octets = after;
    }
    packets
}

/// The subkey's binding, without what the subkey says itself.
fn without_back_signature(packets: &[(u8, &[u8])]) -> Vec<u8> {
    use pgp::packet::{PacketHeader, PacketTrait as _, Signature, SubpacketType};
    let mut keys = Vec::new();
    let mut taken = 0;
    for (tag, octets) in packets {
        let mut rest = *octets;
        let header = PacketHeader::try_from_reader(&mut rest).unwrap();
        if *tag != SIGNATURE {
            keys.extend_from_slice(octets);
            continue;
        }
        let mut signature = Signature::try_from_reader(header, rest).unwrap();
        let unhashed = signature.config().unwrap().unhashed_subpackets();
        let embedded = unhashed.enumerate().find(|(_, one)| one.typ() == SubpacketType::EmbeddedSignature);
        if let Some(index) = embedded.map(|(index, _)| index) {
            signature.unhashed_subpacket_remove(index).unwrap();
            taken += 1;
        }
        signature.to_writer_with_header(&mut keys).unwrap();
    }
    assert_eq!(taken, 1, "gpg has put it elsewhere");
    keys
}

/// Signatures of unusual kinds.
fn options(rig: &Rig, key: &str, keys: &[u8]) -> Vec<Scene> {
    let user = format!("{key}!");
    let sign = |more: &[&str]| {
        let arguments = [&["--local-user", &user], more].concat();
        (keys.to_vec(), rig.sign_with(SOON, &arguments, TEXT))
    };
    let mut scenes = Vec::new();
    for (name, more) in [
        ("SHA-256", &["--digest-algo", "SHA256"][..]),
        ("SHA-1", &["--digest-algo", "SHA1", "--allow-weak-digest-algos"]),
        ("RIPEMD-160", &["--digest-algo", "RIPEMD160", "--allow-weak-digest-algos"]),
        ("MD5", &["--digest-algo", "MD5", "--allow-weak-digest-algos"]),
        ("an expired signature", &["--default-sig-expire", "1d"]),
        ("a signature that expires in time", &["--default-sig-expire", "50y"]),
        ("a notation", &["--sig-notation", "x@example.org=y"]),
        ("a critical notation", &["--sig-notation", "!x@example.org=y"]),
        ("a critical policy", &["--sig-policy-url", "!https://example.org/"]),
        ("not dash-escaped", &["--not-dash-escaped"]),
    ] {
        let (keys, octets) = sign(more);
        scenes.push((name, keys, octets));
    }
    let early = rig.sign("20990101T000000", key, TEXT);
    scenes.push(("a signature of the future", keys.to_vec(), early));
    let stranger = rig.key(THEN, "stranger", "ed25519", "sign", "never");
    scenes.push(("an unknown key", keys.to_vec(), rig.sign(SOON, &stranger, TEXT)));
    scenes
}

/// More than one signature, certificate or both.
fn several(rig: &Rig, key: &str, keys: &[u8]) -> Vec<Scene> {
    let other = rig.key(THEN, "other", "ed25519", "sign", "never");
    let both = ["--local-user", key, "--local-user", &other];
    let twice = rig.sign_with(SOON, &both, TEXT);
    let all = rig.export(&[key, &other]);
    vec![
        ("two signatures", all.clone(), twice.clone()),
        ("two signatures, one of them unknown", keys.to_vec(), twice),
        ("the second of two keys", all, rig.sign(SOON, &other, TEXT)),
    ]
}

/// Shapes of text.
fn texts(rig: &Rig, key: &str, keys: &[u8]) -> Vec<Scene> {
    let long = [b"x".repeat(100_000), b"\n".to_vec()].concat();
    let shapes: [(&str, &[u8]); 13] = [
        ("no text", b""),
        ("an empty line", b"\n"),
        ("no end of line", b"IGNORE a"),
        ("empty lines at the end", b"IGNORE a\n\n\n"),
        ("white space at ends", b"IGNORE a \t \nIGNORE b\t\n \n"),
        ("CR LF", b"IGNORE a\r\nIGNORE b\r\n"),
        ("dashes", b"- IGNORE\n-- x\n-----BEGIN PGP SIGNATURE-----\n-\n"),
        ("From", b"From a\nfrom b\n"),
        ("not UTF-8", b"IGNORE \xff\xfe\n"),
        ("NUL", b"IGNORE \0a\n"),
        ("form feed at an end", b"IGNORE a\x0c\n"),
        ("a carriage return in a line", b"IGNORE a\rb\n"),
        ("a long line", &long),
    ];
    shapes.into_iter().map(|(name, text)| (name, keys.to_vec(), rig.sign(SOON, key, text))).collect()
}

/// What happens to a text once it is signed.
fn armour(rig: &Rig, key: &str, keys: &[u8]) -> Vec<Scene> {
    let signed = String::from_utf8(rig.sign(SOON, key, TEXT)).unwrap();
    let dashed = String::from_utf8(rig.sign(SOON, key, b"- a\n-b\n")).unwrap();
    let sum = signed.lines().find(|line| line.starts_with('=')).unwrap();
    let first = signed.lines().next().unwrap();
    let hash = signed.lines().nth(1).unwrap();
    assert!(hash.starts_with("Hash: "), "{signed}");
    let damaged = [
        ("a changed text", signed.replace("distfiles", "app-misc")),
        ("a line taken out", signed.replace("IGNORE distfiles\n", "")),
        ("a line put in", signed.replace("IGNORE distfiles\n", "IGNORE distfiles\nIGNORE x\n")),
        ("a line joined by CR", signed.replace("distfiles\n", "distfiles\r")),
        ("white space put at an end", signed.replace("distfiles\n", "distfiles \t\n")),
        ("CR LF put in", signed.replace("distfiles\n", "distfiles\r\n")),
        ("white space put in", signed.replace("IGNORE ", "IGNORE  ")),
        ("an empty line put in", signed.replace("distfiles\n", "distfiles\n\n")),
        ("an escape that is not needed", signed.replace("\nIGNORE", "\n- IGNORE")),
        ("an escape that is missing", dashed.replace("- -b", "-b")),
        ("no Hash header", signed.replace(&format!("{hash}\n"), "")),
        ("another Hash header", signed.replace(hash, "Hash: SHA384")),
        ("an unknown Hash header", signed.replace(hash, "Hash: X")),
        ("a foreign header", signed.replace(hash, "Comment: x")),
        ("text among the headers", signed.replace(hash, "IGNORE app-misc")),
        ("text before", format!("IGNORE x\n{signed}")),
        ("text behind", format!("{signed}IGNORE x\n")),
        ("blank lines around", format!("\n{signed}\n")),
        ("two messages", format!("{signed}{signed}")),
        ("no end of armour", signed.replace("-----END PGP SIGNATURE-----\n", "")),
        ("another checksum", signed.replace(sum, "=AAAA")),
        ("no checksum", signed.replace(&format!("{sum}\n"), "")),
        (
            "a comment in the signature's armour",
            signed.replace(" SIGNATURE-----\n\n", " SIGNATURE-----\nComment: x\n\n"),
        ),
        ("no signature", TEXT.iter().map(|&octet| char::from(octet)).collect()),
        ("only the first line", format!("{first}\n")),
        ("white space behind the first line", signed.replace(first, &format!("{first} "))),
        ("CR LF everywhere", signed.replace('\n', "\r\n")),
    ];
    let is_damaged = |text: &str| text != signed && text != dashed;
    for (name, text) in &damaged {
        assert!(is_damaged(text), "{name}");
    }
    damaged.into_iter().map(|(name, text)| (name, keys.to_vec(), text.into_bytes())).collect()
}
