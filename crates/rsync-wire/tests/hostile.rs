//! Clients that are slow, greedy, wrong or gone, and files that can't be read.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use rsync_wire::codec::{Ndx, NdxWriter};
use rsync_wire::limits;
use rsync_wire::memory::MemoryTree;
use rsync_wire::session::{Grant, Selection};
use rsync_wire::{CloseReason, Command, Session, SessionConfig};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::client::listen;
use support::talk::{Talk, answer};
use support::tree::fixed;
use support::words::{NO_FILTERS, client, frame, hello, requests, small_tree};

#[test]
fn a_good_client_gets_everything() {
    let data = [&requests(&mut NdxWriter::default(), [1, 2])[..], &[0; 5]].concat();
    let client = client(&["-ltpre.LsfxC"], &data);
    let (said, reason) = answer(&small_tree(), 1, 0, &client, 1000);
    assert_eq!(reason, CloseReason::Complete);
    let said = listen(&said, &client);
    assert_eq!(said.files()[&b"a"[..]], b"first");
    assert!(said.files()[&b"b"[..]] == vec![7; 300_000]);
    said.check_sums(rsync_wire::sums::ChecksumKind::Md5);
}

#[test]
fn wrong_requests_end_the_talk_with_exit_code_2() {
    let ndx = NdxWriter::default;
    let mut done_twice = ndx();
    let dones = [0, 0];
    let cases: [(&str, Vec<u8>); 6] = [
        ("beyond the list", requests(&mut ndx(), [3])),
        ("contents of a directory", requests(&mut ndx(), [0])),
        ("contents in the last phase", [&dones[..], &requests(&mut done_twice, [1])].concat()),
        ("after the end", [&[0; 3][..], &requests(&mut ndx(), [1])].concat()),
        ("what only a sender says", vec![0xFF, 0x01]),
        ("the same file forever", requests(&mut ndx(), std::iter::repeat_n(1, limits::transfers_max(3) + 1))),
    ];
    for (what, data) in cases {
        let client = client(&["-ltpre.LsfxC"], &data);
        let (said, reason) = answer(&small_tree(), 1, 0, &client, client.len());
        assert_eq!(reason, CloseReason::ProtocolError, "{what}");
        let exit = [4, 0, 0, 7 + 86, 2, 0, 0, 0];
        assert!(said.windows(8).any(|window| window == exit), "{what}: the client is told");
    }
}

#[test]
fn other_violations_are_noticed() {
    for (what, octets) in [
        ("an unknown frame", [hello(&["-re.LsfxC"]), vec![0, 0, 0, 7 + 9]].concat()),
        ("an endless argument", [&b"@RSYNCD: 31.0\nm\n"[..], &[b'-'; 5000]].concat()),
        ("a negative rule", [hello(&["-re.LsfxC"]), frame(&[0xFF; 4])].concat()),
        ("a long rule", [hello(&["-re.LsfxC"]), frame(&[0, 8, 0, 0])].concat()),
    ] {
        let (_, reason) = answer(&small_tree(), 1, 0, &octets, octets.len());
        assert_eq!(reason, CloseReason::ProtocolError, "{what}");
    }
}

#[test]
fn protocol_29_keeps_alive_with_an_index_behind_the_last() {
    let hello = b"@RSYNCD: 29\nm\n--server\n--sender\n-ltpr\n.\nm/\n\n";
    let request = |index: u32, flags: u16| [&index.to_le_bytes()[..], &flags.to_le_bytes()].concat();
    let dones = [0xFF; 16];
    let said = |word: &[u8]| {
        let octets = [hello, &NO_FILTERS[..], word, &dones].concat();
        let (said, reason) = answer(&small_tree(), 1, 0, &octets, 1);
        (reason == CloseReason::Complete).then(|| listen(&said, &octets).items.len())
    };
    assert_eq!(said(&request(3, 0x2000)), Some(0), "no reply");
    assert_eq!(said(&request(0, 0x2000)), Some(1));
    assert_eq!(said(&request(3, 0x2001)), None, "the index does not exist");
    assert_eq!(said(&request(4, 0x2000)), None, "nor does this one");
}

#[test]
fn a_client_that_gives_up_is_let_go() {
    let error_exit = [4, 0, 0, 7 + 86, 20, 0, 0, 0];
    let octets = [client(&["-re.LsfxC"], &[]), error_exit.to_vec()].concat();
    let (said, reason) = answer(&small_tree(), 1, 0, &octets, 1);
    assert_eq!(reason, CloseReason::ClientError);
    assert!(said.ends_with(&[0, 0, 0, 7 + 86]), "it is answered");
}

#[test]
fn a_file_that_cannot_be_read_is_not_sent_and_reported() {
    let mut tree = small_tree();
    tree.spoil(tree_file(&tree, "a"));
    let data = [&requests(&mut NdxWriter::default(), [1, 2])[..], &[0; 5]].concat();
    let client = client(&["-ltpre.LsfxC"], &data);
    let (said, reason) = answer(&tree, 1, 0, &client, client.len());
    assert_eq!(reason, CloseReason::Complete);
    let said = listen(&said, &client);
    assert_eq!(said.items.len(), 1);
    assert!(said.texts(1)[0].contains("\"a\" (in m)"));
    assert!(said.messages.contains(&(102, vec![1, 0, 0, 0])), "NO_SEND");
    assert!(said.messages.contains(&(22, vec![1, 0, 0, 0])), "IO_ERROR");
}

