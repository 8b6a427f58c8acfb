//! Tells a command, a webhook and `/readyz` which problems came and went.
//!
//! Neither the command nor the webhook can hold anything up: each has a bounded time. What one of them could
//! not be told is told again, less and less often and a bounded number of times. The command is run as it is
//! written, without a shell. The webhook's address may hold a secret and must not be logged.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;
use rookery_proto::v1::Problem;
use serde_json::{Value, json};
use service_kit::readiness::Readiness;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use crate::config::HealthConfig;
use crate::core::Core;

const LOOK_EVERY: Duration = Duration::from_secs(30);
/// After the first failure; each further wait is twice as long, which makes about an hour in all.
const RETRY_FIRST: Duration = Duration::from_secs(30);
const ATTEMPTS_MAX: u32 = 8;

/// A problem by what it is and whom it is about: its text may change while it lasts.
type Known = BTreeMap<(String, String), Problem>;

/// Looks until the service stops.
pub(crate) async fn run(core: Arc<Core>, readiness: Readiness) -> anyhow::Result<()> {
    let mut listeners = listeners(&core.health);
    let (mut catalogue, mut decisions) = (core.catalogue.subscribe(), core.decisions.subscribe());
    loop {
        catalogue.borrow_and_update();
        decisions.borrow_and_update();
        let problems = match core.status().await {
            Ok(status) => status.problems,
            Err(error) => vec![Problem {
                subject: "index".to_owned(),
                what: error.to_string(),
                what_to_do: "see the log of maintenance".to_owned(),
                code: "index_failed".to_owned(),
            }],
        };
        let warnings: Vec<_> = problems.iter().map(|one| (one.subject.clone(), one.what.clone())).collect();
        readiness.warn("maintenance", &warnings);
        let now = known(problems);
        // Each for itself: one that hangs doesn't delay the other.
        let telling = join_all(listeners.iter_mut().map(|one| one.tell(&now, core.health.timeout.0)));
        if core.stop.run_until_cancelled(telling).await.is_none() {
            return Ok(());
        }
        // What is likely to have changed it is not waited for.
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = catalogue.changed() => {}
            _ = decisions.changed() => {}
            () = core.stop.cancelled() => return Ok(()),
        }
    }
}

fn known(problems: Vec<Problem>) -> Known {
    problems.into_iter().map(|one| ((one.code.clone(), one.subject.clone()), one)).collect()
}

/// What came and what went, `None` if nothing did.
fn change(before: &Known, now: &Known) -> Option<Value> {
    let list = |of: &Known, without: &Known| {
        of.iter()
            .filter(|(key, _)| !without.contains_key(*key))
            .map(|(_, one)| {
                json!({
                    "code": one.code, "subject": one.subject,
                    "what": one.what, "what_to_do": one.what_to_do,
                })
            })
            .collect::<Vec<_>>()
    };
    let (came, went) = (list(now, before), list(before, now));
    (!came.is_empty() || !went.is_empty())
        .then(|| json!({ "came": came, "went": went, "problems": list(now, &Known::new()) }))
}

/// What a listener knows.
#[derive(Debug, Default)]
struct Told {
    known: Known,
    /// The last attempt, if it failed.
    failed: Option<Failed>,
}

#[derive(Debug)]
struct Failed {
    /// What it was about.
    news: Known,
    attempts: u32,
    again: Instant,
}

impl Told {
    /// What is to be told `at` this time. News are told at once, what failed not before its turn.
    fn news(&self, now: &Known, at: Instant) -> Option<Value> {
        let waits = self.failed.as_ref().is_some_and(|failed| at < failed.again && same(&failed.news, now));
        if waits { None } else { change(&self.known, now) }
    }

    fn done(&mut self, now: &Known) {
        *self = Self { known: now.clone(), failed: None };
    }

    /// Answers whether it is tried again.
    fn failed(&mut self, now: &Known, at: Instant) -> bool {
        let before = self.failed.as_ref().filter(|failed| same(&failed.news, now));
        let attempts = before.map_or(0, |failed| failed.attempts) + 1;
        if attempts >= ATTEMPTS_MAX {
            self.done(now);
            return false;
        }
        let again = at + RETRY_FIRST * 2_u32.pow(attempts - 1);
        self.failed = Some(Failed { news: now.clone(), attempts, again });
        true
    }
}

fn same(one: &Known, other: &Known) -> bool {
    one.keys().eq(other.keys())
}

/// Somebody who is told.
struct Listener {
    /// Its key of the configuration.
    key: &'static str,
    way: Way,
    told: Told,
}

