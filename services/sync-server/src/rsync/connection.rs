//! One connection: reads, writes, and has the work done that its session commands.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use rsync_wire::session::{CloseReason, Command, Selection, Session, SessionConfig};
use rsync_wire::{Batch, FileList, ListPlan, WireError, limits};
use service_kit::keepalive;
use service_kit::proxy_protocol::{self, Connected, ProxiedStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use super::RsyncServer;
use super::admission::{self, Admission, Pinned};
use super::log::SessionLog;
use super::pace::Pace;
use super::tree::ServedTree;

/// Octets that wait to be written; above it no more work is begun.
const OUT_LEN_MAX: usize = 512 * 1024;
/// Octets that the kernel takes beyond those that are on their way.
const UNSENT_LEN_MAX: u32 = 256 * 1024;
const READ_LEN: usize = 32 * 1024;
/// How long the last words may take to be written.
const LAST_WORDS_MAX: Duration = Duration::from_secs(10);
/// Octets that are read and dropped while a client closes.
const LINGER_LEN_MAX: usize = 1 << 20;

/// Work that is under way for the session.
enum Done {
    Admitted(Box<Admission>),
    Listed(Result<Arc<FileList>, WireError>),
    Sent(Box<Batch>),
    /// It panicked, or the process ends.
    Lost,
}

/// A connection behind its header, if it had one.
type Socket = ProxiedStream<TcpStream>;

type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

struct Connection<'a> {
    server: &'a Arc<RsyncServer>,
    host: IpAddr,
    session: Session,
    module: Option<String>,
    /// Who the client says that it is, if it was asked.
    user: Option<String>,
    pinned: Option<Pinned>,
    work: Option<Work>,
    out: VecDeque<Bytes>,
    out_len: usize,
    pace: Pace,
    closing: Option<CloseReason>,
    log: SessionLog,
}

/// Serves one client to the end, and says in the log how it went.
pub(super) async fn run(stream: TcpStream, peer: SocketAddr, server: &Arc<RsyncServer>) {
    let started = Instant::now();
    if let Err(error) = prepare(&stream) {
        tracing::debug!(%peer, %error, "rsync: a socket option can't be set");
    }
    let header = proxy_protocol::read(stream, peer, &server.proxy_protocol_from, limits::HANDSHAKE_MAX);
    let (stream, host) = match header.await {
        Ok(Connected { socket, peer, .. }) => (socket, peer.ip().to_canonical()),
        Err(refusal) => return tracing::warn!(%peer, "rsync: a connection is refused: {refusal}"),
    };
    let config = SessionConfig { motd: server.motd.text().await, seed: seed() };
    let mut connection = Connection {
        server,
        host,
        session: Session::new(config, started),
        module: None,
        user: None,
        pinned: None,
        work: None,
        out: VecDeque::new(),
        out_len: 0,
        pace: Pace::new(started),
        closing: None,
        log: SessionLog::new(server.journal.clone(), host),
    };
    connection.log.connected();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let span = span(host);
    let ended = connection.drive(&mut reader, &mut writer).instrument(span.clone()).await;
    connection.report(started, &ended, &span);
    // The slot and the generation are not held while the client closes.
    drop(connection);
    linger(&mut reader, &mut writer).await;
}

/// What waits for a client waits here, where a list is shared, and not in copies in the kernel: a thousand clients
/// that stall would use up the memory that the host has for TCP. A module without a timeout waits for its client for
/// ever; one that lost power would hold its slot.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    keepalive::keep_alive(stream)?;
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_LEN_MAX)
}

/// What is known from the start; the rest is recorded as it comes.
fn span(host: IpAddr) -> Span {
    tracing::info_span!(
        "rsync session",
        %host,
        module = Empty,
        user = Empty,
        protocol = Empty,
        generation = Empty,
        reason = Empty,
        files_sent = Empty,
        read_bytes = Empty,
        written_bytes = Empty,
    )
}

/// The checksum seed is never 0: that would mean none.
fn seed() -> i32 {
    rand::random::<i32>() | 1
}

