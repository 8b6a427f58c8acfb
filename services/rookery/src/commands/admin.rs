//! `rookery status`, `plan`, `publish`, `generations` and `rollback`; and how every command reaches maintenance's
//! Admin service.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use rookery_proto::v1::admin_client::AdminClient;
use rookery_proto::v1::{
    GetStatusRequest, ListGenerationsRequest, ListRefusalsRequest, PlanEvictionRequest, Progress,
    PublishModuleRequest, RollbackRequest,
};
use service_kit::config::{HumanDuration, Settings};
use service_kit::grpc::{self, ClientChannel, GrpcConfig};
use tonic::Code;

use super::generations::{GenerationsView, RollbackView};
use super::meter::{INTERRUPTED, interruptible};
use super::refusals::RefusalsView;
use super::views::{EvictionView, PublishView, StatusView};
use super::{block_on, show, under_way};
use crate::all_in_one::endpoint;
use crate::cli::{self, Cli};

/// For questions.
pub(super) const DEADLINE: Duration = Duration::from_secs(15);

/// A plan may delete every file of a large farm.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// For publishing: a whole tree is read and verified.
const PUBLISH_DEADLINE: Duration = Duration::from_mins(15);

pub(super) struct Admin {
    pub(super) client: AdminClient<ClientChannel>,
    endpoint: String,
}

impl Admin {
    pub(super) fn connect(cli: &Cli, admin: &cli::Admin, deadline: Duration) -> anyhow::Result<Self> {
        let settings = Settings::read(cli.config.as_deref())?;
        let grpc: GrpcConfig = settings.section("grpc")?;
        let endpoint = match &admin.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => endpoint(settings.section::<maintenance::Config>("maintenance")?.listen),
        };
        let channel = grpc::connect(&grpc, &endpoint, deadline)?;
        let client = AdminClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Self { client, endpoint })
    }

    /// What a refusal means to the person who typed the command.
    pub(super) fn explain(&self, status: &tonic::Status) -> anyhow::Error {
        if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) {
            return anyhow!(
                "maintenance at {} does not answer ({}): is it running?",
                self.endpoint,
                status.message()
            );
        }
        anyhow!("{}", status.message())
    }
}

pub(crate) fn status(cli: &Cli, admin: &cli::Admin) -> anyhow::Result<ExitCode> {
    let view = block_on(async {
        let mut admin = Admin::connect(cli, admin, DEADLINE)?;
        let answer = admin.client.get_status(GetStatusRequest {}).await;
        Ok(StatusView::from(answer.map_err(|status| admin.explain(&status))?.into_inner()))
    })?;
    show(cli, &view)
}

pub(crate) fn plan(cli: &Cli, admin: &cli::Admin) -> anyhow::Result<ExitCode> {
    let view = block_on(async {
        let mut admin = Admin::connect(cli, admin, DEADLINE)?;
        let answer = admin.client.plan_eviction(PlanEvictionRequest {}).await;
        Ok(EvictionView::planned(answer.map_err(|status| admin.explain(&status))?.into_inner()))
    })?;
    show(cli, &view)
}

pub(crate) fn publish(cli: &Cli, publish: &cli::Publish) -> anyhow::Result<ExitCode> {
    let view = block_on(interruptible(async {
        let admin = Admin::connect(cli, &publish.admin, PUBLISH_DEADLINE)?;
        let request =
            PublishModuleRequest { module: publish.module.clone(), allow_older: publish.allow_older };
        let is_it = |progress: &Progress| {
            progress.kind == "publish" && (publish.module.is_empty() || progress.what == publish.module)
        };
        let mut client = admin.client.clone();
        let answer = under_way::answer(cli, &admin, is_it, client.publish_module(request)).await;
        let explain = |status: tonic::Status| {
            if status.code() == Code::DeadlineExceeded {
                // Pulling a whole tree may take hours.
                let limit = HumanDuration(PUBLISH_DEADLINE);
                return anyhow!("not done within {limit}; it goes on, and `rookery status` says how it ends");
            }
            admin.explain(&status)
        };
        Ok(PublishView::from(answer.map_err(explain)?.into_inner()))
    }))?;
    let Some(view) = view else {
        eprintln!("rookery: interrupted; a look that has begun goes on, `rookery status` says how it ends");
        return Ok(INTERRUPTED.into());
    };
    show(cli, &view)
}

pub(crate) fn generations(cli: &Cli, generations: &cli::Generations) -> anyhow::Result<ExitCode> {
    if generations.refused {
        return refusals(cli, generations);
    }
    let view = block_on(async {
        let mut admin = Admin::connect(cli, &generations.admin, DEADLINE)?;
        let request = ListGenerationsRequest { module: generations.module.clone() };
        let answer = admin.client.list_module_generations(request).await;
        Ok(GenerationsView::from(answer.map_err(|status| admin.explain(&status))?.into_inner()))
    })?;
    show(cli, &view)
}

fn refusals(cli: &Cli, generations: &cli::Generations) -> anyhow::Result<ExitCode> {
    let view = block_on(async {
        let mut admin = Admin::connect(cli, &generations.admin, DEADLINE)?;
        let request = ListRefusalsRequest { module: generations.module.clone() };
        let answer = admin.client.list_module_refusals(request).await;
        Ok(RefusalsView::from(answer.map_err(|status| admin.explain(&status))?.into_inner()))
    })?;
    show(cli, &view)
}

pub(crate) fn rollback(cli: &Cli, rollback: &cli::Rollback) -> anyhow::Result<ExitCode> {
    let view = block_on(async {
        let mut admin = Admin::connect(cli, &rollback.admin, PUBLISH_DEADLINE)?;
        let request = RollbackRequest { module: rollback.module.clone(), to: rollback.to.unwrap_or(0) };
        let answer = admin.client.rollback_module(request).await;
        Ok(RollbackView::from(answer.map_err(|status| admin.explain(&status))?.into_inner()))
    })?;
    show(cli, &view)
}
