//! The gRPC service `rookery.v1.Tree`: what maintenance learns of modules, generations and distfiles.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{self, Stream, StreamExt};
use gentoo_repo::catalogue::{self, Catalogue};
use gentoo_repo::{Distfile, DistfileName};
use prost::Message as _;
use rookery_proto::v1;
use rookery_proto::v1::tree_server::Tree;
use tokio::sync::Mutex;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};
use tree_store::TreeError;

use crate::convert;
use crate::module::{Module, Modules};
use crate::pins::Pins;
use crate::rollback;

/// The contract's limit for one batch.
const BATCH_CHANGES_MAX: usize = 1000;
/// Well below the 4 MiB that a message may have: one distfile more may follow.
const BATCH_BYTES_MAX: usize = 1 << 20;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers for all modules.
#[derive(Debug)]
pub(crate) struct TreeService {
    modules: Modules,
    /// Held while a store is changed.
    turn: Arc<Mutex<()>>,
    pins: Pins,
}

impl TreeService {
    pub(crate) fn new(modules: Modules, turn: Arc<Mutex<()>>, pins: Pins) -> Self {
        Self { modules, turn, pins }
    }

    fn module(&self, name: &str) -> Result<&Arc<Module>, Status> {
        self.modules.get(name).ok_or_else(|| Status::not_found(format!("no module {name:?}")))
    }
}

#[tonic::async_trait]
impl Tree for TreeService {
    async fn list_modules(
        &self,
        _request: Request<v1::ListModulesRequest>,
    ) -> Result<Response<v1::ListModulesResponse>, Status> {
        let modules = self.modules.iter().map(|module| convert::module(module)).collect();
        Ok(Response::new(v1::ListModulesResponse { modules }))
    }

    type WatchGenerationsStream = Answers<v1::Generation>;

    async fn watch_generations(
        &self,
        _request: Request<v1::WatchGenerationsRequest>,
    ) -> Result<Response<Self::WatchGenerationsStream>, Status> {
        // A watch gives the value that is there first, and only the newest to a slow reader.
        let watches = self.modules.iter().map(|module| WatchStream::new(module.watch()));
        let generations = stream::select_all(watches)
            .filter_map(async |live| live.map(|live| Ok(convert::generation(&live))));
        Ok(Response::new(Box::pin(generations)))
    }

    type StreamDistfilesStream = Answers<v1::DistfileChanges>;

    async fn stream_distfiles(
        &self,
        request: Request<v1::StreamDistfilesRequest>,
    ) -> Result<Response<Self::StreamDistfilesStream>, Status> {
        let v1::StreamDistfilesRequest { module, generation, since_generation } = request.into_inner();
        let module = Arc::clone(self.module(&module)?);
        let read = move || Changes::read(&module, generation, since_generation);
        let changes = tokio::task::spawn_blocking(read).await.map_err(|_| Status::internal("a bug"))??;
        Ok(Response::new(Box::pin(stream::iter(changes.map(Ok)))))
    }

    async fn publish(
        &self,
        request: Request<v1::PublishRequest>,
    ) -> Result<Response<v1::PublishResponse>, Status> {
        let v1::PublishRequest { module, allow_older } = request.into_inner();
        let looked = self.module(&module)?.publish(allow_older).await.map_err(Status::failed_precondition)?;
        let generation = Some(convert::generation(&looked.generation));
        Ok(Response::new(v1::PublishResponse { generation, changed: looked.changed, note: looked.note }))
    }

    async fn list_generations(
        &self,
        request: Request<v1::ListGenerationsRequest>,
    ) -> Result<Response<v1::ListGenerationsResponse>, Status> {
        let module = Arc::clone(self.module(&request.into_inner().module)?);
        let pins = self.pins.clone();
        let read = move || {
            let mut generations = Vec::new();
            for number in module.store().kept().into_iter().rev() {
                match convert::kept_generation(&module, number, &pins) {
                    Ok(kept) => generations.push(kept),
                    // Collected meanwhile.
                    Err(TreeError::NotKept { .. }) => {}
                    Err(error) => return Err(status(&error)),
                }
            }
            Ok(generations)
        };
        let generations =
            tokio::task::spawn_blocking(read).await.map_err(|_| Status::internal("a bug"))??;
        Ok(Response::new(v1::ListGenerationsResponse { generations }))
    }

