//! A running mirror and every damage that a signed tree can come to, from a directory and from a stock rsync daemon:
//! refused each time with the path named, the generation before stays, and gemato is asked about the same tree.
#![allow(clippy::print_stdout, reason = "the table of verdicts is for people")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use rookery_tests::farm::{DEADLINE, eventually, free_address};
use rookery_tests::program;
use rookery_tests::signed::{EBUILD, Made, PACKAGE, PATCH, Rig, Scene, Signer, good, line, package, write};
use serde_json::Value;

/// One damage: its name, the tree that the source has afterwards, the path that is named, and whether gemato has a
/// notion of it.
struct Damage {
    name: &'static str,
    scene: fn() -> Scene,
    path: &'static str,
    gemato_refuses: bool,
}

fn newer() -> Scene {
    Scene { top: Made::After.timestamp(), made: Made::After, ..good() }
}

fn afterwards(afterwards: fn(&Path) -> Result<()>) -> Scene {
    Scene { afterwards, ..newer() }
}

const EBUILD_PATH: &str = "app-misc/a/a-1.ebuild";
const OLDER: &str = "older timestamp";

const DAMAGES: [Damage; 11] = [
    Damage {
        name: "flipped byte",
        scene: || afterwards(|dir| write(&dir.join(EBUILD_PATH), b"EAPI=7\n")),
        path: EBUILD_PATH,
        gemato_refuses: true,
    },
    Damage {
        name: "missing file",
        scene: || afterwards(|dir| Ok(fs::remove_file(dir.join("profiles/repo_name"))?)),
        path: "profiles/repo_name",
        gemato_refuses: true,
    },
    Damage {
        name: "stray file",
        scene: || afterwards(|dir| write(&dir.join("app-misc/a/a-2.ebuild"), EBUILD)),
        path: "app-misc/a/a-2.ebuild",
        gemato_refuses: true,
    },
    Damage {
        name: "wrong size",
        scene: || afterwards(|dir| write(&dir.join("app-misc/a/files/fix.patch"), b"+fix!\n")),
        path: "app-misc/a/files/fix.patch",
        gemato_refuses: true,
    },
    Damage {
        name: "bad signature",
        scene: || {
            afterwards(|dir| {
                let text = fs::read_to_string(dir.join("Manifest"))?;
                Ok(fs::write(dir.join("Manifest"), text.replace("IGNORE distfiles", "IGNORE app-misc"))?)
            })
        },
        path: "Manifest",
        gemato_refuses: true,
    },
    Damage {
        name: "expired key",
        scene: || Scene { signer: Signer::Expired, ..newer() },
        path: "Manifest",
        gemato_refuses: true,
    },
    Damage {
        name: "unknown key",
        scene: || Scene { signer: Signer::Unknown, ..newer() },
        path: "Manifest",
        gemato_refuses: true,
    },
    // gemato is given one tree and knows nothing of an earlier one.
    Damage {
        name: OLDER,
        scene: || Scene { top: Made::Before.timestamp(), made: Made::Before, ..good() },
        path: "metadata/timestamp.chk",
        gemato_refuses: false,
    },
    Damage {
        name: "older signature under a newer timestamp.chk",
        scene: || Scene { top: Made::Before.timestamp(), ..newer() },
        path: "Manifest",
        gemato_refuses: false,
    },
    Damage {
        name: "truncated sub-Manifest",
        scene: || {
            afterwards(|dir| {
                let octets = fs::read(dir.join(PACKAGE))?;
                Ok(fs::write(dir.join(PACKAGE), &octets[..octets.len() / 2])?)
            })
        },
        path: PACKAGE,
        gemato_refuses: true,
    },
    Damage {
        name: "duplicate entry",
        scene: || Scene {
            package: (package() + &line("EBUILD", "a-1.ebuild", PATCH)).into_bytes(),
            ..newer()
        },
        path: PACKAGE,
        gemato_refuses: true,
    },
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Dir,
    Rsync,
}

impl Source {
    const ALL: [Self; 2] = [Self::Dir, Self::Rsync];

    fn word(self) -> &'static str {
        match self {
            Self::Dir => "dir",
            Self::Rsync => "rsync",
        }
    }
}

/// One damage of one source: a module of its own.
struct Cell {
    module: String,
    source: Source,
    damage: &'static Damage,
    tree: PathBuf,
}

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

struct Mirror {
    scratch: tempfile::TempDir,
    cells: Vec<Cell>,
    rsync: SocketAddr,
    _processes: [Process; 2],
}

