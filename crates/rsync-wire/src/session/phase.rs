//! Where a connection is, and how it ended.

use crate::login::{AuthDigest, Scheme};
use crate::mux::FrameReader;
use crate::setup::Exchange;
use crate::transfer::{Records, RequestReader};
use crate::{FileList, WireError};
use std::sync::Arc;
use std::time::Instant;

/// The phases of a connection.
#[derive(Debug)]
pub(super) enum Phase {
    Greeting,
    Request,
    EarlyInput {
        left: usize,
    },
    AwaitingModules,
    AwaitingModule,
    /// The challenge was sent.
    Login {
        scheme: Scheme,
        challenge: String,
    },
    AwaitingLogin,
    Arguments {
        secluded: bool,
    },
    Names(Exchange),
    Filters(Box<crate::filter::FilterList>),
    FilesFrom(Box<FilesFrom>),
    AwaitingList,
    /// An empty list ends the talk; the client may still report its exit code.
    EmptyList {
        until: Instant,
    },
    Loop(Box<LoopState>),
    /// The client has said its last word, or one that can't be; what it asked for before is still answered.
    Finishing(Ending),
    Closed,
}

/// What comes after the last reply.
#[derive(Debug)]
pub(super) enum Ending {
    /// Nothing: all was said.
    Complete,
    /// The client is told what it did wrong.
    Failed(WireError),
}

/// How the client's octets are to be read.
#[derive(Debug)]
pub(super) enum Incoming {
    /// Up to the seed: lines, arguments, names.
    Unframed,
    /// Before protocol 30 only the server frames what it says.
    Plain,
    /// Frames.
    Framed(FrameReader),
}

impl Incoming {
    /// Whether we speak in frames by now, whatever the client does.
    pub(super) fn is_after_setup(&self) -> bool {
        !matches!(self, Self::Unframed)
    }
}

/// A list of names in the making.
#[derive(Debug)]
pub(super) struct FilesFrom {
    pub(super) filters: crate::filter::FilterList,
    pub(super) base: crate::options::SourcePath,
    pub(super) sources: Vec<crate::options::SourcePath>,
    pub(super) octets: usize,
}

/// The reading side of the transfer loop and the goodbye.
#[derive(Debug)]
pub(super) struct LoopState {
    /// What requests refer to.
    pub(super) list: Arc<FileList>,
    pub(super) reader: RequestReader,
    /// How often the client ended a phase (11.1): 3 ends the loop, 5 the connection, or 4 before
    /// protocol 31.
    pub(super) done: u8,
    pub(super) deletion_stats: u8,
    pub(super) transfers: usize,
}

impl Phase {
    pub(super) fn is_handshake(&self) -> bool {
        matches!(
            self,
            Self::Greeting
                | Self::Request
                | Self::EarlyInput { .. }
                | Self::AwaitingModules
                | Self::AwaitingModule
                | Self::Login { .. }
                | Self::AwaitingLogin
                | Self::Arguments { .. }
                | Self::Names(_)
        )
    }

    /// Whether the owner decides about the client, which may take a while.
    pub(super) fn waits_for_admission(&self) -> bool {
        matches!(self, Self::AwaitingModule | Self::AwaitingLogin)
    }

    pub(super) fn is_loop(&self) -> bool {
        matches!(self, Self::Loop(_) | Self::Finishing(_))
    }
}

/// Looks for an option that a module refuses among a client's arguments, up to the `.`: as it is shown.
pub type Refuses = Arc<dyn Fn(&[Vec<u8>]) -> Option<String> + Send + Sync>;

/// How a module may be used.
#[derive(Clone, Default)]
pub struct Grant {
    /// The module's timeout in seconds; 0 for none.
    pub timeout_s: u32,
    /// What it does not grant beyond what this crate refuses.
    pub refuses: Option<Refuses>,
    /// Contents are not compressed for clients that use zlib.
    pub dont_compress: bool,
    /// Users and groups are sent as numbers alone, as if the client had asked for that.
    pub numeric_ids: bool,
    /// What batches tell a log ([`crate::Batch::take_records`]).
    pub records: Records,
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant").field("timeout_s", &self.timeout_s).finish_non_exhaustive()
    }
}

/// What a client has to answer to log in.
#[derive(Debug, Clone)]
pub struct Challenge {
    /// Random octets as text ([`crate::login::challenge_text`]): whoever can guess them can collect answers
    /// beforehand.
    pub text: String,
    /// The weakest digest that will do.
    pub weakest: Option<AuthDigest>,
}

/// The answer to [`crate::Command::SelectModule`] and [`crate::Command::CheckLogin`].
#[derive(Debug, Clone)]
pub enum Selection {
    /// The client may go on.
    Accepted(Grant),
    /// It has to log in first.
    LogIn(Challenge),
    /// It may not.
    Refused {
        /// The line to answer with, its end included: see [`crate::prologue`].
        line: String,
        /// Why.
        reason: CloseReason,
    },
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// All was said and done.
    Complete,
    /// The modules were listed.
    ModulesListed,
    /// Nothing was to be sent.
    EmptyList,
    /// There is no such module, or this host must not know.
    UnknownModule,
    /// This host may not.
    AccessDenied,
    /// The client could not log in.
    LoginFailed,
    /// All connections are in use.
    Busy,
    /// The module has no generation to serve yet.
    NoGeneration,
    /// The first line was none of ours, or too old.
    StartupError,
    /// The client wants what this server does not do.
    Refused,
    /// The client broke the protocol or a limit.
    ProtocolError,
    /// The client gave up, with a code or without.
    ClientError,
    /// The client closed the connection.
    ClientClosed,
    /// The client took too long to say what it wants.
    HandshakeTimeout,
    /// Silence for too long.
    IdleTimeout,
    /// Something broke here.
    ServerFault,
}

impl CloseReason {
    /// A name for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ModulesListed => "modules_listed",
            Self::EmptyList => "empty_list",
            Self::UnknownModule => "unknown_module",
            Self::AccessDenied => "access_denied",
            Self::LoginFailed => "login_failed",
            Self::Busy => "busy",
            Self::NoGeneration => "no_generation",
            Self::StartupError => "startup_error",
            Self::Refused => "refused",
            Self::ProtocolError => "protocol_error",
            Self::ClientError => "client_error",
            Self::ClientClosed => "client_closed",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::ServerFault => "server_fault",
        }
    }
}
