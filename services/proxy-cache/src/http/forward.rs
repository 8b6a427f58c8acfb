//! The forward role: absolute-form requests, as a client with `http_proxy` sends them.

use std::sync::Arc;

use blob_store::Scope;
use http::StatusCode;
use http_wire::target::distfile_in_url;
use url::{Host, Url};

use super::distfile;
use super::lookup::{self, Lookup};
use super::reply::{self, Reply};
use super::request::ClientRequest;
use super::uncatalogued;
use crate::app::App;

/// Longest URL that is looked at.
const URL_OCTETS_MAX: usize = 8192;

/// Answers an absolute-form request. A URL counts as a distfile if it has the form of a mirror's or is
/// one of the catalogue's sources, never by its last part alone.
pub(crate) async fn answer(app: &Arc<App>, request: &ClientRequest) -> Reply {
    let text = request.uri.to_string();
    let url = Url::parse(&text).ok().filter(|url| url.scheme() == "http" && text.len() <= URL_OCTETS_MAX);
    let Some(url) = url else {
        return reply::text(StatusCode::BAD_REQUEST, "only http:// URLs can be asked for through this proxy");
    };
    if is_ourselves(app, request, &url).await {
        return super::router::origin_form(app, request, url.path()).await;
    }
    if request.is_loop(app) {
        return reply::text(StatusCode::LOOP_DETECTED, "this request has been through here already");
    }
    let name = distfile_in_url(url.path());
    if name.is_none() && !request.is_from_peer() {
        // Only the catalogue can tell a source from any other URL.
        app.catalogue_settled.cancelled().await;
    }
    if let Some(name) = name {
        let found = lookup::for_client(app, request, &name, None).await;
        if let Some(reply) = distfile::answer(app, request, &name, found, Some(&url)).await {
            return reply;
        }
    } else if let Ok(Some(known)) = app.catalogue.resolve_source(url.as_str()).await {
        let (name, known) = (known.distfile.name.clone(), Arc::new(known));
        let found = match lookup::of_known(app, Arc::clone(&known), scope_of(app, &known).await).await {
            Ok(Lookup::Unknown) => Ok(Lookup::Miss(known)),
            found => found,
        };
        if let Some(reply) = distfile::answer(app, request, &name, found, Some(&url)).await {
            return reply;
        }
    }
    uncatalogued::answer(app, request, &url).await
}

/// Under which name a source's file belongs: a name that another module defines otherwise stays that
/// module's.
async fn scope_of(app: &App, known: &crate::catalogue::KnownDistfile) -> Scope {
    let first = app.catalogue.resolve(&known.distfile.name, None).await.ok().flatten();
    let is_first = first.is_none_or(|first| first.distfile.digests.agrees_with(&known.distfile.digests));
    let own = if is_first { None } else { Scope::module(&known.module) };
    own.unwrap_or(Scope::DISTFILES)
}

/// Whether the URL names this very server: a client with both `http_proxy` and `GENTOO_MIRRORS` at us.
async fn is_ourselves(app: &App, request: &ClientRequest, url: &Url) -> bool {
    if url.port_or_known_default() != Some(app.http_addr.port()) {
        return false;
    }
    let local = request.local.ip().to_canonical();
    match url.host() {
        Some(Host::Ipv4(address)) => local == address,
        Some(Host::Ipv6(address)) => local == std::net::IpAddr::from(address).to_canonical(),
        Some(Host::Domain(name)) => match tokio::net::lookup_host((name, 0)).await {
            Ok(mut found) => found.any(|found| found.ip().to_canonical() == local),
            Err(_) => false,
        },
        None => false,
    }
}
