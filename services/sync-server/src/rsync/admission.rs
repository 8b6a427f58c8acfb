//! Whether a host may use a module now.

use std::net::IpAddr;
use std::sync::Arc;

use rsync_wire::login::{Login, challenge_text};
use rsync_wire::prologue;
use rsync_wire::session::{Challenge, CloseReason, Grant, Selection};
use rsyncd_conf::hosts::Names;
use tree_store::Generation;

use super::figures::InUse;
use super::log::{HostName, SessionLog};
use super::slots::Slot;
use super::turns::Claim;
use super::{Module, RsyncServer};
use crate::pins::Pin;

/// A decision about one connection.
pub(super) struct Admission {
    pub(super) selection: Selection,
    pub(super) pinned: Option<Pinned>,
    /// What a log should know beyond that.
    pub(super) detail: Option<String>,
    /// The host's name, if it was looked up for the log.
    pub(super) host: HostName,
}

/// What a connection holds while it uses a module.
pub(super) struct Pinned {
    pub(super) generation: Generation,
    /// The module's place in the list.
    pub(super) place: usize,
    _in_use: InUse,
    _pin: Pin,
    _slot: Slot,
}

fn refuse(line: String, reason: CloseReason) -> Admission {
    let selection = Selection::Refused { line, reason };
    Admission { selection, pinned: None, detail: None, host: HostName::default() }
}

/// Decides in the order in which rsync does (3.3), so that a client learns no more than from rsync. Only whoever has
/// to log in does so before waiting for a turn: strangers can't take the turns of others.
pub(super) async fn decide(server: Arc<RsyncServer>, host: IpAddr, name: String) -> Admission {
    let Some((place, module)) = server.module(&name) else {
        return refuse(prologue::unknown_module(&name), CloseReason::UnknownModule);
    };
    let names = server.resolver.names(&module.access, module.lookups, host).await;
    let is_logged = module.lookups.reverse && module.log.target.is_some();
    let name =
        if is_logged { HostName::found(server.resolver.name_of(host).await) } else { HostName::default() };
    Admission { host: name, ..decide_about(&server, place, module, host, &names).await }
}

async fn decide_about(
    server: &RsyncServer,
    place: usize,
    module: &Module,
    host: IpAddr,
    names: &Names,
) -> Admission {
    let name = &module.name;
    if !module.access.permits(host, names) {
        return if module.listed {
            refuse(prologue::access_denied(name, &host.to_string()), CloseReason::AccessDenied)
        } else {
            refuse(prologue::unknown_module(name), CloseReason::AccessDenied)
        };
    }
    if let Some(login) = &module.login {
        let text = challenge_text(rand::random());
        let challenge = Challenge { text, weakest: login.weakest };
        return Admission {
            selection: Selection::LogIn(challenge),
            pinned: None,
            detail: None,
            host: HostName::default(),
        };
    }
    admit(server, place, module, host).await
}

/// Decides about an attempt to log in.
pub(super) async fn log_in(server: Arc<RsyncServer>, host: IpAddr, name: String, login: Login) -> Admission {
    let module = server.module(&name);
    let failed = || refuse(prologue::login_failed(&name), CloseReason::LoginFailed);
    let Some((place, module, rules)) =
        module.and_then(|(place, module)| Some((place, module, module.login.clone()?)))
    else {
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
        Ok(Ok(())) => admit(&server, place, module, host).await,
        Ok(Err(fault)) => {
            tracing::warn!(%host, module = name, user = %user.escape_debug(), %fault, "rsync: login failed");
            let detail = Some(format!(" for {user}: {fault}"));
            Admission { detail, ..failed() }
        }
        Err(_) => failed(),
    }
}

/// Waits for a turn, and pins the generation that is live then.
async fn admit(server: &RsyncServer, place: usize, module: &Module, host: IpAddr) -> Admission {
    let claim = Claim { address: host, module: place, module_max: module.max_connections };
    let slot = match server.slots.acquire(claim).await {
        Ok(slot) => slot,
        Err(limit) => {
            tracing::warn!(%host, module = module.name, limit = limit.as_str(), "rsync: no turn for a connection");
            let detail = Some(limit.number().to_string());
            let refused = refuse(prologue::connections_exhausted(limit.number()), CloseReason::Busy);
            return Admission { detail, ..refused };
        }
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
        dont_compress: module.dont_compress,
        numeric_ids: module.numeric_ids,
        records: SessionLog::records(server.journals[place].as_ref(), &module.log),
    };
    let pin = server.pins.enter(&generation, host);
    Admission {
        selection: Selection::Accepted(grant),
        pinned: Some(Pinned {
            generation,
            place,
            _in_use: server.figures.enter(&module.name),
            _pin: pin,
            _slot: slot,
        }),
        detail: None,
        host: HostName::default(),
    }
}