impl Connection<'_> {
    async fn drive(
        &mut self,
        reader: &mut ReadHalf<Socket>,
        writer: &mut WriteHalf<Socket>,
    ) -> io::Result<CloseReason> {
        let mut input = vec![0; READ_LEN];
        let mut last_words_until = None;
        loop {
            self.poll_session();
            if let Some(reason) = self.closing {
                if self.out.is_empty() {
                    return Ok(reason);
                }
                last_words_until.get_or_insert_with(|| Instant::now() + LAST_WORDS_MAX);
            }
            let shut_until = self.pace.shut_until(Instant::now());
            let deadline = last_words_until.unwrap_or_else(|| self.session.deadline());
            let wake = shut_until.map_or(deadline, |until| until.min(deadline));
            let may_write = !self.out.is_empty() && shut_until.is_none();
            let may_read = self.session.wants_input() && self.closing.is_none();
            tokio::select! {
                read = reader.read(&mut input), if may_read => match read? {
                    0 => self.session.handle_end_of_input(),
                    len => self.session.handle_input(&input[..len], Instant::now()),
                },
                written = write_some(writer, &self.out, self.pace.portion()), if may_write => {
                    self.written(written?);
                }
                done = finish(&mut self.work), if self.work.is_some() => {
                    self.work = None;
                    self.done(done);
                }
                () = tokio::time::sleep_until(wake.into()) => {
                    let now = Instant::now();
                    self.session.handle_time(now);
                    if let (Some(until), Some(reason)) = (last_words_until, self.closing) && now >= until {
                        return Ok(reason);
                    }
                }
            }
        }
    }

    /// Carries out what the session commands, as long as there is room for its output.
    fn poll_session(&mut self) {
        while self.closing.is_none() && self.out_len < OUT_LEN_MAX {
            let Some(command) = self.session.poll() else { return };
            match command {
                Command::Write(octets) => {
                    self.out_len += octets.len();
                    self.out.push_back(octets);
                }
                Command::ListModules => {
                    self.log.modules_listed();
                    self.session.modules_listed(self.server.listed());
                }
                Command::SelectModule(name) => {
                    self.module = Some(name.clone());
                    Span::current().record("module", name.escape_debug().to_string());
                    let decision = admission::decide(self.server.clone(), self.host, name);
                    self.work = Some(Box::pin(async { Done::Admitted(Box::new(decision.await)) }));
                }
                Command::CheckLogin(login) => {
                    let Some(name) = self.module.clone() else { continue };
                    self.user = Some(login.user().to_owned());
                    Span::current().record("user", login.user().escape_debug().to_string());
                    let decision = admission::log_in(self.server.clone(), self.host, name, login);
                    self.work = Some(Box::pin(async { Done::Admitted(Box::new(decision.await)) }));
                }
                Command::BuildList(plan) => self.build_list(plan),
                Command::SendFiles(batch) => self.send_files(batch),
                Command::Note(note) => tracing::debug!(host = %self.host, "rsync: {note}"),
                Command::Close(reason) => self.closing = Some(reason),
            }
        }
    }

    fn build_list(&mut self, plan: Box<ListPlan>) {
        self.pace.set(self.session.bandwidth_kib());
        let Some(tree) = self.tree() else { return };
        let generation = tree.number();
        self.log.begin(&self.session);
        self.log.building();
        if let Some(list) = self.server.lists.find(generation, &plan) {
            return self.listed(Ok(list), Instant::now());
        }
        let turns = if plan.checksum.is_some() { &self.server.hashing } else { &self.server.listing };
        let lists = self.server.lists.clone();
        let build = move || {
            lists.forget_others(&plan.module, generation);
            Done::Listed(lists.find_or_build(generation, *plan, |plan| plan.build(&tree)))
        };
        self.work = Some(Box::pin(blocking(turns.clone(), build)));
    }

    fn send_files(&mut self, mut batch: Box<Batch>) {
        let Some(tree) = self.tree() else { return };
        let log = self.log.clone();
        let run = move || {
            batch.run(&tree);
            log.records_of(&tree, &batch.take_records());
            Done::Sent(batch)
        };
        self.work = Some(Box::pin(blocking(self.server.sending.clone(), run)));
    }

    /// The tree; without one there is no such command.
    fn tree(&mut self) -> Option<ServedTree> {
        let bodies = &self.server.bodies;
        let tree =
            self.pinned.as_ref().map(|pinned| ServedTree::new(pinned.generation.clone(), bodies.clone()));
        if tree.is_none() {
            self.closing = Some(CloseReason::ServerFault);
        }
        tree
    }

    fn done(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Admitted(admission) => self.admitted(*admission, now),
            Done::Listed(built) => self.listed(built, now),
            Done::Sent(batch) => self.session.batch_done(*batch),
            Done::Lost => self.closing = Some(CloseReason::ServerFault),
        }
    }

    fn admitted(&mut self, admission: Admission, now: Instant) {
        let Admission { selection, pinned, detail, host } = admission;
        let name = self.module.clone().unwrap_or_default();
        self.log.named(host);
        // Who logs in was let in before.
        let is_new = self.user.is_none();
        match &selection {
            Selection::Refused { reason, .. } => {
                if is_new && *reason == CloseReason::Busy {
                    self.log.allowed(&name);
                }
                self.log.turned_away(&name, *reason, detail.as_deref());
            }
            Selection::LogIn(_) => self.log.allowed(&name),
            Selection::Accepted(_) if is_new => self.log.allowed(&name),
            Selection::Accepted(_) => {}
        }
        self.pinned = pinned;
        if let Some(Pinned { generation, place, .. }) = &self.pinned {
            Span::current().record("generation", generation.number());
            let log = self.server.modules[*place].log.clone();
            self.log.entered(&name, log, self.server.journals[*place].clone(), self.user.as_deref());
        }
        self.session.module_selected(selection, now);
    }

    fn listed(&mut self, built: Result<Arc<FileList>, WireError>, now: Instant) {
        if let Ok(list) = &built {
            self.log.texts(list.texts());
        }
        self.session.list_built(built, now);
    }

    fn written(&mut self, len: usize) {
        let now = Instant::now();
        self.session.handle_written(len, now);
        self.pace.written(len, now);
        self.out_len -= len;
        let mut left = len;
        while let Some(front) = self.out.front_mut() {
            let of_front = left.min(front.len());
            front.advance(of_front);
            left -= of_front;
            if !front.is_empty() {
                break;
            }
            self.out.pop_front();
        }
    }

    fn report(&mut self, started: Instant, ended: &io::Result<CloseReason>, span: &Span) {
        let summary = self.session.summary();
        self.log.ended(&self.session, ended.as_ref().ok().copied());
        let reason = match ended {
            Ok(reason) => reason.as_str(),
            Err(_) => "connection_lost",
        };
        let error = ended.as_ref().err().map(tracing::field::display);
        let known = self.module.as_deref().filter(|name| self.server.module(name).is_some());
        let seconds = started.elapsed().as_secs_f64();
        self.server.figures.ended(known.unwrap_or_default(), reason, seconds, &summary);
        span.record("protocol", summary.protocol);
        span.record("reason", reason);
        span.record("files_sent", summary.files_sent);
        span.record("read_bytes", summary.read);
        span.record("written_bytes", summary.written);
        tracing::info!(
            host = %self.host,
            module = self.module.as_deref().map(str::escape_debug).map(tracing::field::display),
            user = self.user.as_deref().map(str::escape_debug).map(tracing::field::display),
            generation = self.pinned.as_ref().map(|pinned| pinned.generation.number()),
            protocol = summary.protocol,
            reason,
            error,
            entries = summary.entries,
            files_sent = summary.files_sent,
            read_bytes = summary.read,
            written_bytes = summary.written,
            ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "rsync: connection ended",
        );
    }
}

