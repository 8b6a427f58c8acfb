//! Finding out that whoever is at the other end of a connection is gone without a word.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// How long nothing goes either way before the other side is asked whether it is still there. Short enough that firewalls
/// between (five minutes is the shortest that is common) keep the connection; long enough that a thousand idle ones cost
/// nothing.
const IDLE: Duration = Duration::from_mins(1);
/// Between two questions: a box that was only unplugged for a moment answers one of the next.
const INTERVAL: Duration = Duration::from_secs(15);
/// Questions without an answer after which it is gone: two minutes after the last that was heard of it.
const PROBES_MAX: u32 = 4;

/// Has the kernel ask, so that a box that lost power ends its connection although nothing is sent to it: reads fail with
/// `ETIMEDOUT` then. What is sent and never acknowledged is found out without it.
///
/// # Errors
/// The system doesn't want to.
pub fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let params = TcpKeepalive::new().with_time(IDLE).with_interval(INTERVAL).with_retries(PROBES_MAX);
    SockRef::from(stream).set_tcp_keepalive(&params)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_accepted_connection_is_asked_for_signs_of_life() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let socket = SockRef::from(&accepted);
        assert!(!socket.keepalive().unwrap(), "the test would show nothing");
        keep_alive(&accepted).unwrap();
        assert!(socket.keepalive().unwrap());
        let told =
            (socket.tcp_keepalive_time(), socket.tcp_keepalive_interval(), socket.tcp_keepalive_retries());
        assert_eq!((told.0.unwrap(), told.1.unwrap(), told.2.unwrap()), (IDLE, INTERVAL, PROBES_MAX));
    }
}
