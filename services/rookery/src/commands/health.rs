//! `rookery health`

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use serde_json::json;
use service_kit::config::Settings;

use super::{block_on, print, print_json};
use crate::all_in_one::endpoint;
use crate::cli::{Cli, Health};

/// Below the three seconds that container health checks are usually given.
const TIMEOUT: Duration = Duration::from_millis(2_500);

/// What is printed of an answer: enough for every part's reason.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

pub(crate) fn run(cli: &Cli, health: &Health) -> anyhow::Result<ExitCode> {
    let url = url(cli, health)?;
    let asked = block_on(ask(&url, cli.json));
    match asked {
        Ok((healthy, text)) => {
            print(text.trim_end().to_owned() + "\n")?;
            Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(error) if cli.json => {
            print_json(&json!({ "ready": false, "error": format!("{error:#}") }))?;
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(error),
    }
}

fn url(cli: &Cli, health: &Health) -> anyhow::Result<String> {
    let path = if health.live { "/healthz" } else { "/readyz" };
    let base = match &health.endpoint {
        // A whole URL is asked as it is.
        Some(url) if url.trim_end_matches('/').matches('/').count() > 2 => return Ok(url.clone()),
        Some(base) => base.trim_end_matches('/').to_owned(),
        None => {
            let settings = Settings::read(cli.config.as_deref())?;
            endpoint(settings.section::<maintenance::Config>("maintenance")?.web)
        }
    };
    Ok(format!("{base}{path}"))
}

async fn ask(url: &str, json: bool) -> anyhow::Result<(bool, String)> {
    // A proxy of the environment is for other people's hosts.
    let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
    let accept = if json { "application/json" } else { "text/plain" };
    let mut response = client
        .get(url)
        .header("accept", accept)
        .send()
        .await
        .map_err(|error| anyhow!("{url} does not answer ({}): is it running?", innermost(&error)))?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            body.truncate(ANSWER_BYTES_MAX);
            break;
        }
    }
    Ok((response.status().is_success(), String::from_utf8_lossy(&body).into_owned()))
}

/// What the system said, without the layers around it.
fn innermost(error: &dyn Error) -> &dyn Error {
    error.source().map_or(error, innermost)
}
