//! The connection: registration, and how every call is made.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rookery_proto::v1;
use rookery_proto::v1::cache_index_client::CacheIndexClient;
use service_kit::backoff::Backoff;
use service_kit::grpc::ClientChannel;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Response, Status};
use tracing::{debug, info};

use super::circuit::Circuit;
use super::types::{Identity, Timing};

/// A thousand distfiles of a large module, each with dozens of expanded mirrors, are more than the 4 MiB
/// that gRPC takes by default.
const CATALOGUE_BYTES_MAX: usize = 32 << 20;

/// Everything else is small: the longest is the order of a thousand modules.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What calls are made with.
pub(super) type Client = CacheIndexClient<ClientChannel>;

/// The line to maintenance.
#[derive(Debug)]
pub(super) struct Link {
    client: Client,
    pub(super) identity: Identity,
    pub(super) timing: Timing,
    pub(super) circuit: Circuit,
    is_started: AtomicBool,
    /// One registration at a time.
    registering: tokio::sync::Mutex<()>,
    registration: watch::Sender<Registration>,
    lease_ms: AtomicU64,
    module_order: Mutex<Vec<String>>,
}

/// Counts registrations, so that whoever saw one fail does not undo the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Registration {
    pub(super) epoch: u64,
    pub(super) is_current: bool,
}

impl Link {
    pub(super) fn new(channel: ClientChannel, identity: Identity, timing: Timing) -> Self {
        let retry = Backoff::new(timing.retry_min, timing.retry_max);
        Self {
            client: CacheIndexClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX),
            identity,
            timing,
            circuit: Circuit::new(retry, timing.acquire),
            is_started: AtomicBool::new(false),
            registering: tokio::sync::Mutex::new(()),
            registration: watch::Sender::new(Registration::default()),
            lease_ms: AtomicU64::new(0),
            module_order: Mutex::new(Vec::new()),
        }
    }

    /// Whether this was the first time.
    pub(super) fn start(&self) -> bool {
        !self.is_started.swap(true, Ordering::Relaxed)
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// For what may be long.
    pub(super) fn catalogue_client(&self) -> Client {
        self.client().max_decoding_message_size(CATALOGUE_BYTES_MAX)
    }

    pub(super) fn retry(&self) -> Backoff {
        Backoff::new(self.timing.retry_min, self.timing.retry_max)
    }

    pub(super) fn registrations(&self) -> watch::Receiver<Registration> {
        self.registration.subscribe()
    }

    /// Waits before the next attempt, which is at once when somebody registers anew meanwhile. A stop that comes
    /// meanwhile ends it, too, and one that was there before does not.
    pub(super) async fn pause(&self, retry: &mut Backoff, soft: &CancellationToken) {
        let mut registrations = self.registrations();
        let epoch = registrations.borrow_and_update().epoch;
        tokio::select! {
            () = tokio::time::sleep(retry.next_pause()) => {}
            _ = registrations.wait_for(|now| now.is_current && now.epoch != epoch) => {}
            () = soft.cancelled(), if !soft.is_cancelled() => {}
        }
    }

    /// A call that is given up at a certain time, if there is one.
    pub(super) async fn before<T>(
        &self,
        give_up: Option<Instant>,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        match give_up {
            None => call.await,
            Some(at) => tokio::time::timeout_at(at, call)
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("the process stops"))),
        }
    }

    /// A stream that began then has ended. Only one that lasted is asked for again soon: one that breaks as soon as it
    /// has begun costs an inventory, or half a catalogue, each time.
    pub(super) fn stream_ended(&self, began: Instant, retry: &mut Backoff) {
        if began.elapsed() > self.timing.retry_max {
            retry.reset();
        }
    }

    pub(super) fn is_registered(&self) -> bool {
        self.registration.borrow().is_current
    }

    /// How long a lease lasts, as maintenance said; `None` before it did.
    pub(super) fn lease_duration(&self) -> Option<Duration> {
        match self.lease_ms.load(Ordering::Relaxed) {
            0 => None,
            lease_ms => Some(Duration::from_millis(lease_ms)),
        }
    }

    pub(super) fn module_order(&self) -> Vec<String> {
        self.module_order.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Registers unless that is done; the epoch of the registration.
    pub(super) async fn ensure_registered(&self) -> Result<u64, Status> {
        let registration = *self.registration.borrow();
        if registration.is_current {
            return Ok(registration.epoch);
        }
        let registering = self.registering.lock().await;
        let registration = *self.registration.borrow();
        if registration.is_current {
            return Ok(registration.epoch);
        }
        let request = v1::RegisterRequest {
            replica_id: self.identity.replica_id.clone(),
            advertise: self.identity.advertise.clone(),
            capacity_bytes: self.identity.capacity_bytes,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let mut client = self.client();
        let answer = self.bounded(client.register(request)).await.inspect_err(|status| self.note(status))?;
        self.lease_ms.store(answer.lease_ms, Ordering::Relaxed);
        *self.module_order.lock().unwrap_or_else(PoisonError::into_inner) = answer.module_order;
        let epoch = registration.epoch + 1;
        self.registration.send_replace(Registration { epoch, is_current: true });
        drop(registering);
        info!(replica_id = self.identity.replica_id, epoch, "registered with maintenance");
        Ok(epoch)
    }

    /// The registration of `epoch` is not known any more, or its connection broke.
    pub(super) fn forget_registration(&self, epoch: u64) {
        self.registration.send_if_modified(|registration| {
            let forgets = registration.epoch == epoch && registration.is_current;
            registration.is_current &= !forgets;
            forgets
        });
    }

    /// Makes a unary call. A registration that maintenance forgot is renewed once.
    pub(super) async fn call<T, F>(&self, make: impl Fn(Client) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let epoch = self.ensure_registered().await?;
        match self.bounded(make(self.client())).await {
            Err(status) if status.code() == Code::NotFound => {
                debug!(%status, "maintenance does not know this replica; registering again");
                self.forget_registration(epoch);
                self.ensure_registered().await?;
                self.bounded(make(self.client())).await
            }
            other => other,
        }
    }

    /// Opens the circuit if `status` says that maintenance is away.
    pub(super) fn note(&self, status: &Status) {
        if is_transient(status) {
            self.circuit.note_failure(Instant::now());
        }
    }

    /// A call with the usual limit. Any answer closes the circuit; what opens it is not a report that
    /// failed, for that may be the report's fault.
    async fn bounded<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
        let answer = tokio::time::timeout(self.timing.call, call)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("maintenance did not answer in time")));
        if !answer.as_ref().is_err_and(is_transient) {
            self.circuit.note_answer();
        }
        answer.map(Response::into_inner)
    }
}

/// Whether the same call may succeed later. A wrong token is: an operator may mend it. So is a replica that is not known
/// although it has just registered: of two maintenances, it met now the one and now the other.
pub(super) fn is_transient(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Unknown
        | Code::Internal
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::NotFound
        | Code::Unauthenticated => true,
        Code::Ok
        | Code::InvalidArgument
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss => false,
    }
}
