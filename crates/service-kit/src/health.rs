//! `/healthz` and `/readyz`, to be merged into a service's own routes.
//!
//! `/healthz` answers as long as the process answers at all. `/readyz` answers 200 when every part can
//! serve, else 503 with the reason of each that can't: a line each, or JSON if `Accept` asks for it.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use crate::readiness::Readiness;

/// What `/readyz` says as JSON.
#[derive(Debug, Serialize)]
struct Report {
    ready: bool,
    waiting: Vec<Waiting>,
    /// What is wrong although every part can serve.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Waiting>,
}

#[derive(Debug, Serialize)]
struct Waiting {
    part: String,
    reason: String,
}

/// The two routes.
pub fn router<S: Clone + Send + Sync + 'static>(readiness: Readiness) -> Router<S> {
    Router::new()
        .route("/healthz", get(async |headers: HeaderMap| answer(&headers, Ok(()), "ok")))
        .route("/readyz", get(readyz))
        .with_state(readiness)
}

async fn readyz(State(readiness): State<Readiness>, headers: HeaderMap) -> Response {
    respond(&headers, readiness.check(), "ready", readiness.warnings())
}

/// The answer to either, for services that route by hand.
#[must_use]
pub fn answer(headers: &HeaderMap, state: Result<(), Vec<(String, String)>>, yes: &str) -> Response {
    respond(headers, state, yes, Vec::new())
}

fn respond(
    headers: &HeaderMap,
    state: Result<(), Vec<(String, String)>>,
    yes: &str,
    warnings: Vec<(String, String)>,
) -> Response {
    let unready = state.err().unwrap_or_default();
    let status = if unready.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let cache = [(header::CACHE_CONTROL, "no-store")];
    if wants_json(headers) {
        let list = |of: Vec<(String, String)>| -> Vec<_> {
            of.into_iter().map(|(part, reason)| Waiting { part, reason }).collect()
        };
        let (waiting, warnings) = (list(unready), list(warnings));
        return (status, cache, Json(Report { ready: waiting.is_empty(), waiting, warnings }))
            .into_response();
    }
    let mut lines: Vec<_> = unready.into_iter().map(|(part, reason)| format!("{part}: {reason}")).collect();
    if lines.is_empty() {
        lines.push(yes.to_owned());
    }
    lines.extend(warnings.into_iter().map(|(subject, what)| format!("warning: {subject}: {what}")));
    (status, cache, lines.join("\n") + "\n").into_response()
}

fn wants_json(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|accept| accept.contains("application/json"))
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(readiness: &Readiness, path: &str, accept: &str) -> (u16, String) {
        let request = Request::get(path).header("accept", accept).body(Body::empty()).unwrap();
        let response = router::<()>(readiness.clone()).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 4096).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readyz_gives_the_reasons_and_healthz_does_not_care() {
        let readiness = Readiness::default();
        let tree = readiness.part("tree", "no generation yet");
        let line = "tree: no generation yet\n".to_owned();
        assert_eq!(ask(&readiness, "/readyz", "*/*").await, (503, line));
        let json = r#"{"ready":false,"waiting":[{"part":"tree","reason":"no generation yet"}]}"#.to_owned();
        assert_eq!(ask(&readiness, "/readyz", "application/json").await, (503, json));
        assert_eq!(ask(&readiness, "/healthz", "*/*").await, (200, "ok\n".to_owned()));
        tree.ready();
        assert_eq!(ask(&readiness, "/readyz", "*/*").await, (200, "ready\n".to_owned()));
        readiness.warn("maintenance", &[("replica r1".to_owned(), "not heard of for 9 min".to_owned())]);
        let lines = "ready\nwarning: replica r1: not heard of for 9 min\n".to_owned();
        assert_eq!(ask(&readiness, "/readyz", "*/*").await, (200, lines));
        let (status, json) = ask(&readiness, "/readyz", "application/json").await;
        assert!(status == 200 && json.contains(r#""warnings":[{"part":"replica r1""#), "{json}");
        readiness.warn("maintenance", &[]);
        assert_eq!(ask(&readiness, "/readyz", "*/*").await, (200, "ready\n".to_owned()));
    }
}
