//! Ready-made configuration for a Gentoo client of this mirror, and the page for people.

use http::StatusCode;
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http_wire::target::ClientFile;

use super::reply::{self, Reply};
use super::request::ClientRequest;
use crate::app::App;
use crate::client_config::{ClientConfig, scheme};

/// The module of the main tree, unless the catalogue has only others.
const MAIN_MODULE: &str = "gentoo-portage";

/// One of the files, naming the host by which the client reached us.
pub(crate) async fn answer(app: &App, request: &ClientRequest, file: ClientFile) -> Reply {
    let Some((host, port)) = authority(request) else {
        return reply::bad_request("Host is no host name");
    };
    let modules = app.catalogue.have().await.unwrap_or_default();
    let has_main = modules.is_empty() || modules.iter().any(|have| have.module == MAIN_MODULE);
    let module = match modules.first() {
        Some(first) if !has_main => first.module.clone(),
        Some(_) | None => MAIN_MODULE.to_owned(),
    };
    let config =
        ClientConfig { host, port, is_tls: request.is_tls, rsync_port: app.config.rsync_port, module };
    let text = match file {
        ClientFile::MakeConf => config.make_conf(),
        ClientFile::Mirrors => config.mirrors(),
        ClientFile::ReposConf => config.repos_conf(),
    };
    reply::text(StatusCode::OK, text.trim_end())
}

/// Host, without brackets, and port of the `Host` header; else where the client connected to.
fn authority(request: &ClientRequest) -> Option<(String, u16)> {
    match request.headers.get(HOST) {
        None => Some((request.local.ip().to_canonical().to_string(), request.local.port())),
        Some(host) => parse_authority(host.to_str().ok()?, request.is_tls),
    }
}

fn parse_authority(text: &str, is_tls: bool) -> Option<(String, u16)> {
    let url = url::Url::parse(&format!("{}://{text}/", scheme(is_tls))).ok()?;
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return None;
    }
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    let is_plain = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte));
    is_plain.then_some((host, url.port_or_known_default()?))
}

/// `/`
pub(crate) fn front(app: &App) -> Reply {
    let blobs = app.store.inventory().len();
    let used_mib = app.store.used_bytes() >> 20;
    let capacity_mib = app.store.capacity_bytes() >> 20;
    let catalogue = if app.catalogue.is_empty() { "not yet here: files pass through" } else { "here" };
    let page = format!(
        "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><title>Rookery</title>\
         <h1>Rookery</h1><p>A local Gentoo mirror. This replica holds {blobs} files, {used_mib} of {capacity_mib} MiB. \
         The catalogue is {catalogue}.</p><p>To use it: <a href=\"/client/make.conf\">make.conf</a>, \
         <a href=\"/client/mirrors\">mirrors</a>, <a href=\"/client/repos.conf\">repos.conf</a>.</p></html>"
    );
    let mut reply = reply::text(StatusCode::OK, &page);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_header_is_a_host_and_a_port() {
        let parse = |text| parse_authority(text, false).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(parse("ws1:8080").as_deref(), Some("ws1 8080"));
        assert_eq!(parse("ws1").as_deref(), Some("ws1 80"));
        assert_eq!(parse("[::1]:8080").as_deref(), Some("::1 8080"));
        assert_eq!(parse_authority("ws1", true), Some(("ws1".to_owned(), 443)));
        for wrong in ["", "a b", "a\"b", "a/b", "a@b", "$(id)", "a?b", "a#b", "a:99999"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
