//! From a request to a response.

use std::sync::Arc;

use http::header::VIA;
use http::{Method, StatusCode};
use http_wire::target::{Form, RequestTarget, parse_path};
use tracing::debug;

use super::client_files;
use super::distfile;
use super::lookup;
use super::passthrough;
use super::reply::{self, Reply};
use super::request::ClientRequest;
use super::tunnel;
use super::{alias, forward};
use crate::app::App;
use crate::fetch::candidate;

const LAYOUT_CONF: &str = "[structure]\n0=filename-hash BLAKE2B 8\n1=flat";

/// Answers one request of a client that may ask.
pub(crate) async fn answer(app: &Arc<App>, request: &ClientRequest) -> Reply {
    let mut reply = route(app, request).await;
    debug!(status = reply.status().as_u16(), client = %request.client, "{} {}", request.method, request.uri.path());
    reply.headers_mut().insert(VIA, app.via.clone());
    reply
}

async fn route(app: &Arc<App>, request: &ClientRequest) -> Reply {
    if request.method == Method::CONNECT {
        return Box::pin(tunnel::answer(app, request)).await;
    }
    if request.method != Method::GET && request.method != Method::HEAD {
        return reply::method_not_allowed();
    }
    if request.uri.authority().is_some() {
        return Box::pin(forward::answer(app, request)).await;
    }
    origin_form(app, request, request.uri.path()).await
}

/// The mirror role, and everything about ourselves.
pub(crate) async fn origin_form(app: &Arc<App>, request: &ClientRequest, path: &str) -> Reply {
    match parse_path(path, &app.alias_prefixes) {
        RequestTarget::LayoutConf => reply::text(StatusCode::OK, LAYOUT_CONF),
        RequestTarget::Distfile { name, module, form } => {
            let found = lookup::for_client(app, request, &name, module.as_deref()).await;
            if let Some(reply) = distfile::answer(app, request, &name, found, None).await {
                return reply;
            }
            if request.is_loop(app) {
                return reply::text(StatusCode::LOOP_DETECTED, "this request has been through here already");
            }
            if form == Form::Bare || request.is_from_peer() {
                return reply::not_found("nobody knows this name");
            }
            let candidates = candidate::from_mirrors(&app.config.mirrors, &name);
            Box::pin(passthrough::from_candidates(app, request, &candidates)).await
        }
        RequestTarget::Alias { prefix, segments } => alias::answer(app, request, &prefix, &segments).await,
        RequestTarget::Client(file) => client_files::answer(app, request, file).await,
        RequestTarget::Front => client_files::front(app),
        RequestTarget::Health => health(app, false),
        RequestTarget::Ready => health(app, true),
        RequestTarget::Unknown => reply::not_found("nothing is here"),
    }
}

/// `/healthz`: this process answers. `/readyz`: every part of it can serve.
pub(crate) fn health(app: &App, readiness_too: bool) -> Reply {
    let state = if readiness_too { app.readiness.check() } else { Ok(()) };
    match state {
        Ok(()) if readiness_too => {
            let mut lines = vec!["ready".to_owned()];
            let warnings = app.readiness.warnings_of(crate::tls::PART).into_iter();
            lines.extend(warnings.map(|(subject, what)| format!("warning: {subject}: {what}")));
            reply::text(StatusCode::OK, &lines.join("\n"))
        }
        Ok(()) => reply::text(StatusCode::OK, "ok"),
        Err(parts) => {
            let lines: Vec<String> = parts.into_iter().map(|(part, why)| format!("{part}: {why}")).collect();
            reply::text(StatusCode::SERVICE_UNAVAILABLE, &lines.join("\n"))
        }
    }
}
