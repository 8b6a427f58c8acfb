//! The whole engine on real sockets, with answers that are made for the test.

use std::fs::File;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header::{CONTENT_LENGTH, HeaderValue};
use http_wire::multipart::Segment;
use service_kit::config::Networks;
use service_kit::proxy_protocol::{self, Socket};
use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;

use super::*;
use crate::http::body::{self, ResponseBody};
use crate::http::pace::{PaceMin, Paced};
use crate::http::selection::Selection;

const DEADLINE: Duration = Duration::from_secs(20);
/// Three megabytes through the smallest buffers take less on a busy machine.
const LONGEST: Duration = Duration::from_mins(5);
pub(in crate::http) const LIMITS: Limits =
    Limits { head: received::Limits { headers_max: 16, octets_max: 4000 }, head_timeout: DEADLINE };
pub(in crate::http) const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
const OLD: &[u8] = b"GET /a HTTP/1.0\r\n\r\n";

/// Serves one connection with `answer`, whose buffers are as small as the kernel lets them be, while `client` has its
/// other end: how ours ended, and what the client made of it.
pub(in crate::http) async fn between<A: Future<Output = Reply>, C: Future<Output = T>, T>(
    limits: Limits,
    answer: impl Fn(request::Parts) -> A,
    client: impl FnOnce(TcpStream) -> C,
) -> (Ended, T) {
    through(|socket| Box::new(socket), limits, answer, client).await
}

/// The same, with what `transport` makes of our end.
async fn through<A: Future<Output = Reply>, C: Future<Output = T>, T>(
    transport: impl FnOnce(Socket) -> Box<dyn Transport>,
    limits: Limits,
    answer: impl Fn(request::Parts) -> A,
    client: impl FnOnce(TcpStream) -> C,
) -> (Ended, T) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let end = TcpSocket::new_v4().unwrap();
    end.set_recv_buffer_size(1).unwrap();
    let end = end.connect(listener.local_addr().unwrap()).await.unwrap();
    let (socket, peer) = listener.accept().await.unwrap();
    socket2::SockRef::from(&socket).set_send_buffer_size(1).unwrap();
    let read = proxy_protocol::read(socket, peer, &Networks::default(), DEADLINE).await;
    let paced = Paced::new(transport(read.unwrap().socket), PaceMin { window: DEADLINE, bytes: 1 });
    let soft = CancellationToken::new();
    let serving = serve(paced, limits, &soft, |head, _| answer(head));
    tokio::time::timeout(LONGEST, async { tokio::join!(serving, client(end)) }).await.unwrap()
}

/// Sends `asked` and reads until the connection ends; `Err` if it is reset.
pub(in crate::http) async fn ask(mut socket: TcpStream, asked: &[u8]) -> (Vec<u8>, io::Result<()>) {
    let mut came = Vec::new();
    socket.write_all(asked).await.unwrap();
    let end = socket.read_to_end(&mut came).await;
    (came, end.map(drop))
}

fn octets(count: u32) -> Vec<u8> {
    (0..count).map(|at| u8::try_from((at ^ (at >> 8)) & 0xff).unwrap()).collect()
}

fn file(octets: &[u8]) -> Arc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(octets).unwrap();
    Arc::new(file)
}

/// An answer whose body the head announces `length` of.
fn announced(length: u64, body: ResponseBody) -> Reply {
    let mut reply = Reply::new(body);
    reply.headers_mut().insert(CONTENT_LENGTH, length.into());
    reply
}

fn body_of(answer: &[u8]) -> &[u8] {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    &answer[end + 4..]
}

/// Around the size up to which a part is copied, and the most that the kernel is asked for at once.
const SIZES: [u32; 7] = [1, 32 << 10, (32 << 10) + 1, 65_537, 1 << 20, (1 << 20) + 1, 3_000_001];

#[tokio::test]
async fn a_file_comes_whole_through_the_smallest_buffers() {
    for size in SIZES {
        let contents = octets(size);
        let make = |_| async {
            let whole = Selection::part(0..u64::from(size));
            announced(u64::from(size), body::file(file(&contents), whole))
        };
        let (ended, (came, end)) = between(LIMITS, make, |socket| ask(socket, GET)).await;
        assert!(matches!(ended, Ended::Closed) && end.is_ok(), "{size}: {ended}");
        assert!(body_of(&came) == contents, "{size}: other octets came");
    }
}

