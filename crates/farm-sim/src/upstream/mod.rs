//! An upstream stand-in: mirrors and project sites on one loopback port.
//!
//! It speaks HTTP/1.1 with its own few lines instead of a library's, because it must be able to break
//! every rule on demand and because its counts must be those of octets written to the socket,
//! independent of anything that is measured against it.

mod answer;
mod connection;
mod fault;
mod log;
mod request;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::contents::Contents;
use crate::tree::{GeneratedDistfile, GeneratedTree, Restriction};
use fault::Faults;

pub use fault::{Fault, Gate};
pub use log::{Count, Exchange};

/// What a mirror says about its own layout.
pub const LAYOUT_CONF: &str = "[structure]\n0=filename-hash BLAKE2B 8\n1=flat\n";

/// What an upstream serves at one path.
#[derive(Debug, Clone)]
pub enum Object {
    /// Generated as it is sent.
    Generated(Contents),
    /// Held in memory.
    Bytes(Bytes),
    /// A redirect to that URL.
    Redirect(String),
}

/// A running stand-in. It stops when it is dropped.
#[derive(Debug)]
pub struct Upstream {
    shared: Arc<Shared>,
    address: SocketAddr,
    url: String,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Served>,
    faults: Faults,
    exchanges: Vec<Exchange>,
    lies: BTreeMap<String, u64>,
    silent: bool,
}

#[derive(Debug, Clone)]
struct Served {
    /// The distfile that this is, if it is one.
    distfile: Option<String>,
    object: Object,
}

impl Upstream {
    /// Listens on a free loopback port.
    ///
    /// # Errors
    /// There is none.
    pub async fn start() -> io::Result<Self> {
        Self::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    /// Listens on `address`.
    ///
    /// # Errors
    /// The address can't be bound.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let upstream = Self::bind_as(address, "").await?;
        let url = format!("http://{}", upstream.address);
        Ok(Self { url, ..upstream })
    }

    /// Listens on `address`, where the world reaches it at `url` (`http://HOST:PORT`).
    ///
    /// # Errors
    /// The address can't be bound.
    pub async fn bind_as(address: SocketAddr, url: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { state: Mutex::default(), changes: watch::Sender::new(0) });
        let stop = CancellationToken::new();
        let tracker = TaskTracker::new();
        let accepting = accept(listener, Arc::clone(&shared), tracker.clone(), stop.clone());
        tracker.spawn(stop.clone().run_until_cancelled_owned(accepting));
        Ok(Self { shared, address, url: url.to_owned(), _stop: stop.drop_guard() })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://ADDRESS` or what the world reaches it at, without a slash at the end: usable as a mirror and as
    /// [`TreeSpec::source_base`](crate::tree::TreeSpec::source_base).
    #[must_use]
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Serves `object` at `path` (decoded, with its leading slash).
    pub fn put(&self, path: &str, object: Object) {
        self.state().objects.insert(path.to_owned(), Served { distfile: None, object });
    }

    /// Serves nothing at `path` any more.
    pub fn remove(&self, path: &str) {
        self.state().objects.remove(path);
    }

    /// Serves one distfile: in both mirror layouts if mirrors carry it, and at those of its sources that
    /// are below [`Self::url`].
    pub fn put_distfile(&self, distfile: &GeneratedDistfile) {
        let served =
            Served { distfile: Some(distfile.name.clone()), object: Object::Generated(distfile.contents()) };
        let mut state = self.state();
        for path in self.paths(distfile) {
            state.objects.insert(path, served.clone());
        }
    }

    /// Serves every distfile of `tree`, and the `layout.conf` of a mirror.
    pub fn put_tree(&self, tree: &GeneratedTree) {
        self.put("/distfiles/layout.conf", Object::Bytes(Bytes::from_static(LAYOUT_CONF.as_bytes())));
        for distfile in &tree.distfiles {
            self.put_distfile(distfile);
        }
    }

    /// Every path at which [`Self::put_distfile`] serves `distfile`.
    #[must_use]
    pub fn paths(&self, distfile: &GeneratedDistfile) -> Vec<String> {
        let mut paths = Vec::new();
        if distfile.restriction == Restriction::None {
            paths.push(mirror_path(&distfile.name));
            paths.push(format!("/distfiles/{}", distfile.name));
        }
        if distfile.restriction != Restriction::Fetch {
            let base = self.url();
            let own = distfile.sources.iter().filter_map(|source| source.strip_prefix(&base));
            paths.extend(own.map(str::to_owned));
        }
        paths
    }

