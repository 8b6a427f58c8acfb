//! A `CacheIndex` that does as it is told and remembers what it was told.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rookery_proto::v1;
use rookery_proto::v1::acquire_fetch_response::Outcome;
use rookery_proto::v1::cache_index_server::{CacheIndex, CacheIndexServer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Status, Streaming};

/// What one inventory stream gave.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Inventory {
    pub(crate) blobs: Vec<v1::Blob>,
    /// False: the stream broke.
    pub(crate) is_complete: bool,
}

/// What the fake knows, and what it is to do next.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) known: HashSet<String>,
    pub(crate) registrations: Vec<v1::RegisterRequest>,
    pub(crate) watches: Vec<v1::WatchCatalogueRequest>,
    pub(crate) renewals: Vec<v1::RenewFetchRequest>,
    pub(crate) commits: Vec<v1::CommitFetchRequest>,
    pub(crate) releases: Vec<v1::ReleaseFetchRequest>,
    pub(crate) inventories: Vec<Inventory>,
    pub(crate) accesses: Vec<v1::ReportAccessesRequest>,
    pub(crate) acknowledged: Vec<v1::AcknowledgeDecisionRequest>,
    pub(crate) imports: Vec<v1::ReportImportRequest>,
    pub(crate) progress: Vec<v1::ReportImportProgressRequest>,
    /// Answers of `AcquireFetch`, by name; default: granted with a growing fence.
    pub(crate) answers: HashMap<String, Outcome>,
    pub(crate) fence: u64,
    pub(crate) lease_ms: u64,
    pub(crate) module_order: Vec<String>,
    /// Leases that went to somebody else.
    pub(crate) stale: HashSet<String>,
    /// What the next calls of a method fail with.
    pub(crate) failures: HashMap<&'static str, VecDeque<Code>>,
    /// No registration is remembered.
    pub(crate) forgets: bool,
    /// Decision streams end as soon as they have begun.
    pub(crate) ends_decisions: bool,
    /// Calls that have come, whatever came of them.
    pub(crate) calls: usize,
    /// Methods that never answer.
    pub(crate) silent: HashSet<&'static str>,
    /// For each new catalogue stream: what it sends, and whether it breaks after that.
    pub(crate) catalogues: VecDeque<(Vec<v1::CatalogueChange>, bool)>,
    /// Sent on each new decision stream.
    pub(crate) undelivered: Vec<v1::Decision>,
    catalogue_senders: Vec<mpsc::UnboundedSender<Result<v1::CatalogueChange, Status>>>,
    decision_senders: Vec<mpsc::UnboundedSender<Result<v1::Decision, Status>>>,
}

#[derive(Clone, Default)]
pub(crate) struct State(Arc<Mutex<Script>>);

impl State {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    pub(crate) fn send_decision(&self, decision: &v1::Decision) {
        for sender in &self.lock().decision_senders {
            drop(sender.send(Ok(decision.clone())));
        }
    }

    /// Catalogue and decision streams that a replica listens to.
    pub(crate) fn open_streams(&self) -> usize {
        let script = self.lock();
        script.catalogue_senders.iter().filter(|sender| !sender.is_closed()).count()
            + script.decision_senders.iter().filter(|sender| !sender.is_closed()).count()
    }

    async fn enter(&self, method: &'static str, replica_id: &str) -> Result<(), Status> {
        let is_silent = {
            let mut script = self.lock();
            script.calls += 1;
            script.silent.contains(method)
        };
        if is_silent {
            std::future::pending::<()>().await;
        }
        let mut script = self.lock();
        if let Some(code) = script.failures.get_mut(method).and_then(VecDeque::pop_front) {
            return Err(Status::new(code, "as scripted"));
        }
        if script.known.contains(replica_id) { Ok(()) } else { Err(Status::not_found("who are you?")) }
    }
}

/// A server of its own, with a runtime of its own so that it can be killed in mid-sentence.
pub(crate) struct Fake {
    pub(crate) state: State,
    pub(crate) addr: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Fake {
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let state = State::default();
        state.lock().lease_ms = 60_000;
        let mut fake = Self { state, addr: listener.local_addr().unwrap(), runtime: None };
        fake.serve(listener);
        fake
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Every connection breaks; nothing listens any more.
    pub(crate) fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
        let mut script = self.state.lock();
        script.catalogue_senders.clear();
        script.decision_senders.clear();
    }

    /// Listens at the same address again.
    pub(crate) fn revive(&mut self) {
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        let listener = loop {
            match std::net::TcpListener::bind(self.addr) {
                Ok(listener) => break listener,
                Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
            }
        };
        self.serve(listener);
    }

    fn serve(&mut self, listener: std::net::TcpListener) {
        listener.set_nonblocking(true).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let service = CacheIndexServer::new(self.state.clone());
        drop(runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let incoming = TcpListenerStream::new(listener);
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await
        }));
        self.runtime = Some(runtime);
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

