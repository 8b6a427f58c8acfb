//! The servers that are compared, each with the settings that stand in the table's caption.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use farm_sim::ports::free_address;
use farm_sim::upstream::mirror_path;

/// How long a server may take to listen.
const START_MAX: Duration = Duration::from_mins(1);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The product: `proxy-cache` alone.
    Rookery,
    /// `proxy_cache` with everything in the cache.
    Nginx,
    /// A candidate engine, by its name.
    Spike(&'static str),
    /// As shipped.
    Squid,
    /// As shipped.
    AptCacherNg,
}

impl Kind {
    pub(super) const ALL: [Self; 7] = [
        Self::Rookery,
        Self::Nginx,
        Self::Spike("hyper-file"),
        Self::Spike("hyper-mapped"),
        Self::Spike("sendfile"),
        Self::Squid,
        Self::AptCacherNg,
    ];

    pub(super) fn name(self) -> String {
        match self {
            Self::Rookery => "rookery".to_owned(),
            Self::Nginx => "nginx".to_owned(),
            Self::Spike(engine) => format!("spike {engine}"),
            Self::Squid => "squid".to_owned(),
            Self::AptCacherNg => "apt-cacher-ng".to_owned(),
        }
    }

    /// Asked in the forward role.
    fn is_forward(self) -> bool {
        self == Self::Squid
    }
}

/// What all of them need.
#[derive(Debug, Clone)]
pub(super) struct Site {
    /// Where everything lies.
    pub(super) dir: PathBuf,
    /// The files, as `bench_cache` laid them out.
    pub(super) files: PathBuf,
    /// The replica's cache directory.
    pub(super) cache: PathBuf,
    pub(super) proxy_cache: PathBuf,
    pub(super) engine_spike: PathBuf,
    /// Worker threads or processes of each server that lets us say.
    pub(super) workers: usize,
    /// What the caches fetch from, once it runs.
    pub(super) origin: Option<SocketAddr>,
}

/// A running server.
#[derive(Debug)]
pub(super) struct Peer {
    kind: Kind,
    child: Child,
    address: SocketAddr,
    origin: SocketAddr,
    dir: PathBuf,
    /// What it was told.
    pub(super) settings: String,
}

