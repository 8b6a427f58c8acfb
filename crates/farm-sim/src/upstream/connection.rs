//! One connection: read a request, send its answer, again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::answer::{self, Answer, Stop};
use super::log::Exchange;
use super::request::{self, Request};
use super::{Served, Shared};
use crate::contents::CHUNK_BYTES;

/// Serves `socket` until either side closes it.
pub(super) async fn run(socket: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    if shared.state().silent {
        return std::future::pending().await;
    }
    let mut connection = Connection { socket, peer, shared, buffer: Vec::new() };
    loop {
        match connection.exchange().await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::debug!(%peer, %error, "upstream stand-in: connection ended");
                return;
            }
        }
    }
}

struct Connection {
    socket: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    buffer: Vec<u8>,
}

impl Connection {
    /// One request and its answer. Says whether the connection lives on.
    async fn exchange(&mut self) -> io::Result<bool> {
        let Some(request) = request::read(&mut self.socket, &mut self.buffer).await? else {
            return Ok(false);
        };
        let (served, faults) = {
            let mut state = self.shared.state();
            (state.objects.get(&request.path).cloned(), state.faults.take(&request.path))
        };
        let number = self.shared.open_exchange(exchange(&request, self.peer, served.as_ref()));
        let Some(answer) = answer::decide(&request, served.as_ref().map(|served| &served.object), &faults)
        else {
            return std::future::pending().await;
        };
        self.shared.update_exchange(number, |exchange| exchange.status = answer.status);
        self.socket.write_all(&head(&answer)).await?;
        let has_body = request.method != "HEAD" && answer.status != 304;
        if has_body && !self.send_body(&answer, number).await? {
            return Ok(false);
        }
        self.shared.update_exchange(number, |exchange| exchange.complete = true);
        let close = answer.close || request.header("connection").is_some_and(|value| value == "close");
        if close {
            self.socket.shutdown().await?;
        }
        Ok(!close)
    }

    /// Says whether all of it was sent.
    async fn send_body(&mut self, answer: &Answer, number: usize) -> io::Result<bool> {
        let mut stop = answer.stop.clone();
        let mut offset = answer.start;
        while offset < answer.end {
            let sent = offset - answer.start;
            if let Some((_, how)) = stop.take_if(|(after, _)| sent >= *after) {
                match how {
                    Stop::Gate(gate) => gate.passed().await,
                    Stop::Silence => std::future::pending().await,
                    Stop::Close => {
                        self.socket.shutdown().await?;
                        return Ok(false);
                    }
                    Stop::Reset => {
                        self.socket.set_zero_linger()?;
                        return Ok(false);
                    }
                }
            }
            let mut most = (answer.end - offset).min(CHUNK_BYTES as u64);
            if let Some((after, _)) = &stop {
                most = most.min(after - sent);
            }
            if let Some(rate) = answer.rate_bytes_per_s {
                // Twenty pieces a second look like a steady stream.
                most = most.min((rate / 20).max(1));
            }
            let chunk = answer.body.chunk_at(offset, usize::try_from(most).unwrap_or(CHUNK_BYTES));
            let chunk = flipped(chunk, offset, answer.flip_at);
            self.socket.write_all(&chunk).await?;
            offset += chunk.len() as u64;
            self.shared.update_exchange(number, |exchange| exchange.bytes_sent += chunk.len() as u64);
            if let Some(rate) = answer.rate_bytes_per_s {
                let nanos = (chunk.len() as u64).saturating_mul(1_000_000_000) / rate;
                tokio::time::sleep(Duration::from_nanos(nanos)).await;
            }
        }
        Ok(true)
    }
}

fn flipped(chunk: Bytes, offset: u64, flip_at: Option<u64>) -> Bytes {
    let Some(at) = flip_at.filter(|at| (offset..offset + chunk.len() as u64).contains(at)) else {
        return chunk;
    };
    let mut octets = chunk.to_vec();
    if let Some(octet) = usize::try_from(at - offset).ok().and_then(|index| octets.get_mut(index)) {
        *octet ^= 0x01;
    }
    Bytes::from(octets)
}

fn exchange(request: &Request, peer: SocketAddr, served: Option<&Served>) -> Exchange {
    Exchange {
        peer,
        method: request.method.clone(),
        path: request.path.clone(),
        target: request.target.clone(),
        distfile: served.and_then(|served| served.distfile.clone()),
        range_start: request.range().and_then(|(first, _)| first),
        headers: request.headers.clone(),
        status: 0,
        bytes_sent: 0,
        complete: false,
    }
}

fn head(answer: &Answer) -> Vec<u8> {
    let reason = match answer.status {
        200 => "OK",
        206 => "Partial Content",
        302 => "Found",
        304 => "Not Modified",
        404 => "Not Found",
        416 => "Range Not Satisfiable",
        _ => "As Asked For",
    };
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(name);
        head.push_str(": ");
        head.push_str(value);
        head.push_str("\r\n");
    }
    if answer.close {
        head.push_str("Connection: close\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}