impl Mirror {
    /// Every cell's source has the good tree, and each module serves it.
    async fn start(rig: &Rig) -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        let mut cells = Vec::new();
        for damage in &DAMAGES {
            for source in Source::ALL {
                let module = format!("{}-{}", source.word(), damage.name.replace([' ', '.'], "-"));
                let tree = scratch.path().join("trees").join(&module);
                fs::create_dir_all(&tree)?;
                rig.lay_out(&good(), &tree)?;
                cells.push(Cell { module, source, damage, tree });
            }
        }
        let [rsync, upstream, tree, index, web] =
            [free_address()?, free_address()?, free_address()?, free_address()?, free_address()?];
        let daemon = start_daemon(scratch.path(), &cells, upstream)?;
        let config = scratch.path().join("rookery.toml");
        let http = free_address()?;
        let head = format!(
            "[sync]\nlisten = \"{rsync}\"\ngrpc = \"{tree}\"\nstate_dir = \"{0}/state\"\n\
             [proxy]\nlisten = \"{http}\"\ncache_dir = \"{0}/cache\"\ncapacity = \"1 GiB\"\n\
             [proxy.maintenance]\nendpoint = \"http://{index}\"\n\
             [maintenance]\nlisten = \"{index}\"\nsync = \"http://{tree}\"\nweb = \"{web}\"\n\
             index = \"sqlite://{0}/index.db\"\n",
            scratch.path().display()
        );
        // A mirror may be asked again after a second, so that nothing here is waited for in vain.
        let module = |Cell { module, source, tree, .. }: &Cell| {
            let source = match source {
                Source::Dir => format!("{{ dir = \"{}\" }}", tree.display()),
                Source::Rsync => format!("{{ rsync = \"rsync://{upstream}/{module}\" }}\npoll = \"1s\""),
            };
            format!(
                "[[sync.modules]]\nname = \"{module}\"\nsource = {source}\nverify = \"signed\"\n\
                 openpgp_key = \"{}\"\n",
                rig.keys().display()
            )
        };
        let modules: Vec<String> = cells.iter().map(module).collect();
        fs::write(&config, head + &modules.concat())?;
        let log = fs::File::create(scratch.path().join("log"))?;
        let mut up = Command::new(program::rookery());
        up.arg("--config").arg(&config).arg("up").stderr(log).stdout(Stdio::null());
        let up = Process(up.spawn()?);
        let mirror = Self { scratch, cells, rsync, _processes: [daemon, up] };
        let started = Instant::now();
        while mirror.live_numbers().is_none_or(|numbers| numbers.contains(&0)) {
            ensure!(started.elapsed() < DEADLINE, "not every module is served\n{}", mirror.log_end());
            rookery_tests::farm::tick().await;
        }
        Ok(mirror)
    }

    fn log_end(&self) -> String {
        let log = fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn rookery(&self, arguments: &[&str]) -> Command {
        let mut rookery = Command::new(program::rookery());
        rookery.arg("--json").arg("--config").arg(self.scratch.path().join("rookery.toml")).args(arguments);
        rookery
    }

    fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.rookery(arguments).output()?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// A module as `status` has it.
    fn module(&self, name: &str) -> Result<Value> {
        let status = self.ask(&["status"])?;
        let modules = status["modules"].as_array().context("modules")?;
        modules.iter().find(|module| module["name"] == name).cloned().context("the module")
    }

    fn live_numbers(&self) -> Option<Vec<u64>> {
        let status = self.ask(&["status"]).ok()?;
        let modules = status["modules"].as_array().filter(|modules| modules.len() == self.cells.len())?;
        Some(modules.iter().map(|module| module["live"]["number"].as_u64().unwrap_or(0)).collect())
    }

    /// Waits until each module that is pulled was looked at often enough: a look that was under way, one that came too
    /// soon for the mirror to be asked, and one that asked it.
    async fn settle(&self) -> Result<()> {
        const LOOKS: u32 = 3;
        let mut seen = vec![(0, 0); self.cells.len()];
        eventually("every mirror is asked again", || {
            let Ok(status) = self.ask(&["status"]) else { return false };
            let Some(modules) = status["modules"].as_array() else { return false };
            for (module, (last, looks)) in modules.iter().zip(&mut seen) {
                let at = module["last_attempt_ms"].as_i64().unwrap_or(0);
                *looks += u32::from(*last != 0 && at > *last);
                *last = at;
            }
            let pulled = self.cells.iter().zip(&seen).filter(|(cell, _)| cell.source == Source::Rsync);
            pulled.into_iter().all(|(_, (_, looks))| *looks >= LOOKS)
        })
        .await
    }

    /// Asks for the tree as it is now to be published; gives the reason why it was not. What is pulled has settled.
    fn publish(&self, cell: &Cell) -> Result<Option<String>> {
        let reason = match cell.source {
            Source::Dir => {
                let output = self.rookery(&["publish", &cell.module]).output()?;
                if output.status.success() { String::new() } else { String::from_utf8(output.stderr)? }
            }
            Source::Rsync => {
                self.module(&cell.module)?["last_error"].as_str().context("last_error")?.to_owned()
            }
        };
        Ok(Some(reason).filter(|reason| !reason.is_empty()))
    }

    /// What the stock client gets of a module.
    fn served(&self, cell: &Cell, path: &str) -> Result<String> {
        let copy = tempfile::tempdir()?;
        let mut rsync = program::stock("rsync");
        rsync.args(["-rlpt", &format!("rsync://{}/{}/", self.rsync, cell.module)]).arg(copy.path());
        let status = rsync.status()?;
        ensure!(status.success(), "rsync: {status}\n{}", self.log_end());
        Ok(fs::read_to_string(copy.path().join(path))?)
    }
}

