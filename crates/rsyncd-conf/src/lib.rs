//! The format of rsyncd.conf(5), and what its parameters mean for a server that only sends.
//!
//! Start reading at [`RsyncdConf::parse`]. `lines` joins and classifies lines, `load` follows sections, defaults and
//! `&include`, `parameter` says of each known parameter whether it is honoured, stricter here, or refused, and
//! `module` and `globals` turn texts into values. [`hosts`], [`auth`], [`secrets`], [`filter`], [`refuse`] and
//! [`log_format`] are the little languages inside those values.
//!
//! It must not open files, look up names or read the environment: the caller's [`Surroundings`] do.

pub mod auth;
mod expand;
pub mod filter;
mod globals;
pub mod hosts;
mod lines;
mod load;
pub mod log_format;
mod module;
mod parameter;
mod place;
pub mod refuse;
pub mod secrets;
mod section;
pub mod syslog;
mod value;

pub use globals::Globals;
pub use load::{Found, RsyncdConf, Surroundings};
pub use module::Module;
pub use parameter::{PARAMETERS, Parameter, Scope, Treatment};
pub use place::{Fault, Note, Place};
