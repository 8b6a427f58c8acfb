//! The rsync daemon: a listener, and one task a connection that carries out what a
//! [`rsync_wire::Session`] commands.
//!
//! Each connection is pinned to the generation that was live when it named its module. Nothing here
//! opens a file: contents come from the generation, in blocking pieces away from the reactor, and no thread waits
//! for a client.

mod accounts;
mod admission;
mod bodies;
mod connection;
mod figures;
mod lists;
mod log;
mod login;
mod motd;
mod names;
mod pace;
mod slots;
mod tree;
mod turns;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rsync_wire::prologue;
use rsync_wire::session::Summary;
use rsyncd_conf::hosts::HostAccess;
use rsyncd_conf::refuse::RefusedOptions;
use service_kit::config::Networks;
use service_kit::lifecycle::Tasks;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tree_store::Generation;

pub use log::{LogTarget, ModuleLog};
pub use login::LoginRules;
pub use motd::Motd;
pub use names::Lookups;

use bodies::Bodies;
use figures::Figures;
use lists::Lists;
use log::{Journal, Journals, Writer};
use names::Resolver;
use slots::Slots;

use crate::pins::Pins;

/// Gives a module's live generation; `None` before the first one is published.
pub type Live = Arc<dyn Fn() -> Option<Generation> + Send + Sync>;

/// One module as clients see it.
#[derive(Clone)]
pub struct Module {
    /// Its name: no slash, no control characters.
    pub name: String,
    /// What the list of modules says about it: one line.
    pub comment: String,
    /// Whether it is in the list of modules, and known to those that may not use it.
    pub listed: bool,
    /// Who may use it.
    pub access: HostAccess,
    /// What is looked up for that.
    pub lookups: Lookups,
    /// Its connections at a time: 0 for any number, below 0 for none at all.
    pub max_connections: i32,
    /// Seconds of silence before a connection ends; 0 leaves it to the client.
    pub timeout_s: u32,
    /// How clients log in, if they have to.
    pub login: Option<Arc<LoginRules>>,
    /// What it does not grant.
    pub refused: Arc<RefusedOptions>,
    /// Nothing is compressed for clients that use zlib.
    pub dont_compress: bool,
    /// Owners are sent as numbers alone.
    pub numeric_ids: bool,
    /// What is logged of it beside the process's own log.
    pub log: Arc<ModuleLog>,
    /// Asked once for each connection.
    pub live: Live,
}

/// What all connections share.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections that use a module at a time; 0 for any number.
    pub max_connections: usize,
    /// Those of them from one address; 0 for any number.
    pub connections_per_address: usize,
    /// How long one more waits for its turn before it is told to try again later.
    pub queue_timeout: Duration,
    /// Who begins each connection with a PROXY protocol header that says whom it is for.
    pub proxy_protocol_from: Networks,
    /// Where connections are logged, beside the process's own log, before their module is known.
    pub log: Option<LogTarget>,
    /// Where compressed files are kept for the next client, and how many octets of them.
    pub bodies: Option<(PathBuf, u64)>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 200,
            connections_per_address: 50,
            queue_timeout: Duration::from_secs(10),
            proxy_protocol_from: Networks::default(),
            log: None,
            bodies: None,
        }
    }
}

/// The daemon's modules and limits.
pub struct RsyncServer {
    modules: Vec<Module>,
    motd: Motd,
    resolver: Resolver,
    slots: Slots,
    /// Who speaks for others.
    proxy_protocol_from: Networks,
    /// Open sockets, those that wait or have not said what they want included.
    sockets: Arc<Semaphore>,
    /// Logins that are checked at a time.
    logins: Arc<Semaphore>,
    /// Pieces of work that read contents, at a time.
    sending: Arc<Semaphore>,
    /// Lists that are built at a time: they take much longer than a piece of contents.
    listing: Arc<Semaphore>,
    /// The lists that were built.
    lists: Arc<Lists>,
    /// The bodies of replies that were made.
    bodies: Option<Arc<Bodies>>,
    /// Those that need every file's checksum, so that they don't hold up the others.
    hashing: Arc<Semaphore>,
    /// Who is served from which generation.
    pins: Pins,
    /// The daemon's own log, then that of each module.
    journal: Option<Journal>,
    journals: Vec<Option<Journal>>,
    /// What writes them, until it is taken to run.
    writers: Mutex<Vec<Writer>>,
    figures: Figures,
}