/// How somebody is told.
enum Way {
    /// Program and arguments.
    Command(Vec<String>),
    /// The address.
    Webhook(String),
}

/// Whoever is configured.
fn listeners(config: &HealthConfig) -> Vec<Listener> {
    let command = (!config.command.is_empty())
        .then(|| ("maintenance.health.command", Way::Command(config.command.clone())));
    let webhook = (!config.webhook.is_empty())
        .then(|| ("maintenance.health.webhook", Way::Webhook(config.webhook.clone())));
    let listener = |(key, way)| Listener { key, way, told: Told::default() };
    command.into_iter().chain(webhook).map(listener).collect()
}

impl Listener {
    async fn tell(&mut self, now: &Known, timeout: Duration) {
        let Some(message) = self.told.news(now, Instant::now()) else { return };
        let result = match &self.way {
            Way::Command(command) => run_command(command, &message, timeout).await,
            Way::Webhook(url) => post(url, &message, timeout).await,
        };
        match result {
            Ok(()) => self.told.done(now),
            Err(error) => {
                let again = self.told.failed(now, Instant::now());
                tracing::warn!(
                    key = self.key,
                    error = format!("{error:#}"),
                    again,
                    "not told what came and went"
                );
            }
        }
    }
}

async fn run_command(command: &[String], message: &Value, timeout: Duration) -> anyhow::Result<()> {
    let (program, arguments) = command.split_first().context("it is empty")?;
    let told = async {
        let mut child = tokio::process::Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| program.clone())?;
        let mut group = Group(child.id());
        if let Some(mut input) = child.stdin.take() {
            // A command that doesn't read is no error.
            drop(input.write_all(message.to_string().as_bytes()).await);
        }
        let status = child.wait().await?;
        group.0 = None;
        anyhow::ensure!(status.success(), "{program}: {status}");
        Ok(())
    };
    tokio::time::timeout(timeout, told).await.context("it took too long")?
}

/// A command that is still running, and whatever it started: killed when this is dropped before it ended.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        // Nobody has waited for the leader yet, so that the number is still its own.
        let leader = self.0.and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(leader) = leader {
            let _ = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL);
        }
    }
}

