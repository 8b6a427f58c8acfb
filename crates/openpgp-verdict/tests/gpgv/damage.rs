//! Octets changed one by one: whatever we accept of them, `gpgv` accepts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pgp::packet::{Packet, PacketParser, SubpacketData};

use super::rig::{Rig, SOON, THEN};
use super::scenes::TEXT;
use super::{Verdict, ask_ourselves};

/// Every so many octets one is changed: gpgv has to be started for each that we accept.
const STEP: usize = 2;
const MASKS: [u8; 3] = [0x01, 0x20, 0x80];

/// Our verdict with its words, and gpgv's.
type Ask<'a> = dyn Fn(&[u8]) -> (Verdict, String, Verdict) + 'a;

/// Changes octets of what is good; how many of the changed ones we accepted.
///
/// `is_same` knows what needn't be the same: gpgv looks for keys by the issuer's key ID alone, which nobody signs and
/// which we can do without.
fn flip(octets: &[u8], ask: &Ask<'_>, is_same: fn(&[u8], &[u8]) -> bool) -> usize {
    let mut accepted = 0;
    for at in (0..octets.len()).step_by(STEP) {
        let mask = MASKS[at / STEP % MASKS.len()];
        let mut changed = octets.to_vec();
        changed[at] ^= mask;
        let (ours, words, theirs) = ask(&changed);
        if ours == Verdict::Good {
            accepted += 1;
            let agrees = theirs == Verdict::Good || is_same(octets, &changed);
            let changed = changed.escape_ascii();
            assert!(agrees, "octet {at} ^ {mask:#04x}: ours {ours:?} {words}, gpgv {theirs:?}\n{changed}");
        }
    }
    accepted
}

/// Whether two sequences of packets differ in nothing that is signed.
fn says_the_same(one: &[u8], other: &[u8]) -> bool {
    match (signed_part(one), signed_part(other)) {
        (Some(one), Some(other)) => one == other,
        _ => false,
    }
}

/// Packets without their headers and without what is not signed, but for back-signatures.
fn signed_part(packets: &[u8]) -> Option<Vec<String>> {
    let parsed = PacketParser::new(packets).map(|packet| {
        let packet = packet.ok()?;
        let Packet::Signature(signature) = packet else { return Some(format!("{packet:?}")) };
        let config = signature.config()?;
        let is_back = |data: &&SubpacketData| matches!(data, SubpacketData::EmbeddedSignature(_));
        let back: Vec<_> = config.unhashed_subpackets().map(|one| &one.data).filter(is_back).collect();
        let hashed = &config.hashed_subpackets;
        Some(format!("{:?} {hashed:?} {back:?} {:?}", config.typ(), signature.signature()))
    });
    parsed.collect()
}

#[test]
fn whatever_we_accept_gpgv_accepts() {
    let rig = Rig::create();
    let key = rig.key(THEN, "owner", "ed25519", "cert", "never");
    let subkey = rig.subkey(THEN, &key, "ed25519", "never");
    let keys = rig.export(&[&key]);
    let signed = String::from_utf8(rig.sign(SOON, &subkey, TEXT)).unwrap();
    let (text, armour) = signed.split_at(signed.find("-----BEGIN PGP SIGNATURE").unwrap());
    // Neither the lines of the armour nor its checksum.
    let digits: String = armour.lines().filter(|line| !line.starts_with(['-', '='])).collect();
    let packet = STANDARD.decode(digits).unwrap();

    let judge = |keys: &[u8], octets: &[u8]| {
        let (ours, words) = ask_ourselves(keys, octets);
        // It takes a while, and only its verdict on what we accept is of interest.
        let theirs = if ours == Verdict::Good { rig.ask_gpgv(keys, octets) } else { Verdict::Refused };
        (ours, words, theirs)
    };
    let with_packet = |packet: &[u8]| {
        let digits = STANDARD.encode(packet);
        format!("{text}-----BEGIN PGP SIGNATURE-----\n\n{digits}\n-----END PGP SIGNATURE-----\n").into_bytes()
    };
    let with_text = |text: &[u8]| [text, armour.as_bytes()].concat();
    assert_eq!(judge(&keys, &with_packet(&packet)).0, Verdict::Good);
    let in_text = flip(text.as_bytes(), &|text| judge(&keys, &with_text(text)), |_, _| false);
    let in_packet = flip(&packet, &|packet| judge(&keys, &with_packet(packet)), says_the_same);
    let in_keys = flip(&keys, &|keys| judge(keys, signed.as_bytes()), says_the_same);
    println!("accepted: {in_text} changed texts, {in_packet} changed signatures, {in_keys} changed keys");
    // Unsigned parts may change, and little else.
    for (accepted, octets) in [(in_text, text.len()), (in_packet, packet.len()), (in_keys, keys.len())] {
        assert!(accepted < octets / 8, "{accepted} of {octets}");
    }
}