#[tokio::test]
async fn parts_with_text_between_them_come_in_order() {
    let contents = octets(300_000);
    let parts = [0..10_u64, 5..200_000, 299_990..300_000, 100..50_000];
    let (mut segments, mut expected) = (Vec::new(), Vec::new());
    for part in &parts {
        let text = format!("--{part:?}\r\n");
        expected.extend_from_slice(text.as_bytes());
        expected.extend_from_slice(
            &contents[usize::try_from(part.start).unwrap()..usize::try_from(part.end).unwrap()],
        );
        segments.extend([Segment::Text(text), Segment::Bytes(part.clone())]);
    }
    segments.push(Segment::Text("end".to_owned()));
    expected.extend_from_slice(b"end");
    let make = |_| async {
        let parts = Selection::parts(segments.clone());
        announced(expected.len() as u64, body::file(file(&contents), parts))
    };
    let (_, (came, end)) = between(LIMITS, make, |socket| ask(socket, GET)).await;
    assert!(end.is_ok() && body_of(&came) == expected);
}

#[tokio::test]
async fn a_file_that_is_shorter_than_its_head_says_breaks_the_connection() {
    for said in SIZES {
        for there in [0, said / 2, said - 1] {
            let contents = octets(there);
            let make = |_| async {
                let whole = Selection::part(0..u64::from(said));
                announced(u64::from(said), body::file(file(&contents), whole))
            };
            let again = [&GET[..23], b"\r\n\r\n", GET].concat();
            let (ended, (came, _)) = between(LIMITS, make, |socket| ask(socket, &again)).await;
            assert!(matches!(ended, Ended::Broken(_)), "{there} of {said}: {ended}");
            assert!(
                came.is_empty() || contents.starts_with(body_of(&came)),
                "{there} of {said}: it was padded"
            );
        }
    }
}

#[tokio::test]
async fn a_file_that_becomes_shorter_while_it_is_sent_breaks_the_connection() {
    let contents = octets(3_000_000);
    let shrinking = file(&contents);
    let make = |_| async {
        let whole = Selection::part(0..contents.len() as u64);
        announced(contents.len() as u64, body::file(Arc::clone(&shrinking), whole))
    };
    let client = async |mut socket: TcpStream| {
        socket.write_all(GET).await.unwrap();
        let mut came = vec![0; 4000];
        socket.read_exact(&mut came).await.unwrap();
        shrinking.set_len(1_500_000).unwrap();
        drop(socket.read_to_end(&mut came).await);
        came
    };
    let (ended, came) = between(LIMITS, make, client).await;
    assert!(matches!(ended, Ended::Broken(_)), "{ended}");
    let came = body_of(&came);
    assert!(came.len() <= 1_500_000 && contents.starts_with(came));
}

fn pieces(pieces: &'static [Result<&'static [u8], io::ErrorKind>]) -> ResponseBody {
    body::stream(stream::iter(pieces.iter().map(|piece| match piece {
        Ok(octets) => Ok(Bytes::from_static(octets)),
        Err(kind) => Err(io::Error::from(*kind)),
    })))
}

const BREAKS: &[Result<&[u8], io::ErrorKind>] = &[Ok(b"abc"), Err(io::ErrorKind::BrokenPipe)];

