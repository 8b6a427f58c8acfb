//! An origin that answers octet for octet as it is told: for what a well-behaved stand-in can't be made to say.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use farm_sim::upstream::Gate;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// One answer: its octets, then the end of the connection.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    before: Vec<u8>,
    /// What is held back until the gate opens.
    after: Option<(Gate, Vec<u8>)>,
}

impl Script {
    pub(crate) fn new(octets: &str) -> Self {
        Self { before: octets.as_bytes().to_vec(), after: None }
    }

    /// A 200 with a length.
    pub(crate) fn ok(headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::new(&format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {length}\r\n\r\n{body}"))
    }

    pub(crate) fn status(status: u16, headers: &str) -> Self {
        Self::new(&format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: 0\r\n\r\n"))
    }

    pub(crate) fn then(mut self, gate: &Gate, octets: &str) -> Self {
        self.after = Some((gate.clone(), octets.as_bytes().to_vec()));
        self
    }
}

#[derive(Debug, Default)]
struct State {
    answers: VecDeque<Script>,
    requests: Vec<String>,
}

/// It stops when the test's runtime does.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Origin {
    /// Gives each answer once, in order; when there is none left, it closes without a word.
    pub(crate) async fn start(answers: impl IntoIterator<Item = Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state =
            Arc::new(Mutex::new(State { answers: answers.into_iter().collect(), requests: Vec::new() }));
        let shared = Arc::clone(&state);
        let mut tasks = tokio::task::JoinSet::new();
        #[allow(clippy::disallowed_methods, reason = "it ends with the test")]
        drop(tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tasks.spawn(answer(socket, Arc::clone(&shared)));
            }
        }));
        Self { address, state }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn push(&self, answer: Script) {
        self.state.lock().unwrap().answers.push_back(answer);
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }
}

async fn answer(mut socket: TcpStream, state: Arc<Mutex<State>>) {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if socket.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let script = {
        let mut state = state.lock().unwrap();
        state.requests.push(String::from_utf8_lossy(&head).into_owned());
        state.answers.pop_front()
    };
    let Some(Script { before, after }) = script else { return };
    drop(socket.write_all(&before).await);
    if let Some((gate, octets)) = after {
        gate.passed().await;
        drop(socket.write_all(&octets).await);
    }
    drop(socket.shutdown().await);
    // Closed with something unread, it would be reset.
    while socket.read(&mut [0; 256]).await.unwrap_or(0) > 0 {}
}