type Sent<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl CacheIndex for State {
    type WatchCatalogueStream = Sent<v1::CatalogueChange>;
    type WatchDecisionsStream = Sent<v1::Decision>;

    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        let request = request.into_inner();
        self.lock().known.insert(request.replica_id.clone());
        self.enter("register", &request.replica_id).await?;
        let mut script = self.lock();
        if script.forgets {
            script.known.clear();
        }
        script.registrations.push(request);
        let answer =
            v1::RegisterResponse { module_order: script.module_order.clone(), lease_ms: script.lease_ms };
        Ok(Response::new(answer))
    }

    async fn watch_catalogue(
        &self,
        request: Request<v1::WatchCatalogueRequest>,
    ) -> Result<Response<Self::WatchCatalogueStream>, Status> {
        let request = request.into_inner();
        self.enter("watch_catalogue", &request.replica_id).await?;
        let mut script = self.lock();
        script.watches.push(request);
        let (changes, breaks) = script.catalogues.pop_front().unwrap_or_default();
        let (sender, receiver) = mpsc::unbounded_channel();
        for change in changes {
            sender.send(Ok(change)).unwrap();
        }
        if breaks {
            sender.send(Err(Status::unavailable("as scripted"))).unwrap();
        } else {
            script.catalogue_senders.push(sender);
        }
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(receiver))))
    }

    async fn acquire_fetch(
        &self,
        request: Request<v1::AcquireFetchRequest>,
    ) -> Result<Response<v1::AcquireFetchResponse>, Status> {
        let request = request.into_inner();
        self.enter("acquire_fetch", &request.replica_id).await?;
        let name = request.object.unwrap().name;
        let mut script = self.lock();
        let outcome = script.answers.get(&name).cloned().unwrap_or_else(|| {
            script.fence += 1;
            Outcome::Granted(v1::Lease {
                lease_id: format!("lease-of-{name}"),
                fence: script.fence,
                expires_in_ms: script.lease_ms,
            })
        });
        Ok(Response::new(v1::AcquireFetchResponse { outcome: Some(outcome) }))
    }

    async fn renew_fetch(
        &self,
        request: Request<v1::RenewFetchRequest>,
    ) -> Result<Response<v1::RenewFetchResponse>, Status> {
        let request = request.into_inner();
        self.enter("renew_fetch", &request.replica_id).await?;
        let mut script = self.lock();
        if script.stale.contains(&request.lease_id) {
            return Err(Status::failed_precondition("somebody else's"));
        }
        script.renewals.push(request);
        Ok(Response::new(v1::RenewFetchResponse { expires_in_ms: script.lease_ms }))
    }

    async fn commit_fetch(
        &self,
        request: Request<v1::CommitFetchRequest>,
    ) -> Result<Response<v1::CommitFetchResponse>, Status> {
        let request = request.into_inner();
        self.enter("commit_fetch", &request.replica_id).await?;
        let mut script = self.lock();
        let lease_was_current = !request.lease_id.is_empty() && !script.stale.contains(&request.lease_id);
        script.commits.push(request);
        Ok(Response::new(v1::CommitFetchResponse { lease_was_current }))
    }

    async fn release_fetch(
        &self,
        request: Request<v1::ReleaseFetchRequest>,
    ) -> Result<Response<v1::ReleaseFetchResponse>, Status> {
        let request = request.into_inner();
        self.enter("release_fetch", &request.replica_id).await?;
        self.lock().releases.push(request);
        Ok(Response::new(v1::ReleaseFetchResponse {}))
    }

    async fn report_inventory(
        &self,
        request: Request<Streaming<v1::InventoryBatch>>,
    ) -> Result<Response<v1::ReportInventoryResponse>, Status> {
        let mut batches = request.into_inner();
        let mut blobs = Vec::new();
        let mut is_complete = true;
        while let Some(batch) = batches.next().await {
            match batch {
                Ok(batch) => {
                    self.enter("report_inventory", &batch.replica_id).await?;
                    is_complete = batch.part() != v1::InventoryPart::More;
                    blobs.extend(batch.blobs);
                }
                Err(status) => {
                    self.lock().inventories.push(Inventory { blobs, is_complete: false });
                    return Err(status);
                }
            }
        }
        let count = blobs.len() as u64;
        self.lock().inventories.push(Inventory { blobs, is_complete });
        Ok(Response::new(v1::ReportInventoryResponse { blobs: count }))
    }

    async fn report_accesses(
        &self,
        request: Request<v1::ReportAccessesRequest>,
    ) -> Result<Response<v1::ReportAccessesResponse>, Status> {
        let request = request.into_inner();
        self.lock().accesses.push(request.clone());
        self.enter("report_accesses", &request.replica_id).await?;
        Ok(Response::new(v1::ReportAccessesResponse {}))
    }

    async fn watch_decisions(
        &self,
        request: Request<v1::WatchDecisionsRequest>,
    ) -> Result<Response<Self::WatchDecisionsStream>, Status> {
        let request = request.into_inner();
        self.enter("watch_decisions", &request.replica_id).await?;
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut script = self.lock();
        for decision in &script.undelivered {
            sender.send(Ok(decision.clone())).unwrap();
        }
        if !script.ends_decisions {
            script.decision_senders.push(sender);
        }
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(receiver))))
    }

    async fn acknowledge_decision(
        &self,
        request: Request<v1::AcknowledgeDecisionRequest>,
    ) -> Result<Response<v1::AcknowledgeDecisionResponse>, Status> {
        let request = request.into_inner();
        self.enter("acknowledge_decision", &request.replica_id).await?;
        self.lock().acknowledged.push(request);
        Ok(Response::new(v1::AcknowledgeDecisionResponse {}))
    }

    async fn report_import_progress(
        &self,
        request: Request<v1::ReportImportProgressRequest>,
    ) -> Result<Response<v1::ReportImportProgressResponse>, Status> {
        let request = request.into_inner();
        self.enter("report_import_progress", &request.replica_id).await?;
        self.lock().progress.push(request);
        Ok(Response::new(v1::ReportImportProgressResponse {}))
    }

    async fn report_import(
        &self,
        request: Request<v1::ReportImportRequest>,
    ) -> Result<Response<v1::ReportImportResponse>, Status> {
        let request = request.into_inner();
        self.enter("report_import", &request.replica_id).await?;
        self.lock().imports.push(request);
        Ok(Response::new(v1::ReportImportResponse {}))
    }
}
