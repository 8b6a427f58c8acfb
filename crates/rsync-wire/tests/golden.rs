//! Recorded sessions of stock clients, replayed: what we answer must mean the same as what the stock daemon
//! answered, entry by entry, reply by reply, sum by sum.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use proptest::prelude::*;
use rsync_wire::memory::MemoryTree;
use rsync_wire::{CloseReason, TreeView as _};
use std::collections::BTreeMap;
use std::fs;
use support::client::{Said, listen};
use support::recursion::without_recursion;
use support::talk::answer;
use support::tree::fixed;

fn recorded(case: &str) -> (Vec<u8>, Vec<u8>) {
    let read = |name| fs::read(format!("{}/tests/golden/{case}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    (read("client.bin"), read("server.bin"))
}

/// What both servers said to the recorded client: ours first.
fn replay(case: &str) -> (Said, Said, CloseReason) {
    let (recorded, server) = recorded(case);
    let theirs = listen(&server, &recorded);
    let is_recursive = theirs.flags & 0x01 != 0;
    let client = if is_recursive { without_recursion(&recorded, &server) } else { recorded };
    let changed = client.windows(9).any(|window| window == b"\nchanged\n");
    let timeout_s = if case == "io-timeout" { 30 } else { 0 };
    let (said, reason) = answer(&served(case, changed), theirs.seed, timeout_s, &client, client.len());
    (listen(&said, &client), theirs, reason)
}

/// The tree of that moment: one session more name than the others.
fn served(case: &str, changed: bool) -> MemoryTree {
    let mut tree = fixed(changed);
    if case.starts_with("hardlinks") {
        let header = tree.lookup(b"header.txt").unwrap();
        tree.link("sort/hl-header.txt", header);
    }
    tree
}

const WHOLE: &[&str] = &[
    "hardlinks",
    "hardlinks-p29",
    "portage-full-noinc-p32",
    "portage-nochange-noinc",
    "portage-deletes-noinc",
    "excludes",
    "excludes-delete",
    "dry-run",
    "listing-top",
    "dirs-only",
    "dir-noslash",
    "two-dirs",
    "relative",
    "relative-noimplied",
    "files-from",
    "archive",
    "archive-numeric",
    "append",
    "changed-delta",
    "checksum-md5",
    "checksum-sha1",
    "checksum-xxh128",
    "checksum-xxh3",
    "checksum-xxh64",
    "checksum-negotiated",
    "checksum-none",
    "checksum-negative-seed",
    "z-zlib-full",
    "z-lz4-full",
    "z-zstd-full",
    "z-zstd-delta",
    "old-v3.1.3-portage-noinc",
    "old-v3.4.1-portage-noinc",
    "old-v3.1.3-delta",
    "secluded",
    "wildcard",
    "space-name",
    "io-timeout",
    "missing-and-present",
    "append-verify",
    "archive-p29",
    "changed-delta-p29",
    "changed-delta-p30",
    "changed-wholefile",
    "checksum-md4",
    "checksum-p29",
    "delta-no-match",
    "excludes-delete-excluded",
    "files-from-p29",
    "files-from-p30",
    "itemize-changed",
    "listing-top-p29",
    "old-v3.2.7-delta",
    "old-v3.2.7-portage-noinc",
    "old-v3.4.1-delta",
    "portage-full-noinc-p29",
    "portage-full-noinc-p30",
    "portage-full-noinc-p31",
    "portage-full-p29",
    "portage-nochange-p29",
    "cvs-exclude",
    "dir-merge",
    "z-level",
    "z-lz4-delta",
    "z-negotiated",
    "z-zlib-delta",
    "z-zlib-delta-p29",
    "z-zlib-delta-p30",
    "z-zlibx-delta",
    "z-zlibx-full",
];

/// The daemon sent each directory's list on its own, which ours declines to: the client asks the same of one list.
const RECURSIVE: &[&str] = &[
    "archive-inc",
    "changed-delta-inc",
    "dry-run-inc",
    "early-input",
    "empty-dir",
    "files-from-inc",
    "listing-recursive",
    "old-v3.1.3-p30-portage",
    "old-v3.1.3-portage-full",
    "old-v3.2.7-portage-full",
    "old-v3.4.1-portage-full",
    "portage-deletes",
    "portage-full-p30",
    "portage-full-p31",
    "portage-full-p32",
    "portage-nochange",
    "portage-quiet",
    "portage-submodules",
    "probe",
    "probe-p31",
    "relative-inc",
    "single-file-inc",
    "two-dirs-inc",
];

#[test]
fn stock_clients_are_answered_as_by_the_stock_daemon() {
    for case in WHOLE.iter().chain(RECURSIVE) {
        let (ours, theirs, reason) = replay(case);
        assert_eq!(reason, CloseReason::Complete, "{case}");
        assert_eq!(ours.entries, theirs.entries, "{case}");
        assert_eq!(ours.io_error, theirs.io_error, "{case}");
        // With incremental recursion names are in the entries, and 0 has none there.
        if !RECURSIVE.contains(case) {
            assert_eq!(ours.names, theirs.names, "{case}");
        }
        assert_eq!(ours.messages, theirs.messages, "{case}");
        assert_eq!(ours.done, theirs.done, "{case}");
        assert_eq!(ours.deletion_stats, theirs.deletion_stats, "{case}");
        assert_eq!(ours.total_size, theirs.total_size, "{case}");
        assert_eq!(ours.seed, theirs.seed, "{case}");
        // Bits 0 (incremental recursion) and 2 (conversion of link targets) are ours to leave out.
        assert_eq!(ours.flags, theirs.flags & !0x05, "{case}");
        assert_eq!(ours.items.len(), theirs.items.len(), "{case}");
        for (ours, theirs) in ours.items.iter().zip(&theirs.items) {
            assert_eq!(
                (ours.index, ours.flags, &ours.head),
                (theirs.index, theirs.flags, &theirs.head),
                "{case}"
            );
            // The sum of the same contents, whether sent whole or in the client's blocks.
            assert_eq!(ours.sum, theirs.sum, "{case} {}", ours.index);
            // Blocks are not compared by MD4, whose seed builds put in different places.
            let whole =
                ["changed-delta-p29", "checksum-md4", "checksum-p29", "z-zlib-delta-p29"].contains(case);
            assert_eq!(ours.blocks, if whole { 0 } else { theirs.blocks }, "{case} {}", ours.index);
            // The client of this test has no files, so it can't decode what refers to blocks in zlib's history.
            let is_decoded = *case != "old-v3.1.3-delta" && !case.starts_with("z-zlib-delta");
            if !whole && is_decoded {
                assert!(ours.literals == theirs.literals, "{case} {}", ours.index);
            }
        }
    }
}

/// Not to be replayed: their clients were granted less than ours grants, or just what ours does. But what old daemons
/// said means what the new one said, as this client understands it.
#[test]
fn old_daemons_said_the_same_of_the_same_tree() {
    for (old, new) in [
        ("server-v3.1.3-portage-full", "portage-full-p31"),
        ("server-v3.4.1-never-sets-inc-recurse", "portage-full-noinc-p32"),
    ] {
        let said = |case| {
            let (client, server) = recorded(case);
            listen(&server, &client)
        };
        let (old_said, new_said) = (said(old), said(new));
        // The old ones' modules hid nothing, and their clients left nothing out.
        let is_common = |name: &[u8]| {
            let top = name.split(|&octet| octet == b'/').next().unwrap();
            ![&b".git"[..], b"local", b"packages", b"secret"].contains(&top)
        };
        let entries = old_said.entries.iter().filter(|entry| is_common(&entry.name));
        assert_eq!(entries.cloned().collect::<Vec<_>>(), new_said.entries, "{old}");
        let files = old_said.files().into_iter().filter(|(name, _)| is_common(name));
        assert!(files.collect::<BTreeMap<_, _>>() == new_said.files(), "{old}");
        assert!(new_said.files().len() > 20, "{old}");
        assert_eq!(old_said.done, new_said.done, "{old}");
    }
}

#[test]
fn a_redo_is_served_again() {
    for case in ["redo", "redo-inc"] {
        let (ours, theirs, reason) = replay(case);
        assert_eq!(reason, CloseReason::Complete, "{case}");
        assert_eq!(ours.entries, theirs.entries, "{case}");
        let indexes = |said: &Said| said.items.iter().map(|item| item.index).collect::<Vec<_>>();
        assert_eq!(indexes(&ours), indexes(&theirs), "{case}");
        ours.check_sums(rsync_wire::sums::ChecksumKind::Xxh128);
        assert_eq!(ours.done, (3, 1), "{case}");
    }
}

#[test]
fn a_missing_path_ends_the_talk_with_the_clients_report() {
    for case in ["missing-path-noinc", "missing-path"] {
        let (ours, theirs, reason) = replay(case);
        assert_eq!(reason, CloseReason::EmptyList, "{case}");
        assert_eq!(ours.texts(1), theirs.texts(1), "{case}");
        assert_eq!((ours.io_error, ours.entries.len()), (theirs.io_error, 0), "{case}");
        assert_eq!(ours.messages.last(), Some(&(86, Vec::new())), "{case}: the report is answered");
    }
}

#[test]
fn old_clients_just_close_after_an_empty_list() {
    for case in ["missing-path-p29", "missing-path-p30"] {
        let (ours, theirs, reason) = replay(case);
        assert_eq!(reason, CloseReason::EmptyList, "{case}");
        assert_eq!(ours, Said { flags: theirs.flags & !0x05, ..theirs }, "{case}");
    }
}

#[test]
fn a_push_is_refused_with_exit_code_1() {
    let (client, _) = recorded("push-refused");
    let (said, reason) = answer(&fixed(false), 1, 0, &client, client.len());
    assert_eq!(reason, CloseReason::Refused);
    let ours = listen(&said, &client);
    assert_eq!(ours.texts(3), ["ERROR: module is read only\n"]);
    assert_eq!(ours.messages.last(), Some(&(86, vec![1, 0, 0, 0])));
}

#[test]
fn modules_are_listed() {
    let (client, _) = recorded("module-list");
    let (said, reason) = answer(&fixed(false), 1, 0, &client, 1);
    assert_eq!(reason, CloseReason::ModulesListed);
    let said = String::from_utf8(said).unwrap();
    assert!(said.ends_with("\nportage        \ttest portage tree\n@RSYNCD: EXIT\n"), "{said}");
}

#[test]
fn any_pieces_mean_the_same_as_the_whole() {
    for case in [
        "portage-deletes-noinc",
        "old-v3.1.3-portage-noinc",
        "files-from",
        "checksum-md5",
        "secluded",
        "redo",
        "files-from-p29",
        "files-from-p30",
        "archive-p29",
        "append-verify",
        "changed-delta-p29",
    ] {
        let (client, server) = recorded(case);
        let seed = listen(&server, &client).seed;
        let tree = fixed(client.windows(9).any(|window| window == b"\nchanged\n"));
        let (whole, whole_reason) = answer(&tree, seed, 0, &client, client.len());
        let whole = listen(&whole, &client);
        for step in [1, 2, 3, 7, 64] {
            let (said, reason) = answer(&tree, seed, 0, &client, step);
            assert_eq!(listen(&said, &client), whole, "{case} {step}");
            assert_eq!(reason, whole_reason, "{case} {step}");
        }
    }
}

#[test]
fn a_client_that_stops_anywhere_ends_the_talk() {
    let (client, _) = recorded("files-from");
    let tree = fixed(false);
    for end in 0..client.len() {
        let (_, reason) = answer(&tree, 1, 0, &client[..end], client.len());
        assert_eq!(reason, CloseReason::ClientClosed, "{end}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn changed_octets_are_survived(
        case in prop::sample::select(WHOLE.to_vec()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        step in 1_usize..300,
    ) {
        let (mut client, _) = recorded(case);
        for (at, octet) in changes {
            let at = at.index(client.len());
            client[at] = octet;
        }
        // Whatever it means now: no panic, and an end.
        let (_, reason) = answer(&small(), 1, 0, &client, step);
        prop_assert!(!reason.as_str().is_empty());
    }
}

fn small() -> MemoryTree {
    let mut tree = MemoryTree::new(0);
    for path in ["metadata/timestamp.chk", "app-misc/foo/Manifest", "big/a", "header.txt"] {
        tree.file(path, &[b'x'; 1000], 0o644, (1, 2));
    }
    tree
}
