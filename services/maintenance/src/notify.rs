//! Tells a command, a webhook and `/readyz` which problems came and went.
//!
//! Neither the command nor the webhook can hold anything up: each has a bounded time. What one of them could
//! not be told is told again, less and less often and a bounded number of times. The command is run as it is
//! written, without a shell. The webhook's address may hold a secret and must not be logged. What each was told is
//! kept in the index, so that what ends while this service is down is told at its next start.

mod told;

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use blake2::{Blake2b512, Digest as _};
use futures_util::future::join_all;
use rookery_proto::v1::Problem;
use serde_json::Value;
use service_kit::readiness::Readiness;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use crate::config::HealthConfig;
use crate::core::Core;
use crate::index::{Index, IndexError, ModuleState};
use crate::problems::is_undecided;
use crate::trees::Seen;
use told::{Known, Told, known};

const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Looks until the service stops.
pub(crate) async fn run(core: Arc<Core>, readiness: Readiness) -> anyhow::Result<()> {
    let mut listeners = listeners(&core.health);
    recall(&core.index, &mut listeners).await;
    let (mut catalogue, mut decisions) = (core.catalogue.subscribe(), core.decisions.subscribe());
    loop {
        catalogue.borrow_and_update();
        decisions.borrow_and_update();
        let view = View::of(&core).await;
        let warnings: Vec<_> =
            view.problems.values().map(|one| (one.subject.clone(), one.what.clone())).collect();
        readiness.warn("maintenance", &warnings);
        // Each for itself: one that hangs doesn't delay the other.
        let telling = join_all(listeners.iter_mut().map(|one| one.tell(&view, core.health.timeout.0)));
        let is_stopped = core.stop.run_until_cancelled(telling).await.is_none();
        for listener in &mut listeners {
            listener.note(&core.index).await;
        }
        if is_stopped {
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

/// What is wrong now, and what else can be said.
struct View {
    problems: Known,
    /// What sync-server said and what the catalogue has; nothing if the index failed.
    facts: Option<(Seen, Vec<ModuleState>)>,
}

impl View {
    async fn of(core: &Core) -> Self {
        let look = async {
            let problems = core.status().await?.problems;
            Ok::<_, IndexError>((problems, core.index.modules().await?))
        };
        match look.await {
            Ok((problems, modules)) => {
                Self { problems: known(problems), facts: Some((core.trees.seen(), modules)) }
            }
            Err(error) => {
                let failed = Problem {
                    subject: "index".to_owned(),
                    what: error.to_string(),
                    what_to_do: "see the log of maintenance".to_owned(),
                    code: "index_failed".to_owned(),
                };
                Self { problems: known(vec![failed]), facts: None }
            }
        }
    }

    fn is_undecided(&self, problem: &Problem) -> bool {
        self.facts.as_ref().is_none_or(|(seen, modules)| is_undecided(problem, seen, modules))
    }
}

/// What was told before the last restart. A new listener is told everything.
async fn recall(index: &Index, listeners: &mut [Listener]) {
    let recalled = async {
        let ids: Vec<_> = listeners.iter().map(|listener| listener.id.as_str()).collect();
        index.forget_told_except(&ids).await?;
        for listener in listeners.iter_mut() {
            listener.told = Told::before(index.told(&listener.id).await?);
        }
        Ok::<_, IndexError>(())
    };
    if let Err(error) = recalled.await {
        tracing::warn!(%error, "what was told before is not known: what lasts is told again");
    }
}

/// Somebody who is told.
struct Listener {
    /// Its key of the configuration.
    key: &'static str,
    /// Who it is in the index: another command or address is somebody else.
    id: String,
    way: Way,
    told: Told,
}

/// How somebody is told.
enum Way {
    /// Program and arguments.
    Command(Vec<String>),
    Webhook(Webhook),
}

struct Webhook {
    url: String,
    /// Empty for none.
    proxy: String,
}

/// Whoever is configured.
fn listeners(config: &HealthConfig) -> Vec<Listener> {
    let command = (!config.command.is_empty())
        .then(|| ("maintenance.health.command", Way::Command(config.command.clone())));
    let webhook = (!config.webhook.is_empty())
        .then(|| Webhook { url: config.webhook.clone(), proxy: config.webhook_proxy.clone() })
        .map(|webhook| ("maintenance.health.webhook", Way::Webhook(webhook)));
    let listener = |(key, way): (_, Way)| Listener { key, id: way.id(), way, told: Told::default() };
    command.into_iter().chain(webhook).map(listener).collect()
}

impl Way {
    fn id(&self) -> String {
        let (kind, words) = match self {
            Self::Command(words) => ("command", words.join("\0")),
            Self::Webhook(webhook) => ("webhook", webhook.url.clone()),
        };
        format!("{kind}:{}", hex::encode(Blake2b512::digest(words)))
    }
}

impl Listener {
    async fn tell(&mut self, view: &View, timeout: Duration) {
        let now = &self.told.open(&view.problems, |problem| view.is_undecided(problem));
        let Some(message) = self.told.news(now, Instant::now()) else { return };
        let result = match &self.way {
            Way::Command(command) => run_command(command, &message, timeout).await,
            Way::Webhook(webhook) => post(webhook, &message, timeout).await,
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

    /// Writes down what it knows, again and again until that succeeds.
    async fn note(&mut self, index: &Index) {
        let Some(problems) = self.told.to_note() else { return };
        match index.note_told(&self.id, &problems).await {
            Ok(()) => self.told.is_noted(),
            Err(error) => tracing::warn!(key = self.key, %error, "what was told is not written down"),
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

async fn post(webhook: &Webhook, message: &Value, timeout: Duration) -> anyhow::Result<()> {
    // To follow a redirect would make a GET without a body of it, and a success of that.
    let redirect = reqwest::redirect::Policy::none();
    // A proxy of the environment is the one for downloads: it must not learn by accident what is told within the farm.
    let mut client = reqwest::Client::builder().timeout(timeout).redirect(redirect).no_proxy();
    if !webhook.proxy.is_empty() {
        // With the plain scheme the name would be looked up here.
        let proxy = webhook.proxy.replacen("socks5://", "socks5h://", 1);
        client = client.proxy(reqwest::Proxy::all(proxy).map_err(reqwest::Error::without_url)?);
    }
    let request = client
        .build()?
        .post(&webhook.url)
        .header("content-type", "application/json")
        .body(message.to_string());
    let status = request.send().await.map_err(reqwest::Error::without_url)?.status();
    anyhow::ensure!(status.is_success(), "it answered {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use serde_json::json;

    use super::*;

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
            let url = format!("http://{}/hook?x=1", listener.local_addr().unwrap());
            Webhook { url, proxy: String::new() }
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

    #[tokio::test]
    async fn a_proxy_is_asked_only_if_it_is_configured() {
        service_kit::process::install_crypto_provider();
        let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy_url = format!("http://{}", proxy.local_addr().unwrap());
        let webhook = Webhook { url: "http://hooks.example/x".to_owned(), proxy: proxy_url.clone() };
        let message = json!({ "came": [] });
        let limit = Duration::from_mins(1);
        let (told, request) =
            tokio::join!(post(&webhook, &message, limit), answer_once(proxy, "204 No Content"));
        told.unwrap();
        assert!(request.starts_with("POST http://hooks.example/x HTTP/1.1\r\n"), "{request}");

        // Nobody listens there any more, so that asking it would fail.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut posting = tokio::process::Command::new(std::env::current_exe().unwrap());
        posting.args(["--ignored", "--exact", "notify::tests::post_in_a_process_of_its_own"]);
        posting.env(WEBHOOK, format!("http://{}/x", listener.local_addr().unwrap()));
        for variable in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            posting.env(variable, &proxy_url);
        }
        let mut posting = posting.env_remove("no_proxy").env_remove("NO_PROXY").spawn().unwrap();
        let request = tokio::select! {
            request = answer_once(listener, "204 No Content") => request,
            ended = posting.wait() => panic!("nothing came: {ended:?}"),
        };
        assert!(request.starts_with("POST /x HTTP/1.1\r\n"), "{request}");
        assert!(posting.wait().await.unwrap().success());
    }

    /// Names the address for the process that has proxies in its environment.
    const WEBHOOK: &str = "ROOKERY_TEST_WEBHOOK";

    #[tokio::test]
    #[ignore = "only in a process of its own"]
    async fn post_in_a_process_of_its_own() {
        let Ok(url) = std::env::var(WEBHOOK) else { return };
        service_kit::process::install_crypto_provider();
        let webhook = Webhook { url, proxy: String::new() };
        post(&webhook, &json!({ "came": [] }), Duration::from_mins(1)).await.unwrap();
    }
}
