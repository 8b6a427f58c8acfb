//! `Admin`: the operator's questions and orders.

use std::sync::Arc;

use rookery_proto::v1::admin_server::Admin;
use rookery_proto::v1::{
    EvictRequest, EvictResponse, ForgetReplicaRequest, ForgetReplicaResponse, GetProgressRequest,
    GetProgressResponse, GetStatusRequest, GetStatusResponse, ImportDirectoryRequest,
    ImportDirectoryResponse, ListDecisionsRequest, ListDecisionsResponse, ListGenerationsRequest,
    ListModuleGenerationsResponse, ListObjectsRequest, ListObjectsResponse, ListPinsRequest,
    ListPinsResponse, ListRefusalsRequest, ListRefusalsResponse, PinRequest, PinResponse,
    PlanEvictionRequest, PlanEvictionResponse, Progress, PublishModuleRequest, PublishModuleResponse,
    RollbackRequest, RollbackResponse, RunNightlyRequest, RunNightlyResponse, UnpinRequest, UnpinResponse,
    VerifyRequest, VerifyResponse,
};
use tonic::{Request, Response, Status};

use super::{answer, input};
use crate::core::Core;
use crate::index::{Agreement, Forgetting};
use crate::nightly::{NightError, Step};

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
        Ok(Response::new(answer::plan(self.core.plan().await?)))
    }

    async fn evict(&self, request: Request<EvictRequest>) -> Result<Response<EvictResponse>, Status> {
        let EvictRequest { dry_run, agreed_percent, agreed_modules, agreed_clock } = request.into_inner();
        input::count("agreed_modules", agreed_modules.len(), input::MODULES_MAX)?;
        let percent = u8::try_from(agreed_percent).ok().filter(|percent| *percent <= 100);
        let percent = percent.ok_or_else(|| input::wrong("agreed_percent", "0 to 100 is expected"))?;
        let known = self.core.index.modules().await?;
        let suspects = self.core.index.suspects(self.core.policy.brakes).await?;
        for module in &agreed_modules {
            // One that is gone is known by what it lost.
            if !known.iter().any(|one| one.name == *module)
                && !suspects.iter().any(|one| one.module == *module)
            {
                return Err(Status::not_found(format!("there is no module {module:?}")));
            }
        }
        let agreed = Agreement { percent, modules: agreed_modules, clock: agreed_clock };
        let plan = self.core.evict(&agreed, dry_run).await?;
        let brakes = plan.brakes();
        Ok(Response::new(EvictResponse { evictions: answer::evictions(&plan), brakes }))
    }

    async fn publish_module(
        &self,
        request: Request<PublishModuleRequest>,
    ) -> Result<Response<PublishModuleResponse>, Status> {
        let PublishModuleRequest { module, allow_older } = request.into_inner();
        let module = input::text("module", module)?;
        let under_way = self.core.under_way.begin(Progress {
            kind: "publish".to_owned(),
            what: module.clone(),
            started_ms: self.core.clock.now().get(),
            ..Progress::default()
        });
        let next = |module: &str, done, total| {
            under_way.at(module);
            // Of one alone there is nothing to count.
            if total > 1 {
                under_way.count("modules", done, total);
            }
        };
        let published = self.core.publish(&module, allow_older, next).await?;
        Ok(Response::new(PublishModuleResponse { published }))
    }

    async fn import_directory(
        &self,
        request: Request<ImportDirectoryRequest>,
    ) -> Result<Response<ImportDirectoryResponse>, Status> {
        let ImportDirectoryRequest { replica_id, directory } = request.into_inner();
        let directory = input::import_directory(directory)?;
        let replica_id = self.import_replica(replica_id)?;
        let dir = directory.dir.clone();
        let queued = self.core.imports.queue(&replica_id, directory);
        let mut waiting = queued.ok_or_else(|| Status::resource_exhausted("too many imports wait"))?;
        let under_way = self.core.under_way.begin(Progress {
            kind: "import".to_owned(),
            replica_id: replica_id.clone(),
            what: dir,
            started_ms: self.core.clock.now().get(),
            ..Progress::default()
        });
        under_way.expect(&waiting.decision_id, &replica_id);
        self.core.decisions_made();
        let answer = tokio::select! {
            answer = &mut waiting.answer => answer.ok(),
            () = self.core.stop.cancelled() => None,
        };
        let reports = answer.ok_or_else(super::stopping)?;
        Ok(Response::new(ImportDirectoryResponse { replica_id, reports }))
    }

    async fn list_objects(
        &self,
        request: Request<ListObjectsRequest>,
    ) -> Result<Response<ListObjectsResponse>, Status> {
        let query = input::object_query(request.into_inner())?;
        Ok(Response::new(answer::objects(self.core.index.objects(&query).await?)))
    }

    async fn pin(&self, request: Request<PinRequest>) -> Result<Response<PinResponse>, Status> {
        let PinRequest { name, note } = request.into_inner();
        let (name, note) = (input::name("name", &name)?, input::text("note", note)?);
        let pinned = self.core.index.pin(&name, &note, self.core.clock.now()).await?;
        tracing::info!(name, note, blobs = pinned.blobs, in_catalogue = pinned.in_catalogue, "pinned");
        Ok(Response::new(PinResponse { blobs: pinned.blobs, in_catalogue: pinned.in_catalogue }))
    }

    async fn unpin(&self, request: Request<UnpinRequest>) -> Result<Response<UnpinResponse>, Status> {
        let name = input::name("name", &request.into_inner().name)?;
        if !self.core.index.unpin(&name).await? {
            return Err(Status::not_found(format!("{name} is not pinned")));
        }
        tracing::info!(name, "unpinned");
        Ok(Response::new(UnpinResponse {}))
    }

    async fn list_pins(&self, _: Request<ListPinsRequest>) -> Result<Response<ListPinsResponse>, Status> {
        let pins = self.core.index.pins().await?;
        Ok(Response::new(ListPinsResponse { pins: pins.into_iter().map(answer::pin).collect() }))
    }

    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<VerifyResponse>, Status> {
        let VerifyRequest { names, dry_run } = request.into_inner();
        input::count("names", names.len(), input::VERIFY_NAMES_MAX)?;
        let names = names.iter().map(|one| input::name("names", one)).collect::<Result<Vec<_>, _>>()?;
        let verified = self.core.index.verify(&names, self.core.clock.now(), dry_run).await?;
        let scrub = verified.map_err(|name| Status::not_found(format!("no replica has {name}")))?;
        self.core.decisions_made();
        Ok(Response::new(VerifyResponse {
            blobs: scrub.blobs,
            bytes: scrub.bytes,
            decision_ids: scrub.decision_ids,
        }))
    }

    async fn list_decisions(
        &self,
        request: Request<ListDecisionsRequest>,
    ) -> Result<Response<ListDecisionsResponse>, Status> {
        let ListDecisionsRequest { ids, limit } = request.into_inner();
        input::count("ids", ids.len(), input::LIST_MAX as usize)?;
        for one in &ids {
            input::id("ids", one)?;
        }
        let rows = self.core.index.decisions(&ids, input::limit(limit)?).await?;
        Ok(Response::new(ListDecisionsResponse {
            decisions: rows.into_iter().map(answer::decision).collect(),
        }))
    }

    async fn run_nightly(
        &self,
        request: Request<RunNightlyRequest>,
    ) -> Result<Response<RunNightlyResponse>, Status> {
        let RunNightlyRequest { dry_run, steps } = request.into_inner();
        let all = || Step::ALL.map(Step::as_str).join(", ");
        let step = |name: &String| {
            Step::from_name(name)
                .ok_or_else(|| input::wrong("steps", &format!("{} are expected, found {name:?}", all())))
        };
        let steps = if steps.is_empty() {
            Step::ALL.to_vec()
        } else {
            steps.iter().map(step).collect::<Result<_, _>>()?
        };
        // A run goes on although the one who asked for it has gone; its end is in the status.
        let core = Arc::clone(&self.core);
        let stopping = core.stop.clone();
        let run = self.core.tasks.spawn("nightly run", async move {
            stopping.run_until_cancelled(core.run_nightly(&steps, dry_run)).await
        });
        match run.await {
            Ok(Some(Some(Ok(run)))) => Ok(Response::new(RunNightlyResponse { run: Some(answer::run(run)) })),
            Ok(Some(Some(Err(error @ NightError::UnderWay)))) => Err(Status::aborted(error.to_string())),
            Ok(Some(Some(Err(NightError::Index(error))))) => Err(error.into()),
            Ok(Some(None) | None) | Err(_) => Err(super::stopping()),
        }
    }

    async fn get_progress(
        &self,
        _: Request<GetProgressRequest>,
    ) -> Result<Response<GetProgressResponse>, Status> {
        Ok(Response::new(GetProgressResponse { under_way: self.core.under_way.all() }))
    }

    async fn forget_replica(
        &self,
        request: Request<ForgetReplicaRequest>,
    ) -> Result<Response<ForgetReplicaResponse>, Status> {
        let ForgetReplicaRequest { replica_id, dry_run } = request.into_inner();
        let id = input::id("replica_id", &replica_id)?;
        if self.core.presence.is_connected(id) {
            return Err(Status::failed_precondition(format!(
                "replica {id} is alive: it is connected; stop its proxy-cache for good first"
            )));
        }
        let now = self.core.clock.now();
        let forgotten = match self.core.index.forget_replica(id, now, dry_run).await? {
            Forgetting::Done(forgotten) => forgotten,
            Forgetting::Unknown => {
                let ids: Vec<_> =
                    self.core.index.replicas().await?.into_iter().map(|row| row.replica_id).collect();
                return Err(Status::not_found(format!(
                    "there is no replica {id}; known: {}",
                    if ids.is_empty() { "none".to_owned() } else { ids.join(", ") }
                )));
            }
            Forgetting::Fetches { name, left_ms } => {
                return Err(Status::failed_precondition(format!(
                    "replica {id} may be alive: it has the lease to fetch {name} for {} s more; if it is gone, \
                     try again then",
                    left_ms.div_ceil(1000)
                )));
            }
        };
        if !dry_run {
            tracing::warn!(replica_id, blobs = forgotten.blobs, bytes = forgotten.bytes, "replica forgotten");
            self.core.acknowledged.send_modify(|count| *count += 1);
        }
        Ok(Response::new(ForgetReplicaResponse {
            blobs: forgotten.blobs,
            bytes: forgotten.bytes,
            only_here: forgotten.only_here,
            leases: forgotten.leases,
            decisions: forgotten.decisions,
        }))
    }

    async fn list_module_generations(
        &self,
        request: Request<ListGenerationsRequest>,
    ) -> Result<Response<ListModuleGenerationsResponse>, Status> {
        let module = input::text("module", request.into_inner().module)?;
        let generations = self.core.generations(&module).await?;
        Ok(Response::new(ListModuleGenerationsResponse { generations }))
    }

    async fn list_module_refusals(
        &self,
        request: Request<ListRefusalsRequest>,
    ) -> Result<Response<ListRefusalsResponse>, Status> {
        let module = input::text("module", request.into_inner().module)?;
        Ok(Response::new(ListRefusalsResponse { refusals: self.core.refusals(&module).await? }))
    }

    async fn rollback_module(
        &self,
        request: Request<RollbackRequest>,
    ) -> Result<Response<RollbackResponse>, Status> {
        let RollbackRequest { module, to } = request.into_inner();
        let module = input::text("module", module)?;
        Ok(Response::new(self.core.rollback(RollbackRequest { module, to }).await?))
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
