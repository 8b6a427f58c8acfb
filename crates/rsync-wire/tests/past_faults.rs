//! One test for each class of fault that rsync servers had in the past, as far as it concerns the protocol: the
//! names say what must not be possible here.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use rsync_wire::codec::NdxWriter;
use rsync_wire::limits;
use rsync_wire::memory::MemoryTree;
use rsync_wire::session::Grant;
use rsync_wire::{CloseReason, TreeView};
use std::time::Duration;
use support::client::{Said, listen};
use support::talk::{Talk, answer};
use support::words::{NO_FILTERS, client, frame, hello, requests, small_tree};

const OPTIONS: &[&str] = &["-ltpre.LsfxC"];

/// A request for index 1 with a sum head, and what is behind it.
fn with_head(head: [i32; 4], sums: &[u8]) -> Vec<u8> {
    let head = head.map(i32::to_le_bytes).concat();
    [&[0x02, 0x00, 0x80][..], &head, sums, &[0; 5]].concat()
}

fn talk(tree: &MemoryTree, octets: &[u8]) -> (Said, CloseReason) {
    let (said, reason) = answer(tree, 1, 0, octets, octets.len());
    (listen(&said, octets), reason)
}

/// CVE-2024-12084.
#[test]
fn a_block_checksum_longer_than_the_digest_is_refused() {
    for (strong_len, expected) in
        [(16, CloseReason::Complete), (17, CloseReason::ProtocolError), (-1, CloseReason::ProtocolError)]
    {
        let octets = client(OPTIONS, &with_head([0, 700, strong_len, 0], &[]));
        assert_eq!(answer(&small_tree(), 1, 0, &octets, 1).1, expected, "{strong_len}");
    }
}

/// CVE-2024-12085.
#[test]
fn short_block_checksums_reveal_nothing() {
    let reply = |sums: &[u8]| talk(&small_tree(), &client(OPTIONS, &with_head([1, 700, 1, 5], sums))).0.items;
    let first = reply(&[0; 5]);
    assert_eq!((first[0].blocks, &first[0].literals[..]), (0, &b"first"[..]));
    for octet in 0..=255 {
        assert_eq!(reply(&[1, 0, 2, 0, octet]), first, "what comes back does not depend on a guess");
    }
}

/// CVE-2024-12747, CVE-2026-29518, -43619, -53784, -53793, -53801.
#[test]
fn no_path_leads_out_of_the_module() {
    let mut tree = small_tree();
    tree.symlink("out", "/etc", 0);
    tree.symlink("up", "../../../etc", 0);
    for path in
        ["m/../etc/passwd", "m//etc/passwd", "m/out/passwd", "m/out/", "m/up/passwd", "m/./../../etc/passwd"]
    {
        for letters in ["-ltpre.LsfxC", "-Ltpre.LsfxC", "-kltpre.LsfxC"] {
            let mut octets =
                format!("@RSYNCD: 31.0\nm\n--server\0--sender\0{letters}\0.\0{path}\0\0").into_bytes();
            octets.extend(frame(&NO_FILTERS));
            let (said, reason) = talk(&tree, &octets);
            assert_eq!(reason, CloseReason::EmptyList, "{path} {letters}");
            assert!(
                said.entries.is_empty() && said.texts(1)[0].contains("(in m)"),
                "{path}: {:?}",
                said.messages
            );
        }
    }
    let (said, _) = talk(&tree, &client(&["-Ltpre.LsfxC"], &[0; 5]));
    assert!(said.entries.iter().all(|entry| entry.name != b"out" && entry.name != b"up"));
    assert_eq!(said.texts(1).len(), 2, "they are reported");
}

/// CVE-2026-70464.
#[test]
fn octets_that_trickle_in_do_not_extend_the_handshake() {
    let tree = small_tree();
    let mut talk = Talk::new(&tree, 1, Grant::default());
    let start = talk.now;
    for octet in b"@RSYNCD: 31.0" {
        talk.hear(&[*octet]);
        talk.now += Duration::from_secs(4);
        assert_eq!(talk.session.deadline(), start + limits::HANDSHAKE_MAX);
    }
}

/// CVE-2026-70453.
#[test]
fn equal_weak_sums_cost_no_quadratic_search() {
    let count = 10_000;
    let sums = [0_u8; 6].repeat(count);
    let octets = client(OPTIONS, &with_head([10_000, 700, 2, 0], &sums));
    let (said, reason) = talk(&small_tree(), &octets);
    assert_eq!((reason, said.items[0].blocks), (CloseReason::Complete, 0));
}

