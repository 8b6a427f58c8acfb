//! What every part of the service shares.

use std::net::SocketAddr;
use std::time::SystemTime;

use blob_store::Store;
use http::{HeaderName, HeaderValue};
use service_kit::clock;
use service_kit::lifecycle::Tasks;
use service_kit::readiness::Readiness;
use tokio_util::sync::CancellationToken;

use crate::catalogue::Catalogue;
use crate::config::Config;
use crate::farm::Farm;
use crate::fetch::candidate::Demotions;
use crate::fetch::flight::Flights;
use crate::fetch::refusals::Refusals;
use crate::fetch::upstream::Upstreams;
use crate::http::{KeptResponses, Tunnels};
use crate::import::Seen;
use crate::looks::Looks;

/// Says that another replica asks, and which one: it gets what we have or are fetching, and 404 for
/// the rest, so that two replicas never wait for each other.
pub(crate) const HOP_HEADER: HeaderName = HeaderName::from_static("x-rookery-hop");

/// One replica.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: Config,
    /// The prefixes of the aliases, longest first.
    pub(crate) alias_prefixes: Vec<String>,
    /// Where we listen.
    pub(crate) http_addr: SocketAddr,
    pub(crate) store: Store,
    pub(crate) catalogue: Catalogue,
    pub(crate) farm: Farm,
    pub(crate) upstreams: Upstreams,
    pub(crate) demotions: Demotions,
    pub(crate) refusals: Refusals,
    pub(crate) looks: Looks,
    pub(crate) flights: Flights,
    /// `None`: nothing is kept of what no tree lists.
    pub(crate) responses: Option<KeptResponses>,
    pub(crate) tunnels: Tunnels,
    pub(crate) tasks: Tasks,
    pub(crate) readiness: Readiness,
    /// Set when a new replica need not wait for its first catalogue any longer.
    pub(crate) catalogue_settled: CancellationToken,
    /// What we call ourselves in `Via`.
    pub(crate) pseudonym: String,
    /// The same as an answer has it.
    pub(crate) via: HeaderValue,
    /// Held over the import of a directory: what earlier ones saw.
    pub(crate) importing: tokio::sync::Mutex<Seen>,
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    ms_since_epoch(SystemTime::now())
}

/// Milliseconds since the Unix epoch.
pub(crate) fn ms_since_epoch(time: SystemTime) -> i64 {
    i64::try_from(clock::since_epoch_ms(time)).unwrap_or(i64::MAX)
}
