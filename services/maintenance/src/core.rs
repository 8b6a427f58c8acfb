//! What the parts of this service share: the index, the clock, the limits, and who is connected.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cache_policy::eviction::Limits;
use cache_policy::lease::Terms;
use rookery_proto::v1::tree_client::TreeClient;
use service_kit::grpc::ClientChannel;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::config::Config;
use crate::imports::Imports;
use crate::index::Index;
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
    pub(crate) terms: Terms,
    pub(crate) limits: Limits,
    pub(crate) trees: Trees,
    pub(crate) presence: Presence,
    /// Imports by command that replicas are to report on.
    pub(crate) imports: Imports,
    /// Counts changes of the catalogue or of the modules' order.
    pub(crate) catalogue: watch::Sender<u64>,
    /// Counts the times that decisions were made.
    pub(crate) decisions: watch::Sender<u64>,
    /// Held while a plan becomes decisions: never two at once.
    pub(crate) evicting: tokio::sync::Mutex<()>,
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
        tree: ClientChannel,
        stop: CancellationToken,
    ) -> Self {
        Self {
            imports: Imports::new(clock.now().get().unsigned_abs()),
            index,
            clock,
            terms: Terms { lease_ms: millis(config.lease.0), hold_ms_max: millis(LEASE_HOLD_MAX) },
            limits: Limits { unreferenced_grace_ms: millis(config.unreferenced_grace.0) },
            trees: Trees::default(),
            presence: Presence::default(),
            catalogue: watch::Sender::new(0),
            decisions: watch::Sender::new(0),
            evicting: tokio::sync::Mutex::new(()),
            stop,
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

    pub(crate) fn is_connected(&self, replica_id: &str) -> bool {
        self.streams().contains_key(replica_id)
    }

    /// Every replica with a stream open, sorted.
    pub(crate) fn connected(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.streams().keys().cloned().collect();
        ids.sort();
        ids
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