async fn post(url: &str, message: &Value, timeout: Duration) -> anyhow::Result<()> {
    // To follow a redirect would make a GET without a body of it, and a success of that.
    let redirect = reqwest::redirect::Policy::none();
    let client = reqwest::Client::builder().timeout(timeout).redirect(redirect).build()?;
    let request = client.post(url).header("content-type", "application/json").body(message.to_string());
    let status = request.send().await.map_err(reqwest::Error::without_url)?.status();
    anyhow::ensure!(status.is_success(), "it answered {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn problem(code: &str, what: &str) -> Problem {
        Problem {
            code: code.to_owned(),
            subject: "replica r1".to_owned(),
            what: what.to_owned(),
            ..Problem::default()
        }
    }

    #[test]
    fn only_what_came_or_went_is_told() {
        let none = Known::new();
        let gone = known(vec![problem("replica_gone", "not heard of for 5 min")]);
        let longer = known(vec![problem("replica_gone", "not heard of for 6 min")]);
        assert_eq!(change(&none, &none), None);
        let came = change(&none, &gone).unwrap();
        assert_eq!(
            (&came["came"][0]["code"], came["went"].as_array().unwrap().len()),
            (&"replica_gone".into(), 0)
        );
        assert_eq!(change(&gone, &longer), None, "the same problem, with another time");
        let went = change(&longer, &none).unwrap();
        assert_eq!(
            (went["came"].as_array().unwrap().len(), &went["went"][0]["subject"]),
            (0, &"replica r1".into())
        );
    }

    #[tokio::test]
    async fn the_command_gets_it_on_its_input_and_no_shell_reads_its_arguments() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("told; touch $x");
        let command = ["tee".to_owned(), file.to_str().unwrap().to_owned()];
        let message = json!({ "came": [] });
        run_command(&command, &message, Duration::from_secs(20)).await.unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), message.to_string());
        let nobody = run_command(&["/nowhere/program".to_owned()], &message, Duration::from_secs(20)).await;
        assert!(format!("{:#}", nobody.unwrap_err()).contains("/nowhere/program"));
        let hangs = ["sleep".to_owned(), "600".to_owned()];
        let late = run_command(&hangs, &message, Duration::from_millis(20)).await;
        assert!(format!("{:#}", late.unwrap_err()).contains("too long"));
    }

    #[tokio::test]
    async fn what_a_command_started_ends_with_it_when_it_takes_too_long() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("alive");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        // The one in the background has the pipe open; whoever reads it comes to its end when that one ends.
        let script = format!("sleep 100 3>'{}' & wait", pipe.display());
        let command = ["sh".to_owned(), "-c".to_owned(), script];
        let message = json!({ "came": [] });
        let opened = tokio::task::spawn_blocking(|| std::fs::File::open(pipe));
        let mut alive = tokio::select! {
            told = run_command(&command, &message, Duration::from_mins(1)) => panic!("{told:?}"),
            alive = opened => alive.unwrap().unwrap(),
        };
        let read = tokio::task::spawn_blocking(move || std::io::Read::read(&mut alive, &mut [0; 1]));
        let read = tokio::time::timeout(Duration::from_mins(1), read).await;
        assert_eq!(read.expect("it lives on").unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn a_command_that_prints_without_reading_is_told() {
        let script = "exec 0<&-; head -c 9000000 /dev/zero; head -c 9000000 /dev/zero >&2".to_owned();
        let command = ["sh".to_owned(), "-c".to_owned(), script];
        let message = json!({ "came": "x".repeat(1 << 20) });
        run_command(&command, &message, Duration::from_mins(1)).await.unwrap();
    }

    #[test]
    fn what_was_not_told_is_told_later_and_not_for_ever() {
        let none = Known::new();
        let gone = known(vec![problem("replica_gone", "not heard of for 5 min")]);
        let mut told = Told::default();
        let mut at = Instant::now();
        let start = at;
        let mut attempts = 0;
        while told.news(&gone, at).is_some() {
            attempts += 1;
            if !told.failed(&gone, at) {
                break;
            }
            assert_eq!(told.news(&gone, at), None, "not at once");
            assert!(told.news(&none, at).is_none(), "it went before anybody heard of it");
            at += RETRY_FIRST * 2_u32.pow(attempts - 1);
        }
        assert_eq!(attempts, ATTEMPTS_MAX);
        assert!((at - start).as_secs() < 2 * 3600, "{:?}", at - start);
        assert_eq!(told.news(&gone, at), None, "given up");

        told = Told::default();
        assert!(told.failed(&gone, at));
        let both = known(vec![problem("replica_gone", ""), problem("disk_full", "")]);
        let news = told.news(&both, at).expect("news wait for nothing");
        assert_eq!(news["came"].as_array().unwrap().len(), 2, "with what was not told before");
        told.done(&both);
        assert_eq!(told.news(&none, at).unwrap()["went"].as_array().unwrap().len(), 2);
    }

    /// Answers one request with `status` and gives back what it was.
    async fn answer_once(listener: tokio::net::TcpListener, status: &str) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        loop {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "the request breaks off");
            let text = String::from_utf8_lossy(&request);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                break;
            }
        }
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    }

    #[tokio::test]
    async fn the_webhook_gets_it_as_json_and_what_it_refuses_or_delays_is_an_error() {
        service_kit::process::install_crypto_provider();
        let message = json!({ "came": [{ "code": "disk_full" }], "went": [], "problems": [] });
        let limit = Duration::from_secs(20);
        let listen = async || tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url_of = |listener: &tokio::net::TcpListener| {
            format!("http://{}/hook?x=1", listener.local_addr().unwrap())
        };

        let listener = listen().await;
        let url = url_of(&listener);
        let (told, request) =
            tokio::join!(post(&url, &message, limit), answer_once(listener, "204 No Content"));
        told.unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
        assert_eq!(serde_json::from_str::<Value>(body).unwrap(), message);

        let listener = listen().await;
        let url = url_of(&listener);
        let (told, _) = tokio::join!(post(&url, &message, limit), answer_once(listener, "500 Broken"));
        assert!(format!("{:#}", told.unwrap_err()).contains("500"));

        // It would be asked with GET, without what there is to tell.
        let listener = listen().await;
        let url = url_of(&listener);
        let moved = "302 Found\r\nlocation: /other";
        let (told, _) = tokio::join!(post(&url, &message, limit), answer_once(listener, moved));
        assert!(format!("{:#}", told.unwrap_err()).contains("302"));

        // Nobody ever answers, then nobody listens.
        let listener = listen().await;
        let url = url_of(&listener);
        let late = post(&url, &message, Duration::from_millis(50)).await.unwrap_err();
        assert!(late.downcast_ref::<reqwest::Error>().unwrap().is_timeout(), "{late:#}");
        drop(listener);
        let refused = format!("{:#}", post(&url, &message, limit).await.unwrap_err());
        for error in [format!("{late:#}"), refused] {
            assert!(
                !error.contains("/hook") && !error.contains("x=1"),
                "an address may be a secret: {error}"
            );
        }
    }
}
