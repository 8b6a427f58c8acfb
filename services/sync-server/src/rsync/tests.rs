//! The daemon against the stock rsync client.

mod bench;
mod crowd;
mod figures;
mod filters;
mod login;
mod matrix;
mod proxied;
mod stock;
mod strangers;
