//! `Admin`: the operator's questions and orders.

use std::sync::Arc;

use rookery_proto::v1::admin_server::Admin;
use rookery_proto::v1::{
    EvictRequest, EvictResponse, GetStatusRequest, GetStatusResponse, PlanEvictionRequest,
    PlanEvictionResponse, PlannedEviction, PublishModuleRequest, PublishModuleResponse,
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
