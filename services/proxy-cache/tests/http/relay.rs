//! A TCP relay that holds its connections back until it is told to let them through.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farm_sim::upstream::Gate;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Stands before `target` at an address of its own.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Relay {
    #[allow(clippy::disallowed_methods, reason = "a test's own little server")]
    pub(crate) async fn start(target: SocketAddr, gate: Gate) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let accepting = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let gate = gate.clone();
                drop(tokio::spawn(async move {
                    gate.passed().await;
                    if let Ok(mut far) = TcpStream::connect(target).await {
                        // Whichever side breaks it, the other one sees it.
                        drop(copy_bidirectional(&mut near, &mut far).await);
                    }
                }));
            }
        });
        Self { address, connections, accepting }
    }

    /// How many have come, held back or not.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}
