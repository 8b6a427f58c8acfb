//! Asking sync-server to look at its sources now.

use std::time::Duration;

use rookery_proto::v1::{ListModulesRequest, PublishRequest, PublishResponse};
use service_kit::grpc::without_deadline;
use tonic::{Code, Status};

use crate::core::Core;
use crate::trees;

/// A first pull of the whole tree over a slow line.
const PUBLISH_MAX: Duration = Duration::from_hours(2);

impl Core {
    /// Publishes one module, or every one if `module` is empty, one after the other. Every module gets its
    /// turn; if some fail, the error names each with its reason. What is older than the live generation is
    /// published only if `allow_older`.
    pub(crate) async fn publish(
        &self,
        module: &str,
        allow_older: bool,
    ) -> Result<Vec<PublishResponse>, Status> {
        let modules = if module.is_empty() {
            let listed =
                self.tree().list_modules(ListModulesRequest {}).await.map_err(|status| away(&status))?;
            listed.into_inner().modules.into_iter().map(|module| module.name).collect()
        } else {
            vec![module.to_owned()]
        };
        let mut published = Vec::with_capacity(modules.len());
        let mut failures: Vec<(Code, String)> = Vec::new();
        for module in modules {
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

fn away(status: &Status) -> Status {
    Status::new(status.code(), format!("sync-server: {}", trees::reason(status)))
}
