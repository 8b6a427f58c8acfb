//! The web port: a page for people, the same for programs, health and metrics.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use service_kit::readiness::Readiness;

use crate::core::Core;
use crate::index::IndexError;
use crate::{json, metrics, page};

#[derive(Clone)]
struct Web {
    core: Arc<Core>,
    readiness: Readiness,
}

/// All routes.
pub(crate) fn router(core: Arc<Core>, readiness: Readiness) -> Router {
    Router::new()
        .route("/", get(front))
        .route("/status.json", get(status_json))
        .route("/metrics", get(prometheus))
        .with_state(Web { core, readiness: readiness.clone() })
        .merge(service_kit::health::router(readiness))
}

async fn front(State(web): State<Web>) -> Result<Response, Failed> {
    let status = web.core.status().await?;
    let unready = web.readiness.check().err().unwrap_or_default();
    let text = page::render(&status, &unready, web.core.clock.now().get());
    Ok((no_store(), Html(text)).into_response())
}

async fn status_json(State(web): State<Web>) -> Result<Response, Failed> {
    let status = web.core.status().await?;
    Ok((no_store(), axum::Json(json::status(&status))).into_response())
}

async fn prometheus(State(web): State<Web>) -> Result<Response, Failed> {
    let status = web.core.status().await?;
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, metrics::page(&status, web.readiness.check().is_ok())).into_response())
}

fn no_store() -> [(header::HeaderName, &'static str); 1] {
    [(header::CACHE_CONTROL, "no-store")]
}

/// The index doesn't answer.
struct Failed(IndexError);

impl From<IndexError> for Failed {
    fn from(error: IndexError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        tracing::error!(error = %self.0, "status not available");
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", self.0)).into_response()
    }
}
