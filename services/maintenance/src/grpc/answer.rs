//! What the index found, in the contract's words.

use rookery_proto::v1::{
    CachedObject, DecisionStatus, KeptFor, ListObjectsResponse, PinnedName, PlanEvictionResponse,
    PlannedEviction, PlannedReplica, Run, RunStep,
};

use crate::index::{DecisionRow, FarmPlan, Objects, Pin, ReplicaPlan, RunRow};

pub(super) fn plan(plan: FarmPlan) -> PlanEvictionResponse {
    let (blobs_kept, bytes_kept) = plan.kept();
    PlanEvictionResponse {
        evictions: evictions(&plan),
        blobs_kept,
        bytes_kept,
        brakes: plan.brakes(),
        replicas: plan.replicas.into_iter().map(replica).collect(),
    }
}

pub(super) fn evictions(plan: &FarmPlan) -> Vec<PlannedEviction> {
    let eviction = |planned: &crate::index::Planned| PlannedEviction {
        replica_id: planned.replica_id.clone(),
        blake2b: planned.blob.as_bytes().to_vec(),
        names: planned.names.clone(),
        size_bytes: planned.size_bytes,
        reason: planned.reason.clone(),
        class: planned.class.to_owned(),
    };
    plan.evictions().map(eviction).collect()
}

fn replica(plan: ReplicaPlan) -> PlannedReplica {
    let kept = |(protection, (blobs, bytes)): (cache_policy::eviction::Protection, (u64, u64))| KeptFor {
        protection: protection.as_str().to_owned(),
        blobs,
        bytes,
    };
    PlannedReplica {
        replica_id: plan.replica_id,
        capacity_bytes: plan.usage.capacity_bytes,
        used_bytes: plan.usage.used_bytes,
        used_after_bytes: plan.usage_after.used_bytes,
        short_bytes: plan.short_bytes,
        kept: plan.kept.into_iter().map(kept).collect(),
    }
}

pub(super) fn objects(objects: Objects) -> ListObjectsResponse {
    let object = |row: crate::index::ObjectRow| CachedObject {
        blake2b: row.blob.as_bytes().to_vec(),
        size_bytes: row.size_bytes,
        names: row.names,
        replicas: row.replicas,
        state: row.state.to_owned(),
        pinned: row.pinned,
        last_access_ms: row.last_access_ms,
        requests: row.requests,
        boxes: row.boxes,
        verified_ms: row.verified_ms,
    };
    ListObjectsResponse {
        objects: objects.rows.into_iter().map(object).collect(),
        matching: objects.matching,
        matching_bytes: objects.matching_bytes,
    }
}

pub(super) fn pin(pin: Pin) -> PinnedName {
    PinnedName { name: pin.name, note: pin.note, pinned_ms: pin.pinned_ms, blobs: pin.blobs }
}

pub(super) fn decision(row: DecisionRow) -> DecisionStatus {
    DecisionStatus {
        id: row.id,
        replica_id: row.replica_id,
        action: row.action,
        blake2b: row.blake2b,
        name: row.name,
        reason: row.reason,
        created_ms: row.created_ms,
        outcome: row.outcome.unwrap_or_default(),
        detail: row.detail,
        closed_ms: row.closed_ms,
        imported: row.imported,
    }
}

pub(crate) fn run(row: RunRow) -> Run {
    let step =
        |step: crate::index::StepRow| RunStep { name: step.name, outcome: step.outcome, report: step.report };
    Run {
        started_ms: row.started_ms,
        finished_ms: row.finished_ms,
        outcome: row.outcome,
        steps: row.steps.into_iter().map(step).collect(),
    }
}
