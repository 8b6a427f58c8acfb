//! `CacheIndex`: what the replicas ask and report.

use std::collections::BTreeMap;
use std::sync::Arc;

use cache_policy::UnixMs;
use cache_policy::lease::Fence;
use rookery_proto::v1::acquire_fetch_response::Outcome as FetchOutcome;
use rookery_proto::v1::cache_index_server::CacheIndex;
use rookery_proto::v1::{
    AcknowledgeDecisionRequest, AcknowledgeDecisionResponse, AcquireFetchRequest, AcquireFetchResponse,
    CatalogueChange, CommitFetchRequest, CommitFetchResponse, Decision, DecisionOutcome, Held, ImportCounts,
    InventoryBatch, InventoryPart, Lease, Present, RegisterRequest, RegisterResponse, ReleaseFetchRequest,
    ReleaseFetchResponse, RenewFetchRequest, RenewFetchResponse, ReportAccessesRequest,
    ReportAccessesResponse, ReportImportProgressRequest, ReportImportProgressResponse, ReportImportRequest,
    ReportImportResponse, ReportInventoryResponse, WatchCatalogueRequest, WatchDecisionsRequest,
};
use tonic::{Request, Response, Status, Streaming};

use super::{Watch, input, watch_catalogue, watch_decisions};
use crate::core::Core;
use crate::index::{Acknowledged, Acknowledgement, Acquisition, BlobRecord, Committed, Inventory, Outcome};

/// A replica that waits for another one's download looks again after this time at the latest.
const RETRY_MS_MAX: u64 = 2000;

#[derive(Debug)]
pub(crate) struct CacheIndexService {
    pub(crate) core: Arc<Core>,
}

impl CacheIndexService {
    fn now(&self) -> UnixMs {
        self.core.clock.now()
    }

    /// The caller's id, if it is registered.
    async fn known<'a>(&self, replica_id: &'a str) -> Result<&'a str, Status> {
        let id = input::id("replica_id", replica_id)?;
        if self.core.index.knows_replica(id).await? {
            return Ok(id);
        }
        Err(Status::not_found(format!("replica {id} is not registered")))
    }
}

