//! What `cargo xtask test` does, in order, and how long each part took.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::containers::{self, Options};
use crate::tools::Tools;

/// One stage: its name, what it is for, and what it runs.
struct Stage {
    name: &'static str,
    about: &'static str,
    run: fn(&Workspace, &Tools) -> Result<()>,
    /// Only with `--full`.
    long: bool,
}

const STAGES: &[Stage] = &[
    Stage { name: "fmt", about: "rustfmt agrees with every file", run: fmt, long: false },
    Stage { name: "clippy", about: "no lint fires, tests included", run: clippy, long: false },
    Stage { name: "docs", about: "every link in the documentation leads somewhere", run: docs, long: false },
    Stage {
        name: "deny",
        about: "licences, sources and doubles of the dependencies",
        run: deny,
        long: false,
    },
    Stage { name: "unit", about: "unit and integration tests of every crate", run: unit, long: false },
    Stage { name: "guard", about: "hot paths take no more instructions", run: guard, long: false },
    Stage { name: "e2e", about: "rsync, wget, curl and Portage against the program", run: e2e, long: false },
    Stage { name: "containers", about: "the farm in containers", run: in_containers, long: false },
    Stage { name: "soak", about: "the same kills and properties, many times over", run: soak, long: true },
];

/// Where things are.
struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

/// Prints the names of the stages.
pub(crate) fn list() {
    for stage in STAGES {
        println!("{:10} {}{}", stage.name, stage.about, if stage.long { " (--full)" } else { "" });
    }
}

/// Runs the stages; stops at the first that fails.
pub(crate) fn test(full: bool, only: &[String]) -> Result<()> {
    if let Some(unknown) = only.iter().find(|name| STAGES.iter().all(|stage| stage.name != **name)) {
        bail!("there is no stage {unknown}; `cargo xtask test --list` names them");
    }
    let started = Instant::now();
    let workspace = Workspace::find()?;
    println!("== tools");
    let tools = Tools::prepare(&workspace.target.join("tools"))?;
    let mut times = vec![("tools", started.elapsed())];
    for stage in STAGES {
        let wanted = if only.is_empty() { full || !stage.long } else { only.iter().any(|n| n == stage.name) };
        if !wanted {
            continue;
        }
        println!("== {}: {}", stage.name, stage.about);
        let stage_started = Instant::now();
        (stage.run)(&workspace, &tools).with_context(|| format!("stage {}", stage.name))?;
        times.push((stage.name, stage_started.elapsed()));
    }
    println!("\nstage       minutes");
    for (name, time) in &times {
        println!("{name:10} {:8.1}", minutes(*time));
    }
    println!("{:10} {:8.1}", "all", minutes(started.elapsed()));
    Ok(())
}

fn minutes(time: Duration) -> f64 {
    time.as_secs_f64() / 60.0
}

impl Workspace {
    fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("the xtask crate lies in the workspace")?
            .to_owned();
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        Ok(Self { root, target })
    }

    fn cargo(&self, arguments: &[&str], environment: &[(&str, &Path)]) -> Result<()> {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root).args(arguments);
        for (name, value) in environment {
            command.env(name, value);
        }
        let status = command.status().context("cargo")?;
        if !status.success() {
            bail!("cargo {} ended with {status}", arguments.join(" "));
        }
        Ok(())
    }
}

fn fmt(workspace: &Workspace, _: &Tools) -> Result<()> {
    workspace.cargo(&["fmt", "--all", "--", "--check"], &[])
}

