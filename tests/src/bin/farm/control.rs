//! How the test asks a part of the farm from inside its container: one line there, one answer back.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9000);

/// Answers each line with what `obey` says, until SIGTERM.
pub(crate) async fn listen(obey: impl Fn(&[&str]) -> Result<String>) -> Result<()> {
    let listener = TcpListener::bind(ADDRESS).await?;
    // PID 1 of a container ignores what it does not handle.
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    loop {
        let (mut socket, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = terminate.recv() => return Ok(()),
        };
        let mut line = String::new();
        BufReader::new(&mut socket).read_line(&mut line).await?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = obey(&words).unwrap_or_else(|error| format!("error: {error:#}"));
        socket.write_all(answer.as_bytes()).await?;
    }
}

/// Says `line` to whoever listens in this container.
pub(crate) async fn say(line: &str) -> Result<String> {
    let mut socket = TcpStream::connect(ADDRESS).await.context("nobody listens in this container")?;
    socket.write_all(format!("{line}\n").as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    anyhow::ensure!(!answer.starts_with("error: "), "{answer}");
    Ok(answer)
}
