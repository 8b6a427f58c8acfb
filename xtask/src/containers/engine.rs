//! Who runs the containers: podman or docker, with their compose, found or installed, and where the two differ.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::command::{Run, eventually};
use crate::tools::{self, is_installed, is_root};

/// The two that read the Containerfile and compose.yaml.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// With podman-compose, which is installed from `PyPI`.
    #[default]
    Podman,
    /// With its compose plugin.
    Docker,
}

impl Kind {
    /// Of its program.
    const fn name(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Docker => "docker",
        }
    }

    /// The first version that was tried.
    const fn major_min(self) -> u32 {
        match self {
            Self::Podman => 4,
            Self::Docker => 20,
        }
    }
}

const START_PATIENCE: Duration = Duration::from_mins(1);
const PODMAN_COMPOSE: &str = "podman-compose==1.6.0";

/// What both need besides the engine: a base image where no registry answers, and what looks at the result.
const PROGRAMS: [(&str, &str); 4] =
    [("iptables", "iptables"), ("debootstrap", "debootstrap"), ("strip", "binutils"), ("curl", "curl")];

/// Debian 12 has no compose plugin; this is Debian 13's package of it, one program that needs the C library alone.
const PLUGIN_URL: &str =
    "http://deb.debian.org/debian/pool/main/d/docker-compose/docker-compose_2.26.1-4_amd64.deb";
const PLUGIN_SHA256: &str = "47681197cb2b1ab88206b42a1a92fc75f50d9530a6322d03494a473eed0408ea";
const PLUGIN: &str = "usr/libexec/docker/cli-plugins/docker-compose";

/// Settings under which podman runs as root in a container, or on a machine without systemd: crun refuses
/// some control group hierarchies, and podman asks for more files and processes than may be had there.
const CONTAINERS_CONF: &str = "[containers]\n\
    default_ulimits = [\"nofile=20000:20000\", \"nproc=20000:20000\"]\n\
    [engine]\nruntime = \"runc\"\n";

/// The programs, ready to be used.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) kind: Kind,
    /// The program, and what makes it compose.
    compose: Vec<PathBuf>,
    /// podman's settings.
    conf: PathBuf,
    folder: PathBuf,
    /// docker's, if it was not running.
    daemon: Option<Daemon>,
}

/// Why containers can't be run here by this user, if so.
pub(crate) fn why_not() -> Option<&'static str> {
    (!is_root()).then_some("the engine's networks and packages need root here; run it as root to have it")
}

impl Engine {
    /// Finds the programs, installing what is missing.
    pub(super) fn prepare(kind: Kind, folder: &Path) -> Result<Self> {
        if let Some(why) = why_not() {
            bail!("{why}");
        }
        install_packages(kind)?;
        std::fs::create_dir_all(folder)?;
        let conf = folder.join("containers.conf");
        std::fs::write(&conf, CONTAINERS_CONF)?;
        let mut engine = Self { kind, compose: Vec::new(), conf, folder: folder.to_owned(), daemon: None };
        let version = engine.run().args(["--version"]).output()?;
        check_version(kind, &version)?;
        engine.compose = match kind {
            Kind::Podman => {
                check_forwarding()?;
                vec![install_podman_compose(&folder.join("compose"))?]
            }
            Kind::Docker => {
                engine.daemon = start_docker(&engine, folder)?;
                docker_compose(&folder.join("docker-compose"))?
            }
        };
        let compose_version = engine.compose(folder).args(["version"]).output()?;
        println!("  {}, {}", version.trim(), compose_version.lines().next().unwrap_or_default());
        Ok(engine)
    }

    pub(super) const fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// One run of the engine's program.
    pub(super) fn run(&self) -> Run {
        let run = Run::new(self.name());
        match self.kind {
            Kind::Podman => run.env("CONTAINERS_CONF", &self.conf),
            Kind::Docker => run,
        }
    }

    /// One run of its compose, in the project's `root`.
    pub(super) fn compose(&self, root: &Path) -> Run {
        let (program, words) = self
            .compose
            .split_first()
            .map_or((Path::new(""), &[][..]), |(program, words)| (program.as_path(), words));
        let run = Run::new(program).args(words).dir(root);
        match self.kind {
            Kind::Podman => run.env("CONTAINERS_CONF", &self.conf),
            // Containers get the names that podman-compose gives, with `_` between the parts.
            Kind::Docker => run.env("COMPOSE_COMPATIBILITY", "true"),
        }
    }

