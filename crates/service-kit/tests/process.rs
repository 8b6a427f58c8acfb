//! A real process under real signals: what it leaves unfinished, what it says, how it exits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Far above what anything here takes, so that only a hang fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// The example `miniature`, running.
struct Miniature {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Miniature {
    fn start(env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program());
        command.env_clear().envs(env.iter().copied()).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = lines_of(child.stderr.take().unwrap());
        Self { child, lines, said: Vec::new() }
    }

    /// Its standard error is a terminal.
    fn start_at_a_terminal() -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let end = File::options().read(true).write(true).open(name).unwrap();
        let child = Command::new(program()).env_clear().stdin(Stdio::null()).stderr(end).spawn().unwrap();
        Self { child, lines: lines_of(File::from(terminal)), said: Vec::new() }
    }

    /// Waits for a line of the log that holds `text`.
    fn wait_for(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("never said {text:?}, only {:#?}", self.said)
            };
            self.said.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    fn address(&mut self) -> SocketAddr {
        let line = self.wait_for("listening");
        line.rsplit("address=").next().unwrap().trim().parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// Its exit code and everything it said.
    fn end(mut self) -> (i32, String) {
        let until = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.said.push(line);
        }
        // Its standard error is closed, so that it ends, or has closed it and hangs.
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code().unwrap_or(-1), self.said.join("\n"));
            }
            assert!(Instant::now() < until, "never ended, said {:#?}", self.said);
            std::thread::yield_now();
        }
    }
}

impl Drop for Miniature {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let program = own.ancestors().nth(2).unwrap().join("examples/miniature");
    assert!(program.exists(), "{} is missing: cargo build -p service-kit --examples", program.display());
    program
}

fn lines_of(stderr: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

fn ask(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_first_signal_finishes_what_is_under_way() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut service = Miniature::start(&[]);
        let address = service.address();
        // It listens a moment before its start is over.
        let until = Instant::now() + PATIENCE;
        while !answer(ask(address, "/readyz")).starts_with("HTTP/1.1 200") {
            assert!(Instant::now() < until, "never ready");
        }
        let work = ask(address, "/work/400");
        service.wait_for("working");
        service.signal(signal);
        service.wait_for("stopping");
        let answer = answer(work);
        assert!(answer.ends_with("worked for 400ms\n"), "{answer}");
        let (code, said) = service.end();
        assert_eq!(code, 0, "{said}");
    }
}

#[test]
fn a_hang_up_is_no_reason_to_stop_unless_the_terminal_is_gone() {
    let mut service = Miniature::start(&[]);
    let address = service.address();
    service.signal(Signal::HUP);
    service.wait_for("SIGHUP changes nothing");
    assert!(answer(ask(address, "/healthz")).ends_with("ok\n"));
    service.signal(Signal::TERM);
    let (code, said) = service.end();
    assert_eq!(code, 0, "{said}");

    let mut watched = Miniature::start_at_a_terminal();
    watched.wait_for("listening");
    watched.signal(Signal::HUP);
    watched.wait_for("SIGHUP");
    let (code, said) = watched.end();
    assert_eq!(code, 0, "{said}");
}

#[test]
fn the_end_of_the_grace_time_stops_hard() {
    let mut service =
        Miniature::start(&[("ROOKERY__PROXY__FAULT", "deaf"), ("ROOKERY__PROCESS__GRACE", "200ms")]);
    service.address();
    service.signal(Signal::TERM);
    let (code, said) = service.end();
    assert_eq!(code, 75, "{said}");
    assert!(said.contains("the grace time is over"), "{said}");
}