    async fn list_refusals(
        &self,
        request: Request<v1::ListRefusalsRequest>,
    ) -> Result<Response<v1::ListRefusalsResponse>, Status> {
        let module = Arc::clone(self.module(&request.into_inner().module)?);
        let read = move || module.refusals().list();
        let listed = tokio::task::spawn_blocking(read).await.map_err(|_| Status::internal("a bug"))?;
        let listed =
            listed.map_err(|error| Status::internal(format!("reports of refused trees: {error}")))?;
        let refusals = listed.into_iter().map(convert::refusal).collect();
        Ok(Response::new(v1::ListRefusalsResponse { refusals }))
    }

    async fn rollback(
        &self,
        request: Request<v1::RollbackRequest>,
    ) -> Result<Response<v1::RollbackResponse>, Status> {
        let v1::RollbackRequest { module, to } = request.into_inner();
        let module = Arc::clone(self.module(&module)?);
        let _turn = self.turn.lock().await;
        let modules = self.modules.clone();
        let rolling = move || {
            rollback::roll_back(&module, &modules, (to != 0).then_some(to)).map(|generation| {
                let copy_of = module.history().origin(generation.number()).copy_of;
                let note = module.hold();
                v1::RollbackResponse { generation: Some(convert::generation(&generation)), copy_of, note }
            })
        };
        let rolled = tokio::task::spawn_blocking(rolling).await.map_err(|_| Status::internal("a bug"))?;
        rolled.map(Response::new).map_err(|error| Status::failed_precondition(error.to_string()))
    }
}

/// Batches of changes, made one by one as the reader takes them.
struct Changes {
    /// Still to be said, even if nothing follows.
    reset: bool,
    upserts: std::vec::IntoIter<Distfile>,
    removes: std::vec::IntoIter<DistfileName>,
}

impl Changes {
    fn read(module: &Module, generation: u64, since: u64) -> Result<Self, Status> {
        let new = module.store().catalogue(generation).map_err(|error| status(&error))?;
        let old = match since {
            0 => None,
            since => match module.store().catalogue(since) {
                Ok(old) => Some(old),
                Err(TreeError::NotKept { .. }) => None,
                Err(error) => return Err(status(&error)),
            },
        };
        let reset = old.is_none();
        let old = old.unwrap_or_default();
        let (upserts, removes) = differences(&old, &new);
        Ok(Self { reset, upserts: upserts.into_iter(), removes: removes.into_iter() })
    }
}

fn differences(old: &Catalogue, new: &Catalogue) -> (Vec<Distfile>, Vec<DistfileName>) {
    let diff = catalogue::diff(old, new);
    (diff.upserts.into_iter().cloned().collect(), diff.removes.into_iter().cloned().collect())
}

impl Iterator for Changes {
    type Item = v1::DistfileChanges;

    fn next(&mut self) -> Option<v1::DistfileChanges> {
        let mut batch = v1::DistfileChanges { reset: std::mem::take(&mut self.reset), ..Default::default() };
        let mut bytes = 0;
        while bytes < BATCH_BYTES_MAX && batch.upserts.len() + batch.removes.len() < BATCH_CHANGES_MAX {
            if let Some(removed) = self.removes.next() {
                bytes += removed.as_str().len();
                batch.removes.push(removed.as_str().to_owned());
            } else if let Some(distfile) = self.upserts.next() {
                let distfile = convert::distfile(distfile);
                bytes += distfile.encoded_len();
                batch.upserts.push(distfile);
            } else {
                break;
            }
        }
        let says_something = batch.reset || !batch.upserts.is_empty() || !batch.removes.is_empty();
        says_something.then_some(batch)
    }
}

fn status(error: &TreeError) -> Status {
    if matches!(error, TreeError::NotKept { .. }) {
        return Status::failed_precondition(error.to_string());
    }
    tracing::error!(%error, "could not read a catalogue");
    Status::internal(error.to_string())
}
