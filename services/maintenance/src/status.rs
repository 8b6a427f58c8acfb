//! The operator's screen: how things are, what is wrong, and what to do about it.

use std::time::Duration;

use rookery_proto::v1::{
    GetStatusResponse, LeaseStatus, ListModulesRequest, Module, ModuleStatus, Problem, ReplicaStatus, Savings,
};

use crate::core::Core;
use crate::index::{IndexError, ModuleState, ReplicaRow, RunKind};
use crate::text::age;
use crate::trees::{self, Seen};

/// How long the screen waits for sync-server before it shows what was last known.
const LISTING_WAIT_MAX: Duration = Duration::from_secs(2);

/// A replica that is not connected and was not heard of for this long is a problem.
const REPLICA_SILENT_MS_MAX: u64 = 5 * 60 * 1000;

impl Core {
    /// Everything for one screen.
    pub(crate) async fn status(&self) -> Result<GetStatusResponse, IndexError> {
        let now = self.clock.now();
        self.refresh_listing().await;
        let seen = self.trees.seen();
        let known = self.index.modules().await?;
        let replicas = self.index.replicas().await?;
        let totals = self.index.totals().await?;
        let mut problems = tree_problems(&seen, &known, now.get());
        if let Some(gap) = self.index.catalogue_gap().await? {
            problems.push(problem(
                "eviction",
                format!("nothing is evicted: {gap}"),
                "it goes on by itself once the catalogue is complete".to_owned(),
            ));
        }
        let replicas: Vec<_> = replicas.into_iter().map(|row| self.replica(row, now.get())).collect();
        problems.extend(replicas.iter().filter_map(|replica| replica_problem(replica, now.get())));
        let leases = self.index.held_leases(now).await?.into_iter().map(|lease| LeaseStatus {
            name: lease.name,
            replica_id: lease.replica_id,
            fence: lease.fence,
            bytes_so_far: lease.bytes_so_far,
            size_bytes: lease.size_bytes,
        });
        Ok(GetStatusResponse {
            modules: modules(&seen, &known),
            replicas,
            savings: Some(Savings {
                requests: totals.requests,
                hits: totals.hits,
                bytes_served: totals.bytes_served,
                bytes_fetched: totals.bytes_fetched,
            }),
            problems,
            decisions_pending: self.index.count_pending_decisions().await?,
            leases: leases.collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            last_eviction_ms: self.index.last_done_ms(RunKind::Evict).await?,
        })
    }

    /// Asks sync-server, briefly; what it said before stands if it doesn't answer.
    async fn refresh_listing(&self) {
        let mut tree = self.tree();
        let answer = tokio::time::timeout(LISTING_WAIT_MAX, tree.list_modules(ListModulesRequest {})).await;
        match answer {
            Ok(Ok(listing)) => self.trees.listed(listing.into_inner().modules),
            Ok(Err(status)) => self.trees.away(trees::reason(&status)),
            Err(_) => self.trees.away(format!("no answer within {} s", LISTING_WAIT_MAX.as_secs())),
        }
    }

    fn replica(&self, row: ReplicaRow, now_ms: i64) -> ReplicaStatus {
        let connected = self.presence.is_connected(&row.replica_id);
        ReplicaStatus {
            connected,
            last_seen_ms: if connected { now_ms } else { row.last_seen_ms },
            replica_id: row.replica_id,
            advertise: row.advertise,
            capacity_bytes: row.capacity_bytes,
            used_bytes: row.used_bytes,
            blobs: row.blobs,
        }
    }
}

/// sync-server's word on each module, with what the catalogue has of it.
fn modules(seen: &Seen, known: &[ModuleState]) -> Vec<ModuleStatus> {
    let status = |module: Module| {
        let state = known.iter().find(|state| state.name == module.name);
        ModuleStatus {
            catalogue_generation: state.map_or(0, |state| state.generation),
            catalogue_distfiles: state.map_or(0, |state| state.distfiles),
            module: Some(module),
        }
    };
    match &seen.modules {
        Some(modules) => modules.iter().cloned().map(status).collect(),
        None => known
            .iter()
            .map(|state| status(Module { name: state.name.clone(), ..Module::default() }))
            .collect(),
    }
}

fn tree_problems(seen: &Seen, known: &[ModuleState], now_ms: i64) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(away) = &seen.away {
        problems.push(problem(
            "sync-server",
            format!("not reached: {away}"),
            "start it, or correct maintenance.sync; the last catalogue stays in use meanwhile".to_owned(),
        ));
    }
    for module in seen.modules.iter().flatten() {
        let subject = format!("module {}", module.name);
        problems.extend(source_problem(&subject, module, now_ms));
        let behind = known.iter().find(|state| state.name == module.name);
        let live = module.live.as_ref().map_or(0, |live| live.number);
        if let (Some(error), Some(state)) = (seen.import_errors.get(&module.name), behind)
            && state.generation != live
        {
            problems.push(problem(
                &subject,
                format!("catalogue is at generation {}, {live} is served: {error}", state.generation),
                "it is tried again by itself; see the log of maintenance".to_owned(),
            ));
        }
    }
    problems
}

/// Why a module's source gave nothing, and when it is looked at again.
fn source_problem(subject: &str, module: &Module, now_ms: i64) -> Option<Problem> {
    if !module.last_error.is_empty() {
        let next_in_ms = u64::try_from(module.next_attempt_ms.saturating_sub(now_ms)).unwrap_or(0);
        let next = format!("next look in {}", age(next_in_ms));
        let what = match &module.live {
            Some(live) => {
                format!("not published: {}; generation {} is still served", module.last_error, live.number)
            }
            None => format!("no generation yet: {}", module.last_error),
        };
        let what_to_do = format!("correct the source, then `rookery publish {}`; {next}", module.name);
        return Some(problem(subject, what, what_to_do));
    }
    if module.live.is_some() {
        return None;
    }
    let what = match module.activity.as_str() {
        "" => "its first generation is still being built".to_owned(),
        activity => format!("no generation yet: {activity}"),
    };
    Some(problem(subject, what, "wait".to_owned()))
}

fn replica_problem(replica: &ReplicaStatus, now_ms: i64) -> Option<Problem> {
    let silent_ms = u64::try_from(now_ms.saturating_sub(replica.last_seen_ms)).unwrap_or(0);
    if replica.connected || silent_ms < REPLICA_SILENT_MS_MAX {
        return None;
    }
    Some(problem(
        &format!("replica {}", replica.replica_id),
        format!("not heard of for {}", age(silent_ms)),
        "start it, or check its proxy.maintenance.endpoint; decisions wait for it".to_owned(),
    ))
}

fn problem(subject: &str, what: String, what_to_do: String) -> Problem {
    Problem { subject: subject.to_owned(), what, what_to_do }
}
