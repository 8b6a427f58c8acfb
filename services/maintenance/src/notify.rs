//! Tells a command, a webhook and `/readyz` which problems came and went.
//!
//! Neither the command nor the webhook can hold anything up: each has a bounded time, and what was not
//! told is told with the next change. The command is run as it is written, without a shell.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rookery_proto::v1::Problem;
use serde_json::{Value, json};
use service_kit::readiness::Readiness;
use tokio::io::AsyncWriteExt as _;

use crate::config::HealthConfig;
use crate::core::Core;

const LOOK_EVERY: Duration = Duration::from_secs(30);

/// A problem by what it is and whom it is about: its text may change while it lasts.
type Known = BTreeMap<(String, String), Problem>;

/// Looks until the service stops.
pub(crate) async fn run(core: Arc<Core>, readiness: Readiness) -> anyhow::Result<()> {
    let mut told = Known::new();
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
        if let Some(message) = change(&told, &now) {
            if core.stop.run_until_cancelled(tell(&core.health, &message)).await.is_none() {
                return Ok(());
            }
            told = now;
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

async fn tell(config: &HealthConfig, message: &Value) {
    let timeout = config.timeout.0;
    if !config.command.is_empty()
        && let Err(error) = run_command(&config.command, message, timeout).await
    {
        tracing::warn!(error = format!("{error:#}"), "maintenance.health.command");
    }
    if !config.webhook.is_empty()
        && let Err(error) = post(&config.webhook, message, timeout).await
    {
        tracing::warn!(error = format!("{error:#}"), "maintenance.health.webhook");
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
            .kill_on_drop(true)
            .spawn()
            .with_context(|| program.clone())?;
        if let Some(mut input) = child.stdin.take() {
            // A command that doesn't read is no error.
            drop(input.write_all(message.to_string().as_bytes()).await);
        }
        let status = child.wait().await?;
        anyhow::ensure!(status.success(), "{program}: {status}");
        Ok(())
    };
    tokio::time::timeout(timeout, told).await.context("it took too long")?
}

async fn post(url: &str, message: &Value, timeout: Duration) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().timeout(timeout).build()?;
    let request = client.post(url).header("content-type", "application/json").body(message.to_string());
    request.send().await?.error_for_status()?;
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

        // Nobody ever answers, then nobody listens.
        let listener = listen().await;
        let url = url_of(&listener);
        let late = post(&url, &message, Duration::from_millis(50)).await.unwrap_err();
        assert!(late.downcast_ref::<reqwest::Error>().unwrap().is_timeout(), "{late:#}");
        drop(listener);
        assert!(post(&url, &message, limit).await.is_err());
    }
}