/// Where a file is asked for.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) address: String,
    pub(super) path: String,
    /// wrk needs one to ask a proxy.
    pub(super) script: Option<PathBuf>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // TERM first: nginx's master ends its workers.
        if let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(0)) {
            // It may have ended by itself.
            let _ended = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        for _ in 0..50 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn name(octets: u64) -> String {
    format!("bench-{octets}.tar.xz")
}

/// Where the upstream has the file of so many octets.
pub(super) fn path(octets: u64) -> String {
    mirror_path(&name(octets))
}

impl Peer {
    pub(super) fn start(kind: Kind, site: &Site) -> Result<Self> {
        let origin = site.origin.context("no origin")?;
        let dir = site.dir.join(kind.name().replace(' ', "-"));
        fs::create_dir_all(&dir)?;
        match kind {
            Kind::Spike(engine) => Self::spike(kind, engine, site, origin, dir),
            Kind::Rookery => {
                let address = free_address()?;
                let settings = format!(
                    "[proxy]\nlisten = \"{address}\"\ncache_dir = \"{}\"\ncapacity = \"1024 GiB\"\n\
                     mirrors = [\"http://{origin}\"]\n[proxy.maintenance]\nendpoint = \"\"\n[telemetry]\nlog = \"warn\"\n",
                    site.cache.display()
                );
                let config = dir.join("rookery.toml");
                fs::write(&config, &settings)?;
                let mut command = Command::new(&site.proxy_cache);
                command.arg("--config").arg(config);
                command.env("TOKIO_WORKER_THREADS", site.workers.to_string());
                let settings = format!("TOKIO_WORKER_THREADS={}\n{settings}", site.workers);
                Self::spawn(kind, command, address, origin, dir, settings)
            }
            Kind::Nginx => {
                let address = free_address()?;
                let settings =
                    nginx(site.workers, &dir, &format!("listen {address};\n{}", nginx_cache(origin)));
                let config = dir.join("nginx.conf");
                fs::write(&config, &settings)?;
                let mut command = Command::new("nginx");
                command.arg("-p").arg(&dir).arg("-c").arg(config);
                Self::spawn(kind, command, address, origin, dir, settings)
            }
            Kind::Squid => {
                let address = free_address()?;
                let shipped = fs::read_to_string("/etc/squid/squid.conf").context("/etc/squid/squid.conf")?;
                let own = format!(
                    "http_port {address}\npid_filename {0}/squid.pid\ncache_log {0}/cache.log\naccess_log none\n\
                     coredump_dir {0}\nshutdown_lifetime 0 seconds\n",
                    dir.display()
                );
                // It gives up being root.
                fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
                let is_ours =
                    |line: &&str| !line.starts_with("http_port") && !line.starts_with("coredump_dir");
                let rest: Vec<_> = shipped.lines().filter(is_ours).collect();
                let config = dir.join("squid.conf");
                fs::write(&config, format!("{own}{}\n", rest.join("\n")))?;
                let mut command = Command::new("squid");
                // Its shared memory is found by that name: another squid's stays its own.
                command.args(["-N", "-n", &format!("bench{}", std::process::id()), "-f"]).arg(config);
                let settings = format!("Debian's squid.conf, and\n{own}");
                Self::spawn(kind, command, address, origin, dir, settings)
            }
            Kind::AptCacherNg => {
                // None above 32767: it takes the number for a signed one of 16 bits, and says that it can't bind.
                let address = free_address()?;
                let own = [
                    "ForeGround=1".to_owned(),
                    format!("Port={}", address.port()),
                    "BindAddress=127.0.0.1".to_owned(),
                    format!("CacheDir={}", dir.join("cache").display()),
                    format!("LogDir={}", dir.join("log").display()),
                    "SocketPath=".to_owned(),
                    "AllowUserPorts=0".to_owned(),
                ];
                for below in ["cache", "log"] {
                    fs::create_dir_all(dir.join(below))?;
                }
                let mut command = Command::new("/usr/sbin/apt-cacher-ng");
                command.args(["-c", "/etc/apt-cacher-ng"]).args(&own);
                let settings = format!("Debian's acng.conf, and {}", own.join(" "));
                Self::spawn(kind, command, address, origin, dir, settings)
            }
        }
    }

    /// What the caches fetch from: nginx with static files.
    pub(super) fn origin(site: &Site) -> Result<Self> {
        let (address, dir) = (free_address()?, site.dir.join("origin"));
        fs::create_dir_all(&dir)?;
        let www = site.files.join("www");
        let settings =
            nginx(1, &dir, &format!("listen {address};\nlocation / {{ root {}; }}", www.display()));
        let config = dir.join("nginx.conf");
        fs::write(&config, &settings)?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&dir).arg("-c").arg(config);
        Self::spawn(Kind::Nginx, command, address, address, dir, settings)
    }

    fn spike(kind: Kind, engine: &str, site: &Site, origin: SocketAddr, dir: PathBuf) -> Result<Self> {
        let flat = site.files.join("flat");
        let mut command = Command::new(&site.engine_spike);
        command.arg(engine).arg(flat).arg(site.workers.to_string()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| site.engine_spike.display().to_string())?;
        let mut line = String::new();
        let output = child.stdout.take().context("no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().parse().with_context(|| format!("{engine} says {line:?}"))?;
        let settings = format!("{} worker threads", site.workers);
        Ok(Self { kind, child, address, origin, dir, settings })
    }

    fn spawn(
        kind: Kind,
        mut command: Command,
        address: SocketAddr,
        origin: SocketAddr,
        dir: PathBuf,
        settings: String,
    ) -> Result<Self> {
        let log = fs::File::create(dir.join("log.txt"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| kind.name())?;
        let mut peer = Self { kind, child, address, origin, dir, settings };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = peer.child.try_wait()? {
                let log = fs::read_to_string(peer.dir.join("log.txt")).unwrap_or_default();
                bail!("{} ended: {status}\n{log}", kind.name());
            }
            ensure!(began.elapsed() < START_MAX, "{} does not listen at {address}", kind.name());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(peer)
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn name(&self) -> String {
        self.kind.name()
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn forward_url(&self, octets: u64) -> String {
        format!("http://{}{}", self.origin, path(octets))
    }

    pub(super) fn target(&self, octets: u64) -> Target {
        let path = path(octets);
        let path = match self.kind {
            Kind::AptCacherNg => format!("/{}{path}", self.origin),
            Kind::Rookery | Kind::Nginx | Kind::Spike(_) | Kind::Squid => path,
        };
        let script = self.kind.is_forward().then(|| self.dir.join(format!("wrk-{octets}.lua")));
        Target { address: self.address.to_string(), path, script }
    }

    /// Asks for the file twice, as curl does, and compares what comes with the original.
    pub(super) fn warm_up(&self, octets: u64, files: &Path) -> Result<()> {
        let Target { address, path, script } = self.target(octets);
        if let Some(script) = &script {
            let mut file = fs::File::create(script)?;
            writeln!(
                file,
                "request = function() return wrk.format('GET', '{}') end",
                self.forward_url(octets)
            )?;
        }
        let got = self.dir.join("got");
        for _ in 0..2 {
            let mut command = Command::new("curl");
            command.args(["--silent", "--show-error", "--fail", "--output"]).arg(&got);
            if script.is_some() {
                command.arg("--proxy").arg(format!("http://{address}")).arg(self.forward_url(octets));
            } else {
                command.arg(format!("http://{address}{path}"));
            }
            let output = command.output().context("curl")?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(output.status.success(), "{} does not give {path}: {said}", self.name());
        }
        let same = Command::new("cmp").arg(&got).arg(files.join("flat").join(name(octets))).status()?;
        ensure!(same.success(), "{} gives something else", self.name());
        Ok(fs::remove_file(got)?)
    }
}

fn nginx(workers: usize, dir: &Path, server: &str) -> String {
    format!(
        "daemon off;\nuser root;\nworker_processes {workers};\npid {0}/nginx.pid;\nerror_log {0}/error.log warn;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\naccess_log off;\nsendfile on;\ntcp_nodelay on;\nkeepalive_requests 1000000000;\n\
         open_file_cache max=1000 inactive=10m;\nserver_tokens off;\n\
         proxy_cache_path {0}/cache levels=1:2 keys_zone=bench:10m inactive=1d max_size=20g use_temp_path=off;\n\
         server {{\n{server}\n}}\n}}\n",
        dir.display()
    )
}

fn nginx_cache(origin: SocketAddr) -> String {
    format!(
        "location / {{\nproxy_pass http://{origin};\nproxy_cache bench;\nproxy_cache_valid 200 1d;\n\
         proxy_http_version 1.1;\nproxy_set_header Connection \"\";\n}}"
    )
}
