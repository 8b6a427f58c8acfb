//! What the machine has to have before anything is made: podman, podman-compose, free ports, free names.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::command::Run;
use crate::tools::{self, is_installed, is_root};

/// The compose project, and the label that everything of it has.
pub(super) const PROJECT: &str = "rookery-e2e";
pub(super) const LABEL: &str = "io.podman.compose.project=rookery-e2e";

const PODMAN_MAJOR_MIN: u32 = 4;
const COMPOSE: &str = "podman-compose==1.6.0";

const DEBIAN_PACKAGES: [(&str, &str); 6] = [
    ("podman", "podman"),
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("debootstrap", "debootstrap"),
    ("strip", "binutils"),
    ("curl", "curl"),
];

/// Settings under which podman runs as root in a container, or on a machine without systemd: crun refuses
/// some control group hierarchies, and podman asks for more files and processes than may be had there.
const CONTAINERS_CONF: &str = "[containers]\n\
    default_ulimits = [\"nofile=20000:20000\", \"nproc=20000:20000\"]\n\
    [engine]\nruntime = \"runc\"\n";

/// The programs, ready to be used.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    compose: PathBuf,
    conf: PathBuf,
    folder: PathBuf,
}

/// Why containers can't be run here by this user, if so.
pub(crate) fn why_not() -> Option<&'static str> {
    (!is_root()).then_some("podman's networks and packages need root here; run it as root to have it")
}

impl Engine {
    /// Finds the programs, installing what is missing.
    pub(super) fn prepare(folder: &Path) -> Result<Self> {
        if let Some(why) = why_not() {
            bail!("{why}");
        }
        install_packages()?;
        let version = Run::new("podman").args(["--version"]).output().context("podman does not run")?;
        check_version(&version)?;
        std::fs::create_dir_all(folder)?;
        let conf = folder.join("containers.conf");
        std::fs::write(&conf, CONTAINERS_CONF)?;
        let compose = install_compose(&folder.join("compose"))?;
        let compose_version = Run::new(&compose).args(["--version"]).output()?;
        println!("  {}, {}", version.trim(), compose_version.lines().next().unwrap_or_default());
        Ok(Self { compose, conf, folder: folder.to_owned() })
    }

    pub(super) fn podman(&self) -> Run {
        Run::new("podman").env("CONTAINERS_CONF", &self.conf)
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

    pub(super) fn compose(&self, root: &Path) -> Run {
        Run::new(&self.compose).dir(root).env("CONTAINERS_CONF", &self.conf)
    }
}

fn install_packages() -> Result<()> {
    let missing: Vec<&str> = DEBIAN_PACKAGES
        .iter()
        .filter(|(program, _)| !is_installed(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    ensure!(
        is_installed("apt-get"),
        "there is no {0} here: install {0} (podman {PODMAN_MAJOR_MIN} or later) by this system's package manager",
        missing.join(", ")
    );
    println!("  installing {}", missing.join(" "));
    tools::apt_get(&["update"])?;
    // Recommended by podman, and needed: its network and its name server.
    let always = ["netavark", "aardvark-dns"];
    let arguments = ["install", "--yes", "--no-install-recommends"].into_iter().chain(missing).chain(always);
    tools::apt_get(&arguments.collect::<Vec<_>>())
}

fn check_version(said: &str) -> Result<()> {
    let version = said.split_whitespace().last().unwrap_or_default();
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    match major {
        Some(major) if major >= PODMAN_MAJOR_MIN => Ok(()),
        Some(_) => bail!("podman is {version}, too old: install podman {PODMAN_MAJOR_MIN} or later"),
        None => bail!("podman --version says \"{}\": is that podman?", said.trim()),
    }
}

fn install_compose(environment: &Path) -> Result<PathBuf> {
    let program = environment.join("bin/podman-compose");
    if !program.is_file() {
        Run::new("python3").args(["-m", "venv"]).args([environment]).output()?;
        Run::new(environment.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check", COMPOSE])
            .output()
            .with_context(|| format!("could not install {COMPOSE} from PyPI"))?;
    }
    Ok(program)
}

/// A port of loopback: the one that was asked for, or one that is free.
pub(super) fn port(asked: u16, option: &str) -> Result<u16> {
    match TcpListener::bind(("127.0.0.1", asked)) {
        Ok(listener) => Ok(listener.local_addr()?.port()),
        Err(error) => bail!(
            "port {asked}: {error}: stop what listens there (`ss -ltnp 'sport = {asked}'` names it) or give another \
             {option}"
        ),
    }
}

/// Nothing that has our names may be somebody else's.
pub(super) fn check_names(engine: &Engine) -> Result<()> {
    for (kind, remove) in [("volume", "podman volume rm"), ("network", "podman network rm")] {
        let names = |filter: &[&str]| -> Result<Vec<String>> {
            let found = engine.podman().args([kind, "ls", "--format", "{{.Name}}"]).args(filter).output()?;
            Ok(found.lines().map(str::to_owned).collect())
        };
        let ours = names(&["--filter", &format!("label={LABEL}")])?;
        let prefix = format!("{PROJECT}_");
        if let Some(name) = names(&[])?.iter().find(|name| name.starts_with(&prefix) && !ours.contains(name))
        {
            bail!(
                "the {kind} {name} belongs to somebody else: rename it, or `{remove} {name}` if nobody needs it"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_podman_and_something_else_are_told_in_one_line() {
        assert!(check_version("podman version 4.3.1\n").is_ok());
        assert!(check_version("podman version 10.0.0-dev\n").is_ok());
        for (said, reason) in [
            ("podman version 3.4.4\n", "podman is 3.4.4, too old: install podman 4 or later"),
            ("docker\n", "podman --version says \"docker\": is that podman?"),
            ("", "podman --version says \"\": is that podman?"),
        ] {
            assert_eq!(check_version(said).unwrap_err().to_string(), reason);
        }
    }

    #[test]
    fn a_taken_port_is_told_with_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = taken.local_addr().unwrap().port();
        let error = port(number, "--http-port").unwrap_err().to_string();
        assert!(error.contains(&format!("ss -ltnp 'sport = {number}'")) && !error.contains('\n'), "{error}");
        assert!(error.ends_with("give another --http-port"), "{error}");
        assert_ne!(port(0, "--http-port").unwrap(), number);
    }
}
