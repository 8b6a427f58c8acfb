//! What the parts of this service share: the index, the clock, the limits, and who is connected.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cache_policy::eviction::Limits;
use cache_policy::eviction::brake::BrakeLimits;
use cache_policy::jump::{Remembered, Trust};
use cache_policy::lease::Terms;
use rookery_proto::v1::tree_client::TreeClient;
use service_kit::grpc::ClientChannel;
use service_kit::lifecycle::Tasks;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::config::{Config, HealthConfig};
use crate::imports::Imports;
use crate::index::{Index, Policy};
use crate::nights::Schedule;
use crate::progress::UnderWay;
use crate::trees::Trees;

/// How long renewals keep a lease, whatever the progress: no distfile takes longer on a line that is worth
/// waiting for.
const LEASE_HOLD_MAX: Duration = Duration::from_hours(24);

/// Messages from sync-server: at most 1000 distfiles each, with all their sources.
const TREE_MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Shared by the gRPC services, the importer, the schedule and the web page.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) index: Index,
    pub(crate) clock: SharedClock,
    /// What the looks at the clock say of it.
    pub(crate) trust: Mutex<Trust>,
    pub(crate) terms: Terms,
    pub(crate) policy: Policy,
    pub(crate) schedule: Schedule,
    pub(crate) scrub_nights: u32,
    pub(crate) health: HealthConfig,
    pub(crate) trees: Trees,
    pub(crate) presence: Presence,
    /// Imports by command that replicas are to report on.
    pub(crate) imports: Imports,
    /// What takes long, for whoever waits.
    pub(crate) under_way: UnderWay,
    /// Counts changes of the catalogue or of the modules' order.
    pub(crate) catalogue: watch::Sender<u64>,
    /// Counts the times that decisions were made.
    pub(crate) decisions: watch::Sender<u64>,
    /// Counts the decisions that were acknowledged.
    pub(crate) acknowledged: watch::Sender<u64>,
    /// Held by the nightly run: never two at once.
    pub(crate) running: tokio::sync::Mutex<()>,
    /// Held while a plan becomes decisions: never two at once.
    pub(crate) evicting: tokio::sync::Mutex<()>,
    /// Where work is spawned that outlives the call that asked for it.
    pub(crate) tasks: Tasks,
    /// Cancelled when streams that never end must end.
    pub(crate) stop: CancellationToken,
    /// Cancelled when nobody uses this any more.
    pub(crate) unused: CancellationToken,
    tree: ClientChannel,
}

impl Drop for Core {
    fn drop(&mut self) {
        self.unused.cancel();
    }
}

impl Core {
    pub(crate) fn new(
        config: &Config,
        index: Index,
        clock: SharedClock,
        remembered: Remembered,
        tree: ClientChannel,
        tasks: Tasks,
    ) -> Self {
        Self {
            imports: Imports::new(rand::random()),
            under_way: UnderWay::default(),
            index,
            trust: Mutex::new(Trust::resume(remembered, clock.ran_ms())),
            clock,
            terms: Terms { lease_ms: millis(config.lease.0), hold_ms_max: millis(LEASE_HOLD_MAX) },
            policy: policy(config),
            schedule: config.schedule.clone(),
            scrub_nights: config.scrub_nights,
            health: config.health.clone(),
            trees: Trees::default(),
            presence: Presence::default(),
            catalogue: watch::Sender::new(0),
            decisions: watch::Sender::new(0),
            acknowledged: watch::Sender::new(0),
            running: tokio::sync::Mutex::new(()),
            evicting: tokio::sync::Mutex::new(()),
            stop: tasks.soft(),
            tasks,
            unused: CancellationToken::new(),
            tree,
        }
    }

    /// A client of sync-server.
    pub(crate) fn tree(&self) -> TreeClient<ClientChannel> {
        TreeClient::new(self.tree.clone()).max_decoding_message_size(TREE_MESSAGE_BYTES_MAX)
    }

    /// Tells the replicas' streams that the catalogue has changed.
    pub(crate) fn catalogue_changed(&self) {
        self.catalogue.send_modify(|count| *count += 1);
    }

    /// Tells the replicas' streams that there are new decisions.
    pub(crate) fn decisions_made(&self) {
        self.decisions.send_modify(|count| *count += 1);
    }
}

/// What the configuration allows.
pub(crate) fn policy(config: &Config) -> Policy {
    Policy {
        limits: Limits {
            unreferenced_grace_ms: millis(config.unreferenced_grace.0),
            quarantine_grace_ms: millis(config.quarantine_grace.0),
            keep_accessed_ms: millis(config.keep_accessed.0),
            high_water_percent: config.high_water.get(),
            low_water_percent: config.low_water.get(),
        },
        brakes: BrakeLimits {
            share_percent_max: config.brakes.share.get(),
            catalogue_percent_max: config.brakes.catalogue.get(),
            catalogue_within_ms: millis(config.brakes.catalogue_within.0),
            files_min: config.brakes.files_min,
        },
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Which replicas have a stream open. Only registered ones get here, so the map stays small.
#[derive(Debug, Clone, Default)]
pub(crate) struct Presence {
    streams: Arc<Mutex<HashMap<String, usize>>>,
}

impl Presence {
    /// The replica is connected until the guard is dropped.
    pub(crate) fn connect(&self, replica_id: &str) -> Connected {
        *self.streams().entry(replica_id.to_owned()).or_default() += 1;
        Connected { presence: self.clone(), replica_id: replica_id.to_owned() }
    }

    /// All that are connected.
    pub(crate) fn connected(&self) -> Vec<String> {
        let mut connected: Vec<_> = self.streams().keys().cloned().collect();
        connected.sort();
        connected
    }

    pub(crate) fn is_connected(&self, replica_id: &str) -> bool {
        self.streams().contains_key(replica_id)
    }

    fn streams(&self) -> std::sync::MutexGuard<'_, HashMap<String, usize>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open stream of a replica.
#[derive(Debug)]
pub(crate) struct Connected {
    presence: Presence,
    replica_id: String,
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut streams = self.presence.streams();
        if let Some(count) = streams.get_mut(&self.replica_id) {
            *count -= 1;
            if *count == 0 {
                streams.remove(&self.replica_id);
            }
        }
    }
}
