//! Everything that an upstream can do wrong, times everything that clients do meanwhile. Each cell ends in
//! the right bytes or in a client's error, never in wrong bytes with exit status 0.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use farm_sim::upstream::{Fault, Object, Upstream};
use futures_util::StreamExt as _;
use service_kit::config::{HumanDuration, Networks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::programs::Program;
use crate::rig::{Replica, Rig, Sim};

/// More than what is verified before its first byte.
const SIZE: u64 = 1_500_000;
/// What a client has before it resumes.
const PREFIX: usize = 700_000;
/// Cells at the same time.
const CELLS_MAX: usize = 6;
/// How often a file with one good source may have to be asked for: each bad way costs one at most.
const ATTEMPTS_MAX: usize = 4;

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    Alone,
    LateJoiner,
    Resumes,
    AfterAbort,
    SecondReplica,
}

const SCENARIOS: [Scenario; 5] =
    [Scenario::Alone, Scenario::LateJoiner, Scenario::Resumes, Scenario::AfterAbort, Scenario::SecondReplica];

/// What an upstream does: at the first request, and at all.
struct Ill {
    name: &'static str,
    once: Option<Fault>,
    always: Vec<Fault>,
}

fn ills(half: u64) -> Vec<Ill> {
    let always = |name, fault| Ill { name, once: None, always: vec![fault] };
    let cut = || Some(Fault::Truncated { after_bytes: half });
    let then = |name, fault| Ill { name, once: cut(), always: vec![fault] };
    let to = |to: &str| Fault::Redirect { to: to.to_owned() };
    vec![
        // Made silent as a whole, see `Ground::new`.
        Ill { name: "silent-connect", once: None, always: Vec::new() },
        always("silent-head", Fault::SilentHead),
        always("silent-body", Fault::SilentBody { after_bytes: half }),
        always("slow", Fault::RateLimit { bytes_per_second: 1_000_000 }),
        always("truncated", Fault::Truncated { after_bytes: half }),
        always("clean-short", Fault::CleanShort { missing_bytes: 1 }),
        always("overlong", Fault::Overlong { extra_bytes: 1000 }),
        always("wrong-first-byte", Fault::WrongByte { at: 0 }),
        always("wrong-last-byte", Fault::WrongByte { at: SIZE - 1 }),
        always("wrong-length", Fault::WrongLength { off_by: 5 }),
        always("no-length", Fault::NoLength),
        then("200-for-range", Fault::IgnoresRange),
        then("206-wrong-start", Fault::WrongRangeStart { shift: 1 }),
        then("206-wrong-total", Fault::WrongRangeTotal { off_by: 7 }),
        // The second answer is of another file.
        then("changed", Fault::WrongByte { at: SIZE - 10 }),
        always("redirect-loop", to("again")),
        always("redirect-private", to("http://169.254.169.254/secret")),
        always("500", Fault::Status(500)),
        always("404", Fault::Status(404)),
        always("reset", Fault::Reset { after_bytes: half }),
    ]
}

struct Cell {
    label: String,
    scenario: Scenario,
    programs: [Program; 2],
    has_good_source: bool,
    file: Sim,
    bad: usize,
}

/// The upstreams, and what is asked of them.
struct Ground {
    bad: Vec<Upstream>,
    good: Upstream,
    cells: Vec<Cell>,
}

