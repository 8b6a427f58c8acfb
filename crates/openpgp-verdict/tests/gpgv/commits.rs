//! Commit objects, signed as git has them signed.

use openpgp_verdict::{Certificates, Reason, commit};

use super::now_s;
use super::rig::{LATER, Rig, SOON, THEN};

const PAYLOAD: &str = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@example.org> 1577840400 +0000\n\
    committer A <a@example.org> 1577840400 +0000\n\nsubject\n\ngpgsig is no header here\n";

fn signed(rig: &Rig, header: &str, arguments: &[&str], payload: &str) -> String {
    let signature = rig.gpg(SOON, &[arguments, &["--armor", "--detach-sign"]].concat(), payload.as_bytes());
    let signature = String::from_utf8(signature).unwrap();
    let folded: Vec<_> = signature.lines().collect();
    payload.replacen("\n\n", &format!("\n{header} {}\n\n", folded.join("\n ")), 1)
}

#[test]
fn a_commit_is_good_as_it_was_signed_and_no_other_is() {
    let rig = Rig::create();
    let key = rig.key(THEN, "committer", "ed25519", "sign", "never");
    let stranger = rig.key(THEN, "stranger", "ed25519", "sign", "never");
    let by_key = ["--local-user", &key];
    let keys = Certificates::parse(&rig.export(&[&key])).unwrap();
    let judge = |object: &str, digits| commit::verify(object.as_bytes(), digits, &keys, now_s());
    let object = signed(&rig, "gpgsig", &by_key, PAYLOAD);
    assert_eq!(judge(&object, 40).unwrap()[0].key, key);
    assert_eq!(judge(&object, 64).unwrap_err().reason, Reason::NotSigned);
    let by_sha256 = signed(&rig, "gpgsig-sha256", &by_key, PAYLOAD);
    assert_eq!(judge(&by_sha256, 64).unwrap().len(), 1);
    assert_eq!(judge(PAYLOAD, 40).unwrap_err().reason, Reason::NotSigned);

    for (at, _) in object.char_indices().filter(|(at, _)| !object[*at..].starts_with('\n')) {
        let in_signature = object.find("gpgsig").unwrap()..object.find("\n\nsubject").unwrap();
        let mut changed = object.clone().into_bytes();
        changed[at] ^= 0x01;
        let judged = commit::verify(&changed, 40, &keys, now_s());
        assert!(judged.is_err() || in_signature.contains(&at), "octet {at}");
    }
    let strangers = signed(&rig, "gpgsig", &["--local-user", &stranger], PAYLOAD);
    assert_eq!(judge(&strangers, 40).unwrap_err().reason, Reason::UnknownKey);
    let as_text = signed(&rig, "gpgsig", &[&by_key[..], &["--textmode"]].concat(), PAYLOAD);
    assert!(matches!(judge(&as_text, 40).unwrap_err().reason, Reason::Unsupported(_)));
    rig.revoke(&key);
    let revoked = Certificates::parse(&rig.gpg(LATER, &["--export", &key], b"")).unwrap();
    let judged = commit::verify(object.as_bytes(), 40, &revoked, now_s());
    assert_eq!(judged.unwrap_err().reason, Reason::KeyRevoked);
}
