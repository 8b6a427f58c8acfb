//! A sync-server that publishes what a test tells it to.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_util::Stream;
use rookery_proto::v1::tree_server::{Tree, TreeServer};
use rookery_proto::v1::{
    Distfile, DistfileChanges, Generation, ListGenerationsRequest, ListGenerationsResponse,
    ListModulesRequest, ListModulesResponse, ListRefusalsRequest, ListRefusalsResponse, Module,
    PublishRequest, PublishResponse, RollbackRequest, RollbackResponse, StreamDistfilesRequest,
    WatchGenerationsRequest,
};
use service_kit::Kit;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

type Contents = BTreeMap<String, Distfile>;

#[derive(Default)]
struct State {
    modules: Vec<Module>,
    kept: BTreeMap<(String, u64), Contents>,
    /// What `publish` answers, by module.
    refusals: BTreeMap<String, String>,
    /// (module, generation, since) of each `StreamDistfiles`.
    asked: Vec<(String, u64, u64)>,
    /// What Publish was called for.
    published: Vec<String>,
}

#[derive(Clone)]
pub struct FakeTree {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    /// `publish` does not answer while this is so.
    holds: watch::Sender<bool>,
    address: std::net::SocketAddr,
    kit: Kit,
}

impl FakeTree {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tree = Self {
            state: Arc::default(),
            changed: watch::Sender::new(0),
            holds: watch::Sender::new(false),
            address: listener.local_addr().unwrap(),
            kit: Kit::default(),
        };
        let routes = Routes::new(TreeServer::new(tree.clone()));
        service_kit::grpc::serve(listener, routes, &tree.kit).unwrap();
        tree
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Nobody answers any more.
    pub async fn stop(&self) {
        super::within(self.kit.tasks.finish()).await;
    }

    /// Configures a module without a generation.
    pub fn add_module(&self, name: &str) {
        let mut state = self.state.lock().unwrap();
        if !state.modules.iter().any(|module| module.name == name) {
            state.modules.push(Module { name: name.to_owned(), ..Module::default() });
        }
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }

    pub fn remove_module(&self, name: &str) {
        self.state.lock().unwrap().modules.retain(|module| module.name != name);
        self.changed.send_modify(|count| *count += 1);
    }

    /// `published_ms` tells series of numbers apart.
    pub fn publish_at(&self, module: &str, number: u64, distfiles: &[Distfile], published_ms: i64) {
        self.add_module(module);
        let mut state = self.state.lock().unwrap();
        let contents = distfiles.iter().map(|distfile| (distfile.name.clone(), distfile.clone())).collect();
        state.kept.insert((module.to_owned(), number), contents);
        let live = Generation {
            module: module.to_owned(),
            number,
            published_ms,
            distfiles: distfiles.len() as u64,
            ..Generation::default()
        };
        for known in &mut state.modules {
            if known.name == module {
                known.live = Some(live.clone());
            }
        }
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }

    pub fn publish(&self, module: &str, number: u64, distfiles: &[Distfile]) {
        self.publish_at(module, number, distfiles, i64::try_from(number).unwrap());
    }