fn tree_file(tree: &MemoryTree, path: &str) -> rsync_wire::NodeId {
    rsync_wire::TreeView::lookup(tree, path.as_bytes()).unwrap()
}

#[test]
fn names_and_arguments_cannot_put_lines_into_messages() {
    let octets = [hello(&["-re.LsfxC", "--x\nERROR: y"]), frame(&NO_FILTERS)].concat();
    let (said, _) = answer(&small_tree(), 1, 0, &octets, octets.len());
    let said = listen(&said, &octets);
    assert_eq!(said.texts(3), ["rsync: --x?ERROR: y: unknown option\n"]);
}

#[test]
fn slow_clients_have_a_minute_to_say_what_they_want() {
    let tree = small_tree();
    let mut talk = Talk::new(&tree, 1, Grant::default());
    talk.hear(b"@RSYNCD: 31.0\n");
    assert_eq!(talk.session.deadline(), talk.now + limits::HANDSHAKE_MAX);
    talk.session.handle_time(talk.now + Duration::from_secs(59));
    talk.carry_out();
    assert_eq!(talk.closed, None);
    talk.session.handle_time(talk.now + Duration::from_mins(1));
    talk.carry_out();
    assert_eq!(talk.closed, Some(CloseReason::HandshakeTimeout));
}

#[test]
fn waiting_for_a_turn_does_not_count() {
    let now = Instant::now();
    let mut session = Session::new(SessionConfig::default(), now);
    session.handle_input(b"@RSYNCD: 31.0\nm\n", now);
    let later = now + Duration::from_secs(90);
    session.handle_time(later);
    session.module_selected(Selection::Accepted(Grant::default()), later);
    assert_eq!(session.deadline(), later + limits::HANDSHAKE_MAX);
}

/// A session that waits for its list.
fn at_the_list(options: &[&str]) -> (Session, Box<rsync_wire::ListPlan>, Instant) {
    let now = Instant::now();
    let mut session = Session::new(SessionConfig { motd: String::new(), seed: 1 }, now);
    session.handle_input(&client(options, &[]), now);
    loop {
        match session.poll().expect("no list is asked for") {
            Command::CheckLogin(login) => panic!("nobody asked for {login:?}"),
            Command::SelectModule(_) => session.module_selected(Selection::Accepted(Grant::default()), now),
            Command::BuildList(plan) => return (session, plan, now),
            Command::Write(_) | Command::Note(_) => {}
            Command::ListModules | Command::SendFiles(_) | Command::Close(_) => panic!("too early"),
        }
    }
}

#[test]
fn a_long_list_keeps_the_connection_alive() {
    let (mut session, plan, now) = at_the_list(&["-re.LsfxC", "--timeout=60"]);
    for half_minutes in 1..5 {
        let then = now + Duration::from_secs(30 * half_minutes);
        assert_eq!(session.deadline(), then);
        session.handle_time(then);
        let Some(Command::Write(octets)) = session.poll() else { panic!("nothing is said") };
        assert_eq!(octets[..], [0, 0, 0, 7]);
        session.handle_written(4, then);
    }
    let then = now + Duration::from_secs(121);
    session.list_built(plan.build(&small_tree()).map(Arc::new), then);
    assert!(matches!(session.poll(), Some(Command::Write(_))));
    // Now it is the client's turn, and its silence counts.
    session.handle_time(session.deadline());
    assert!(matches!(session.poll(), Some(Command::Close(CloseReason::IdleTimeout))));
}

#[test]
fn a_client_that_takes_nothing_is_idle_even_if_we_are_busy() {
    let (mut session, _, now) = at_the_list(&["-re.LsfxC", "--timeout=60"]);
    session.handle_time(now + Duration::from_secs(30));
    assert!(matches!(session.poll(), Some(Command::Write(_))));
    session.handle_time(now + Duration::from_mins(1));
    assert!(matches!(session.poll(), Some(Command::Close(CloseReason::IdleTimeout))));
}

#[test]
fn what_is_sent_ahead_is_bounded() {
    let (mut session, plan, now) = at_the_list(&["-re.LsfxC"]);
    session.list_built(plan.build(&small_tree()).map(Arc::new), now);
    let mut ndx = NdxWriter::default();
    // Requests without contents: they are not counted as transfers.
    let mut requests = || {
        let mut octets = Vec::new();
        for _ in 0..1500 {
            ndx.put(&mut octets, Ndx::Entry(0));
            octets.extend_from_slice(&[0x08, 0x00]);
        }
        frame(&octets)
    };
    let mut taken = 0;
    while session.wants_input() {
        let octets = requests();
        session.handle_input(&octets, now);
        taken += octets.len();
        assert!(taken < 2 * limits::INPUT_LEN_MAX, "it takes everything");
    }
    // Once the replies are made, the rest is read.
    while let Some(command) = session.poll() {
        if let Command::SendFiles(mut batch) = command {
            batch.run(&small_tree());
            session.batch_done(*batch);
        }
    }
    assert!(session.wants_input());
}

#[test]
fn the_whole_fixed_tree_goes_to_an_old_client() {
    let tree = fixed(false);
    let (mut session, plan, now) = at_the_list(&["-logDtpre.LsfxC"]);
    session.list_built(plan.build(&tree).map(Arc::new), now);
    let Some(Command::Write(list)) = session.poll() else { panic!("no list") };
    // Plain flags, no varints: the first entry is the dot-directory, named by an argument.
    assert_eq!(list[4..7], [0x01, 0x01, b'.']);
}
