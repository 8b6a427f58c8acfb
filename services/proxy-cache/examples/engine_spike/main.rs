//! Which HTTP engine serves plain hits best? The candidates, each doing what a hit needs and nothing else;
//! `cargo xtask bench proxy` runs them beside nginx and the product itself.
//!
//! ```sh
//! cargo run --release -p proxy-cache --example engine_spike -- hyper-file|hyper-mapped|sendfile DIR WORKERS
//! ```
//!
//! Serves the files of DIR by name on a loopback port that it prints. It must not become a product: no limits,
//! no ranges, no time-outs.

#![allow(clippy::print_stdout, reason = "the address is for the program that measures")]
#![allow(clippy::disallowed_methods, reason = "a process of its own, that is killed")]

mod files;
mod hyper_engine;
mod sendfile;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use files::Files;
use tokio::net::TcpListener;

#[derive(Debug, Clone, Copy)]
enum Engine {
    HyperFile,
    HyperMapped,
    Sendfile,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, dir, workers] = &arguments[..] else { bail!("ENGINE DIR WORKERS is expected") };
    let engine = match engine.as_str() {
        "hyper-file" => Engine::HyperFile,
        "hyper-mapped" => Engine::HyperMapped,
        "sendfile" => Engine::Sendfile,
        other => bail!("there is no engine {other}"),
    };
    let workers = workers.parse().context("WORKERS")?;
    let files = Arc::new(Files::open(Path::new(dir))?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    runtime.block_on(serve(engine, files))
}

async fn serve(engine: Engine, files: Arc<Files>) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let files = Arc::clone(&files);
        // A client that is gone is no error.
        tokio::spawn(async move {
            match engine {
                Engine::HyperFile => drop(hyper_engine::serve(socket, files, false).await),
                Engine::HyperMapped => drop(hyper_engine::serve(socket, files, true).await),
                Engine::Sendfile => drop(sendfile::serve(socket, files).await),
            }
        });
    }
}
