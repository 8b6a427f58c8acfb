//! A mirror of real processes on loopback: a generated tree, an upstream stand-in, `rookery up`.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use farm_sim::tree::{GeneratedTree, TreeSpec};
use farm_sim::upstream::Upstream;

use crate::distfile::ExtraDistfile;
use crate::https_sites::HttpsSites;
use crate::program;

/// How long anything may take that should take a moment.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// Where the services of one farm listen.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// rsync.
    pub rsync: SocketAddr,
    /// The proxy.
    pub http: SocketAddr,
    /// `/readyz` of the whole.
    pub web: SocketAddr,
    /// sync-server's gRPC.
    pub tree: SocketAddr,
    /// maintenance's gRPC.
    pub index: SocketAddr,
}

/// What the mirror makes the tree prove before it serves it.
#[derive(Debug, Clone)]
pub enum Verify {
    /// `consistent`
    Consistent,
    /// `signed`, by a key of this file.
    Signed(PathBuf),
}

/// A farm: everything it owns lies in one temporary directory.
#[derive(Debug)]
pub struct Farm {
    dir: tempfile::TempDir,
    /// The Gentoo mirror that distfiles come from, and, unless those speak TLS, the sites of `SRC_URI`.
    pub upstream: Upstream,
    sites: Option<HttpsSites>,
    /// The tree that is served.
    pub tree: GeneratedTree,
    /// Where to reach the mirror.
    pub addresses: Addresses,
    verify: Verify,
    /// What the mirror finds in its environment.
    environment: Vec<(&'static str, OsString)>,
    mirror: Option<Child>,
}

impl Farm {
    /// A small tree with `extra` files in it, and a running mirror that is ready.
    ///
    /// # Errors
    /// Something could not be made or started.
    pub async fn start(extra: &[ExtraDistfile]) -> Result<Self> {
        let mut farm = Self::prepare(20, Verify::Consistent).await?;
        for file in extra {
            file.add_to_tree(&farm.tree.dir, &farm.upstream.url())?;
            file.put(&farm.upstream);
        }
        farm.start_mirror().await?;
        Ok(farm)
    }

    /// A tree of that many packages, its upstream, and a mirror that is configured but does not run yet.
    ///
    /// # Errors
    /// Something could not be made.
    pub async fn prepare(packages: usize, verify: Verify) -> Result<Self> {
        // reqwest comes without a TLS implementation of its own, even for plain http.
        service_kit::process::install_crypto_provider();
        let dir = tempfile::tempdir()?;
        let upstream = Upstream::start().await?;
        let tree = generate(dir.path(), packages, upstream.url())?;
        upstream.put_tree(&tree);
        Self::assemble(dir, upstream, None, tree, verify)
    }

    /// The same with sources that are all reached by TLS only, and with a Gentoo mirror that has nothing.
    ///
    /// # Errors
    /// Something could not be made.
    pub async fn prepare_with_https_sites(packages: usize) -> Result<Self> {
        service_kit::process::install_crypto_provider();
        let dir = tempfile::tempdir()?;
        let sites = HttpsSites::start(dir.path()).await?;
        let tree = generate(dir.path(), packages, sites.upstream.url())?;
        sites.upstream.put_tree(&tree);
        Self::assemble(dir, Upstream::start().await?, Some(sites), tree, Verify::Consistent)
    }

    fn assemble(
        dir: tempfile::TempDir,
        upstream: Upstream,
        sites: Option<HttpsSites>,
        tree: GeneratedTree,
        verify: Verify,
    ) -> Result<Self> {
        let (addresses, environment) = (free_addresses()?, Vec::new());
        let farm = Self { dir, upstream, sites, tree, addresses, verify, environment, mirror: None };
        fs::write(farm.config_file(), farm.config())?;
        Ok(farm)
    }

    /// Brings the source tree to a later revision. What is published is another matter.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn bump_tree(&mut self, revision: u32) -> Result<()> {
        let packages = self.tree.counts.packages;
        let source_base = self.sources().url();
        let spec = TreeSpec { source_base, packages, revision, ..TreeSpec::default() };
        self.tree = farm_sim::tree::generate(&spec, &self.tree.dir)?;
        self.sources().put_tree(&self.tree);
        Ok(())
    }

