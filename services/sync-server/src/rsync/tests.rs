//! The daemon against the stock rsync client.

mod bench;
mod crowd;
mod matrix;
mod stock;
mod strangers;