impl Ground {
    async fn new() -> Self {
        let good = Upstream::start().await.unwrap();
        let (mut bad, mut cells) = (Vec::new(), Vec::new());
        for ill in ills(SIZE / 2) {
            let upstream = Upstream::start().await.unwrap();
            upstream.set_silent(ill.name == "silent-connect");
            for scenario in SCENARIOS {
                for has_good_source in [false, true] {
                    let kind = if has_good_source { "with-good" } else { "only" };
                    let label = format!("{}-{scenario:?}-{kind}", ill.name);
                    let mut file = Sim::new(&format!("{label}.tar"), SIZE);
                    let path = format!("/{}", file.name);
                    file.sources.push(format!("{}{path}", upstream.url()));
                    upstream.put(&path, Object::Generated(file.contents));
                    ill.always.iter().for_each(|fault| upstream.add_fault(&path, fault.clone()));
                    if let Some(once) = &ill.once {
                        upstream.add_fault_times(&path, once.clone(), 1);
                    }
                    if has_good_source {
                        file.sources.push(format!("{}{path}", good.url()));
                        good.put(&path, Object::Generated(file.contents));
                    }
                    let number = cells.len();
                    let programs = [0, 1].map(|more| Program::ALL[(number + number / 10 + more) % 3]);
                    cells.push(Cell { label, scenario, programs, has_good_source, file, bad: bad.len() });
                }
            }
            bad.push(upstream);
        }
        Self { bad, good, cells }
    }
}

/// What runs, and what came of it.
struct Run<'a> {
    dir: &'a Path,
    replicas: &'a [Replica; 2],
    ground: &'a Ground,
    right: AtomicUsize,
    refused: AtomicUsize,
}