    /// When the key that signs the module's tree expires.
    pub fn key_expires(&self, module: &str, at_ms: i64) {
        let mut state = self.state.lock().unwrap();
        for known in state.modules.iter_mut().filter(|known| known.name == module) {
            known.key_expires_ms = at_ms;
        }
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Why the module's source was not published; empty: it is.
    pub fn last_error(&self, module: &str, why: &str) {
        let mut state = self.state.lock().unwrap();
        for known in state.modules.iter_mut().filter(|known| known.name == module) {
            why.clone_into(&mut known.last_error);
        }
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Collects an old generation.
    pub fn forget(&self, module: &str, number: u64) {
        self.state.lock().unwrap().kept.remove(&(module.to_owned(), number));
    }

    pub fn refuse(&self, module: &str, why: &str) {
        self.state.lock().unwrap().refusals.insert(module.to_owned(), why.to_owned());
    }

    /// Whether looks at sources are without an end.
    pub fn hold(&self, holds: bool) {
        self.holds.send_replace(holds);
    }

    pub fn refuse_no_more(&self, module: &str) {
        self.state.lock().unwrap().refusals.remove(module);
    }

    /// It is no longer one of the modules.
    pub fn drop_module(&self, module: &str) {
        self.state.lock().unwrap().modules.retain(|known| known.name != module);
    }

    pub fn asked(&self) -> Vec<(String, u64, u64)> {
        self.state.lock().unwrap().asked.clone()
    }

    pub fn publish_calls(&self) -> Vec<String> {
        self.state.lock().unwrap().published.clone()
    }

    fn live(&self) -> Vec<Generation> {
        let state = self.state.lock().unwrap();
        state.modules.iter().filter_map(|module| module.live.clone()).collect()
    }
}

fn batches(old: Option<&Contents>, new: &Contents, reset: bool) -> Vec<Result<DistfileChanges, Status>> {
    let empty = Contents::new();
    let old = old.unwrap_or(&empty);
    let upserts: Vec<_> = new.values().filter(|one| old.get(&one.name) != Some(one)).cloned().collect();
    let removes: Vec<_> = old.keys().filter(|name| !new.contains_key(*name)).cloned().collect();
    let mut batches = vec![DistfileChanges { reset, ..DistfileChanges::default() }];
    for part in upserts.chunks(1000) {
        batches.push(DistfileChanges { upserts: part.to_vec(), ..DistfileChanges::default() });
    }
    for part in removes.chunks(1000) {
        batches.push(DistfileChanges { removes: part.to_vec(), ..DistfileChanges::default() });
    }
    batches.into_iter().map(Ok).collect()
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Tree for FakeTree {
    async fn list_modules(
        &self,
        _: Request<ListModulesRequest>,
    ) -> Result<Response<ListModulesResponse>, Status> {
        let modules = self.state.lock().unwrap().modules.clone();
        Ok(Response::new(ListModulesResponse { modules }))
    }

    type WatchGenerationsStream = Answers<Generation>;

    async fn watch_generations(
        &self,
        _: Request<WatchGenerationsRequest>,
    ) -> Result<Response<Self::WatchGenerationsStream>, Status> {
        let tree = self.clone();
        let mut changed = tree.changed.subscribe();
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            let mut sent: BTreeMap<String, (u64, i64)> = BTreeMap::new();
            loop {
                changed.borrow_and_update();
                for live in tree.live() {
                    let mark = (live.number, live.published_ms);
                    if sent.insert(live.module.clone(), mark) != Some(mark) {
                        yield live;
                    }
                }
                if changed.changed().await.is_err() {
                    return;
                }
            }
        })))
    }

    type StreamDistfilesStream = Answers<DistfileChanges>;

    async fn stream_distfiles(
        &self,
        request: Request<StreamDistfilesRequest>,
    ) -> Result<Response<Self::StreamDistfilesStream>, Status> {
        let StreamDistfilesRequest { module, generation, since_generation } = request.into_inner();
        let mut state = self.state.lock().unwrap();
        state.asked.push((module.clone(), generation, since_generation));
        let Some(new) = state.kept.get(&(module.clone(), generation)) else {
            return Err(Status::failed_precondition("no longer kept"));
        };
        let old = state.kept.get(&(module, since_generation));
        let answers = batches(old, new, old.is_none() && since_generation > 0);
        Ok(Response::new(Box::pin(tokio_stream::iter(answers))))
    }

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        let module = request.into_inner().module;
        drop(self.holds.subscribe().wait_for(|holds| !*holds).await);
        let mut state = self.state.lock().unwrap();
        state.published.push(module.clone());
        if let Some(why) = state.refusals.get(&module) {
            return Err(Status::failed_precondition(why.clone()));
        }
        let known = state.modules.iter().find(|known| known.name == module);
        let generation = known.ok_or_else(|| Status::not_found("no such module"))?.live.clone();
        Ok(Response::new(PublishResponse { generation, ..PublishResponse::default() }))
    }

    async fn list_generations(
        &self,
        _: Request<ListGenerationsRequest>,
    ) -> Result<Response<ListGenerationsResponse>, Status> {
        Err(Status::unimplemented("not in this stand-in"))
    }

    async fn list_refusals(
        &self,
        _: Request<ListRefusalsRequest>,
    ) -> Result<Response<ListRefusalsResponse>, Status> {
        Err(Status::unimplemented("not in this stand-in"))
    }

    async fn rollback(&self, _: Request<RollbackRequest>) -> Result<Response<RollbackResponse>, Status> {
        Err(Status::unimplemented("not in this stand-in"))
    }
}
