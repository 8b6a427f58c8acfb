//! The operator's screen: how things are; `problems` adds what is wrong.

use std::time::Duration;

use cache_policy::UnixMs;
use rookery_proto::v1::{
    GetStatusResponse, LeaseStatus, ListModulesRequest, Module, ModuleStatus, ReplicaStatus, Savings,
};

use crate::core::Core;
use crate::grpc::run_message;
use crate::index::{IndexError, ModuleState, ReplicaRow, RunKind, Totals};
use crate::trees::{self, Seen};

/// How long the screen waits for sync-server before it shows what was last known.
const LISTING_WAIT_MAX: Duration = Duration::from_secs(2);

impl Core {
    /// Everything for one screen.
    pub(crate) async fn status(&self) -> Result<GetStatusResponse, IndexError> {
        let now = self.clock.now();
        self.refresh_listing().await;
        let seen = self.trees.seen();
        let known = self.index.modules().await?;
        let replicas = self.index.replicas().await?;
        let totals = self.index.totals().await?;
        let replicas: Vec<_> = replicas.into_iter().map(|row| self.replica(row, now.get())).collect();
        let last_run = self.index.last_run(RunKind::Nightly).await?;
        let problems = self.problems(now, &seen, &known, &replicas, last_run.as_ref()).await?;
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
            savings: Some(savings(totals)),
            today: Some(savings(self.index.totals_of(now, 1).await?)),
            thirty_days: Some(savings(self.index.totals_of(now, 30).await?)),
            last_run: last_run.map(run_message),
            next_run_ms: self.next_run(now).await?.map_or(0, UnixMs::get),
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

fn savings(totals: Totals) -> Savings {
    Savings {
        requests: totals.requests,
        hits: totals.hits,
        bytes_served: totals.bytes_served,
        bytes_fetched: totals.bytes_fetched,
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
