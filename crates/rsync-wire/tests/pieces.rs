//! How a client's octets are cut, and how soon this side answers, changes nothing about what becomes of a session.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use rsync_wire::CloseReason;
use rsync_wire::codec::{Ndx, NdxWriter};
use rsync_wire::memory::MemoryTree;
use rsync_wire::session::Grant;
use support::client::split_frames;
use support::talk::Talk;
use support::words::{NO_FILTERS, client, frame, hello, requests, small_tree};

/// What the server said: the data stream, and the other frames.
type Said = (Vec<u8>, Vec<(u8, Vec<u8>)>);

const UNKNOWN_FRAME: [u8; 4] = [0, 0, 0, 7 + 9];
const ERROR_EXIT: [u8; 8] = [4, 0, 0, 7 + 86, 20, 0, 0, 0];

/// The frames behind the compatibility flags and the seed; none if it does not get that far.
fn frames(said: &[u8]) -> Said {
    let ok = b"@RSYNCD: OK\n";
    let at = said.windows(ok.len()).position(|window| window == ok);
    at.map_or_else(Said::default, |at| split_frames(&said[at + ok.len() + 5..]))
}

/// What becomes of two pieces. `is_slow`: the second one and the end come while the work is under way.
fn end_of(tree: &MemoryTree, pieces: (&[u8], &[u8]), is_slow: bool) -> (CloseReason, Said) {
    let mut talk = Talk::new(tree, 1, Grant::default());
    for piece in [pieces.0, pieces.1] {
        talk.session.handle_input(piece, talk.now);
        if is_slow {
            talk.begin_to_carry_out();
        } else {
            talk.carry_out();
        }
    }
    talk.session.handle_end_of_input();
    talk.carry_out();
    (talk.closed.expect("the session did not end"), frames(&talk.said))
}

/// Every cut, or every one of `step`, with a fast and a slow owner. Gives what was said, which is the same each time.
#[track_caller]
fn always_ends(tree: &MemoryTree, octets: &[u8], step: usize, expected: CloseReason) -> Said {
    let (reason, whole) = end_of(tree, (octets, b""), false);
    assert_eq!(reason, expected, "at once");
    for cut in (0..=octets.len()).step_by(step) {
        for is_slow in [false, true] {
            let (reason, said) = end_of(tree, octets.split_at(cut), is_slow);
            assert_eq!(reason, expected, "cut at {cut}, slow: {is_slow}");
            // Who gives up or goes gets what is there by then; the statistics at the end count what was read by then.
            if reason == CloseReason::Complete {
                assert_eq!((said.0.len(), &said.1), (whole.0.len(), &whole.1), "cut at {cut}");
            } else if !matches!(reason, CloseReason::ClientError | CloseReason::ClientClosed) {
                assert!(said == whole, "cut at {cut}, slow: {is_slow}");
            }
        }
    }
    whole
}

fn dones(count: usize) -> Vec<u8> {
    vec![0; count]
}

fn talk(data: &[u8], behind: &[u8]) -> Vec<u8> {
    [client(&["-ltpre.LsfxC"], data), behind.to_vec()].concat()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[test]
fn what_comes_behind_the_last_word_says_nothing() {
    let all = [requests(&mut NdxWriter::default(), [1]), dones(5)].concat();
    for behind in [&b""[..], &UNKNOWN_FRAME, &ERROR_EXIT, b"GET / HTTP/1.1\r\n\r\n", &frame(&[0xFF; 9])] {
        always_ends(&small_tree(), &talk(&all, behind), 1, CloseReason::Complete);
    }
    // In the same frame, too.
    let all = [all, vec![0xFF; 9]].concat();
    always_ends(&small_tree(), &talk(&all, b""), 1, CloseReason::Complete);
}

#[test]
fn the_last_words_count_even_if_many_replies_wait_before_them() {
    let mut ndx = NdxWriter::default();
    let mut data = Vec::new();
    for _ in 0..3000 {
        ndx.put(&mut data, Ndx::Entry(0));
        data.extend_from_slice(&[0x08, 0x00]);
    }
    data.extend(dones(5));
    let octets = [hello(&["-ltpre.LsfxC"]), frame(&NO_FILTERS)].concat();
    let octets = data.chunks(1000).fold(octets, |octets, piece| [octets, frame(piece)].concat());
    let step = 97;
    always_ends(&small_tree(), &[&octets[..], &UNKNOWN_FRAME].concat(), step, CloseReason::Complete);
    let octets = &octets[..octets.len() - 1];
    always_ends(&small_tree(), octets, step, CloseReason::ClientClosed);
}

#[test]
fn what_was_asked_for_before_a_wrong_word_is_answered() {
    let mut tree = small_tree();
    tree.file("c", b"the third", 0o644, (3, 0));
    let ndx = NdxWriter::default;
    for (data, behind) in [
        (requests(&mut ndx(), [1, 3, 900]), &b""[..]),
        ([requests(&mut ndx(), [1, 3]), vec![0xFF, 0x01]].concat(), b""),
        (requests(&mut ndx(), [1, 3]), &UNKNOWN_FRAME),
    ] {
        let said = always_ends(&tree, &talk(&data, behind), 1, CloseReason::ProtocolError);
        assert!(contains(&said.0, b"first") && contains(&said.0, b"the third"));
        assert_eq!(said.1.last(), Some(&(86, vec![2, 0, 0, 0])), "the client is told");
    }
}

#[test]
fn a_client_that_gives_up_or_goes_is_known_as_such() {
    let asked = requests(&mut NdxWriter::default(), [1, 2]);
    always_ends(&small_tree(), &talk(&asked, &ERROR_EXIT), 1, CloseReason::ClientError);
    always_ends(&small_tree(), &talk(&[asked, dones(4)].concat(), b""), 1, CloseReason::ClientClosed);
}

#[test]
fn nothing_is_wrong_behind_an_empty_list() {
    let tree = MemoryTree::new(0);
    let hello = b"@RSYNCD: 31.0\nm\n--server\0--sender\0-re.LsfxC\0.\0m/missing\0\0";
    let octets = [&hello[..], &frame(&NO_FILTERS)].concat();
    for behind in [&b""[..], &UNKNOWN_FRAME, &frame(&dones(5)), b"GET /"] {
        always_ends(&tree, &[&octets, behind].concat(), 1, CloseReason::EmptyList);
    }
    let said = always_ends(&tree, &[&octets[..], &ERROR_EXIT].concat(), 1, CloseReason::EmptyList);
    assert_eq!(said.1.last(), Some(&(86, Vec::new())), "the report is answered");
}

#[test]
fn a_greeting_may_have_carriage_returns_anywhere() {
    let octets = [&b"\r@RS\rYNCD: 31.0\r\n"[..], &talk(&dones(5), b"")["@RSYNCD: 31.0\n".len()..]].concat();
    always_ends(&small_tree(), &octets, 1, CloseReason::Complete);
}

#[test]
fn names_of_a_list_are_not_in_the_frame_of_the_filters() {
    let hello = b"@RSYNCD: 30.0\nm\n--server\0--sender\0-re.LsfxC\0--files-from=-\0--from0\0.\0m/\0\0";
    let octets = [&hello[..], &frame(&[&NO_FILTERS[..], b"a\0\0"].concat())].concat();
    always_ends(&small_tree(), &octets, 1, CloseReason::ProtocolError);
    let octets = [&hello[..], &frame(&NO_FILTERS), b"a\0\0", &frame(&dones(4)), &UNKNOWN_FRAME].concat();
    always_ends(&small_tree(), &octets, 1, CloseReason::Complete);
}
