//! What the end-to-end tests share: a farm of real processes, and the stock programs that use it.
//!
//! The tests drive the `rookery` program itself and judge by what stock clients end with. This crate
//! must not look inside a service. Start reading at [`farm::Farm`].

pub mod cache_check;
pub mod distfile;
pub mod false_clock;
pub mod farm;
pub mod https_sites;
pub mod portage;
pub mod program;
pub mod signed;
pub mod terminal;
