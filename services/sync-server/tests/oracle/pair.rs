//! Two daemons with the same rsyncd.conf: stock rsync's and this one.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rookery_proto::v1;
use rookery_proto::v1::tree_client::TreeClient;
use rustix::process::{Pid, Signal, kill_process};

pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// A daemon and its directory.
pub(crate) struct Daemon {
    child: Child,
    pub port: u16,
    pub log: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Daemon {
    /// Not found out by connecting: that would be in its log.
    fn listens(&self) -> bool {
        let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
        let address = format!("0100007F:{:04X} 00000000:0000 0A ", self.port);
        let line = sockets.lines().find(|line| line.contains(&address));
        let inode = line.and_then(|line| line.split_whitespace().nth(9));
        let Some(socket) = inode.map(|inode| format!("socket:[{inode}]")) else { return false };
        let open = fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        let is_it = |entry: io::Result<fs::DirEntry>| {
            entry.and_then(|entry| fs::read_link(entry.path())).is_ok_and(|link| link == Path::new(&socket))
        };
        open.is_ok_and(|mut open| open.any(is_it))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(id, signal).unwrap();
    }
}

pub(crate) struct Pair {
    directory: tempfile::TempDir,
    pub ours: Daemon,
    pub theirs: Daemon,
}

/// What a client made of a daemon.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub code: Option<i32>,
    pub printed: String,
    pub complained: String,
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

impl Pair {
    /// `conf` is the file; `{}` stands for the directory that `write` filled, `{log}` for a file of each daemon's own.
    pub(crate) async fn start(conf: &str, write: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        write(directory.path());
        let here = directory.path();
        let theirs = stock(here, conf);
        let ours = ours(here, conf).await;
        Self { directory, ours, theirs }
    }

    /// Runs the stock client against one of them. `{url}` in an argument is where it listens, `{out}` a directory that
    /// is empty unless `keep` says that it is the last run's.
    pub(crate) async fn client(
        &self,
        daemon: &Daemon,
        arguments: &str,
        password: &str,
        keep: bool,
    ) -> Outcome {
        let url = format!("rsync://127.0.0.1:{}/", daemon.port);
        let out = self.directory.path().join(format!("out{}", daemon.port));
        if !keep {
            drop(fs::remove_dir_all(&out));
        }
        fs::create_dir_all(&out).unwrap();
        let out = format!("{}/", out.display());
        let put = |argument: &str| {
            let user =
                |(name, path): (&str, &str)| format!("rsync://{name}@127.0.0.1:{}/{path}", daemon.port);
            match argument.strip_prefix("{url}") {
                Some(path) => format!("{url}{path}"),
                None => match argument.strip_prefix('@').and_then(|rest| rest.split_once("@{url}")) {
                    Some(login) => user(login),
                    None => argument.replace("{out}", &out),
                },
            }
        };
        let arguments: Vec<String> = arguments.split_whitespace().map(put).collect();
        let mut command = Command::new("rsync");
        command
            .args(&arguments)
            .env("RSYNC_PASSWORD", password)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        let run = move || command.output();
        let output =
            tokio::task::spawn_blocking(run).await.unwrap().expect("rsync: `cargo xtask test` installs it");
        let text = |octets: &[u8]| {
            let text = String::from_utf8_lossy(octets).replace(&url, "URL/").replace(&out, "OUT/");
            text.replace(&format!("127.0.0.1:{}", daemon.port), "HOST")
        };
        Outcome {
            code: output.status.code(),
            printed: text(&output.stdout),
            complained: text(&output.stderr),
        }
    }
}

/// A connection that uses a module and asks for nothing yet.
pub(crate) fn hold(daemon: &Daemon, module: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", daemon.port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(format!("@RSYNCD: 31.0\n{module}\n").as_bytes()).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "@RSYNCD: OK"), "no connection to {module}");
    stream
}

fn stock(here: &Path, conf: &str) -> Daemon {
    let log = here.join("log-stock");
    let text = conf.replace("{log}", &log.display().to_string()).replace("{}", &here.display().to_string());
    let ids = if is_root() { "uid = 0\ngid = 0\n" } else { "" };
    let file = here.join("stock.conf");
    let started = Instant::now();
    loop {
        let port = farm_sim::ports::free_address().unwrap().port();
        fs::write(&file, format!("address = 127.0.0.1\nport = {port}\nuse chroot = no\n{ids}{text}"))
            .unwrap();
        let child = Command::new("rsync")
            .args(["--daemon", "--no-detach", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("rsync can't be run: `cargo xtask test` installs it");
        let mut daemon = Daemon { child, port, log: log.clone() };
        // Another test may have taken the port in the meantime: then it ends, and is started with another one.
        while daemon.child.try_wait().unwrap().is_none() {
            if daemon.listens() {
                return daemon;
            }
            assert!(started.elapsed() < DEADLINE, "the stock daemon does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

async fn ours(here: &Path, conf: &str) -> Daemon {
    let log = here.join("log-ours");
    let text = conf.replace("{log}", &log.display().to_string()).replace("{}", &here.display().to_string());
    let file = here.join("ours.conf");
    fs::write(&file, format!("use chroot = no\n{text}")).unwrap();
    let config = format!(
        "[sync]\nlisten = \"127.0.0.1:0\"\ngrpc = \"127.0.0.1:0\"\nstate_dir = \"{}/state\"\n\
         queue_timeout = \"50ms\"\nrsyncd_conf = \"{}\"\nrsyncd_verify = \"none\"\n",
        here.display(),
        file.display(),
    );
    let config_file = here.join("rookery.toml");
    fs::write(&config_file, config).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_sync-server"))
        .arg("--config")
        .arg(&config_file)
        .stdin(Stdio::null())
        .stderr(fs::File::create(here.join("stderr")).unwrap())
        .spawn()
        .unwrap();
    let mut daemon = Daemon { child, port: 0, log };
    let said = || fs::read_to_string(here.join("stderr")).unwrap_or_default();
    let address = |name: &str| {
        let said = said();
        let line = said.lines().find(|line| line.contains("sync-server is listening"))?;
        line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
    };
    let started = Instant::now();
    loop {
        let ready = match address("grpc").map(|grpc| TreeClient::connect(format!("http://{grpc}"))) {
            Some(connecting) => match connecting.await {
                Ok(mut client) => {
                    let listed = client.list_modules(v1::ListModulesRequest {}).await;
                    listed.is_ok_and(|listed| {
                        listed.into_inner().modules.iter().all(|module| module.live.is_some())
                    })
                }
                Err(_) => false,
            },
            None => false,
        };
        if ready {
            let address: SocketAddr = address("rsync").unwrap().parse().unwrap();
            daemon.port = address.port();
            return daemon;
        }
        assert!(started.elapsed() < DEADLINE, "{}", said());
        assert_eq!(daemon.child.try_wait().unwrap(), None, "{}", said());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
