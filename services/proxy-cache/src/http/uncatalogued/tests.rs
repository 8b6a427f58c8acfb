//! What happens when the disk can't give what is kept.

use cache_policy::reuse::Framing;

use super::*;
use crate::http::distfile::tests::{app, looked, request, send_unreadable_of};

/// Something kept under `uri`, as an exchange leaves it.
fn keep(kept: &KeptResponses, uri: &Uri, body: &[u8]) {
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_CONTROL, "max-age=3600".parse().unwrap());
    let (nothing, now) = (HeaderMap::new(), UnixMs::new(now_ms()));
    let framing = Framing::Length(body.len() as u64);
    let stored = reuse::decide_storage(
        uri,
        &nothing,
        &nothing,
        StatusCode::OK,
        &headers,
        headers.clone(),
        framing,
        now,
    );
    let stored = stored.unwrap();
    let mut draft = kept.responses().begin(Some(body.len() as u64)).unwrap();
    draft.append(body).unwrap();
    draft.finish(&keep::key_of(uri, stored.selecting()), &stored.encode().unwrap()).unwrap();
}

#[tokio::test]
async fn a_response_that_can_not_be_read_breaks_one_answer_and_is_dropped() {
    let (dir, upstream) =
        (tempfile::tempdir().unwrap(), farm_sim::upstream::Upstream::start().await.unwrap());
    let app = app(dir.path(), &upstream, None).await;
    let kept = app.responses.as_ref().unwrap();
    let uri = |name: &str| format!("http://a/{name}").parse::<Uri>().unwrap();
    for name in ["spoilt", "sound"] {
        keep(kept, &uri(name), &[7; 10_000]);
    }
    let found = kept.variants(&uri("spoilt")).pop().unwrap();
    let reply = serve(&app, &request(), &found, CacheStatus::HIT, 0).await.unwrap();
    assert_eq!(send_unreadable_of(reply).await, 0, "nothing was made up");
    looked(&app).await;
    assert!(kept.variants(&uri("spoilt")).is_empty(), "the next who asks would get it again");
    assert_eq!(kept.variants(&uri("sound")).len(), 1);
    // Who had found it before looks again.
    assert!(serve(&app, &request(), &found, CacheStatus::HIT, 0).await.is_none());
}
