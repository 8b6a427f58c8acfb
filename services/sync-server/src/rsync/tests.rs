//! The daemon against the stock rsync client.

mod bench;
mod crowd;
mod figures;
mod login;
mod matrix;
mod proxied;
mod stock;
mod strangers;
