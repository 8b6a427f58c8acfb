//! Whether a host may use a module now.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rsync_wire::login::{Login, challenge_text};
use rsync_wire::prologue;
use rsync_wire::session::{Challenge, CloseReason, Grant, Selection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tree_store::Generation;

use super::{Limits, Module, RsyncServer};
use crate::pins::Pin;

/// The connections that may use a module at a time, and the queue for them: first come, first served.
pub(super) struct Slots {
    free: Arc<Semaphore>,
    max: usize,
    queue_timeout: Duration,
}

/// What stands for "any number".
const UNLIMITED: usize = 1 << 20;

impl Slots {
    pub(super) fn new(limits: &Limits) -> Self {
        let max = if limits.max_connections == 0 { UNLIMITED } else { limits.max_connections.min(UNLIMITED) };
        Self { free: Arc::new(Semaphore::new(max)), max, queue_timeout: limits.queue_timeout }
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Waits for a slot. A client that gives up leaves the queue by dropping this.
    async fn acquire(&self) -> Option<OwnedSemaphorePermit> {
        let slot = self.free.clone().acquire_owned();
        tokio::time::timeout(self.queue_timeout, slot).await.ok()?.ok()
    }
}

/// A decision about one connection.
pub(super) struct Admission {
    pub(super) selection: Selection,
    pub(super) pinned: Option<Pinned>,
}

/// What a connection holds while it uses a module.
pub(super) struct Pinned {
    pub(super) generation: Generation,
    _pin: Pin,
    _slot: OwnedSemaphorePermit,
}

fn refuse(line: String, reason: CloseReason) -> Admission {
    Admission { selection: Selection::Refused { line, reason }, pinned: None }
}

/// Decides in the order in which rsync does (3.3), so that a client learns no more than from rsync. Only whoever has
/// to log in does so before waiting for a turn: strangers can't take the turns of others.
pub(super) async fn decide(server: Arc<RsyncServer>, host: IpAddr, name: String) -> Admission {
    let Some(module) = server.module(&name) else {
        return refuse(prologue::unknown_module(&name), CloseReason::UnknownModule);
    };
    let names = server.resolver.names(&module.access, module.lookups, host).await;
    if !module.access.permits(host, &names) {
        return if module.listed {
            refuse(prologue::access_denied(&name, &host.to_string()), CloseReason::AccessDenied)
        } else {
            refuse(prologue::unknown_module(&name), CloseReason::AccessDenied)
        };
    }
    if let Some(login) = &module.login {
        let text = challenge_text(rand::random());
        let challenge = Challenge { text, weakest: login.weakest };
        return Admission { selection: Selection::LogIn(challenge), pinned: None };
    }
    admit(&server, module, host).await
}

/// Decides about an attempt to log in.
pub(super) async fn log_in(server: Arc<RsyncServer>, host: IpAddr, name: String, login: Login) -> Admission {
    let module = server.module(&name);
    let failed = || refuse(prologue::login_failed(&name), CloseReason::LoginFailed);
    let Some((module, rules)) = module.and_then(|module| Some((module, module.login.clone()?))) else {
        return failed();
    };
    let user = login.user().to_owned();
    // Its own turns: whoever guesses passwords must not hold up those who sync.
    let Ok(turn) = server.logins.clone().acquire_owned().await else { return failed() };
    let check = move || {
        let checked = rules.check(&login);
        drop(turn);
        checked
    };
    match tokio::task::spawn_blocking(check).await {
        Ok(Ok(())) => admit(&server, module, host).await,
        Ok(Err(fault)) => {
            tracing::warn!(%host, module = name, user = %user.escape_debug(), %fault, "rsync: login failed");
            failed()
        }
        Err(_) => failed(),
    }
}

/// Waits for a turn, and pins the generation that is live then.
async fn admit(server: &RsyncServer, module: &Module, host: IpAddr) -> Admission {
    let Some(slot) = server.slots.acquire().await else {
        return refuse(prologue::connections_exhausted(server.slots.max()), CloseReason::Busy);
    };
    let Some(generation) = (module.live)() else {
        let line = format!("@ERROR: module {} has no tree to serve yet -- try again later\n", module.name);
        return refuse(line, CloseReason::NoGeneration);
    };
    let refused = module.refused.clone();
    let grant = Grant {
        timeout_s: module.timeout_s,
        refuses: Some(Arc::new(move |arguments: &[Vec<u8>]| {
            refused.first_refused(arguments.iter().map(Vec::as_slice))
        })),
    };
    let pin = server.pins.enter(&generation, host);
    Admission {
        selection: Selection::Accepted(grant),
        pinned: Some(Pinned { generation, _pin: pin, _slot: slot }),
    }
}