    /// The options that remove containers at once, with what hangs on them.
    pub(super) const fn remove_containers(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Podman => &["rm", "--force", "--time", "0", "--volumes", "--depend", "--ignore"],
            Kind::Docker => &["rm", "--force", "--volumes"],
        }
    }

    /// Options of `pull` for a registry of this host that has no certificate.
    pub(super) const fn pull_options(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Podman => &["--tls-verify=false"],
            // It asks none of loopback.
            Kind::Docker => &[],
        }
    }

    /// Prometheus's tool out of its package, without the daemons that the package would start.
    pub(super) fn promtool(&self) -> Result<PathBuf> {
        if is_installed("promtool") {
            return Ok("promtool".into());
        }
        let folder = self.folder.join("prometheus");
        let program = folder.join("usr/bin/promtool");
        if !program.is_file() {
            std::fs::create_dir_all(&folder)?;
            Run::new("apt-get").dir(&folder).args(["--quiet", "download", "prometheus"]).output()?;
            for file in std::fs::read_dir(&folder)? {
                let file = file?.path();
                if file.extension().is_some_and(|extension| extension == "deb") {
                    Run::new("dpkg-deb").arg("--extract").arg(&file).arg(&folder).output()?;
                }
            }
        }
        Ok(program)
    }
}

