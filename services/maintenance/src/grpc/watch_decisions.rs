//! Decisions on their way to the replica that carries them out.

use std::sync::Arc;
use std::time::Duration;

use rookery_proto::v1::decision::Action;
use rookery_proto::v1::{Decision, EvictBlob};

use super::{Watch, stopping};
use crate::core::Core;
use crate::imports::PendingImport;
use crate::index::PendingDecision;

const PAGE: u32 = 1000;

/// What is still not acknowledged after this time is sent again on the same stream: the replica may have
/// lost it.
const RESEND_AFTER: Duration = Duration::from_mins(5);

/// Everything that waits for the replica, then what is decided; again after a while, until acknowledged.
pub(super) fn stream(core: Arc<Core>, replica_id: String) -> Watch<Decision> {
    Box::pin(async_stream::try_stream! {
        let _connected = core.presence.connect(&replica_id);
        let mut made = core.decisions.subscribe();
        let mut resend = tokio::time::interval_at(tokio::time::Instant::now() + RESEND_AFTER, RESEND_AFTER);
        let (mut sent, mut imports_sent) = (0, 0);
        loop {
            made.borrow_and_update();
            loop {
                let page = core.index.pending_decisions(&replica_id, sent, PAGE).await?;
                let Some(last) = page.last() else { break };
                sent = last.sequence;
                for decision in page {
                    yield message(decision);
                }
            }
            for pending in core.imports.pending(&replica_id, imports_sent) {
                imports_sent = pending.sequence;
                yield import(pending);
            }
            let stays = tokio::select! {
                changed = made.changed() => changed.is_ok(),
                _ = resend.tick() => {
                    (sent, imports_sent) = (0, 0);
                    true
                }
                () = core.stop.cancelled() => false,
            };
            if !stays {
                Err(stopping())?;
            }
        }
    })
}

fn message(decision: PendingDecision) -> Decision {
    Decision {
        id: decision.id,
        reason: decision.reason,
        action: Some(Action::Evict(EvictBlob {
            blake2b: decision.blob.as_bytes().to_vec(),
            unless_accessed_after_ms: decision.unless_accessed_after_ms,
        })),
    }
}

fn import(pending: PendingImport) -> Decision {
    Decision {
        id: pending.decision_id,
        reason: "by command".to_owned(),
        action: Some(Action::ImportDirectory(pending.directory)),
    }
}
