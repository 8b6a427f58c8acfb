//! Owners, their names, and names of one inode, at every protocol: what a client that is written from the notes
//! understands is what the tree holds.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use proptest::prelude::*;
use rsync_wire::codec::{Ndx, NdxWriter, put_vstring};
use rsync_wire::memory::MemoryTree;
use rsync_wire::{CloseReason, NodeId, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use support::client::{Said, listen};
use support::talk::answer;
use support::words::frame;

/// One name: which inode it is of, and what that is if it is new.
#[derive(Debug, Clone)]
struct Name {
    path: String,
    inode: usize,
    owner: (u32, u32),
    is_link: bool,
}

fn name() -> impl Strategy<Value = Name> {
    // Few, so that neighbours are alike now and then, and numbers of every length.
    let id = || prop::sample::select(vec![0, 1, 250, 251, 65_534, 1 << 30, u32::MAX]);
    let directory = prop::sample::select(vec!["", "a/", "b/", "a/c/", "long-shared-prefix/"]);
    (directory, "[a-d]{1,3}", 0..6_usize, (id(), id()), any::<bool>()).prop_map(
        |(directory, file, inode, owner, is_link)| Name {
            path: format!("{directory}file-{file}"),
            inode,
            owner,
            is_link,
        },
    )
}

/// The tree, and of each path its owner and inode.
struct Scene {
    tree: MemoryTree,
    of_paths: BTreeMap<String, ((u32, u32), usize)>,
}

fn scene(names: &[Name]) -> Scene {
    let mut tree = MemoryTree::new(7);
    let mut inodes: BTreeMap<usize, (NodeId, (u32, u32))> = BTreeMap::new();
    let mut of_paths = BTreeMap::new();
    for Name { path, inode, owner, is_link } in names {
        if of_paths.contains_key(path) {
            continue;
        }
        let owner = if let Some(&(first, owner)) = inodes.get(inode) {
            tree.link(path, first);
            owner
        } else {
            let id = if *is_link {
                tree.symlink(path, "elsewhere", 5)
            } else {
                tree.file(path, path.as_bytes(), 0o640, (9, 0))
            };
            tree.own(id, owner.0, owner.1);
            inodes.insert(*inode, (id, *owner));
            *owner
        };
        of_paths.insert(path.clone(), (owner, *inode));
    }
    for (id, name) in [(0, "root"), (250, "portage"), (65_534, "nobody")] {
        tree.name_user(id, name);
    }
    tree.name_user(1, &"x".repeat(256));
    tree.name_group(251, "wheel");
    tree.name_group(1, "");
    Scene { tree, of_paths }
}

/// All that a client says that lists a tree and wants nothing of it.
fn client(protocol: Protocol, letters: &str, capabilities: &str, more: &[&str], rules: &[&str]) -> Vec<u8> {
    let number = protocol.number();
    let is_old = protocol < Protocol::V30;
    let mut octets = format!("@RSYNCD: {number}.0 md5\nm\n").into_bytes();
    let letters = format!("-rl{letters}e.{capabilities}");
    for argument in ["--server", "--sender", &letters].iter().chain(more).chain(&[".", "m/", ""]) {
        octets.extend_from_slice(argument.as_bytes());
        octets.push(if is_old { b'\n' } else { 0 });
    }
    if capabilities.contains('v') && !is_old {
        put_vstring(&mut octets, b"md5");
    }
    let mut data = Vec::new();
    for rule in rules.iter().chain(&[""]) {
        data.extend_from_slice(&u32::try_from(rule.len()).unwrap().to_le_bytes());
        data.extend_from_slice(rule.as_bytes());
    }
    let mut ndx = NdxWriter::new(protocol);
    for _ in 0..if protocol >= Protocol::V31 { 5 } else { 4 } {
        ndx.put(&mut data, Ndx::Done);
    }
    octets.extend(if is_old { data } else { frame(&data) });
    octets
}

fn protocol(number: u32) -> Protocol {
    Protocol::negotiate(number, 0).unwrap()
}

fn said(scene: &Scene, client: &[u8]) -> Said {
    let (said, reason) = answer(&scene.tree, 1, 0, client, client.len());
    assert_eq!(reason, CloseReason::Complete);
    listen(&said, client)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_client_understands_what_the_tree_holds(
        names in prop::collection::vec(name(), 1..24),
        number in 29..=32_u32,
        letters in prop::sample::subsequence(vec!['o', 'g', 'H', 'c'], 0..=4),
        capabilities in prop::sample::select(vec!["LsfxCIvu", "LsfxCIv", "LsfxC", "Ls"]),
        numeric: bool,
        hides: bool,
    ) {
        let scene = scene(&names);
        let letters: String = letters.into_iter().collect();
        let more: &[&str] = if numeric { &["--numeric-ids"] } else { &[] };
        // The first names of some inodes, or the later ones.
        let rules: &[&str] = if hides { &["- a/file-*", "- /file-a*"] } else { &[] };
        let protocol = protocol(number);
        let said = said(&scene, &client(protocol, &letters, capabilities, more, rules));
        let is_hidden = |path: &str| hides && (path.starts_with("a/file-") || path.starts_with("file-a"));
        let shown: Vec<_> = scene.of_paths.iter().filter(|(path, _)| !is_hidden(path)).collect();
        let listed: BTreeMap<_, _> =
            said.entries.iter().filter(|e| !e.is_directory()).map(|e| (e.name.clone(), e)).collect();
        prop_assert_eq!(listed.len(), shown.len());
        let mut ids = [BTreeSet::from([0]), BTreeSet::from([0])];
        for (path, (owner, inode)) in &shown {
            let entry = listed[path.as_bytes()];
            let has = |letter: char| letters.contains(letter);
            let (uid, gid) = (owner.0.cast_signed(), owner.1.cast_signed());
            ids[0].insert(uid);
            ids[1].insert(gid);
            prop_assert_eq!(entry.ids, (if has('o') { uid } else { 0 }, if has('g') { gid } else { 0 }));
            // What makes it one: several names in the tree, listed or not.
            let count = scene.of_paths.values().filter(|(_, other)| other == inode).count();
            let lowest = shown.iter().filter(|(_, (_, other))| other == inode).map(|(path, _)| path.as_bytes()).min();
            let expected = lowest.filter(|_| has('H') && count > 1).map(<[u8]>::to_vec);
            prop_assert_eq!(&entry.inode, &expected, "{}", path);
            prop_assert_eq!(entry.sum.is_empty(), !(has('c') && entry.is_file()));
        }
        // Directories are root's.
        let names_of = |kind: usize, named: &[(i32, &str)]| -> BTreeMap<i32, Vec<u8>> {
            let is_sent = !numeric && letters.contains(['o', 'g'][kind]);
            let is_old = protocol < Protocol::V30 || !capabilities.contains('u');
            let named = named.iter().filter(|(id, _)| is_sent && ids[kind].contains(id) && !(is_old && *id == 0));
            let mut named: BTreeMap<_, _> = named.map(|(id, name)| (*id, name.as_bytes().to_vec())).collect();
            if is_sent && !is_old {
                named.entry(0).or_default();
            }
            named
        };
        let users = names_of(0, &[(0, "root"), (250, "portage"), (65_534, "nobody")]);
        prop_assert_eq!(&said.names, &[users, names_of(1, &[(251, "wheel")])]);
    }
}

#[test]
fn nobody_is_named_where_the_module_has_numbers_alone() {
    let mut scene = scene(&[]);
    let id = scene.tree.file("a", b"x", 0o644, (1, 0));
    scene.tree.own(id, 250, 251);
    let client = client(Protocol::NEWEST, "og", "LsfxCIvu", &[], &[]);
    let (octets, _) = support::talk::answer_with(
        &scene.tree,
        rsync_wire::session::Grant { numeric_ids: true, ..Default::default() },
        &client,
    );
    let said = listen(&octets, &client);
    // The lists are there, so that an old client finds its way, with nothing in them.
    assert_eq!(said.names, [BTreeMap::from([(0, Vec::new())]), BTreeMap::from([(0, Vec::new())])]);
    assert_eq!(said.entries[1].ids, (250, 251));
}
