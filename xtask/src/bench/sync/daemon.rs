//! Both daemons, each with the settings that stand under the table.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use farm_sim::ports::free_address;

use super::super::kernel;
use super::table::Side;
use super::wait_until;

pub(super) const MODULE: &str = "gentoo-portage";
const READY_WITHIN: Duration = Duration::from_mins(2);
/// Of 20 ms each.
const RESTING_LOOKS: u32 = 50;

/// A daemon that serves the tree.
pub(super) struct Daemon {
    pub(super) side: Side,
    pub(super) address: SocketAddr,
    command: Command,
    log: PathBuf,
    child: Child,
    settings: String,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Daemon {
    pub(super) fn rookery(program: &Path, dir: &Path) -> Result<Self> {
        let address = free_address()?;
        let settings = format!(
            "[sync]\nlisten = \"{address}\"\ngrpc = \"127.0.0.1:0\"\nstate_dir = \"{0}/state\"\n\
             max_connections = 0\nconnections_per_address = 0\n[[sync.modules]]\nname = \"{MODULE}\"\n\
             source = {{ dir = \"{0}/tree\" }}\nverify = \"none\"\n[telemetry]\nlog = \"warn\"\n",
            dir.display()
        );
        let config = dir.join("rookery.toml");
        fs::write(&config, &settings)?;
        let mut command = Command::new(program);
        command.arg("--config").arg(config);
        Self::start(Side::Rookery, command, address, settings, dir)
    }

    pub(super) fn stock(dir: &Path) -> Result<Self> {
        let address = free_address()?;
        let settings = format!(
            "port = {}\naddress = 127.0.0.1\nuse chroot = no\nlog file = {1}/rsyncd.log\n\
             [{MODULE}]\npath = {1}/tree\nread only = yes\n",
            address.port(),
            dir.display()
        );
        let config = dir.join("rsyncd.conf");
        fs::write(&config, &settings)?;
        let mut command = Command::new("rsync");
        command.args(["--daemon", "--no-detach"]).arg(format!("--config={}", config.display()));
        Self::start(Side::Stock, command, address, settings, dir)
    }

    fn start(
        side: Side,
        mut command: Command,
        address: SocketAddr,
        settings: String,
        dir: &Path,
    ) -> Result<Self> {
        let log = dir.join(format!("{}.log", side.name().replace(' ', "-")));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log)?);
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        let mut daemon = Self { side, address, command, log, child, settings };
        daemon.wait()?;
        Ok(daemon)
    }

    /// Ends it and starts it anew, over what it left.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = self.command.spawn().with_context(|| format!("{:?}", self.command))?;
        self.wait()
    }

    fn wait(&mut self) -> Result<()> {
        let (side, url) = (self.side, format!("rsync://{}/{MODULE}/metadata/", self.address));
        wait_until("a first answer", READY_WITHIN, || {
            let said = || fs::read_to_string(&self.log).unwrap_or_default();
            ensure!(self.child.try_wait()?.is_none(), "{} has ended: {}", side.name(), said());
            let asked = Command::new("rsync").arg("--list-only").arg(&url).output().context("rsync")?;
            Ok(asked.status.success())
        })
    }

    pub(super) fn settings(&self) -> String {
        format!("{}:\n\n```\n{}```\n", self.side.name(), self.settings)
    }

    /// Of all its processes so far.
    pub(super) fn cpu_seconds(&self) -> f64 {
        kernel::cpu_seconds(self.child.id())
    }

    pub(super) fn anonymous_kib(&self) -> f64 {
        kernel::anonymous_mebibytes(self.child.id()) * 1024.0
    }

    /// Waits until it has no process beside the first one.
    pub(super) fn settle(&self) -> Result<()> {
        wait_until("the end of its processes", READY_WITHIN, || Ok(kernel::processes(self.child.id()) == 1))
    }

    /// Waits until it has done nothing for [`RESTING_LOOKS`]: one that was just started looks its tree through first.
    pub(super) fn rest(&self) -> Result<()> {
        let (mut before, mut looks) = (self.cpu_seconds(), 0);
        wait_until("its rest", READY_WITHIN, || {
            let now = self.cpu_seconds();
            looks = if now > before { 0 } else { looks + 1 };
            before = now;
            Ok(looks == RESTING_LOOKS)
        })
    }
}
