//! What a plain hit costs beside its file, as far as that is pure: the heads of request and answer; and a range.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use bytes::BytesMut;
use http::Response;
use http::header::HeaderMap;
use http_wire::conditional::{Validators, format_date};
use http_wire::framing::{self, Asked, DateText, Framing, Sent};
use http_wire::received::{Awaited, Limits};
use http_wire::target::{RequestTarget, parse_path};
use http_wire::{head, range};

const LIMITS: Limits = Limits { headers_max: 100, octets_max: 32 << 10 };
const SIZE: u64 = 1_234_567;
/// As Portage's wget asks.
const REQUEST: &[u8] =
    b"GET /distfiles/3a/foo-1.0.tar.xz HTTP/1.1\r\nHost: mirror:8080\r\nUser-Agent: Wget/1.21.3\r\n\
    Accept: */*\r\nAccept-Encoding: identity\r\nConnection: Keep-Alive\r\n\r\n";

fn validators() -> Validators {
    Validators {
        etag: Some(format!("\"{}\"", "0123456789abcdef".repeat(8))),
        modified: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
    }
}

pub(crate) fn plain_hit_head(times: u32) -> Result<()> {
    let validators = validators();
    let (mut received, mut out, mut date) = (BytesMut::new(), Vec::new(), DateText::default());
    for _ in 0..times {
        received.extend_from_slice(black_box(REQUEST));
        let request = Awaited::default().look(&mut received, LIMITS)?.context("a whole head")?;
        let via = head::check(request.version, &request.headers)
            .map_err(|refusal| anyhow::anyhow!("refused: {}", refusal.as_str()))?;
        let target = parse_path(request.uri.path(), &[]);
        ensure!(matches!(target, RequestTarget::Distfile { .. }), "{target:?}");
        ensure!(!validators.is_unwanted(&request.headers) && !validators.is_not_modified(&request.headers));
        let wanted = range::parse(validators.range(&request.headers), SIZE);
        ensure!(wanted == range::Wanted::Whole && via.is_empty(), "{wanted:?}");
        let asked = Asked::of(&request);
        let (head, ()) = answer(&validators)?.into_parts();
        let sent = Sent { now: SystemTime::UNIX_EPOCH, date: &mut date, stops: false };
        out.clear();
        framing::encode(&mut out, &head, Framing::of(&head, Some(SIZE), &asked), &asked, sent);
        black_box(&out);
    }
    Ok(())
}

/// As a replica answers it.
fn answer(validators: &Validators) -> Result<Response<()>> {
    let modified = validators.modified.and_then(format_date).context("it has one")?;
    Ok(Response::builder()
        .header("etag", validators.etag.as_deref().context("it has one")?)
        .header("last-modified", modified)
        .header("accept-ranges", "bytes")
        .header("content-type", "application/octet-stream")
        .header("cache-status", "rookery; hit")
        .header("via", "1.1 rookery")
        .body(())?)
}

pub(crate) fn range_parse(times: u32) -> Result<()> {
    let validators = validators();
    let mut headers = HeaderMap::new();
    headers.insert(http::header::IF_RANGE, validators.etag.as_deref().context("it has one")?.parse()?);
    headers.insert(http::header::RANGE, "bytes=350000-, 0-99, -500".parse()?);
    for _ in 0..times {
        black_box(range::parse(validators.range(black_box(&headers)), SIZE));
    }
    Ok(())
}
