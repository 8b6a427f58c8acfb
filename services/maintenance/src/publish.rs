//! Asking sync-server to look at its sources now, what it keeps, and to go back.

use std::time::Duration;

use rookery_proto::v1::{
    KeptGeneration, ListGenerationsRequest, ListModulesRequest, ListRefusalsRequest, PublishRequest,
    PublishResponse, RollbackRequest, RollbackResponse, TreeRefusal,
};
use service_kit::grpc::without_deadline;
use tonic::{Code, Status};

use crate::core::Core;
use crate::trees;

/// A first pull of the whole tree over a slow line.
const PUBLISH_MAX: Duration = Duration::from_hours(2);

/// Five reports of 10,000 faults each, with 2 MiB of text.
const REFUSALS_BYTES_MAX: usize = 32 << 20;

/// For the look that is under way to end, and the copy.
const ROLLBACK_MAX: Duration = Duration::from_mins(10);

impl Core {
    /// Publishes one module, or every one if `module` is empty, one after the other. Every module gets its
    /// turn; if some fail, the error names each with its reason. What is older than the live generation is
    /// published only if `allow_older`. `next` is told whose turn it is, how many are done, and of how many.
    pub(crate) async fn publish(
        &self,
        module: &str,
        allow_older: bool,
        next: impl Fn(&str, u64, u64),
    ) -> Result<Vec<PublishResponse>, Status> {
        let modules = self.module_names(module).await?;
        let total = modules.len() as u64;
        let mut published = Vec::with_capacity(modules.len());
        let mut failures: Vec<(Code, String)> = Vec::new();
        for (done, module) in (0..).zip(modules) {
            next(&module, done, total);
            let request = without_deadline(PublishRequest { module: module.clone(), allow_older });
            let mut tree = self.tree();
            match tokio::time::timeout(PUBLISH_MAX, tree.publish(request)).await {
                Ok(Ok(answer)) => published.push(answer.into_inner()),
                Ok(Err(status)) => {
                    failures.push((status.code(), format!("module {module}: {}", trees::reason(&status))));
                }
                Err(_) => failures.push((Code::DeadlineExceeded, format!("module {module}: no answer"))),
            }
        }
        if failures.is_empty() {
            return Ok(published);
        }
        let code = failures[0].0;
        let texts: Vec<_> = failures.into_iter().map(|(_, text)| text).collect();
        Err(Status::new(code, texts.join("; ")))
    }
}

impl Core {
    /// The kept generations of one module, or of every one if `module` is empty.
    pub(crate) async fn generations(&self, module: &str) -> Result<Vec<KeptGeneration>, Status> {
        let mut all = Vec::new();
        for module in self.module_names(module).await? {
            let answer = self.tree().list_generations(ListGenerationsRequest { module }).await;
            all.extend(answer.map_err(|status| away(&status))?.into_inner().generations);
        }
        Ok(all)
    }

    /// Why the last candidates of one module, or of every one if `module` is empty, were refused.
    pub(crate) async fn refusals(&self, module: &str) -> Result<Vec<TreeRefusal>, Status> {
        let mut all = Vec::new();
        for module in self.module_names(module).await? {
            let mut tree = self.tree().max_decoding_message_size(REFUSALS_BYTES_MAX);
            let answer = tree.list_refusals(ListRefusalsRequest { module }).await;
            all.extend(answer.map_err(|status| away(&status))?.into_inner().refusals);
        }
        Ok(all)
    }

    /// Goes back to an earlier generation.
    pub(crate) async fn rollback(&self, request: RollbackRequest) -> Result<RollbackResponse, Status> {
        let request = without_deadline(request);
        let mut tree = self.tree();
        let answer = tokio::time::timeout(ROLLBACK_MAX, tree.rollback(request)).await;
        let answer = answer.map_err(|_| Status::deadline_exceeded("sync-server: no answer"))?;
        Ok(answer.map_err(|status| away(&status))?.into_inner())
    }

    /// `module`, or all of them if it is empty.
    async fn module_names(&self, module: &str) -> Result<Vec<String>, Status> {
        if !module.is_empty() {
            return Ok(vec![module.to_owned()]);
        }
        let listed = self.tree().list_modules(ListModulesRequest {}).await.map_err(|status| away(&status))?;
        Ok(listed.into_inner().modules.into_iter().map(|module| module.name).collect())
    }
}

fn away(status: &Status) -> Status {
    Status::new(status.code(), format!("sync-server: {}", trees::reason(status)))
}