#[tonic::async_trait]
impl CacheIndex for CacheIndexService {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        let replica = input::replica(request.into_inner())?;
        self.core.index.register(&replica, self.now()).await?;
        tracing::info!(replica_id = replica.id, advertise = replica.advertise, "replica registered");
        let modules = self.core.index.modules().await?;
        Ok(Response::new(RegisterResponse {
            module_order: modules.into_iter().map(|module| module.name).collect(),
            lease_ms: self.core.terms.lease_ms,
        }))
    }

    type WatchCatalogueStream = Watch<CatalogueChange>;

    async fn watch_catalogue(
        &self,
        request: Request<WatchCatalogueRequest>,
    ) -> Result<Response<Self::WatchCatalogueStream>, Status> {
        let request = request.into_inner();
        self.known(&request.replica_id).await?;
        input::count("have", request.have.len(), input::MODULES_MAX)?;
        Ok(Response::new(watch_catalogue::stream(Arc::clone(&self.core), request)))
    }

    async fn acquire_fetch(
        &self,
        request: Request<AcquireFetchRequest>,
    ) -> Result<Response<AcquireFetchResponse>, Status> {
        let request = request.into_inner();
        let replica_id = self.known(&request.replica_id).await?;
        let object = input::object(request.object)?;
        let reachable = |id: &str| self.core.presence.is_connected(id);
        let acquired =
            self.core.index.acquire(&object, replica_id, self.now(), self.core.terms, reachable).await?;
        let outcome = match acquired {
            Acquisition::Granted { lease_id, fence, expires_in_ms, grant } => {
                tracing::debug!(
                    name = object.name,
                    replica_id,
                    fence = fence.get(),
                    grant = grant.as_str(),
                    "lease"
                );
                FetchOutcome::Granted(Lease { lease_id, fence: fence.get(), expires_in_ms })
            }
            Acquisition::Held { replica_id, advertise, bytes_so_far, retry_in_ms } => {
                let retry_in_ms = retry_in_ms.min(RETRY_MS_MAX);
                FetchOutcome::Held(Held { replica_id, advertise, bytes_so_far, retry_in_ms })
            }
            Acquisition::Present { advertise } => FetchOutcome::Present(Present { advertise }),
        };
        Ok(Response::new(AcquireFetchResponse { outcome: Some(outcome) }))
    }

    async fn renew_fetch(
        &self,
        request: Request<RenewFetchRequest>,
    ) -> Result<Response<RenewFetchResponse>, Status> {
        let request = request.into_inner();
        let replica_id = self.known(&request.replica_id).await?;
        let lease_id = input::id("lease_id", &request.lease_id)?;
        let fence = Fence::new(request.fence);
        let (now, terms) = (self.now(), self.core.terms);
        let renewed =
            self.core.index.renew(replica_id, lease_id, fence, request.bytes_so_far, now, terms).await?;
        match renewed {
            Ok(expires_in_ms) => Ok(Response::new(RenewFetchResponse { expires_in_ms })),
            Err(_stale) => Err(Status::failed_precondition(format!("{lease_id} is no longer held"))),
        }
    }

    async fn commit_fetch(
        &self,
        request: Request<CommitFetchRequest>,
    ) -> Result<Response<CommitFetchResponse>, Status> {
        let request = request.into_inner();
        self.known(&request.replica_id).await?;
        if !request.lease_id.is_empty() {
            input::id("lease_id", &request.lease_id)?;
        }
        let object = input::object(request.object)?;
        let blob = request.blob.ok_or_else(|| input::wrong("blob", "it is expected"))?;
        let blob = input::blob(&blob)?;
        let is_another = object.algorithm == "BLAKE2B" && object.digest != blob.blob.as_bytes();
        if is_another || object.size_bytes != blob.size_bytes {
            return Err(input::wrong("blob", "the object that was asked for is expected, this is another"));
        }
        if let Some(known_bytes) = self.core.index.contradiction(&request.replica_id, &blob).await? {
            tracing::warn!(
                replica_id = request.replica_id,
                name = object.name,
                told_bytes = blob.size_bytes,
                known_bytes,
                "a commit contradicts what is known"
            );
            let expected = format!("{} is {known_bytes} bytes, {} are told", object.name, blob.size_bytes);
            return Err(input::wrong("blob.size_bytes", &expected));
        }
        let committed = Committed {
            replica_id: request.replica_id,
            lease_id: request.lease_id,
            fence: Fence::new(request.fence),
            object,
            blob,
            source: input::text("source", request.source)?,
            upstream_bytes: request.upstream_bytes,
        };
        let lease_was_current = self.core.index.commit_fetch(&committed, self.now()).await?;
        Ok(Response::new(CommitFetchResponse { lease_was_current }))
    }

    async fn release_fetch(
        &self,
        request: Request<ReleaseFetchRequest>,
    ) -> Result<Response<ReleaseFetchResponse>, Status> {
        let request = request.into_inner();
        let replica_id = self.known(&request.replica_id).await?;
        let lease_id = input::id("lease_id", &request.lease_id)?;
        let reason = input::text("reason", request.reason)?;
        if self.core.index.release(replica_id, lease_id, Fence::new(request.fence)).await? {
            tracing::info!(replica_id, lease_id, reason, "lease given back without a blob");
        }
        Ok(Response::new(ReleaseFetchResponse {}))
    }

    async fn report_inventory(
        &self,
        request: Request<Streaming<InventoryBatch>>,
    ) -> Result<Response<ReportInventoryResponse>, Status> {
        let mut batches = request.into_inner();
        let mut inventory = Inventory { begun: self.now(), ..Inventory::default() };
        let mut blobs: BTreeMap<_, BlobRecord> = BTreeMap::new();
        let mut is_broken_off = false;
        while let Some(batch) = batches.message().await? {
            is_broken_off = batch.part() == InventoryPart::More;
            if inventory.replica_id.is_empty() {
                self.known(&batch.replica_id).await?;
                inventory.replica_id = batch.replica_id;
            } else if inventory.replica_id != batch.replica_id {
                return Err(input::wrong("replica_id", "the same in every batch is expected"));
            }
            inventory.capacity_bytes = batch.capacity_bytes;
            for blob in &batch.blobs {
                let blob = input::blob(blob)?;
                // What is here and sound counts, whatever lies in quarantine beside it.
                if !blob.quarantined || !blobs.contains_key(&blob.blob) {
                    blobs.insert(blob.blob, blob);
                }
            }
            input::count("blobs", blobs.len(), input::INVENTORY_BLOBS_MAX)?;
        }
        if inventory.replica_id.is_empty() {
            return Err(input::wrong("replica_id", "at least one batch is expected"));
        }
        // A replica that gives up resets its stream, and that reads like an end.
        if is_broken_off {
            return Err(Status::aborted("the inventory was broken off: what was known of the replica stays"));
        }
        inventory.blobs = blobs.into_values().collect();
        let refused = self.core.index.replace_inventory(&inventory, self.now()).await?;
        let blobs = inventory.blobs.len() as u64 - refused;
        if refused > 0 {
            let replica_id = inventory.replica_id;
            tracing::warn!(replica_id, blobs, refused, "an inventory contradicts what is known of blobs");
        } else {
            tracing::info!(replica_id = inventory.replica_id, blobs, "inventory");
        }
        Ok(Response::new(ReportInventoryResponse { blobs }))
    }

    async fn report_accesses(
        &self,
        request: Request<ReportAccessesRequest>,
    ) -> Result<Response<ReportAccessesResponse>, Status> {
        let request = request.into_inner();
        let replica_id = self.known(&request.replica_id).await?;
        let report_id = input::id("report_id", &request.report_id)?;
        input::count("accesses", request.accesses.len(), input::ACCESSES_MAX)?;
        // One odd access must not keep the others from being counted: the replica would repeat them all.
        let accesses: Vec<_> =
            request.accesses.iter().filter_map(|access| input::access(access).ok()).collect();
        let left_out = request.accesses.len() - accesses.len();
        if left_out > 0 {
            tracing::debug!(replica_id, report_id, left_out, "unsound accesses");
        }
        input::count("sources", request.sources.len(), input::SOURCES_MAX)?;
        let sources: Vec<_> = request.sources.into_iter().filter_map(|one| input::source(one).ok()).collect();
        self.core.index.count_accesses(replica_id, report_id, &accesses, &sources, self.now()).await?;
        Ok(Response::new(ReportAccessesResponse {}))
    }

    type WatchDecisionsStream = Watch<Decision>;

    async fn watch_decisions(
        &self,
        request: Request<WatchDecisionsRequest>,
    ) -> Result<Response<Self::WatchDecisionsStream>, Status> {
        let request = request.into_inner();
        self.known(&request.replica_id).await?;
        Ok(Response::new(watch_decisions::stream(Arc::clone(&self.core), request.replica_id)))
    }

    async fn acknowledge_decision(
        &self,
        request: Request<AcknowledgeDecisionRequest>,
    ) -> Result<Response<AcknowledgeDecisionResponse>, Status> {
        let request = request.into_inner();
        let replica_id = self.known(&request.replica_id).await?;
        let id = input::id("decision_id", &request.decision_id)?;
        let outcome = match request.outcome() {
            DecisionOutcome::Done => Outcome::Done,
            DecisionOutcome::Busy => Outcome::Busy,
            DecisionOutcome::Gone => Outcome::Gone,
            DecisionOutcome::Damaged => Outcome::Damaged,
            DecisionOutcome::Unspecified => {
                return Err(input::wrong("outcome", "DONE, BUSY, GONE or DAMAGED is expected"));
            }
        };
        let detail = input::text("detail", request.detail)?;
        let acknowledgement =
            Acknowledgement { replica_id, id, outcome, detail: &detail, imported: request.imported };
        match self.core.index.acknowledge(&acknowledgement, self.now()).await? {
            Acknowledged::Closed { fetches_again } => {
                let outcome = outcome.as_str();
                if fetches_again {
                    tracing::warn!(replica_id, id, outcome, detail, "a damaged blob is fetched again");
                } else {
                    tracing::info!(replica_id, id, outcome, detail, "decision acknowledged");
                }
                self.core.acknowledged.send_modify(|count| *count += 1);
                if fetches_again {
                    self.core.decisions_made();
                }
            }
            // Accepted, so that the replica stops repeating it: an index that is gone made it.
            Acknowledged::Unknown => tracing::info!(replica_id, id, "acknowledged a decision nobody knows"),
            Acknowledged::Again => {}
            Acknowledged::NotYours => {
                return Err(Status::permission_denied(format!("{id} is another replica's")));
            }
        }
        Ok(Response::new(AcknowledgeDecisionResponse {}))
    }

    async fn report_import_progress(
        &self,
        request: Request<ReportImportProgressRequest>,
    ) -> Result<Response<ReportImportProgressResponse>, Status> {
        let ReportImportProgressRequest { replica_id, decision_id, progress } = request.into_inner();
        self.known(&replica_id).await?;
        input::id("decision_id", &decision_id)?;
        let progress = progress.ok_or_else(|| input::wrong("progress", "it is expected"))?;
        input::path("progress.dir", &progress.dir)?;
        self.core.under_way.report(&replica_id, &decision_id, progress);
        Ok(Response::new(ReportImportProgressResponse {}))
    }

    async fn report_import(
        &self,
        request: Request<ReportImportRequest>,
    ) -> Result<Response<ReportImportResponse>, Status> {
        let ReportImportRequest { replica_id, decision_id, reports } = request.into_inner();
        self.known(&replica_id).await?;
        if !decision_id.is_empty() {
            input::id("decision_id", &decision_id)?;
        }
        input::import_reports(&reports)?;
        for report in &reports {
            let counts = ImportCounts::of(std::slice::from_ref(report));
            tracing::info!(
                replica_id,
                decision_id,
                dir = report.dir,
                dry_run = report.dry_run,
                files = report.tallies.iter().map(|tally| tally.files).sum::<u64>(),
                adopted = counts.adopted,
                removed = counts.removed,
                error = report.error,
                "import"
            );
        }
        if !decision_id.is_empty() && !self.core.imports.report(&replica_id, &decision_id, reports) {
            tracing::info!(replica_id, decision_id, "nobody waits for this import any more");
        }
        Ok(Response::new(ReportImportResponse {}))
    }
}
