//! The eviction plan, and the decisions it becomes.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use cache_policy::UnixMs;
use cache_policy::eviction::brake::{BrakeLimits, Excess, plan_excess};
use cache_policy::eviction::catalogue::Loss;
use cache_policy::eviction::{BlobKey, Limits, Plan, Protection, Reason, Usage, plan_eviction};
use cache_policy::jump::Doubt;
use service_kit::config::HumanDuration;
use sqlx::{QueryBuilder, Sqlite};

use super::connection::Connection;
use super::decision::{EVICT, NewDecision, decide};
use super::facts::{FarmFacts, candidates};
use super::{Index, IndexError, ROWS_PER_INSERT, catalogue, height, references, replica};
use crate::text::moment;

/// What the operator allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) limits: Limits,
    pub(crate) brakes: BrakeLimits,
}

/// What the operator has agreed to beyond that, this time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Agreement {
    /// Delete up to this share of a replica.
    pub(crate) percent: u8,
    /// Believe these modules' catalogues as they are now.
    pub(crate) modules: Vec<String>,
    /// The clock is right, however far it jumped.
    pub(crate) clock: bool,
}

/// Why nothing can be evicted at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CatalogueGap {
    /// sync-server was never reached: everything would seem unreferenced.
    NoModules,
    /// These modules' catalogues were not imported yet: what they refer to would seem unreferenced.
    NotImported(Vec<String>),
}

/// A module whose catalogue lost too much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suspect {
    pub(crate) module: String,
    /// It is not one of sync-server's modules any more.
    pub(crate) is_gone: bool,
    pub(crate) loss: Loss,
    pub(crate) percent: u8,
    pub(crate) percent_max: u8,
}

impl Suspect {
    pub(super) fn new(module: String, is_gone: bool, loss: Loss, brakes: BrakeLimits) -> Self {
        let percent = (u128::from(loss.lost) * 100).div_ceil(u128::from(loss.before.max(1))).min(100);
        let percent = u8::try_from(percent).unwrap_or(100);
        Self { module, is_gone, loss, percent, percent_max: brakes.catalogue_percent_max }
    }
}

/// One blob to evict, with what people want to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) replica_id: String,
    pub(crate) blob: BlobKey,
    pub(crate) names: Vec<String>,
    pub(crate) size_bytes: u64,
    pub(crate) class: &'static str,
    /// In a person's words.
    pub(crate) reason: String,
}

/// The plan for one replica.
#[derive(Debug, Clone)]
pub(crate) struct ReplicaPlan {
    pub(crate) replica_id: String,
    pub(crate) evictions: Vec<Planned>,
    /// Blobs and octets that stay, by why.
    pub(crate) kept: BTreeMap<Protection, (u64, u64)>,
    pub(crate) usage: Usage,
    pub(crate) usage_after: Usage,
    pub(crate) short_bytes: u64,
    /// It deletes too much at once.
    pub(crate) excess: Option<Excess>,
}

/// The plans for all replicas, and what keeps them from being carried out.
#[derive(Debug, Clone, Default)]
pub(crate) struct FarmPlan {
    pub(crate) replicas: Vec<ReplicaPlan>,
    pub(crate) suspects: Vec<Suspect>,
    /// The clock jumped ahead, and nothing confirms it.
    pub(crate) doubt: Option<Doubt>,
}

impl FarmPlan {
    /// Whether the operator must be asked first.
    pub(crate) fn is_braked(&self) -> bool {
        self.doubt.is_some()
            || !self.suspects.is_empty()
            || self.replicas.iter().any(|plan| plan.excess.is_some())
    }

    pub(crate) fn evictions(&self) -> impl Iterator<Item = &Planned> {
        self.replicas.iter().flat_map(|plan| &plan.evictions)
    }

    /// Blobs and octets that stay, in all.
    pub(crate) fn kept(&self) -> (u64, u64) {
        let kept = self.replicas.iter().flat_map(|plan| plan.kept.values());
        kept.fold((0, 0), |sum: (u64, u64), kept| (sum.0 + kept.0, sum.1.saturating_add(kept.1)))
    }
}

/// A plan, or why there is none.
pub(crate) type PlanResult = Result<Result<FarmPlan, CatalogueGap>, IndexError>;