    /// Where `SRC_URI` leads to.
    #[must_use]
    pub fn sources(&self) -> &Upstream {
        self.sites.as_ref().map_or(&self.upstream, |sites| &sites.upstream)
    }

    /// What a box has as `sync-uri`.
    #[must_use]
    pub fn sync_uri(&self) -> String {
        format!("rsync://{}/gentoo-portage", self.addresses.rsync)
    }

    /// What a box has as its mirror.
    #[must_use]
    pub fn mirror_url(&self) -> String {
        format!("http://{}", self.addresses.http)
    }

    /// The farm's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The replica's cache directory.
    #[must_use]
    pub fn cache_dir(&self) -> PathBuf {
        self.dir().join("cache")
    }

    /// The mirror's configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.dir().join("rookery.toml")
    }

    /// The mirror's URL of a distfile.
    #[must_use]
    pub fn distfile_url(&self, name: &str) -> String {
        format!("http://{}{}", self.addresses.http, farm_sim::upstream::mirror_path(name))
    }

    fn config(&self) -> String {
        let Addresses { rsync, http, web, tree, index } = self.addresses;
        let verify = match &self.verify {
            Verify::Consistent => "verify = \"consistent\"".to_owned(),
            Verify::Signed(key) => format!("verify = \"signed\"\nopenpgp_key = \"{}\"", key.display()),
        };
        let authority = self.sites.as_ref().map(|sites| sites.authority.display());
        let authority = authority.map(|file| format!("upstream_ca = \"{file}\"\n")).unwrap_or_default();
        format!(
            "[sync]\nlisten = \"{rsync}\"\ngrpc = \"{tree}\"\nstate_dir = \"{0}/trees\"\n\n\
             [[sync.modules]]\nname = \"gentoo-portage\"\ncomment = \"Test tree\"\n\
             source = {{ dir = \"{1}\" }}\n{verify}\n\n\
             [proxy]\nlisten = \"{http}\"\ncache_dir = \"{0}/cache\"\ncapacity = \"2 GiB\"\n\
             mirrors = [\"{2}\"]\nallow_private_upstreams = [\"127.0.0.0/8\"]\n{authority}\n\
             [proxy.maintenance]\nendpoint = \"http://{index}\"\n\n\
             [maintenance]\nlisten = \"{index}\"\nsync = \"http://{tree}\"\nweb = \"{web}\"\n\
             index = \"sqlite://{0}/index.db\"\nunreferenced_grace = \"0s\"\nkeep_accessed = \"0s\"\n\n[telemetry]\nlog = \"info\"\n",
            self.dir().display(),
            self.tree.dir.display(),
            self.upstream.url(),
        )
    }

    /// Adds lines to the configuration, for the next start.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn configure(&self, lines: &str) -> Result<()> {
        let file = self.config_file();
        fs::write(&file, fs::read_to_string(&file)? + lines)?;
        Ok(())
    }

    /// Gives the mirror a variable of its environment, from the next start on.
    pub fn set_environment(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.environment.push((name, value.into()));
    }

    /// A `rookery` command with this farm's configuration.
    #[must_use]
    pub fn rookery(&self) -> Command {
        let mut command = Command::new(program::rookery());
        command.arg("--config").arg(self.config_file());
        command
    }

    /// Starts `rookery up` and waits until everything is served and known.
    ///
    /// # Errors
    /// It ended, or was not ready in time; the end of its log is in the message.
    pub async fn start_mirror(&mut self) -> Result<()> {
        self.spawn_mirror()?;
        let ready = [self.addresses.web, self.addresses.http];
        let started = Instant::now();
        for address in ready {
            while !answers_ready(address).await {
                if let Some(status) = self.mirror.as_mut().and_then(|mirror| mirror.try_wait().transpose()) {
                    bail!("rookery up ended: {}\n{}", status?, self.log_end());
                }
                if started.elapsed() > DEADLINE {
                    bail!("rookery up is not ready at {address}\n{}", self.log_end());
                }
                tick().await;
            }
        }
        Ok(())
    }

    /// Starts `rookery up` and waits for nothing.
    ///
    /// # Errors
    /// It can't be started.
    pub fn spawn_mirror(&mut self) -> Result<()> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir().join("mirror.log"))?;
        let mut command = self.rookery();
        command.arg("up").envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.mirror = Some(command.stdout(Stdio::null()).stderr(log).spawn()?);
        Ok(())
    }

    /// The end of the mirror's log.
    #[must_use]
    pub fn log_end(&self) -> String {
        let log = fs::read_to_string(self.dir().join("mirror.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// SIGKILL, and gone when this returns.
    ///
    /// # Errors
    /// It can't be killed.
    pub fn kill_mirror(&mut self) -> Result<()> {
        let mut mirror = self.mirror.take().context("no mirror is running")?;
        mirror.kill()?;
        mirror.wait()?;
        Ok(())
    }

    /// SIGTERM, then waits for its end.
    ///
    /// # Errors
    /// It did not end in time.
    pub async fn stop_mirror(&mut self) -> Result<ExitStatus> {
        self.terminate_mirror()?;
        self.mirror_ended().await
    }

    /// SIGTERM, without waiting.
    ///
    /// # Errors
    /// There is nothing to send it to.
    pub fn terminate_mirror(&self) -> Result<()> {
        self.signal_mirror("TERM")
    }

    /// A signal by its name.
    ///
    /// # Errors
    /// There is nothing to send it to.
    pub fn signal_mirror(&self, name: &str) -> Result<()> {
        let mirror = self.mirror.as_ref().context("no mirror is running")?;
        let status = program::stock("kill").args(["-s", name]).arg(mirror.id().to_string()).status()?;
        anyhow::ensure!(status.success(), "kill: {status}");
        Ok(())
    }

    /// Waits for the mirror's end.
    ///
    /// # Errors
    /// It did not end in time.
    pub async fn mirror_ended(&mut self) -> Result<ExitStatus> {
        let mut mirror = self.mirror.take().context("no mirror is running")?;
        let started = Instant::now();
        loop {
            if let Some(status) = mirror.try_wait()? {
                return Ok(status);
            }
            if started.elapsed() > DEADLINE {
                mirror.kill()?;
                bail!("SIGTERM did not end it\n{}", self.log_end());
            }
            tick().await;
        }
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        if let Some(mirror) = &mut self.mirror {
            // It may have ended by itself.
            drop(mirror.kill());
            drop(mirror.wait());
        }
    }
}

fn generate(dir: &Path, packages: usize, source_base: String) -> Result<GeneratedTree> {
    let spec = TreeSpec { source_base, packages, ..TreeSpec::default() };
    Ok(farm_sim::tree::generate(&spec, &dir.join("tree"))?)
}

/// Waits until `condition` holds.
///
/// # Errors
/// It did not within [`DEADLINE`].
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    let started = Instant::now();
    while !condition() {
        anyhow::ensure!(started.elapsed() < DEADLINE, "waited in vain: {what}");
        tick().await;
    }
    Ok(())
}

/// The pause between two looks at a condition.
pub async fn tick() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

async fn answers_ready(address: SocketAddr) -> bool {
    // Without one no client can be made, whatever it is for.
    service_kit::process::install_crypto_provider();
    let answer = reqwest::get(format!("http://{address}/readyz")).await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// A loopback address that nobody listens at.
///
/// # Errors
/// All are taken.
pub fn free_address() -> Result<SocketAddr> {
    Ok(farm_sim::ports::free_address()?)
}

/// Five loopback addresses that nobody listens at.
fn free_addresses() -> Result<Addresses> {
    Ok(Addresses {
        rsync: free_address()?,
        http: free_address()?,
        web: free_address()?,
        tree: free_address()?,
        index: free_address()?,
    })
}