/// The stock daemon with a module for each cell that is pulled.
fn start_daemon(scratch: &Path, cells: &[Cell], address: SocketAddr) -> Result<Process> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    // Only root can and must keep the daemon from becoming nobody.
    let user = if is_root { "uid = root\ngid = root\n" } else { "" };
    let head = format!("use chroot = no\nlog file = {}/rsyncd.log\n{user}", scratch.display());
    let pulled = cells.iter().filter(|cell| cell.source == Source::Rsync);
    let modules: Vec<String> =
        pulled.map(|cell| format!("[{}]\npath = {}\n", cell.module, cell.tree.display())).collect();
    let config = scratch.join("rsyncd.conf");
    fs::write(&config, head + &modules.concat())?;
    let mut rsync = program::stock("rsync");
    rsync.args(["--daemon", "--no-detach", &format!("--address={}", address.ip())]);
    rsync.arg(format!("--port={}", address.port())).arg("--config").arg(config).stdin(Stdio::null());
    Ok(Process(rsync.spawn()?))
}

/// What is wrong with a cell, empty if all is as it should be.
fn judge(mirror: &Mirror, cell: &Cell, theirs: &Result<(), String>) -> Result<Vec<String>> {
    let Cell { module, damage, .. } = cell;
    let mut wrong = Vec::new();
    let ours = mirror.publish(cell)?;
    println!("{:<6} {}\n       ours:   {ours:?}\n       gemato: {theirs:?}", cell.source.word(), damage.name);
    if !ours.is_some_and(|reason| {
        reason.contains(&format!("{}: ", damage.path)) || reason.contains(&format!("{}:", damage.path))
    }) {
        wrong.push("not refused with its path".to_owned());
    }
    if theirs.is_err() != damage.gemato_refuses {
        wrong.push(format!("gemato says {theirs:?}"));
    }
    let live = mirror.module(module)?["live"]["number"].clone();
    if live != 1 || mirror.served(cell, "metadata/timestamp.chk")? != Made::Then.timestamp_chk() {
        wrong.push(format!("generation {live} is live"));
    }
    // A mirror's tree is not even pulled if its timestamp is older.
    if cell.source == Source::Rsync && damage.name == OLDER {
        return Ok(wrong);
    }
    let told = mirror.ask(&["generations", module, "--refused"])?;
    let faults = told["refusals"][0]["faults"].as_array().cloned().unwrap_or_default();
    if !faults.iter().any(|fault| fault["path"] == damage.path) {
        wrong.push(format!("the report does not name {}: {told}", damage.path));
    }
    Ok(wrong)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damage_is_refused_with_its_path_whatever_the_source() -> Result<()> {
    let rig = Rig::create()?;
    let mirror = Mirror::start(&rig).await?;
    for cell in &mirror.cells {
        rig.lay_out(&(cell.damage.scene)(), &cell.tree).with_context(|| cell.module.clone())?;
    }
    mirror.settle().await?;
    let mut wrong = Vec::new();
    for pair in mirror.cells.chunks(2) {
        // Both sources of a damage hold the same.
        let theirs = rig.ask_gemato(&pair[0].tree, &rig.keys())?;
        for cell in pair {
            let found = judge(&mirror, cell, &theirs).with_context(|| cell.module.clone())?;
            wrong.extend(found.into_iter().map(|what| format!("{}: {what}", cell.module)));
        }
    }
    println!("{} cells: {} damages from a directory and from rsync", mirror.cells.len(), DAMAGES.len());
    ensure!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), mirror.log_end());

    for cell in mirror.cells.iter().filter(|cell| cell.damage.name == OLDER) {
        // From a mirror it comes at the next look.
        drop(mirror.rookery(&["publish", &cell.module, "--allow-older"]).output()?);
        let is_live = || mirror.module(&cell.module).is_ok_and(|module| module["live"]["number"] == 2);
        eventually(&format!("{} takes the older tree", cell.module), is_live).await?;
        assert_eq!(mirror.served(cell, "metadata/timestamp.chk")?, Made::Before.timestamp_chk());
        let told = mirror.ask(&["generations", &cell.module, "--refused"])?;
        assert_eq!(told["refusals"].as_array().map(Vec::len), Some(0), "kept although all is well: {told}");
    }
    Ok(())
}
