//! The daemon against the stock rsync client.

mod bench;
mod stock;
mod strangers;
