//! The daemon against the stock rsync client.

mod bench;
mod crowd;
mod stock;
mod strangers;