async fn finish(work: &mut Option<Work>) -> Done {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// Runs a piece of work on a thread that may block, when it is its turn. The turn ends with the work, even if
/// nobody waits for it any more.
async fn blocking(turns: Arc<Semaphore>, work: impl FnOnce() -> Done + Send + 'static) -> Done {
    let Ok(turn) = turns.acquire_owned().await else { return Done::Lost };
    let run = move || {
        let done = work();
        drop(turn);
        done
    };
    tokio::task::spawn_blocking(run).await.unwrap_or(Done::Lost)
}

/// Writes what the socket takes of the first pieces.
async fn write_some(
    writer: &mut WriteHalf<Socket>,
    out: &VecDeque<Bytes>,
    portion: usize,
) -> io::Result<usize> {
    const PIECES: usize = 16;
    let mut slices = [IoSlice::new(&[]); PIECES];
    let mut room = portion;
    let mut count = 0;
    for (slice, piece) in slices.iter_mut().zip(out) {
        *slice = IoSlice::new(&piece[..piece.len().min(room)]);
        room -= slice.len();
        count += 1;
        if room == 0 {
            break;
        }
    }
    match writer.write_vectored(&slices[..count]).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        len => Ok(len),
    }
}

/// Ends our side and waits a little for the client's: closing with unread input would reset the connection,
/// and the client could lose what was said last.
async fn linger(reader: &mut ReadHalf<Socket>, writer: &mut WriteHalf<Socket>) {
    let close = async {
        writer.shutdown().await?;
        let mut dropped = 0;
        let mut buffer = vec![0; READ_LEN];
        while dropped < LINGER_LEN_MAX {
            match reader.read(&mut buffer).await? {
                0 => break,
                len => dropped += len,
            }
        }
        io::Result::Ok(())
    };
    if let Ok(Err(error)) = tokio::time::timeout(limits::LINGER_MAX, close).await {
        tracing::trace!(%error, "rsync: while closing");
    }
}