    /// From now on every request for `path` suffers `fault`. Several add up.
    pub fn add_fault(&self, path: &str, fault: Fault) {
        self.state().faults.add(path, fault, None);
    }

    /// The next `times` requests for `path` suffer `fault`.
    pub fn add_fault_times(&self, path: &str, fault: Fault, times: u32) {
        self.state().faults.add(path, fault, Some(times));
    }

    /// Whatever the path, every request suffers `fault`.
    pub fn add_fault_everywhere(&self, fault: Fault) {
        self.state().faults.add_everywhere(fault);
    }

    /// All is well again.
    pub fn clear_faults(&self) {
        let mut state = self.state();
        state.faults = Faults::default();
        state.silent = false;
    }

    /// Accept connections and never read from them, as a host does whose disk hangs.
    pub fn set_silent(&self, silent: bool) {
        self.state().silent = silent;
    }

    /// Every request so far, oldest first; those under way with what was sent until now.
    #[must_use]
    pub fn log(&self) -> Vec<Exchange> {
        self.state().exchanges.clone()
    }

    /// Requests and octets per path.
    #[must_use]
    pub fn counts_by_path(&self) -> BTreeMap<String, Count> {
        log::counts(&self.state().exchanges, |exchange| Some(exchange.path.clone()))
    }

    /// Requests and octets per distfile, whichever path they used.
    #[must_use]
    pub fn counts_by_distfile(&self) -> BTreeMap<String, Count> {
        let state = self.state();
        let mut counts = log::counts(&state.exchanges, |exchange| exchange.distfile.clone());
        for (name, requests) in &state.lies {
            counts.entry(name.clone()).or_default().requests += requests;
        }
        counts
    }

    /// Requests and octets of the distfile `name`.
    #[must_use]
    pub fn count_of_distfile(&self, name: &str) -> Count {
        self.counts_by_distfile().remove(name).unwrap_or_default()
    }

    /// Requests and octets of `path`.
    #[must_use]
    pub fn count_of_path(&self, path: &str) -> Count {
        self.counts_by_path().remove(path).unwrap_or_default()
    }

    /// Requests and octets of everything.
    #[must_use]
    pub fn total(&self) -> Count {
        log::counts(&self.state().exchanges, |_| Some(())).remove(&()).unwrap_or_default()
    }

    /// Makes the count of the distfile `name` one request too high: who relies on the count must notice.
    pub fn lie_by_one_request(&self, name: &str) {
        *self.state().lies.entry(name.to_owned()).or_default() += 1;
    }

    /// Waits until the log satisfies `condition`, at most for `timeout`. Says whether it did.
    pub async fn wait_until(&self, timeout: Duration, condition: impl Fn(&[Exchange]) -> bool) -> bool {
        let mut changes = self.shared.changes.subscribe();
        let waiting = async {
            while !condition(&self.state().exchanges) {
                if changes.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(timeout, waiting).await.unwrap_or(false)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_exchange(&self, exchange: Exchange) -> usize {
        let number = {
            let mut state = self.state();
            state.exchanges.push(exchange);
            state.exchanges.len() - 1
        };
        self.changes.send_modify(|count| *count += 1);
        number
    }

    fn update_exchange(&self, number: usize, update: impl FnOnce(&mut Exchange)) {
        if let Some(exchange) = self.state().exchanges.get_mut(number) {
            update(exchange);
        }
        self.changes.send_modify(|count| *count += 1);
    }
}

/// Where a mirror with the hashed layout has the distfile `name`: the first two hex digits of the
/// BLAKE2B of its name, then the name.
#[must_use]
pub fn mirror_path(name: &str) -> String {
    use blake2::Digest as _;
    let digest = blake2::Blake2b512::digest(name.as_bytes());
    format!("/distfiles/{}/{name}", hex::encode(&digest[..1]))
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, tracker: TaskTracker, stop: CancellationToken) {
    loop {
        // An error here is one connection's, or a shortage that passes.
        let Ok((socket, peer)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let connection = connection::run(socket, peer, Arc::clone(&shared));
        tracker.spawn(stop.clone().run_until_cancelled_owned(connection));
    }
}

#[cfg(test)]
mod tests;
