//! The HTTP port.
//!
//! [`server`] accepts and limits, [`engine`] speaks HTTP, [`router`] decides what a request is, [`distfile`]
//! serves hits and misses, [`forward`] is the forward role, [`body`] is what an answer carries.
//! Nothing here talks to maintenance, and nothing here knows where a blob is on the disk.

mod alias;
pub(crate) mod body;
mod buffers;
mod cache_status;
mod checked;
mod client_files;
mod clients;
mod distfile;
mod engine;
mod file_reply;
mod forward;
pub(crate) mod lookup;
mod pace;
mod passthrough;
mod reply;
mod request;
mod router;
mod selection;
pub(crate) mod server;
mod tally;
mod tunnel;
mod uncatalogued;
pub(crate) mod window;

pub(crate) use alias::trimmed as alias_prefix;
pub(crate) use tunnel::Tunnels;
pub(crate) use uncatalogued::KeptResponses;