#[test]
fn a_second_signal_stops_at_once() {
    let mut service =
        Miniature::start(&[("ROOKERY__PROXY__FAULT", "deaf"), ("ROOKERY__PROCESS__GRACE", "1h")]);
    let address = service.address();
    let work = ask(address, "/work/3600000");
    service.wait_for("working");
    service.signal(Signal::TERM);
    service.wait_for("stopping");
    let asked_again = Instant::now();
    service.signal(Signal::INT);
    let (code, said) = service.end();
    assert_eq!(code, 75, "{said}");
    assert!(said.contains("asked again"), "{said}");
    assert!(asked_again.elapsed() < Duration::from_secs(10));
    drop(work);
}

#[test]
fn a_crashed_task_ends_the_process_with_its_reason() {
    for (fault, reason) in [("error", "the disk is gone"), ("panic", "panicked: the disk is gone")] {
        let service = Miniature::start(&[("ROOKERY__PROXY__FAULT", fault)]);
        let (code, said) = service.end();
        assert_eq!(code, 70, "{said}");
        assert!(said.contains(&format!("store: {reason}")), "{said}");
    }
}

#[test]
fn a_panic_of_one_peer_ends_nothing_else() {
    let mut service = Miniature::start(&[("ROOKERY__PROXY__FAULT", "plain-panic")]);
    let address = service.address();
    assert!(answer(ask(address, "/healthz")).ends_with("ok\n"));
    service.signal(Signal::TERM);
    let (code, said) = service.end();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("a bad peer"), "{said}");
}

#[test]
fn a_start_can_fail_and_can_be_interrupted() {
    let (code, said) = Miniature::start(&[("ROOKERY__PROXY__FAULT", "start-fails")]).end();
    assert_eq!((code, said.as_str()), (1, "miniature: no such tree"));

    let mut hanging = Miniature::start(&[("ROOKERY__PROXY__FAULT", "start-hangs")]);
    hanging.wait_for("hanging");
    hanging.signal(Signal::TERM);
    let (code, said) = hanging.end();
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_wrong_configuration_is_64() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rookery.toml");
    std::fs::write(&file, "[proxy]\nlisten = \"nowhere\"\n").unwrap();
    let file = file.to_str().unwrap();
    let expectation = "expected an address and port such as \"127.0.0.1:8080\", found the text \"nowhere\"";
    let (code, said) = Miniature::start(&[("ROOKERY_CONFIG", file)]).end();
    assert_eq!((code, said), (64, format!("miniature: {file}:2: proxy.listen: {expectation}")));

    let (code, said) = Miniature::start(&[("ROOKERY__TELEMETRY__LOG", "a=b=c")]).end();
    assert_eq!(code, 64, "{said}");
    let place = "miniature: environment variable ROOKERY__TELEMETRY__LOG: telemetry.log: expected a filter";
    assert!(said.starts_with(place), "{said}");

    let (code, said) = Miniature::start(&[("ROOKERY__TELEMETRY__OTLP_ENDPOINT", "localhost")]).end();
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("telemetry.otlp_endpoint: expected a URL"), "{said}");
}

#[test]
fn an_address_in_use_is_69_and_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, said) = Miniature::start(&[("ROOKERY__PROXY__LISTEN", &address)]).end();
    assert_eq!(code, 69, "{said}");
    let line = format!("miniature: {address}: Address already in use");
    assert!(said.starts_with(&line) && said.contains("or change proxy.listen"), "{said}");
}

#[test]
fn the_log_can_be_json_even_where_it_panics() {
    let mut service =
        Miniature::start(&[("ROOKERY__TELEMETRY__FORMAT", "json"), ("ROOKERY__PROXY__FAULT", "plain-panic")]);
    service.wait_for("\"listening\"");
    service.signal(Signal::TERM);
    let (code, said) = service.end();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("a bad peer"), "{said}");
    let failing =
        Miniature::start(&[("ROOKERY__TELEMETRY__FORMAT", "json"), ("ROOKERY__PROXY__FAULT", "start-fails")]);
    let (code, reason) = failing.end();
    assert_eq!(code, 1, "{reason}");
    for line in said.lines().chain(reason.lines()) {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
}