impl Run<'_> {
    fn url(&self, replica: usize, cell: &Cell) -> String {
        format!("{}/distfiles/{}", self.replicas[replica].base, cell.file.name)
    }

    fn destination(&self, cell: &Cell, client: &str) -> PathBuf {
        self.dir.join(format!("{}.{client}", cell.label))
    }

    /// One client's download. Says what is wrong with its end, if anything is.
    async fn client(
        &self,
        cell: &Cell,
        program: Program,
        replica: usize,
        name: &str,
    ) -> Result<bool, String> {
        let destination = self.destination(cell, name);
        let resumes = cell.scenario == Scenario::Resumes && name == "first";
        if resumes {
            std::fs::write(&destination, &cell.file.contents.to_bytes()[..PREFIX]).unwrap();
        }
        let (is_done, said) = program.fetch(&self.url(replica, cell), &destination, resumes).await;
        if !is_done {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Ok(false);
        }
        let got = std::fs::read(&destination).unwrap_or_default();
        if got != cell.file.contents.to_bytes() {
            return Err(format!("{}: {program:?} took {} wrong bytes: {said}", cell.label, got.len()));
        }
        self.right.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    /// A client that goes in the middle.
    async fn abort(&self, cell: &Cell) {
        let address = self.replicas[0].base.trim_start_matches("http://");
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET /distfiles/{} HTTP/1.1\r\nHost: {address}\r\n\r\n", cell.file.name);
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut some = vec![0; 10_000];
        // Whether anything comes depends on the upstream.
        drop(tokio::time::timeout(Duration::from_millis(300), socket.read_exact(&mut some)).await);
    }

    async fn cell(&self, cell: &Cell) -> Vec<String> {
        let [one, two] = cell.programs;
        let ends = match cell.scenario {
            Scenario::Alone | Scenario::Resumes => vec![self.client(cell, one, 0, "first").await],
            Scenario::AfterAbort => {
                self.abort(cell).await;
                vec![self.client(cell, one, 0, "first").await]
            }
            Scenario::LateJoiner => {
                let path = format!("/{}", cell.file.name);
                let upstream = &self.ground.bad[cell.bad];
                let late = async {
                    let is_asked =
                        |log: &[farm_sim::upstream::Exchange]| log.iter().any(|one| one.path == path);
                    // The silent one never says so.
                    upstream.wait_until(Duration::from_secs(1), is_asked).await;
                    self.client(cell, two, 0, "late").await
                };
                let (first, late) = tokio::join!(self.client(cell, one, 0, "first"), late);
                vec![first, late]
            }
            Scenario::SecondReplica => {
                let (first, second) =
                    tokio::join!(self.client(cell, one, 0, "first"), self.client(cell, two, 1, "second"));
                vec![first, second]
            }
        };
        let mut faults: Vec<String> = ends.into_iter().filter_map(Result::err).collect();
        if cell.has_good_source {
            let mut is_right = false;
            for attempt in 0..ATTEMPTS_MAX {
                match self.client(cell, Program::Curl, 0, &format!("again-{attempt}")).await {
                    Ok(right) => is_right = right,
                    Err(fault) => faults.push(fault),
                }
                if is_right {
                    break;
                }
            }
            if !is_right {
                faults.push(format!("{}: a good source is there, and nobody gets the file", cell.label));
            }
        }
        faults
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_ends_in_the_right_bytes_or_in_a_clients_error() {
    let ground = Ground::new().await;
    let files: Vec<&Sim> = ground.cells.iter().map(|cell| &cell.file).collect();
    let rig = Rig::start(&files).await;
    let configure = |config: &mut proxy_cache::Config| {
        config.allow_private_upstreams = Networks::parse(["127.0.0.0/8"]).unwrap();
        config.timeouts.headers = HumanDuration(Duration::from_secs(1));
        config.timeouts.chunk = HumanDuration(Duration::from_secs(1));
    };
    let known = &ground.cells[0].file.name;
    let replicas = [rig.replica_with(1, known, configure).await, rig.replica_with(2, known, configure).await];
    let dir = tempfile::tempdir().unwrap();
    let run = Run {
        dir: dir.path(),
        replicas: &replicas,
        ground: &ground,
        right: AtomicUsize::new(0),
        refused: AtomicUsize::new(0),
    };
    let faults: Vec<String> = futures_util::stream::iter(&ground.cells)
        .map(|cell| run.cell(cell))
        .buffer_unordered(CELLS_MAX)
        .collect::<Vec<_>>()
        .await
        .concat();
    let (right, refused) = (run.right.into_inner(), run.refused.into_inner());
    println!("fault matrix: {} cells; {right} downloads right, {refused} refused", ground.cells.len());
    println!("the good source was asked {} times", ground.good.total().requests);
    assert_eq!(faults, Vec::<String>::new());
    for replica in &replicas {
        assert_eq!(replica.wrong_blobs(), Vec::<PathBuf>::new());
    }
    assert!(right >= ground.cells.len() / 2 && refused > 0, "the matrix must not be vacuous");
}

/// The status that a client is told fits the cause.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wget_and_curl_are_told_the_cause() {
    let upstream = Upstream::start().await.unwrap();
    let causes = [
        ("missing-1.tar", Fault::Status(404), "404"),
        ("broken-1.tar", Fault::Status(500), "502"),
        ("refused-1.tar", Fault::Redirect { to: "http://169.254.169.254/".to_owned() }, "502"),
        ("silent-1.tar", Fault::SilentHead, "504"),
    ];
    let mut files = Vec::new();
    for (name, fault, _) in &causes {
        let mut file = Sim::new(name, SIZE);
        file.sources.push(format!("{}/{name}", upstream.url()));
        upstream.put(&format!("/{name}"), Object::Generated(file.contents));
        upstream.add_fault(&format!("/{name}"), fault.clone());
        files.push(file);
    }
    let rig = Rig::start(&files.iter().collect::<Vec<_>>()).await;
    let configure = |config: &mut proxy_cache::Config| {
        config.allow_private_upstreams = Networks::parse(["127.0.0.0/8"]).unwrap();
        config.timeouts.headers = HumanDuration(Duration::from_millis(500));
    };
    let replica = rig.replica_with(1, causes[0].0, configure).await;
    let dir = tempfile::tempdir().unwrap();
    for (name, _, status) in causes {
        for program in [Program::Wget, Program::Curl] {
            let url = format!("{}/distfiles/{name}", replica.base);
            let (is_done, said) = program.fetch(&url, &dir.path().join("file"), false).await;
            // wget takes a 504 for a network that is down: it tries again, and does not say what it got.
            let tells = program != Program::Wget || status != "504";
            assert!(!is_done && (said.contains(status) || !tells), "{program:?} of {name}: {said}");
        }
    }
}
