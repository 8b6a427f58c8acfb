//! Lines on their way to a file or to the system log: a bounded queue, and a task that empties it.
//!
//! What finds the queue full is dropped and counted. An error is said once, until lines can be written again; then the
//! log itself says how many are missing. A file is opened again whenever its name leads elsewhere, so that it can be
//! rotated without a signal.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Zoned;
use rsyncd_conf::log_format::visible;
use rsyncd_conf::syslog::Facility;
use tokio::sync::mpsc;

use super::LogTarget;

/// Octets that wait to be written.
const WAITING_LEN_MAX: usize = 4 << 20;
/// Octets that are written at once.
const WRITE_LEN: usize = 256 << 10;
/// The system log's socket.
const SYSTEM_LOG: &str = "/dev/log";
/// How long one message to it may take.
const SYSTEM_LOG_MAX: Duration = Duration::from_secs(1);
/// Who sent what to whom is not for everybody on the host.
const MODE: u32 = 0o640;

/// Time as lines of a file begin with it.
pub(super) const TIME: &str = "%Y/%m/%d %H:%M:%S";

/// Where lines are handed in.
#[derive(Debug, Clone)]
pub(in super::super) struct Journal {
    lines: mpsc::UnboundedSender<Lines>,
    queue: Arc<Queue>,
    system: Option<(Facility, String)>,
}

/// Lines that belong together: ready to be written, each with its end.
#[derive(Debug)]
struct Lines(Vec<Vec<u8>>);

impl Lines {
    fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }
}

#[derive(Debug, Default)]
struct Queue {
    waiting: AtomicUsize,
    lost: AtomicU64,
}

impl Journal {
    pub(super) fn new(target: &LogTarget) -> (Self, Writer) {
        let (output, system) = match target {
            LogTarget::File(path) => {
                (Output::File(LogFile { path: path.clone(), open: None, torn: false }), None)
            }
            LogTarget::System { facility, tag } => {
                (Output::System(SystemLog::at(Path::new(SYSTEM_LOG))), Some((*facility, tag.clone())))
            }
        };
        Self::with(output, system)
    }

    fn with(output: Output, system: Option<(Facility, String)>) -> (Self, Writer) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let queue = Arc::new(Queue::default());
        let writer =
            Writer { lines: receiver, queue: queue.clone(), output, failing: false, form: system.clone() };
        (Self { lines: sender, queue, system }, writer)
    }

    /// Hands in what happened in a session. Nothing here waits.
    pub(super) fn write(&self, session: u64, now: &Zoned, texts: impl IntoIterator<Item = Vec<u8>>) {
        let form = |text: Vec<u8>| form(self.system.as_ref(), session, now, &text);
        let lines = Lines(texts.into_iter().map(form).collect());
        let len = lines.len();
        if self.queue.waiting.fetch_add(len, Ordering::Relaxed) > WAITING_LEN_MAX {
            self.queue.waiting.fetch_sub(len, Ordering::Relaxed);
            self.queue.lost.fetch_add(lines.0.len() as u64, Ordering::Relaxed);
            return;
        }
        // Without a writer the process ends.
        drop(self.lines.send(lines));
    }
}

fn form(system: Option<&(Facility, String)>, session: u64, now: &Zoned, text: &[u8]) -> Vec<u8> {
    let text = visible(text);
    if let Some((facility, tag)) = system {
        return facility.message(&now.strftime("%b %e %H:%M:%S").to_string(), tag, session, &text);
    }
    let mut line = format!("{} [{session}] ", now.strftime(TIME)).into_bytes();
    line.extend_from_slice(&text);
    line.push(b'\n');
    line
}

/// Empties the queue of a journal.
#[derive(Debug)]
pub(in super::super) struct Writer {
    lines: mpsc::UnboundedReceiver<Lines>,
    queue: Arc<Queue>,
    output: Output,
    failing: bool,
    form: Option<(Facility, String)>,
}

impl Writer {
    /// Runs until nobody can hand in lines any more and all are written.
    pub(in super::super) async fn run(mut self) {
        while let Some(Lines(mut lines)) = self.lines.recv().await {
            let mut len: usize = lines.iter().map(Vec::len).sum();
            while len < WRITE_LEN
                && let Ok(more) = self.lines.try_recv()
            {
                len += more.len();
                lines.extend(more.0);
            }
            self.write(lines).await;
            self.queue.waiting.fetch_sub(len, Ordering::Relaxed);
        }
    }

    async fn write(&mut self, mut lines: Vec<Vec<u8>>) {
        let lost = self.queue.lost.swap(0, Ordering::Relaxed);
        let count = lines.len() as u64;
        if lost > 0 {
            let text = format!("{lost} lines before this one are lost");
            lines.insert(0, form(self.form.as_ref(), 0, &Zoned::now(), text.as_bytes()));
        }
        let mut output = std::mem::replace(&mut self.output, Output::Lent);
        let work = move || {
            let written = output.write(&lines);
            (output, written)
        };
        let written = match tokio::task::spawn_blocking(work).await {
            Ok((output, written)) => {
                self.output = output;
                written
            }
            Err(_) => Err(io::ErrorKind::Interrupted.into()),
        };
        match written {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::warn!(log = %self.output, lost, "rsync: the log is written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.queue.lost.fetch_add(lost + count, Ordering::Relaxed);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(log = %self.output, %error, "rsync: the log can't be written; transfers go on");
                }
            }
        }
    }
}

#[derive(Debug)]
enum Output {
    File(LogFile),
    System(SystemLog),
    /// Where it is used now.
    Lent,
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file) => file.path.display().fmt(f),
            Self::System(log) => log.path.display().fmt(f),
            Self::Lent => f.write_str("a log"),
        }
    }
}

impl Output {
    fn write(&mut self, lines: &[Vec<u8>]) -> io::Result<()> {
        match self {
            Self::File(file) => file.append(&lines.concat()),
            Self::System(log) => log.send(lines),
            Self::Lent => Err(io::ErrorKind::Other.into()),
        }
    }
}

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    open: Option<File>,
    /// The last write may have ended within a line.
    torn: bool,
}

impl LogFile {
    /// Appends to the file that has this name now.
    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        let is_named = |file: &File| -> io::Result<bool> {
            let (open, named) = (file.metadata()?, std::fs::metadata(&self.path)?);
            Ok((open.dev(), open.ino()) == (named.dev(), named.ino()))
        };
        let mut file = match self.open.take() {
            Some(file) if is_named(&file).unwrap_or(false) => file,
            _ => {
                self.torn = false;
                open(&self.path)?
            }
        };
        if self.torn {
            file.write_all(b"\n")?;
        }
        self.torn = true;
        let written = file.write_all(text);
        self.open = Some(file);
        written?;
        self.torn = false;
        Ok(())
    }
}

/// Without blocking: a pipe that nobody reads is an error.
fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = flags.bits().cast_signed();
    OpenOptions::new().append(true).create(true).mode(MODE).custom_flags(flags).open(path)
}

#[derive(Debug)]
struct SystemLog {
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl SystemLog {
    fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), socket: None }
    }

    /// A socket of a log that was started again is another one.
    fn send(&mut self, messages: &[Vec<u8>]) -> io::Result<()> {
        for message in messages {
            let sent = self.socket.as_ref().map(|socket| socket.send(message));
            if !matches!(sent, Some(Ok(_))) {
                let socket = self.socket.insert(connect(&self.path)?);
                socket.send(message)?;
            }
        }
        Ok(())
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SYSTEM_LOG_MAX))?;
    socket.connect(path)?;
    Ok(socket)
}

#[cfg(test)]
mod tests;
