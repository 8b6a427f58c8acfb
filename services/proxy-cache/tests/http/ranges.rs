//! Several ranges in one request.

use std::process::Command;

use farm_sim::upstream::Upstream;

use crate::replica::{Answer, Client, File, Held, Replica, config, know, named, until};

const SIZE: usize = 1_300_000;

async fn stored(dir: &std::path::Path) -> (Replica, Upstream, File) {
    let upstream = Upstream::start().await.unwrap();
    let file = File::new("a-1.tar", SIZE as u64);
    upstream.put(&file.mirror_path(), file.object());
    know(dir, "gentoo", &[&file]).await;
    let replica = Replica::start(config(dir, &[&upstream])).await;
    replica.get(&file.mirror_path()).await.assert_is(&file);
    until("stored", || named(dir) == [file.name.clone()]).await;
    (replica, upstream, file)
}

/// The body that RFC 9110, section 14.6, asks for.
fn expected(answer: &Answer, bytes: &[u8], parts: &[(usize, usize)]) -> Vec<u8> {
    let content_type = answer.header("content-type").unwrap();
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let mut body = Vec::new();
    for (number, (first, last)) in parts.iter().enumerate() {
        let before = if number == 0 { "" } else { "\r\n" };
        let head = format!(
            "{before}--{boundary}\r\nContent-Type: application/octet-stream\r\n\
             Content-Range: bytes {first}-{last}/{}\r\n\r\n",
            bytes.len()
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&bytes[*first..=*last]);
    }
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    body
}

#[track_caller]
fn assert_parts(answer: &Answer, bytes: &[u8], parts: &[(usize, usize)]) {
    assert_eq!((answer.status, answer.header("content-range")), (206, None));
    assert!(answer.complete, "the length is wrong, or the connection broke");
    assert!(answer.body == expected(answer, bytes, parts), "{parts:?}");
}

#[tokio::test]
async fn several_ranges_come_in_one_answer_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let (replica, upstream, file) = stored(dir.path()).await;
    let bytes = file.bytes();
    for (range, parts) in [
        ("bytes=0-1,5-6", &[(0, 1), (5, 6)][..]),
        ("bytes=-3,0-0, 700000-", &[(SIZE - 3, SIZE - 1), (0, 0), (700_000, SIZE - 1)]),
        ("bytes=0-599999,600000-1299999", &[(0, 599_999), (600_000, SIZE - 1)]),
        ("bytes=10-20,15-25,9999999-", &[(10, 20), (15, 25)]),
    ] {
        let answer = replica.get_range("/distfiles/a-1.tar", range).await;
        assert_parts(&answer, &bytes, parts);
        assert!(answer.header("etag").is_some());
    }
    let head = replica.ask("HEAD", "/distfiles/a-1.tar", &[("Range", "bytes=0-1,5-6")]).await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("1300000")));
    assert_eq!(upstream.total().requests, 1);
}

#[tokio::test]
async fn ranges_that_cost_more_than_the_file_get_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (replica, _upstream, file) = stored(dir.path()).await;
    let many: Vec<String> = (0..1000).map(|number| format!("{number}-{number}")).collect();
    // CVE-2011-3192: 5-0,5-1,5-2,… of one file in one request.
    let overlapping: Vec<String> = (0..60).map(|number| format!("{number}-")).collect();
    for specs in [many, overlapping] {
        replica.get_range("/distfiles/a-1.tar", &format!("bytes={}", specs.join(","))).await.assert_is(&file);
    }
}

#[tokio::test]
async fn parts_of_a_growing_file_come_as_soon_as_they_are_there() {
    let held = Held::start("large-1.tar", 3_000_000, 1_500_000).await;
    let Held { upstream, file, gate, replica, .. } = &held;
    let ranges = [("Range", "bytes=1000-200999,-500,0-999")];
    let mut client = Client::send(replica, "GET", &file.mirror_path(), &ranges).await;
    client.head().await;
    client.body_bytes(200_000).await;
    gate.open();
    let answer = client.rest().await;
    assert_parts(&answer, &file.bytes(), &[(1000, 200_999), (2_999_500, 2_999_999), (0, 999)]);
    assert_eq!(upstream.total().requests, 1);
}

#[tokio::test]
async fn curl_gets_the_bytes_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (replica, _upstream, file) = stored(dir.path()).await;
    let (url, bytes) = (replica.url("/distfiles/a-1.tar"), file.bytes());
    let curl = async |range: &'static str| {
        let url = url.clone();
        let run = move || {
            let options = ["--silent", "--show-error", "--fail", "--noproxy", "*", "--include", "--range"];
            Command::new("curl").args(options).args([range, &url]).output().unwrap()
        };
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let at = output.stdout.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&output.stdout[..at]).into_owned();
        assert!(head.starts_with("HTTP/1.1 206 "), "{head}");
        let headers = head.lines().filter_map(|line| line.split_once(": "));
        Answer {
            status: 206,
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            body: output.stdout[at + 4..].to_vec(),
            complete: true,
        }
    };
    assert_parts(&curl("100-299,500000-500099").await, &bytes, &[(100, 299), (500_000, 500_099)]);
    for (range, part) in [("0-9", 0..10), ("1299000-", 1_299_000..SIZE), ("-77", SIZE - 77..SIZE)] {
        assert!(curl(range).await.body == bytes[part], "{range}");
    }
}
