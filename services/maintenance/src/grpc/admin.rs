//! `Admin`: the operator's questions and orders.

use std::sync::Arc;

use rookery_proto::v1::admin_server::Admin;
use rookery_proto::v1::{
    EvictRequest, EvictResponse, GetStatusRequest, GetStatusResponse, ImportDirectoryRequest,
    ImportDirectoryResponse, PlanEvictionRequest, PlanEvictionResponse, PlannedEviction,
    PublishModuleRequest, PublishModuleResponse,
};
use tonic::{Request, Response, Status};

use super::input;
use crate::core::Core;
use crate::index::{Planned, ReplicaPlan};

#[derive(Debug)]
pub(crate) struct AdminService {
    pub(crate) core: Arc<Core>,
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(self.core.status().await?))
    }

    async fn plan_eviction(
        &self,
        _: Request<PlanEvictionRequest>,
    ) -> Result<Response<PlanEvictionResponse>, Status> {
        let plans = self.core.plan(self.core.clock.now()).await?;
        Ok(Response::new(PlanEvictionResponse {
            blobs_kept: plans.iter().fold(0, |sum, plan| sum.saturating_add(plan.blobs_kept)),
            bytes_kept: plans.iter().fold(0, |sum, plan| sum.saturating_add(plan.bytes_kept)),
            evictions: evictions(plans),
        }))
    }

    async fn evict(&self, _: Request<EvictRequest>) -> Result<Response<EvictResponse>, Status> {
        let plans = self.core.evict().await?;
        Ok(Response::new(EvictResponse { evictions: evictions(plans) }))
    }

    async fn publish_module(
        &self,
        request: Request<PublishModuleRequest>,
    ) -> Result<Response<PublishModuleResponse>, Status> {
        let PublishModuleRequest { module, allow_older } = request.into_inner();
        let published = self.core.publish(&input::text("module", module)?, allow_older).await?;
        Ok(Response::new(PublishModuleResponse { published }))
    }

    async fn import_directory(
        &self,
        request: Request<ImportDirectoryRequest>,
    ) -> Result<Response<ImportDirectoryResponse>, Status> {
        let ImportDirectoryRequest { replica_id, directory } = request.into_inner();
        let directory = input::import_directory(directory)?;
        let replica_id = self.import_replica(replica_id)?;
        let queued = self.core.imports.queue(&replica_id, directory);
        let mut waiting = queued.ok_or_else(|| Status::resource_exhausted("too many imports wait"))?;
        self.core.decisions_made();
        let answer = tokio::select! {
            answer = &mut waiting.answer => answer.ok(),
            () = self.core.stop.cancelled() => None,
        };
        let reports = answer.ok_or_else(super::stopping)?;
        Ok(Response::new(ImportDirectoryResponse { replica_id, reports }))
    }
}

impl AdminService {
    /// The replica that is to import: the one that is named, or the only one.
    fn import_replica(&self, named: String) -> Result<String, Status> {
        let connected = self.core.presence.connected();
        if !named.is_empty() {
            input::id("replica_id", &named)?;
            if !connected.contains(&named) {
                return Err(Status::failed_precondition(format!("replica {named} is not connected")));
            }
            return Ok(named);
        }
        match <[String; 1]>::try_from(connected) {
            Ok([only]) => Ok(only),
            Err(none) if none.is_empty() => Err(Status::failed_precondition("no replica is connected")),
            Err(several) => {
                let ids = several.join(", ");
                Err(Status::invalid_argument(format!("several replicas are connected, name one of {ids}")))
            }
        }
    }
}

fn evictions(plans: Vec<ReplicaPlan>) -> Vec<PlannedEviction> {
    plans.into_iter().flat_map(|plan| plan.evictions).map(eviction).collect()
}

fn eviction(planned: Planned) -> PlannedEviction {
    PlannedEviction {
        replica_id: planned.replica_id,
        blake2b: planned.blob.as_bytes().to_vec(),
        names: planned.names,
        size_bytes: planned.size_bytes,
        reason: planned.reason,
    }
}
