//! The standard health service's other side.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::GrpcConfig;

/// Asks the server at `endpoint` whether all of its process can serve.
///
/// # Errors
/// It does not answer within `timeout`, does not let us in, or says that it can't.
pub async fn ask(config: &GrpcConfig, endpoint: &str, timeout: Duration) -> anyhow::Result<()> {
    let mut client = HealthClient::new(super::connect(config, endpoint, timeout)?);
    let asked = client.check(HealthCheckRequest::default()).await;
    let answer = asked.with_context(|| format!("{endpoint}: is it running?"))?.into_inner();
    match answer.status() {
        ServingStatus::Serving => Ok(()),
        status @ (ServingStatus::NotServing | ServingStatus::Unknown | ServingStatus::ServiceUnknown) => {
            bail!("{endpoint} says {}", status.as_str_name())
        }
    }
}