/// Programs that show whether it is there, their Debian packages, and what has to be installed with them.
const fn packages_of(kind: Kind) -> (&'static [(&'static str, &'static str)], &'static [&'static str]) {
    match kind {
        // Its network and its name server are recommended only, and needed.
        Kind::Podman => (&[("podman", "podman"), ("runc", "runc")], &["netavark", "aardvark-dns"]),
        Kind::Docker => (&[("dockerd", "docker.io"), ("docker", "docker.io")], &[]),
    }
}

fn install_packages(kind: Kind) -> Result<()> {
    let (programs, always) = packages_of(kind);
    let missing: Vec<&str> = programs
        .iter()
        .chain(&PROGRAMS)
        .filter(|(program, _)| !is_installed(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    ensure!(
        is_installed("apt-get"),
        "there is no {0} here: install {0} by this system's package manager",
        missing.join(", ")
    );
    println!("  installing {}", missing.join(" "));
    tools::apt_get(&["update"])?;
    let arguments = ["install", "--yes", "--no-install-recommends"]
        .into_iter()
        .chain(missing)
        .chain(always.iter().copied());
    tools::apt_get(&arguments.collect::<Vec<_>>())
}

/// `podman version 4.3.1`, `Docker version 20.10.24+dfsg1, build 297e128`.
fn check_version(kind: Kind, said: &str) -> Result<()> {
    let (name, least) = (kind.name(), kind.major_min());
    let mut words = said.split_whitespace();
    let is_it =
        words.next().is_some_and(|word| word.eq_ignore_ascii_case(name)) && words.next() == Some("version");
    let version = words.next().unwrap_or_default().trim_end_matches(',');
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    match major.filter(|_| is_it) {
        Some(major) if major >= least => Ok(()),
        Some(_) => bail!("{name} is {version}, too old: install {name} {least} or later"),
        None => bail!("{name} --version says \"{}\": is that {name}?", said.trim()),
    }
}

fn install_podman_compose(environment: &Path) -> Result<PathBuf> {
    let program = environment.join("bin/podman-compose");
    if !program.is_file() {
        Run::new("python3").args(["-m", "venv"]).args([environment]).output()?;
        Run::new(environment.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check", PODMAN_COMPOSE])
            .output()
            .with_context(|| format!("could not install {PODMAN_COMPOSE} from PyPI"))?;
    }
    Ok(program)
}

/// docker has what goes over a bridge filtered, and all dropped that it did not ask for, also after it ended:
/// podman's containers then do not reach each other.
fn check_forwarding() -> Result<()> {
    let filtered = std::fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables");
    if filtered.is_ok_and(|filtered| filtered.trim() == "1") {
        ensure!(
            forwards()?,
            "podman's containers can't reach each other here, because docker, which is or was running, has what \
             bridges forward dropped: `iptables -P FORWARD ACCEPT` ends that"
        );
    }
    Ok(())
}

/// Whether the host forwards what no rule speaks of.
fn forwards() -> Result<bool> {
    let rules = Run::new("iptables").args(["--list-rules", "FORWARD"]).cleanup().output()?;
    Ok(!rules.contains("-P FORWARD DROP"))
}

/// Has the engine answer. Where nothing starts services, it runs for as long as the result is there; `folder` gets
/// its log.
fn start_docker(engine: &Engine, folder: &Path) -> Result<Option<Daemon>> {
    let answers =
        || -> Result<Option<()>> { Ok(engine.run().args(["info"]).finish()?.status.success().then_some(())) };
    if answers()?.is_some() {
        return Ok(None);
    }
    let path = folder.join("dockerd.log");
    println!("  starting dockerd ({})", path.display());
    let log = File::create(&path)?;
    let did_forward = forwards()?;
    let mut command = Command::new("dockerd");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    let daemon = Daemon { process: command.spawn().context("dockerd")?, did_forward };
    eventually("the docker engine answers", START_PATIENCE, answers)
        .with_context(|| format!("{} says why", path.display()))?;
    Ok(Some(daemon))
}

/// An engine of our own; ends when dropped, and the host then forwards again if it did before.
#[derive(Debug)]
struct Daemon {
    process: Child,
    did_forward: bool,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(process) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _gone_already = kill_process(process, Signal::TERM);
        }
        let _nobody_asks = self.process.wait();
        if self.did_forward
            && let Err(error) =
                Run::new("iptables").args(["--policy", "FORWARD", "ACCEPT"]).cleanup().output()
        {
            println!("  what docker has this host drop is dropped still: {error:#}");
        }
    }
}

/// The plugin that is here, or else one of our own.
fn docker_compose(folder: &Path) -> Result<Vec<PathBuf>> {
    let is_here = Run::new("docker").args(["compose", "version"]).finish()?.status.success();
    if is_here {
        return Ok(vec!["docker".into(), "compose".into()]);
    }
    let program = folder.join(PLUGIN);
    if !program.is_file() {
        ensure!(
            cfg!(target_arch = "x86_64"),
            "there is no `docker compose` here: install docker's compose plugin, version 2"
        );
        std::fs::create_dir_all(folder)?;
        let package = folder.join("plugin.deb");
        println!("  fetching {PLUGIN_URL}");
        Run::new("curl")
            .args(["--silent", "--show-error", "--fail", "--location", "--output"])
            .arg(&package)
            .arg(PLUGIN_URL)
            .output()
            .context("there is no `docker compose` here: install docker's compose plugin, version 2")?;
        let sum = Run::new("sha256sum").arg(&package).output()?;
        ensure!(sum.starts_with(PLUGIN_SHA256), "{PLUGIN_URL} is another file than it was: {}", sum.trim());
        Run::new("dpkg-deb").arg("--extract").arg(&package).arg(folder).output()?;
    }
    Ok(vec![program])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_engine_and_something_else_are_told_in_one_line() {
        check_version(Kind::Podman, "podman version 4.3.1\n").unwrap();
        check_version(Kind::Podman, "podman version 10.0.0-dev\n").unwrap();
        check_version(Kind::Docker, "Docker version 20.10.24+dfsg1, build 297e128\n").unwrap();
        for (kind, said, reason) in [
            (Kind::Podman, "podman version 3.4.4\n", "podman is 3.4.4, too old: install podman 4 or later"),
            (Kind::Podman, "docker\n", "podman --version says \"docker\": is that podman?"),
            (Kind::Podman, "", "podman --version says \"\": is that podman?"),
            (
                Kind::Docker,
                "Docker version 19.03.1, build 74b1e89\n",
                "docker is 19.03.1, too old: install docker 20 or later",
            ),
            (
                Kind::Docker,
                "podman version 4.3.1\n",
                "docker --version says \"podman version 4.3.1\": is that docker?",
            ),
        ] {
            assert_eq!(check_version(kind, said).unwrap_err().to_string(), reason);
        }
    }
}
