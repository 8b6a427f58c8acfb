//! A sync-server with one module that publishes what a test tells it to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use farm_sim::upstream::Gate;
use rookery_proto::v1;
use rookery_proto::v1::tree_server::{Tree, TreeServer};
use service_kit::Kit;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

/// The one module.
pub(crate) const MODULE: &str = "gentoo-portage";

type Generations = BTreeMap<u64, Vec<v1::Distfile>>;

#[derive(Clone)]
pub(crate) struct FakeTree {
    generations: Arc<Mutex<Generations>>,
    live: tokio::sync::watch::Sender<v1::Generation>,
    pub(crate) addr: SocketAddr,
    /// Distfiles are told only when it is open.
    pub(crate) gate: Gate,
    kit: Kit,
}

impl FakeTree {
    /// Serves generation 1.
    pub(crate) async fn start(distfiles: Vec<v1::Distfile>, gate: Gate) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tree = Self {
            generations: Arc::default(),
            live: tokio::sync::watch::Sender::new(v1::Generation::default()),
            addr: listener.local_addr().unwrap(),
            gate,
            kit: Kit::default(),
        };
        tree.publish(1, distfiles);
        let routes = tonic::service::Routes::new(TreeServer::new(tree.clone()));
        service_kit::grpc::serve(listener, routes, &tree.kit).unwrap();
        tree
    }

    pub(crate) fn publish(&self, number: u64, distfiles: Vec<v1::Distfile>) {
        let live = v1::Generation {
            module: MODULE.to_owned(),
            number,
            published_ms: i64::try_from(number).unwrap(),
            distfiles: distfiles.len() as u64,
            ..v1::Generation::default()
        };
        self.generations.lock().unwrap().insert(number, distfiles);
        self.live.send_replace(live);
    }

    fn module(&self) -> v1::Module {
        let live = Some(self.live.borrow().clone());
        v1::Module { name: MODULE.to_owned(), live, ..v1::Module::default() }
    }
}

type Sent<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Tree for FakeTree {
    type WatchGenerationsStream = Sent<v1::Generation>;
    type StreamDistfilesStream = Sent<v1::DistfileChanges>;

    async fn list_modules(
        &self,
        _: Request<v1::ListModulesRequest>,
    ) -> Result<Response<v1::ListModulesResponse>, Status> {
        Ok(Response::new(v1::ListModulesResponse { modules: vec![self.module()] }))
    }

    async fn watch_generations(
        &self,
        _: Request<v1::WatchGenerationsRequest>,
    ) -> Result<Response<Self::WatchGenerationsStream>, Status> {
        Ok(Response::new(Box::pin(WatchStream::new(self.live.subscribe()).map(Ok))))
    }

    async fn stream_distfiles(
        &self,
        request: Request<v1::StreamDistfilesRequest>,
    ) -> Result<Response<Self::StreamDistfilesStream>, Status> {
        let request = request.into_inner();
        self.gate.passed().await;
        let generations = self.generations.lock().unwrap();
        let gone = || Status::failed_precondition("no longer kept");
        let new = generations.get(&request.generation).ok_or_else(gone)?;
        let old = generations.get(&request.since_generation).cloned().unwrap_or_default();
        let removed = old.iter().filter(|one| new.iter().all(|other| other.name != one.name));
        let changes = v1::DistfileChanges {
            reset: false,
            removes: removed.map(|one| one.name.clone()).collect(),
            upserts: new.iter().filter(|one| !old.contains(one)).cloned().collect(),
        };
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(changes)]))))
    }

    async fn publish(&self, _: Request<v1::PublishRequest>) -> Result<Response<v1::PublishResponse>, Status> {
        let generation = Some(self.live.borrow().clone());
        Ok(Response::new(v1::PublishResponse { generation, ..v1::PublishResponse::default() }))
    }

    async fn list_generations(
        &self,
        _: Request<v1::ListGenerationsRequest>,
    ) -> Result<Response<v1::ListGenerationsResponse>, Status> {
        Err(Status::unimplemented("not in this stand-in"))
    }

    async fn list_refusals(
        &self,
        _: Request<v1::ListRefusalsRequest>,
    ) -> Result<Response<v1::ListRefusalsResponse>, Status> {
        Err(Status::unimplemented("not in this stand-in"))
    }

    async fn rollback(
        &self,
        _: Request<v1::RollbackRequest>,
    ) -> Result<Response<v1::RollbackResponse>, Status> {
        Err(Status::unimplemented("not in this stand-in"))
    }
}
