//! The status as JSON: the same fields under the same names as the gRPC message.

use rookery_proto::v1::{Generation, GetStatusResponse, Module, ModuleStatus, Run, RunStep, Savings};
use serde_json::{Value, json};

/// `/status.json`.
pub(crate) fn status(status: &GetStatusResponse) -> Value {
    let replicas = status.replicas.iter().map(|replica| {
        json!({
            "replica_id": replica.replica_id,
            "advertise": replica.advertise,
            "capacity_bytes": replica.capacity_bytes,
            "used_bytes": replica.used_bytes,
            "blobs": replica.blobs,
            "last_seen_ms": replica.last_seen_ms,
            "connected": replica.connected,
        })
    });
    let problems = status.problems.iter().map(|problem| {
        json!({
            "code": problem.code,
            "subject": problem.subject,
            "what": problem.what,
            "what_to_do": problem.what_to_do,
        })
    });
    let leases = status.leases.iter().map(|lease| {
        json!({
            "name": lease.name,
            "replica_id": lease.replica_id,
            "fence": lease.fence,
            "bytes_so_far": lease.bytes_so_far,
            "size_bytes": lease.size_bytes,
        })
    });
    json!({
        "version": status.version,
        "modules": status.modules.iter().map(module_status).collect::<Vec<_>>(),
        "replicas": replicas.collect::<Vec<_>>(),
        "savings": savings(status.savings),
        "today": savings(status.today),
        "thirty_days": savings(status.thirty_days),
        "last_run": status.last_run.as_ref().map(run),
        "next_run_ms": status.next_run_ms,
        "problems": problems.collect::<Vec<_>>(),
        "decisions_pending": status.decisions_pending,
        "leases": leases.collect::<Vec<_>>(),
        "last_eviction_ms": status.last_eviction_ms,
    })
}

fn savings(savings: Option<Savings>) -> Value {
    let savings = savings.unwrap_or_default();
    json!({
        "requests": savings.requests,
        "hits": savings.hits,
        "bytes_served": savings.bytes_served,
        "bytes_fetched": savings.bytes_fetched,
    })
}

fn run(run: &Run) -> Value {
    let step = |step: &RunStep| json!({ "name": step.name, "outcome": step.outcome, "report": step.report });
    json!({
        "started_ms": run.started_ms,
        "finished_ms": run.finished_ms,
        "outcome": run.outcome,
        "steps": run.steps.iter().map(step).collect::<Vec<_>>(),
    })
}

fn module_status(status: &ModuleStatus) -> Value {
    json!({
        "module": status.module.as_ref().map(module),
        "catalogue_generation": status.catalogue_generation,
        "catalogue_distfiles": status.catalogue_distfiles,
    })
}

fn module(module: &Module) -> Value {
    json!({
        "name": module.name,
        "comment": module.comment,
        "live": module.live.as_ref().map(generation),
        "last_error": module.last_error,
        "last_attempt_ms": module.last_attempt_ms,
        "verify": module.verify,
    })
}

fn generation(generation: &Generation) -> Value {
    json!({
        "module": generation.module,
        "number": generation.number,
        "published_ms": generation.published_ms,
        "timestamp_ms": generation.timestamp_ms,
        "files": generation.files,
        "bytes": generation.bytes,
        "distfiles": generation.distfiles,
        "distfiles_without_source": generation.distfiles_without_source,
        "files_added": generation.files_added,
        "files_changed": generation.files_changed,
        "files_removed": generation.files_removed,
    })
}