impl Index {
    /// What would be evicted now, replica by replica.
    pub(crate) async fn plan(&self, policy: Policy, doubt: Option<Doubt>, now: UnixMs) -> PlanResult {
        let mut tx = self.read().await?;
        if let Some(gap) = gap(&mut tx).await? {
            return Ok(Err(gap));
        }
        Ok(Ok(plan_all(&mut tx, policy, doubt, 0, now).await?))
    }

    /// Makes the plan into decisions, in the transaction that it was made in; unless a brake stops it, or
    /// it is a `dry_run`.
    pub(crate) async fn plan_and_decide(
        &self,
        policy: Policy,
        agreed: &Agreement,
        doubt: Option<Doubt>,
        dry_run: bool,
        now: UnixMs,
    ) -> PlanResult {
        if dry_run {
            let mut tx = self.write().await?;
            if let Some(gap) = gap(&mut tx).await? {
                return Ok(Err(gap));
            }
            believe(&mut tx, agreed).await?;
            references::refresh_all_in(&mut tx, now).await?;
            return Ok(Ok(plan_all(&mut tx, policy, doubt, agreed.percent, now).await?));
        }
        let mut tx = self.write().await?;
        if let Some(gap) = gap(&mut tx).await? {
            return Ok(Err(gap));
        }
        // What the operator agreed to about a catalogue stands, whatever else stops the plan.
        believe(&mut tx, agreed).await?;
        tx.commit().await?;
        self.refresh_references(now).await?;
        let mut tx = self.write().await?;
        if let Some(gap) = gap(&mut tx).await? {
            return Ok(Err(gap));
        }
        let plan = plan_all(&mut tx, policy, doubt, agreed.percent, now).await?;
        if !plan.is_braked() {
            let evictions = plan.evictions().map(|planned| NewDecision {
                replica_id: &planned.replica_id,
                action: EVICT,
                blob: Some(planned.blob),
                name: "",
                class: planned.class,
                reason: &planned.reason,
                // The plan rests on nobody having asked for the blob in that time. Accesses are reported
                // late, so the replica, which knows its own, is asked to hold it to that.
                unless_accessed_after_ms: now.before_ms(policy.limits.keep_accessed_ms).get(),
                dry_run: false,
            });
            decide(&mut tx, &evictions.collect::<Vec<_>>(), now).await?;
            tx.commit().await?;
        }
        Ok(Ok(plan))
    }

    /// Why nothing can be evicted, if so.
    pub(crate) async fn catalogue_gap(&self) -> Result<Option<CatalogueGap>, IndexError> {
        let mut tx = self.read().await?;
        gap(&mut tx).await
    }

    /// The modules whose catalogues are not believed.
    pub(crate) async fn suspects(&self, brakes: BrakeLimits) -> Result<Vec<Suspect>, IndexError> {
        let mut tx = self.read().await?;
        suspects(&mut tx, brakes).await
    }
}

/// The operator believes these catalogues as they are.
async fn believe(tx: &mut Connection, agreed: &Agreement) -> Result<(), IndexError> {
    for module in &agreed.modules {
        let sql = "UPDATE modules SET suspect_before = 0, suspect_lost = 0 WHERE name = $1";
        sqlx::query(sql).bind(module).execute(&mut *tx).await?;
        height::forget(tx, module).await?;
        let sql = "DELETE FROM modules WHERE name = $1 AND position < 0";
        sqlx::query(sql).bind(module).execute(&mut *tx).await?;
    }
    Ok(())
}

async fn suspects(conn: &mut Connection, brakes: BrakeLimits) -> Result<Vec<Suspect>, IndexError> {
    let sql = "SELECT name, position < 0, suspect_before, suspect_lost, suspect_pace, suspect_since_ms
               FROM modules WHERE suspect_before > 0 ORDER BY name";
    let rows: Vec<(String, bool, i64, i64, String, i64)> = sqlx::query_as(sql).fetch_all(conn).await?;
    let suspect = |(module, is_gone, before, lost, pace, since)| {
        let loss = height::loss((before, lost, pace, since))?;
        Ok(loss.map(|loss| Suspect::new(module, is_gone, loss, brakes)))
    };
    rows.into_iter().filter_map(|row| suspect(row).transpose()).collect()
}

pub(super) async fn gap(conn: &mut Connection) -> Result<Option<CatalogueGap>, IndexError> {
    let modules = catalogue::modules(conn).await?;
    if modules.is_empty() {
        return Ok(Some(CatalogueGap::NoModules));
    }
    let missing: Vec<_> =
        modules.into_iter().filter(|module| module.generation == 0).map(|module| module.name).collect();
    Ok((!missing.is_empty()).then_some(CatalogueGap::NotImported(missing)))
}