#[tokio::test]
async fn a_body_that_breaks_never_looks_whole() {
    let chunked = between(LIMITS, |_| async { Reply::new(pieces(BREAKS)) }, |socket| ask(socket, GET)).await;
    assert!(matches!(chunked.0, Ended::Broken(_)));
    assert_eq!(body_of(&chunked.1.0), b"3\r\nabc");
    let of_length = |_| async { announced(4, pieces(BREAKS)) };
    let (_, (came, _)) = between(LIMITS, of_length, |socket| ask(socket, GET)).await;
    assert_eq!(body_of(&came), b"abc");
    // Its end would be the only sign that all has come.
    let (ended, (_, end)) =
        between(LIMITS, |_| async { Reply::new(pieces(BREAKS)) }, |socket| ask(socket, OLD)).await;
    assert!(matches!(ended, Ended::Broken(_)));
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_body_of_another_length_than_announced_breaks_the_connection() {
    const WHOLE: &[Result<&[u8], io::ErrorKind>] = &[Ok(b"ab"), Ok(b""), Ok(b"cd")];
    for (length, sent, is_whole) in [(4, &b"abcd"[..], true), (5, b"abcd", false), (3, b"ab", false)] {
        let make = |_| async move { announced(length, pieces(WHOLE)) };
        let (ended, (came, _)) = between(LIMITS, make, |socket| ask(socket, GET)).await;
        assert_eq!(body_of(&came), sent);
        assert_eq!(matches!(ended, Ended::Closed), is_whole, "{length}: {ended}");
    }
}

#[tokio::test]
async fn head_has_no_body_whatever_the_answer_is_made_of() {
    let contents = octets(100_000);
    for kind in 0..4 {
        let make = |_| async {
            match kind {
                0 => announced(9, pieces(BREAKS)),
                1 => announced(100_000, body::file(file(&contents), Selection::part(0..100_000))),
                2 => Reply::new(body::full("abc")),
                _ => Reply::new(body::empty()),
            }
        };
        let asked = b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\nHEAD /a HTTP/1.0\r\n\r\n";
        let (ended, (came, end)) = between(LIMITS, make, |socket| ask(socket, asked)).await;
        let text = String::from_utf8(came).unwrap();
        let heads: Vec<&str> = text.split_terminator("\r\n\r\n").collect();
        assert!(heads.len() == 2 && heads.iter().all(|head| head.starts_with("HTTP/1.")), "{text}");
        assert!(matches!(ended, Ended::Closed) && end.is_ok(), "{ended}");
    }
}

#[tokio::test]
async fn what_has_no_body_has_no_framing() {
    for status in [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED] {
        let make = |_| async {
            let mut reply = announced(7, pieces(BREAKS));
            *reply.status_mut() = status;
            reply
        };
        let (_, (came, _)) = between(LIMITS, make, |socket| ask(socket, GET)).await;
        let text = String::from_utf8(came).unwrap();
        assert!(
            text.ends_with("\r\n\r\n") && !text.contains("content-length") && !text.contains("chunked"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn nothing_behind_a_fault_is_answered() {
    for (fault, status) in [
        (&b"GET /a HTTP/1.1\nHost: x\r\n\r\n"[..], "400"),
        (b"GET /a HTTP/1.1\r\nHost: x\r\n y\r\n\r\n", "400"),
        (b"GET /a HTTP/1.1\r\nHost : x\r\n\r\n", "400"),
        (b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        (b"GET /a HTTP/2.0\r\nHost: x\r\n\r\n", "505"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
        (&[b"GET /a HTTP/1.1\r\n", &b"a: b\r\n".repeat(17)[..], b"\r\n"].concat(), "431"),
        (&[b"GET /", &[b'a'; 5000][..], b" HTTP/1.1\r\n\r\n"].concat(), "431"),
    ] {
        let asked = AtomicUsize::new(0);
        let make = |_| async {
            asked.fetch_add(1, Ordering::Relaxed);
            Reply::new(body::full("abc"))
        };
        let stream = [b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", fault, GET].concat();
        let (ended, (came, end)) = between(LIMITS, make, |socket| ask(socket, &stream)).await;
        let text = String::from_utf8(came).unwrap();
        assert!(matches!(ended, Ended::Refused(_)) && end.is_ok(), "{ended}");
        assert_eq!((asked.into_inner(), text.matches("HTTP/1.1 ").count()), (1, 2), "{text}");
        assert!(
            text.contains(&format!("HTTP/1.1 {status} ")) && text.contains("connection: close"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn who_says_all_and_listens_is_answered_and_who_goes_is_not_waited_for() {
    let make = |_| async {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        Reply::new(body::full("abc"))
    };
    let half_closed = async |mut socket: TcpStream| {
        socket.write_all(&[&GET[..23], b"\r\n\r\n", &GET[..23], b"\r\n\r\n"].concat()).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut came = Vec::new();
        socket.read_to_end(&mut came).await.unwrap();
        String::from_utf8(came).unwrap()
    };
    let (_, text) = between(LIMITS, make, half_closed).await;
    assert_eq!(text.matches("\r\n\r\nabc").count(), 2, "{text}");
    let never = |_| std::future::pending::<Reply>();
    for says_all in [false, true] {
        let gone = async |mut socket: TcpStream| {
            socket.write_all(GET).await.unwrap();
            if says_all {
                socket.shutdown().await.unwrap();
            }
            // Closed, it is reset.
            socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        };
        let (ended, ()) = between(LIMITS, never, gone).await;
        assert!(matches!(ended, Ended::Closed), "{says_all}: {ended}");
    }
}

#[tokio::test]
async fn who_says_all_gets_what_comes_later_too() {
    let said_all = Notify::new();
    let later = Arc::new(Notify::new());
    let make = |_| async {
        let later = Arc::clone(&later);
        let rest = stream::once(async move {
            later.notified().await;
            Ok(Bytes::from_static(b"cd"))
        });
        announced(4, body::stream(stream::iter([Ok(Bytes::from_static(b"ab"))]).chain(rest)))
    };
    let half_closed = async |mut socket: TcpStream| {
        socket.write_all(GET).await.unwrap();
        let mut came = Vec::new();
        while !came.ends_with(b"ab") {
            assert!(socket.read_buf(&mut came).await.unwrap() > 0);
        }
        socket.shutdown().await.unwrap();
        said_all.notify_one();
        socket.read_to_end(&mut came).await.unwrap();
        came
    };
    let serving = between(LIMITS, make, half_closed);
    let waiting = async {
        said_all.notified().await;
        // Time and again the other side has its turn, and sees the end of what the client says.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        later.notify_one();
    };
    let ((ended, came), ()) = tokio::join!(serving, waiting);
    assert!(matches!(ended, Ended::Closed), "{ended}");
    assert_eq!(body_of(&came), b"abcd");
}

/// As TLS does, it keeps what is written until somebody asks it to let that go.
#[derive(Debug)]
struct Keeping(BufWriter<Socket>);

impl Transport for Keeping {
    fn plain(&self) -> Option<&TcpStream> {
        None
    }

    fn socket(&self) -> &TcpStream {
        self.0.get_ref().get_ref()
    }
}

impl AsyncRead for Keeping {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Keeping {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_client_has_all_that_came_before_anybody_waits_for_more() {
    for length in [None, Some(8)] {
        let more = Arc::new(Notify::new());
        let make = |_| async {
            let asked_for = Arc::clone(&more);
            let second = stream::once(async move {
                asked_for.notified().await;
                Ok(Bytes::from_static(b"more"))
            });
            let body = body::stream(stream::iter([Ok(Bytes::from_static(b"some"))]).chain(second));
            match length {
                None => Reply::new(body),
                Some(length) => announced(length, body),
            }
        };
        let reading = async |mut socket: TcpStream| {
            let mut came = Vec::new();
            socket.write_all(GET).await.unwrap();
            while !came.windows(4).any(|window| window == b"some") {
                assert_ne!(socket.read_buf(&mut came).await.unwrap(), 0);
            }
            more.notify_one();
            socket.read_to_end(&mut came).await.unwrap();
            came
        };
        let keeping = |socket| -> Box<dyn Transport> { Box::new(Keeping(BufWriter::new(socket))) };
        let (ended, came) = through(keeping, LIMITS, make, reading).await;
        assert!(matches!(ended, Ended::Closed), "{ended}");
        assert!(came.windows(4).any(|window| window == b"more"));
    }
}

#[tokio::test]
async fn who_goes_in_the_middle_is_noticed_by_what_is_sent_to_it() {
    let make = |_| async {
        let ticks = stream::unfold((), |()| async {
            tokio::task::yield_now().await;
            Some((Ok(Bytes::from_static(&[7; 100])), ()))
        });
        Reply::new(body::stream(ticks))
    };
    let going = async |mut socket: TcpStream| {
        socket.write_all(GET).await.unwrap();
        socket.read_exact(&mut [0; 100]).await.unwrap();
    };
    let (ended, ()) = between(LIMITS, make, going).await;
    assert!(matches!(ended, Ended::Broken(_)), "{ended}");
}

#[tokio::test]
async fn a_head_has_its_time_however_its_octets_drip() {
    let limits = Limits { head_timeout: Duration::from_millis(300), ..LIMITS };
    let make = |_| async { Reply::new(body::full("abc")) };
    let dripping = async |mut socket: TcpStream| {
        // For ever, if nobody ends it.
        loop {
            if socket.write_all(b"X").await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (ended, ()) = between(limits, make, dripping).await;
    assert!(matches!(ended, Ended::Idle), "{ended}");
}

#[tokio::test]
async fn what_an_answer_says_of_the_connection_is_not_passed_on() {
    let make = |_| async {
        let mut reply = Reply::new(body::full("abc"));
        for (name, value) in
            [("transfer-encoding", "gzip, chunked"), ("content-length", "7"), ("connection", "x-a")]
        {
            reply.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        reply
    };
    let (_, (came, _)) = between(LIMITS, make, |socket| ask(socket, GET)).await;
    let text = String::from_utf8(came).unwrap();
    assert!(!text.contains("transfer-encoding") && text.contains("content-length: 3\r\n"), "{text}");
    assert!(text.ends_with("connection: close\r\n\r\nabc") && !text.contains("x-a"), "{text}");
}