/// CVE-2026-53792.
#[test]
fn a_huge_count_takes_no_memory() {
    for head in [
        [i32::MAX, 700, 16, 0],
        [i32::MAX, 1, 16, 0],
        [1 << 26, 131_072, 16, 0],
        [-1, 700, 2, 0],
        [1, 0, 2, 0],
    ] {
        let (_, reason) = answer(&small_tree(), 1, 0, &client(OPTIONS, &with_head(head, &[])), 1);
        assert_eq!(reason, CloseReason::ProtocolError, "{head:?}");
    }
}

/// CVE-2026-70456, CVE-2026-53794, CVE-2026-70455.
#[test]
fn arguments_are_bounded_and_lift_no_bound() {
    let many: Vec<&str> = std::iter::repeat_n("-v", limits::ARGUMENTS_MAX).collect();
    let (_, reason) = answer(&small_tree(), 1, 0, &hello(&many), 1000);
    assert_eq!(reason, CloseReason::ProtocolError);
    let long = "x".repeat(limits::ARGUMENT_LEN_MAX + 1);
    let (_, reason) = answer(&small_tree(), 1, 0, &hello(&[&long]), 1000);
    assert_eq!(reason, CloseReason::ProtocolError);
    let options = ["-ltpre.LsfxC", "--max-alloc=0", "--compress-threads=100000"];
    let octets = client(&options, &with_head([i32::MAX, 700, 16, 0], &[]));
    let (_, reason) = answer(&small_tree(), 1, 0, &octets, 1000);
    assert_eq!(reason, CloseReason::ProtocolError, "the bound is still there");
}

/// CVE-2026-53786.
#[test]
fn filter_rules_read_no_file_of_the_servers() {
    let rules = |rule: &str| {
        let len = u32::try_from(rule.len()).unwrap().to_le_bytes();
        [hello(OPTIONS), frame(&[&len[..], rule.as_bytes(), &NO_FILTERS].concat()), frame(&[0; 5])].concat()
    };
    for rule in [". /etc/passwd", ": ../../etc/passwd", ": etc/passwd", ":C /etc/passwd"] {
        assert_eq!(talk(&small_tree(), &rules(rule)).1, CloseReason::Refused, "{rule}");
    }
    let mut tree = small_tree();
    tree.symlink("passwd", "/etc/passwd", 0);
    let (said, reason) = talk(&tree, &rules(":- /passwd"));
    assert_eq!(
        (reason, said.entries.len()),
        (CloseReason::Complete, 4),
        "a link in the tree is not followed"
    );
}

/// CVE-2026-53788.
#[test]
fn names_put_no_control_characters_into_texts() {
    let mut tree = small_tree();
    let id = tree.file("a\x1b[2J\nb", b"x", 0o644, (0, 0));
    tree.spoil(id);
    let index = listen(&answer(&tree, 1, 0, &client(OPTIONS, &[0; 5]), 100).0, &client(OPTIONS, &[0; 5]));
    let index = index.entries.iter().position(|entry| entry.name.contains(&b'\n')).unwrap();
    let data = [requests(&mut NdxWriter::default(), [u32::try_from(index).unwrap()]), vec![0; 5]].concat();
    let (said, _) = talk(&tree, &client(OPTIONS, &data));
    assert!(said.texts(1)[0].contains("a?[2J?b"), "{:?}", said.texts(1));
    assert!(tree.lookup(b"a\x1b[2J\nb").is_some());
}

/// CVE-2026-43620, CVE-2026-70459.
#[test]
fn only_live_entries_can_be_asked_for() {
    // `m/` twice: every entry is there twice, and the client drops the second one.
    let mut octets = b"@RSYNCD: 31.0\nm\n--server\0--sender\0-ltpre.LsfxC\0.\0m/\0m/\0\0".to_vec();
    octets.extend(frame(&NO_FILTERS));
    let ask = |index| {
        let data = [requests(&mut NdxWriter::default(), [index]), vec![0; 5]].concat();
        answer(&small_tree(), 1, 0, &[&octets[..], &frame(&data)].concat(), 1000).1
    };
    assert_eq!(ask(2), CloseReason::Complete);
    for (what, index) in [("the dropped one", 3), ("beyond the end", 6), ("far beyond", 0x7FFF_FFFF)] {
        assert_eq!(ask(index), CloseReason::ProtocolError, "{what}");
    }
}