/// Sockets beyond the connections that may use a module.
const SOCKETS_SPARE: usize = 256;

impl RsyncServer {
    /// A daemon for these modules, in the order of their list.
    #[must_use]
    pub fn new(modules: Vec<Module>, motd: Motd, limits: &Limits) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let slots = Slots::new(limits);
        let mut journals = Journals::default();
        let journal = journals.of(limits.log.as_ref());
        let of_modules = modules.iter().map(|module| journals.of(module.log.target.as_ref())).collect();
        Self {
            journal,
            journals: of_modules,
            writers: Mutex::new(journals.into_writers()),
            figures: Figures::default(),
            modules,
            motd,
            resolver: Resolver::default(),
            sockets: Arc::new(Semaphore::new(slots.max().saturating_mul(2).min(60_000) + SOCKETS_SPARE)),
            slots,
            proxy_protocol_from: limits.proxy_protocol_from.clone(),
            logins: Arc::new(Semaphore::new(cores)),
            sending: Arc::new(Semaphore::new(cores * 2)),
            listing: Arc::new(Semaphore::new(cores)),
            lists: Arc::default(),
            bodies: limits.bodies.clone().map(|(dir, octets)| Arc::new(Bodies::new(dir, octets))),
            hashing: Arc::new(Semaphore::new(cores.div_ceil(2))),
            pins: Pins::default(),
        }
    }

    /// The count of connections by generation.
    pub(crate) fn pins(&self) -> &Pins {
        &self.pins
    }

    /// A module and its place in the list.
    fn module(&self, name: &str) -> Option<(usize, &Module)> {
        self.modules.iter().enumerate().find(|(_, module)| module.name == name)
    }

    /// The modules that a host is told of: names and comments.
    fn listed(&self) -> impl Iterator<Item = (&str, &str)> {
        let listed = self.modules.iter().filter(|module| module.listed);
        listed.map(|module| (module.name.as_str(), module.comment.as_str()))
    }
}

/// Accepts connections until the soft stop; those that are open go on until the hard one.
///
/// # Errors
/// None that a client can cause.
pub async fn serve(listener: TcpListener, server: Arc<RsyncServer>, tasks: Tasks) -> anyhow::Result<()> {
    let address = listener.local_addr().context("the rsync listener has no address")?;
    tracing::info!(%address, modules = server.modules.len(), "rsync: listening");
    let soft = tasks.soft();
    // They end when the last connection has, as nobody can log anything then.
    for writer in std::mem::take(&mut *server.writers.lock().unwrap_or_else(PoisonError::into_inner)) {
        drop(tasks.spawn("rsync log", writer.run()));
    }
    loop {
        let accepted = tokio::select! {
            () = soft.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a client that left already: neither is a reason to stop listening.
                tracing::warn!(%error, "rsync: can't accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if let Ok(socket) = server.sockets.clone().try_acquire_owned() {
            let server = server.clone();
            drop(tasks.spawn("rsync connection", async move {
                connection::run(stream, peer, &server).await;
                drop(socket);
            }));
        } else {
            server.figures.ended("", "too_many_sockets", 0.0, &Summary::default());
            drop(tasks.spawn("rsync refusal", turn_away(stream, peer, server.slots.max())));
        }
    }
}

/// Tells one connection too many so, without letting it say a word.
async fn turn_away(mut stream: TcpStream, peer: SocketAddr, connections_max: usize) {
    tracing::warn!(%peer, "rsync: too many open sockets");
    let text = [
        prologue::GREETING,
        &prologue::connections_exhausted(i64::try_from(connections_max).unwrap_or(i64::MAX)),
    ]
    .concat();
    let written = tokio::time::timeout(Duration::from_secs(1), stream.write_all(text.as_bytes())).await;
    if !matches!(written, Ok(Ok(()))) {
        tracing::debug!(%peer, "rsync: it did not listen either");
    }
}

#[cfg(test)]
mod tests;
