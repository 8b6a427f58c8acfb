//! Decisions on their way to the replica that carries them out.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rookery_proto::v1::decision::Action;
use rookery_proto::v1::{Decision, EvictBlob, FetchDistfile, ImportDirs, VerifyBlob};

use super::{Watch, stopping};
use crate::core::Core;
use crate::imports::PendingImport;
use crate::index::{Order, PendingDecision};

/// Decisions that a replica has at the same time: its queues are bounded, and what makes room must not
/// wait behind a thousand that only read.
const WINDOW: u32 = 256;

/// What is still not acknowledged after this time is sent again on the same stream: the replica may have
/// lost it.
const RESEND_AFTER: Duration = Duration::from_mins(5);

/// Everything that waits for the replica, then what is decided; again after a while, until acknowledged.
pub(super) fn stream(core: Arc<Core>, replica_id: String) -> Watch<Decision> {
    Box::pin(async_stream::try_stream! {
        let _connected = core.presence.connect(&replica_id);
        let mut made = core.decisions.subscribe();
        let mut acknowledged = core.acknowledged.subscribe();
        let mut resend = tokio::time::interval_at(tokio::time::Instant::now() + RESEND_AFTER, RESEND_AFTER);
        let mut sent: HashSet<i64> = HashSet::new();
        let mut imports_sent = 0;
        loop {
            made.borrow_and_update();
            acknowledged.borrow_and_update();
            let window = core.index.pending_decisions(&replica_id, WINDOW).await?;
            let open: HashSet<i64> = window.iter().map(|decision| decision.sequence).collect();
            sent.retain(|sequence| open.contains(sequence));
            for decision in window {
                if sent.insert(decision.sequence) {
                    yield message(decision);
                }
            }
            for pending in core.imports.pending(&replica_id, imports_sent) {
                imports_sent = pending.sequence;
                yield import(pending);
            }
            let stays = tokio::select! {
                changed = made.changed() => changed.is_ok(),
                changed = acknowledged.changed() => changed.is_ok(),
                _ = resend.tick() => {
                    sent.clear();
                    imports_sent = 0;
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
    let action = match decision.order {
        Order::Evict { blob, unless_accessed_after_ms, quarantined } => Action::Evict(EvictBlob {
            blake2b: blob.as_bytes().to_vec(),
            unless_accessed_after_ms,
            quarantined,
        }),
        Order::Verify { blob } => Action::Verify(VerifyBlob { blake2b: blob.as_bytes().to_vec() }),
        Order::Fetch { name } => Action::Fetch(FetchDistfile { name }),
        Order::Import { dry_run } => Action::Import(ImportDirs { dry_run }),
    };
    Decision { id: decision.id, reason: decision.reason, action: Some(action) }
}

fn import(pending: PendingImport) -> Decision {
    Decision {
        id: pending.decision_id,
        reason: "by command".to_owned(),
        action: Some(Action::ImportDirectory(pending.directory)),
    }
}
