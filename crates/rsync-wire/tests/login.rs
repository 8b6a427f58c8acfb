//! Logging in: recorded clients against the recorded challenges, at every byte boundary, and what goes wrong.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::time::{Duration, Instant};

use rsync_wire::login::{AuthDigest, CHALLENGE_LEN, challenge_text};
use rsync_wire::session::{Challenge, Grant, Selection};
use rsync_wire::{CloseReason, Command, Session, SessionConfig, limits, prologue};

/// A session whose one module wants a login of alice.
struct Daemon {
    session: Session,
    now: Instant,
    said: String,
    closed: Option<CloseReason>,
    challenge: Challenge,
}

impl Daemon {
    fn new(challenge: &str, weakest: Option<AuthDigest>) -> Self {
        let now = Instant::now();
        let session = Session::new(SessionConfig::default(), now);
        let challenge = Challenge { text: challenge.to_owned(), weakest };
        Self { session, now, said: String::new(), closed: None, challenge }
    }

    fn hear(&mut self, octets: &[u8]) {
        self.session.handle_input(octets, self.now);
        while let Some(command) = self.session.poll() {
            match command {
                Command::Write(octets) => self.said.push_str(&String::from_utf8_lossy(&octets)),
                Command::SelectModule(_) => {
                    self.session.module_selected(Selection::LogIn(self.challenge.clone()), self.now);
                }
                Command::CheckLogin(login) => {
                    let right = login.user() == "alice" && login.is_made_with(b"opensesame");
                    let line = prologue::login_failed("auth");
                    let refused = Selection::Refused { line, reason: CloseReason::LoginFailed };
                    let selection = if right { Selection::Accepted(Grant::default()) } else { refused };
                    self.session.module_selected(selection, self.now);
                }
                Command::Close(reason) => self.closed = Some(reason),
                Command::Note(_) => {}
                Command::ListModules | Command::BuildList(_) | Command::SendFiles(_) => panic!("too early"),
            }
        }
    }
}

fn recorded(case: &str) -> (Vec<u8>, String) {
    let read =
        |name| std::fs::read(format!("{}/tests/golden/{case}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let client = read("client.bin");
    // The greeting, the module and the response.
    let len = client.iter().enumerate().filter(|(_, o)| **o == b'\n').nth(2).unwrap().0 + 1;
    let server = String::from_utf8_lossy(&read("server.bin")).into_owned();
    (client[..len].to_vec(), server)
}

#[test]
fn recorded_clients_are_answered_as_by_the_stock_daemon() {
    for (case, answer) in [
        ("auth-ok", prologue::OK),
        ("auth-ok-p31", prologue::OK),
        ("auth-ok-p29", prologue::OK),
        ("auth-old-v3.1.3-p31", prologue::OK),
        ("auth-old-v3.1.3-p29", prologue::OK),
        ("auth-bad", "@ERROR: auth failed on module auth\n"),
    ] {
        let (client, server) = recorded(case);
        let (_, rest) = server.split_once("@RSYNCD: AUTHREQD ").unwrap();
        let (challenge, rest) = rest.split_once('\n').unwrap();
        assert!(rest.starts_with(answer), "{case}: the stock daemon said {rest}");
        for step in [1, 2, 7, client.len()] {
            let mut daemon = Daemon::new(challenge, None);
            client.chunks(step).for_each(|piece| daemon.hear(piece));
            let expected = format!("{}@RSYNCD: AUTHREQD {challenge}\n{answer}", prologue::GREETING);
            assert_eq!(daemon.said, expected, "{case} {step}");
            let closed = (answer != prologue::OK).then_some(CloseReason::LoginFailed);
            assert_eq!(daemon.closed, closed, "{case} {step}");
        }
    }
}

#[test]
fn a_weak_or_unknown_digest_is_refused_before_the_challenge() {
    for (greeting, weakest, expected) in [
        ("32.0 md5", Some(AuthDigest::Sha256), "@ERROR: auth failed on module auth\n"),
        ("31.0", Some(AuthDigest::Sha1), "@ERROR: auth failed on module auth\n"),
        ("32.0 foo", None, "@ERROR: your client does not support one of our daemon-auth checksums: "),
    ] {
        let mut daemon = Daemon::new("c", weakest);
        daemon.hear(format!("@RSYNCD: {greeting}\nauth\n").as_bytes());
        let said = daemon.said.strip_prefix(prologue::GREETING).unwrap();
        assert!(said.starts_with(expected), "{greeting}: {said}");
        assert_eq!(daemon.closed, Some(CloseReason::LoginFailed));
    }
    let mut daemon = Daemon::new("c", Some(AuthDigest::Md5));
    daemon.hear(b"@RSYNCD: 31.0\nauth\n");
    assert!(daemon.said.ends_with("@RSYNCD: AUTHREQD c\n"), "as strong as demanded is enough");
}

#[test]
fn no_answer_to_the_challenge_is_no_login() {
    for answer in ["\n", "alice\n", "alice \n", " x\n", "alice x\n", "al\u{7}ice x\n", "alice\0 x\n"] {
        let mut daemon = Daemon::new("c", None);
        daemon.hear(format!("@RSYNCD: 31.0\nauth\n{answer}").as_bytes());
        assert!(daemon.said.ends_with("@ERROR: auth failed on module auth\n"), "{answer:?}: {}", daemon.said);
        assert_eq!(daemon.closed, Some(CloseReason::LoginFailed));
    }
    let mut daemon = Daemon::new("c", None);
    daemon.hear(b"@RSYNCD: 31.0\nauth\n");
    daemon.hear(&[b'x'; limits::LINE_LEN_MAX + 1]);
    assert_eq!(daemon.closed, Some(CloseReason::LoginFailed));
}

#[test]
fn the_challenge_is_a_part_of_the_one_minute() {
    let mut daemon = Daemon::new("c", None);
    daemon.hear(b"@RSYNCD: 31.0\nauth\n");
    assert_eq!(daemon.session.deadline(), daemon.now + limits::HANDSHAKE_MAX);
    daemon.session.handle_time(daemon.now + Duration::from_mins(1));
    daemon.hear(b"alice x\n");
    assert_eq!(daemon.closed, Some(CloseReason::HandshakeTimeout), "what comes too late is not heard");
}

#[test]
fn a_challenge_has_no_padding_and_no_spaces() {
    let text = challenge_text([0xFF; CHALLENGE_LEN]);
    assert_eq!(text.len(), 43);
    assert!(!text.contains(['=', ' ']));
}