fn clippy(workspace: &Workspace, _: &Tools) -> Result<()> {
    workspace.cargo(
        &["clippy", "--quiet", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"],
        &[],
    )
}

fn docs(workspace: &Workspace, _: &Tools) -> Result<()> {
    workspace.cargo(
        &["doc", "--quiet", "--locked", "--workspace", "--no-deps", "--document-private-items"],
        &[("RUSTDOCFLAGS", Path::new("-D warnings"))],
    )
}

fn deny(workspace: &Workspace, tools: &Tools) -> Result<()> {
    // The advisory database is a git repository that a build machine may not reach; it is checked by
    // whoever can, not here.
    let status = Command::new(&tools.cargo_deny)
        .current_dir(&workspace.root)
        .args(["--workspace", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"])
        .status()
        .context("cargo-deny")?;
    if !status.success() {
        bail!("cargo deny ended with {status}");
    }
    Ok(())
}

fn unit(workspace: &Workspace, _: &Tools) -> Result<()> {
    workspace.cargo(&["test", "--quiet", "--locked", "--workspace", "--exclude", "rookery-tests"], &[])
}

fn guard(_: &Workspace, _: &Tools) -> Result<()> {
    crate::guard::run(false)
}

fn e2e(workspace: &Workspace, tools: &Tools) -> Result<()> {
    run_end_to_end(workspace, tools, &[], &[])
}

/// `cargo xtask e2e`.
pub(crate) fn end_to_end(options: Options) -> Result<()> {
    let workspace = Workspace::find()?;
    if options.remove_images {
        return containers::run(&workspace.root, &workspace.target, Path::new(""), options);
    }
    let tools = Tools::prepare(&workspace.target.join("tools"))?;
    run_containers(&workspace, &tools, options)
}

fn in_containers(workspace: &Workspace, tools: &Tools) -> Result<()> {
    if let Some(why) = containers::why_not() {
        println!("skipped: {why}");
        return Ok(());
    }
    run_containers(workspace, tools, Options::default())
}

fn run_containers(workspace: &Workspace, tools: &Tools, options: Options) -> Result<()> {
    let services = ["--package", "sync-server", "--package", "proxy-cache", "--package", "maintenance"];
    let others = ["--package", "rookery", "--package", "rookery-tests", "--bins"];
    workspace.cargo(&[&["build", "--quiet", "--locked"][..], &services, &others].concat(), &[])?;
    containers::run(&workspace.root, &workspace.target, &tools.wheels, options)
}

fn soak(workspace: &Workspace, tools: &Tools) -> Result<()> {
    let pure = [
        "test",
        "--quiet",
        "--locked",
        "-p",
        "rsync-wire",
        "-p",
        "gentoo-repo",
        "-p",
        "openpgp-verdict",
        "-p",
        "http-wire",
        "-p",
        "cache-policy",
    ];
    let stores = ["-p", "tree-store", "-p", "blob-store"];
    workspace.cargo(&[&pure[..], &stores].concat(), &[("PROPTEST_CASES", Path::new("5000"))])?;
    let nights = ["test", "--quiet", "--locked", "-p", "maintenance", "--test", "kills"];
    workspace.cargo(&nights, &[("ROOKERY_KILLS", Path::new("50"))])?;
    let crowd = [
        "test",
        "--quiet",
        "--locked",
        "-p",
        "proxy-cache",
        "--test",
        "with_maintenance",
        "a_hundred_clients",
    ];
    workspace.cargo(&crowd, &[("ROOKERY_SOAK_CROWD_BYTES", Path::new("100000000"))])?;
    let clients = ["test", "--quiet", "--locked", "-p", "proxy-cache", "--test", "http", "soak"];
    workspace.cargo(&clients, &[("ROOKERY_SOAK_SECONDS", Path::new("600"))])?;
    run_end_to_end(
        workspace,
        tools,
        &["--test", "downloads", "--test", "generations", "--test", "heads"],
        &[
            ("ROOKERY_SOAK_FARMS", Path::new("10")),
            ("ROOKERY_SOAK_KILLS", Path::new("50")),
            ("ROOKERY_SOAK_HEADS", Path::new("1000000")),
        ],
    )
}

/// The end-to-end tests drive the real binary, so it is built first. One test at a time: they start
/// farms of their own and would only take the two cores from each other.
fn run_end_to_end(
    workspace: &Workspace,
    tools: &Tools,
    which: &[&str],
    environment: &[(&str, &Path)],
) -> Result<()> {
    workspace.cargo(&["build", "--quiet", "--locked", "--package", "rookery", "--bins"], &[])?;
    let program = workspace.target.join("debug/rookery");
    let mut arguments = vec!["test", "--locked", "--package", "rookery-tests"];
    arguments.extend_from_slice(which);
    arguments.extend(["--", "--test-threads=1"]);
    let mut variables: Vec<(&str, &Path)> =
        vec![("ROOKERY_BIN", &program), ("ROOKERY_TEST_WHEELS", &tools.wheels)];
    variables.extend_from_slice(environment);
    workspace.cargo(&arguments, &variables)
}