async fn plan_all(
    conn: &mut Connection,
    policy: Policy,
    doubt: Option<Doubt>,
    agreed_percent: u8,
    now: UnixMs,
) -> Result<FarmPlan, IndexError> {
    let sql = "SELECT replica_id FROM replicas ORDER BY replica_id";
    let replicas: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut *conn).await?;
    let farm = FarmFacts::load(conn, now).await?;
    let mut plans = Vec::with_capacity(replicas.len());
    for replica_id in replicas {
        let (used_bytes, capacity_bytes) = replica::usage(conn, &replica_id).await?;
        let usage = Usage { used_bytes, capacity_bytes };
        let candidates = candidates(conn, &replica_id, &farm, usage, policy.limits, now).await?;
        let plan = plan_eviction(usage, &candidates, now, policy.limits);
        let mut described = describe(conn, &replica_id, &plan, usage, policy.limits).await?;
        described.excess = plan_excess(&plan, usage, policy.brakes, agreed_percent);
        plans.push(described);
    }
    Ok(FarmPlan { replicas: plans, suspects: suspects(conn, policy.brakes).await?, doubt })
}

async fn describe(
    conn: &mut Connection,
    replica_id: &str,
    plan: &Plan,
    usage: Usage,
    limits: Limits,
) -> Result<ReplicaPlan, IndexError> {
    let mut names = names(conn, replica_id, plan).await?;
    let evictions = plan.evict.iter().map(|eviction| Planned {
        replica_id: replica_id.to_owned(),
        blob: eviction.blob,
        names: names.remove(eviction.blob.as_bytes().as_slice()).unwrap_or_default(),
        size_bytes: eviction.size_bytes,
        class: eviction.reason.as_str(),
        reason: reason_text(eviction.reason, limits),
    });
    let mut kept: BTreeMap<Protection, (u64, u64)> = BTreeMap::new();
    for one in &plan.kept {
        let sum = kept.entry(one.protection).or_default();
        *sum = (sum.0 + 1, sum.1.saturating_add(one.size_bytes));
    }
    Ok(ReplicaPlan {
        replica_id: replica_id.to_owned(),
        evictions: evictions.collect(),
        kept,
        usage,
        usage_after: plan.usage_after,
        short_bytes: plan.short_bytes,
        excess: None,
    })
}

async fn names(
    conn: &mut Connection,
    replica_id: &str,
    plan: &Plan,
) -> Result<HashMap<Vec<u8>, Vec<String>>, IndexError> {
    let mut names: HashMap<Vec<u8>, Vec<String>> = HashMap::new();
    for part in plan.evict.chunks(ROWS_PER_INSERT) {
        let mut sql = QueryBuilder::<Sqlite>::new("SELECT blake2b, name FROM names WHERE replica_id = ");
        sql.push_bind(replica_id.to_owned()).push(" AND blake2b IN (");
        let mut values = sql.separated(", ");
        for eviction in part {
            values.push_bind(eviction.blob.as_bytes().to_vec());
        }
        sql.push(") ORDER BY name");
        let rows: Vec<(Vec<u8>, String)> = sql.build_query_as().fetch_all(&mut *conn).await?;
        for (blob, name) in rows {
            names.entry(blob).or_default().push(name);
        }
    }
    Ok(names)
}

fn reason_text(reason: Reason, limits: Limits) -> String {
    let class = reason.as_str();
    let grace = |ms| HumanDuration(Duration::from_millis(ms));
    let room = format!("over {} % of the capacity is used", limits.high_water_percent);
    match reason {
        Reason::Quarantined { since } => {
            let grace = grace(limits.quarantine_grace_ms);
            format!("{class}: its contents are wrong, found {} (grace {grace})", moment(since))
        }
        Reason::Unreferenced { since } => {
            let grace = grace(limits.unreferenced_grace_ms);
            format!("{class}: no module has referred to it since {} (grace {grace})", moment(since))
        }
        Reason::Superseded { since, last_use } => format!(
            "{class}: a newer file of its package came {}, nobody asked for this one since {}; {room}",
            moment(since),
            moment(last_use)
        ),
        Reason::Referenced { last_use } => {
            format!("{class}: nobody asked for it since {}; {room}", moment(last_use))
        }
    }
}
