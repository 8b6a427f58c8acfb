//! The few lines of HTTP/1.0 that a box needs where no wget is installed.

use std::path::Path;
use std::time::Duration;

use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::BoxError;
use super::wget::USER_AGENT;

/// wget's `-T 60`.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// No honest server sends more header lines.
const HEADERS_MAX: usize = 100;

struct Head {
    status: u16,
    length: Option<u64>,
}

/// Downloads `url` (`http://HOST:PORT/PATH`) to `path`; with `resume`, from where it ends.
pub(super) async fn download(url: &str, path: &Path, resume: bool) -> Result<(), BoxError> {
    let fail = |what: String| BoxError::Http { url: url.to_owned(), what };
    let rest = url.strip_prefix("http://").ok_or_else(|| fail("not an http URL".to_owned()))?;
    let (authority, target) = rest.split_once('/').ok_or_else(|| fail("no path".to_owned()))?;
    let mut file = OpenOptions::new().create(true).append(true).open(path).await?;
    if !resume {
        file.set_len(0).await?;
    }
    let offset = file.metadata().await?.len();
    let socket = timed(TcpStream::connect(authority)).await?;
    let mut socket = BufReader::new(socket);
    let range = if offset > 0 { format!("Range: bytes={offset}-\r\n") } else { String::new() };
    let request = format!(
        "GET /{target} HTTP/1.0\r\nHost: {authority}\r\nUser-Agent: {USER_AGENT}\r\n\
         Accept-Encoding: identity\r\nConnection: close\r\n{range}\r\n"
    );
    socket.get_mut().write_all(request.as_bytes()).await?;
    let head = read_head(&mut socket).await?;
    match head.status {
        200 => file.set_len(0).await?,
        206 if offset > 0 => {}
        status => return Err(fail(format!("status {status}"))),
    }
    let received = copy(&mut socket, &mut file, head.length).await?;
    file.flush().await?;
    match head.length {
        Some(length) if length != received => Err(fail(format!("{received} of {length} octets"))),
        _ => Ok(()),
    }
}

async fn read_head(socket: &mut BufReader<TcpStream>) -> Result<Head, BoxError> {
    let mut head = Head { status: 0, length: None };
    for number in 0..HEADERS_MAX {
        let mut line = String::new();
        timed((&mut *socket).take(16 * 1024).read_line(&mut line)).await?;
        let line = line.trim_end();
        if number == 0 {
            head.status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        } else if line.is_empty() {
            break;
        } else if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            head.length = value.trim().parse().ok();
        }
    }
    Ok(head)
}

/// Copies up to `length` octets, or all there are, and says how many there were.
async fn copy(
    socket: &mut BufReader<TcpStream>,
    file: &mut File,
    length: Option<u64>,
) -> Result<u64, BoxError> {
    let mut socket = socket.take(length.unwrap_or(u64::MAX));
    let mut buffer = vec![0; 64 * 1024];
    let mut received = 0;
    loop {
        let length = timed(socket.read(&mut buffer)).await?;
        if length == 0 {
            return Ok(received);
        }
        file.write_all(&buffer[..length]).await?;
        received += length as u64;
    }
}

async fn timed<T>(work: impl Future<Output = std::io::Result<T>>) -> Result<T, BoxError> {
    match tokio::time::timeout(SILENCE_MAX, work).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}
