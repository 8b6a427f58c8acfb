//! One request that has to go upstream, alone or with others.

use std::sync::Arc;

use cache_policy::UnixMs;
use cache_policy::reuse::{self, Framing, NotStored, StoredResponse};
use http::{HeaderMap, StatusCode, Uri};
use reqwest::Response;
use url::Url;

use super::super::cache_status::{CacheStatus, Forwarded};
use super::super::passthrough::{self, RESPONSE_HEADERS, pick};
use super::super::reply::{self, Reply};
use super::super::request::ClientRequest;
use super::keep::{Joined, Kept, KeptResponses, key_of};
use super::shared::{Follower, Growing, Lead, Outcome};
use super::{reply_of, serve, tee};
use crate::app::{App, now_ms};
use crate::fetch::fault::{SourceFault, status_of};
use crate::fetch::upstream::Trust;

/// A client's request on its way.
pub(super) struct Exchange<'a> {
    pub(super) app: &'a Arc<App>,
    pub(super) request: &'a ClientRequest,
    pub(super) url: &'a Url,
    pub(super) uri: &'a Uri,
    /// What goes upstream of the client's headers.
    pub(super) sent: HeaderMap,
    pub(super) why: Forwarded,
}

impl Exchange<'_> {
    /// `stale` may be the answer once upstream has said so. `None`: look again.
    pub(super) async fn run(&self, kept: &KeptResponses, stale: Option<(Kept, HeaderMap)>) -> Option<Reply> {
        match kept.join(self.uri, &self.sent) {
            Joined::Alone => Some(self.alone().await),
            Joined::Leads(lead) => self.lead(kept, lead, stale).await,
            Joined::Follows(follower) => self.follow(follower).await,
        }
    }

    fn status(&self) -> CacheStatus {
        CacheStatus::forwarded(self.why)
    }

    async fn alone(&self) -> Reply {
        passthrough::forward(self.app, self.request, self.url, self.status()).await
    }

    async fn follow(&self, mut follower: Follower) -> Option<Reply> {
        let waiting = tokio::time::timeout(self.app.config.timeouts.first_byte.0, follower.outcome());
        let collapsed = CacheStatus { is_collapsed: true, ..self.status() };
        match waiting.await {
            Ok(Outcome::Growing(growing)) => {
                let status = CacheStatus { is_stored: true, ..collapsed.answered(Some(200)) };
                Some(self.follow_body(&growing, follower, status))
            }
            Ok(Outcome::Kept(kept, answered)) => {
                let status = collapsed.answered(answered.map(|status| status.as_u16()));
                serve(self.app, self.request, &kept, status, age_seconds(&kept.stored)).await
            }
            Ok(Outcome::Failed(status, why)) => Some(reply::text(status, &why)),
            Ok(Outcome::Own) => Some(self.alone().await),
            Ok(Outcome::Pending | Outcome::Again) => None,
            Err(_) => Some(reply::text(StatusCode::GATEWAY_TIMEOUT, "nobody answered in time")),
        }
    }

    fn follow_body(&self, growing: &Growing, follower: Follower, status: CacheStatus) -> Reply {
        let (file, filled) = (Arc::clone(&growing.reader.file), growing.reader.filled.clone());
        let make_body = |selection| tee::growing(file, filled, selection, follower);
        reply_of(
            self.request,
            &growing.stored,
            growing.length_bytes,
            status,
            age_seconds(&growing.stored),
            make_body,
        )
    }

    async fn ask(&self, conditions: Option<&HeaderMap>) -> Result<Response, SourceFault> {
        let mut headers = self.sent.clone();
        headers.extend(conditions.into_iter().flat_map(HeaderMap::clone));
        self.app.upstreams.send(http::Method::GET, self.url, Trust::Checked, headers, &self.request.via).await
    }

    async fn lead(
        &self,
        kept: &KeptResponses,
        lead: Lead,
        stale: Option<(Kept, HeaderMap)>,
    ) -> Option<Reply> {
        let mut answer = self.ask(stale.as_ref().map(|(_, conditions)| conditions)).await;
        if let Some((old, _)) = &stale {
            let status = answer.as_ref().ok().map(Response::status);
            if status == Some(StatusCode::NOT_MODIFIED) {
                let response = answer.ok()?;
                if let Some(reply) = self.validated(kept, &lead, old, &response).await {
                    return Some(reply);
                }
                // It is about another response than ours.
                answer = self.ask(None).await;
            } else if self.prefers_stale(old, status) {
                lead.tell(Outcome::Kept(Arc::new(old.clone()), status));
                let told = self.status().because("stale-if-error");
                let told = told.answered(status.map(|status| status.as_u16()));
                return serve(self.app, self.request, old, told, age_seconds(&old.stored)).await;
            }
        }
        match answer {
            Ok(response) => Some(self.answered(kept, lead, stale.map(|(old, _)| old), response).await),
            Err(fault) => {
                if !matches!(fault, SourceFault::Refused(_)) {
                    let status = status_of(std::slice::from_ref(&fault));
                    lead.tell(Outcome::Failed(status, fault.to_string()));
                }
                Some(passthrough::failed(&fault))
            }
        }
    }

    fn prefers_stale(&self, old: &Kept, status: Option<StatusCode>) -> bool {
        let by_default_seconds = self.app.config.uncatalogued.stale_if_error.0.as_secs();
        let now = UnixMs::new(now_ms());
        reuse::may_answer_stale(&old.stored, &self.request.headers, status, by_default_seconds, now)
    }

    /// Upstream said that what is kept is still right; `None` if it did not say that of ours.
    async fn validated(
        &self,
        kept: &KeptResponses,
        lead: &Lead,
        old: &Kept,
        response: &Response,
    ) -> Option<Reply> {
        let (headers, picked) = (response.headers(), pick(response.headers(), RESPONSE_HEADERS));
        let stored = reuse::decide_update(&old.stored, headers, &picked, UnixMs::new(now_ms()))?;
        if let Some(head) = stored.encode() {
            let (responses, response) = (kept.responses(), old.response.clone());
            let updated = tokio::task::spawn_blocking(move || responses.update(&response, &head)).await;
            if let Ok(Err(error)) = updated {
                // It is validated again the next time.
                tracing::warn!(%error, "a response could not be updated");
            }
        }
        let fresh = Kept { stored, response: old.response.clone() };
        let status = Some(StatusCode::NOT_MODIFIED);
        lead.tell(Outcome::Kept(Arc::new(fresh.clone()), status));
        let told = self.status().answered(status.map(|status| status.as_u16()));
        serve(self.app, self.request, &fresh, told, age_seconds(&fresh.stored)).await
    }

    /// Upstream gave a response of its own.
    async fn answered(
        &self,
        kept: &KeptResponses,
        lead: Lead,
        old: Option<Kept>,
        response: Response,
    ) -> Reply {
        let framing = Framing::of(response.version(), response.headers());
        let decided = self.decide(&response, framing);
        if let (Some(old), Err(_), true) = (old, &decided, response.status().is_success()) {
            // Nothing will take its place, and it is not the answer any more.
            let responses = kept.responses();
            drop(tokio::task::spawn_blocking(move || responses.forget(&old.response)).await);
        }
        let status = self.status().answered_with(response.status());
        let stored = match decided {
            Ok(stored) => stored,
            Err(why) => {
                lead.tell(Outcome::Own);
                let told = if response.status().is_success() { status.because(why.as_str()) } else { status };
                return passthrough::relay(self.app, self.request, response, told);
            }
        };
        let length = match framing {
            Framing::Length(length) => Some(length),
            Framing::Marked | Framing::UntilClose => None,
        };
        let responses = kept.responses();
        let draft = match tokio::task::spawn_blocking(move || responses.begin(length)).await {
            Ok(Ok(draft)) => draft,
            refused => {
                lead.tell(Outcome::Own);
                let why = refused.map(|begun| begun.err().map(|error| error.to_string()));
                tracing::warn!(?why, "a response passes through: it can't be kept");
                return passthrough::relay(self.app, self.request, response, status.because("no-room"));
            }
        };
        let status = CacheStatus { is_stored: true, ..status };
        let key = key_of(self.uri, stored.selecting());
        let Some(length_bytes) = length else {
            lead.tell(Outcome::Own);
            let body = tee::keeping(self.app.upstreams.clone(), response, draft, key, stored.clone());
            return tee::reply_of_unknown_length(&stored, status, body);
        };
        let growing = Arc::new(Growing { stored, length_bytes, reader: draft.reader() });
        let follower = lead.follow();
        lead.tell(Outcome::Growing(Arc::clone(&growing)));
        let filling = tee::fill(self.app.upstreams.clone(), response, draft, key, Arc::clone(&growing), lead);
        drop(self.app.tasks.spawn("uncatalogued", filling));
        self.follow_body(&growing, follower, status)
    }

    fn decide(&self, response: &Response, framing: Framing) -> Result<StoredResponse, NotStored> {
        let stored = reuse::decide_storage(
            self.uri,
            &plain(&self.request.headers),
            &self.sent,
            response.status(),
            response.headers(),
            pick(response.headers(), RESPONSE_HEADERS),
            framing,
            UnixMs::new(now_ms()),
        )?;
        if stored.encode().is_none() {
            return Err(NotStored::TooLarge);
        }
        match framing {
            Framing::Length(length) if length > self.app.config.uncatalogued.object_max.0 => {
                Err(NotStored::TooLarge)
            }
            Framing::Length(_) | Framing::Marked | Framing::UntilClose => Ok(stored),
        }
    }
}

/// The client's range and conditions did not go upstream; they are applied to what comes.
fn plain(headers: &HeaderMap) -> HeaderMap {
    let mut plain = headers.clone();
    for name in headers.keys().filter(|name| *name == http::header::RANGE || name.as_str().starts_with("if-"))
    {
        plain.remove(name);
    }
    plain
}

fn age_seconds(stored: &StoredResponse) -> u64 {
    stored.age_seconds(UnixMs::new(now_ms()))
}
