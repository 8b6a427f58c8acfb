//! `cargo xtask e2e`: the farm of containers, from images to verdict, and nothing left of it.
//!
//! Everything that is made has the label of one compose project, so that it can be removed by that label at the
//! end, after an interruption, and before the next run if this one was killed. The verdict rests on the boxes'
//! reports and on the upstream's own count. Start reading at [`run`].

mod alone;
mod checks;
mod command;
mod engine;
mod farm;
mod host;
mod images;
mod trace;
mod trouble;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use command::Run;
use engine::Engine;
use farm::Farm;

pub(crate) use engine::{Kind, why_not};

/// What the operator may choose.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    pub(crate) engine: Kind,
    /// Compile in the build stage instead of taking binaries of this machine.
    pub(crate) full: bool,
    /// Ports to publish; 0: free ones.
    pub(crate) http_port: u16,
    pub(crate) rsync_port: u16,
    /// Only remove images and whatever an earlier run left.
    pub(crate) remove_images: bool,
}

/// The machine's, because containers are.
const LOCK: &str = "/run/lock/rookery-e2e.lock";

const PROGRAMS: [&str; 5] = ["sync-server", "proxy-cache", "maintenance", "rookery", "farm"];

/// Runs it all. `target` is cargo's, `programs` the folder with what was built, `wheels` has Portage's.
pub(crate) fn run(root: &Path, target: &Path, wheels: &Path, options: Options) -> Result<()> {
    let folder = target.join("containers");
    let mut clock = Clock { began: Instant::now(), times: Vec::new() };
    if let Some(why) = why_not() {
        bail!("{why}");
    }
    let _lock = lock()?;
    command::catch_interruptions()?;
    let engine = Engine::prepare(options.engine, &folder)?;
    farm::remove_all(&engine).context("what an earlier run left")?;
    if options.remove_images {
        return images::remove_all(&engine);
    }
    host::check_names(&engine)?;
    let ports =
        (host::port(options.http_port, "--http-port")?, host::port(options.rsync_port, "--rsync-port")?);
    ensure!(ports.0 != ports.1, "the two ports have to differ");
    clock.lap("tools");
    let binaries = folder.join("bin");
    strip(&target.join("debug"), &binaries.join("out"))?;
    images::build(&engine, root, &folder, (!options.full).then_some(&binaries))?;
    images::check_refusal(&engine)?;
    check_programs(&engine)?;
    clock.lap("images");
    let program = binaries.join("out/farm");
    let mut farm = Farm::plan(&engine, root, folder.join("e2e"), &program, wheels, ports)?;
    let lived = live(&mut farm, &mut clock);
    let removed = farm::remove_all(&engine);
    clock.lap("removal");
    lived?;
    removed?;
    check_nothing_left(&engine)?;
    clock.print();
    Ok(())
}

fn live(farm: &mut Farm<'_>, clock: &mut Clock) -> Result<()> {
    println!("-- one replica");
    farm.up(1)?;
    checks::addresses(farm)?;
    checks::published(farm)?;
    checks::day(farm, 1)?;
    checks::clients(farm)?;
    checks::forged(farm)?;
    checks::observed(farm)?;
    clock.lap("1 replica");
    println!("-- one miss, traced");
    trace::one_miss(farm)?;
    trace::refused(farm)?;
    clock.lap("trace");
    farm::remove_all(farm.engine)?;
    println!("-- three replicas, cold caches");
    farm.up(3)?;
    checks::day(farm, 3)?;
    checks::clients(farm)?;
    clock.lap("3 replicas");
    println!("-- a replica is killed, maintenance restarts");
    trouble::kill_in_mid_download(farm)?;
    trouble::restart_maintenance(farm)?;
    clock.lap("kill");
    farm::remove_all(farm.engine)?;
    println!("-- each image alone");
    alone::each_image(farm)?;
    somebody_elses_volume(farm)?;
    clock.lap("alone");
    Ok(())
}

/// Takes what cargo built without what only debuggers need.
fn strip(debug: &Path, out: &Path) -> Result<()> {
    fs::create_dir_all(out)?;
    for program in PROGRAMS {
        let (from, to) = (debug.join(program), out.join(program));
        ensure!(from.is_file(), "{} is missing: cargo builds it first", from.display());
        Run::new("strip").args(["-o".as_ref(), to.as_os_str(), from.as_os_str()]).output()?;
    }
    Ok(())
}

/// Programs that were linked with a newer C library than the image has do not start.
fn check_programs(engine: &Engine) -> Result<()> {
    let image = format!("{}/sync-server", images::IMAGES);
    let started = engine.run().args(["run", "--rm", "--label", host::LABEL, &image, "--version"]).finish()?;
    ensure!(
        started.status.success(),
        "this machine's programs do not run in the image ({}): use --full, which compiles in the image",
        started.reason()
    );
    Ok(())
}

/// A volume with one of our names that we did not make is left alone, and said so.
fn somebody_elses_volume(farm: &Farm<'_>) -> Result<()> {
    let name = format!("{}_trees", host::PROJECT);
    farm.engine.run().args(["volume", "create", &name]).output()?;
    let checked = host::check_names(farm.engine);
    farm.engine.run().cleanup().args(["volume", "rm", &name]).output()?;
    let Err(error) = checked else { bail!("a volume of somebody else was taken for ours") };
    println!("  somebody else's volume: \"{error}\"");
    Ok(())
}

fn check_nothing_left(engine: &Engine) -> Result<()> {
    for words in [
        ["ps", "--all", "--format", "{{.Names}}"],
        ["network", "ls", "--format", "{{.Name}}"],
        ["volume", "ls", "--format", "{{.Name}}"],
    ] {
        let names = engine.run().args(words).output()?;
        let left: Vec<&str> = names.lines().filter(|name| name.starts_with(host::PROJECT)).collect();
        ensure!(left.is_empty(), "left behind: {}", left.join(" "));
    }
    println!(
        "  no container, network or volume is left; images {}/* stay as a cache (--remove-images)",
        images::IMAGES
    );
    Ok(())
}

fn lock() -> Result<File> {
    let path = PathBuf::from(LOCK);
    let folder = path.parent().context("it has a parent")?;
    fs::create_dir_all(folder)?;
    let file = File::create(&path).with_context(|| LOCK.to_owned())?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another run of the farm is under way ({LOCK}): wait for its end")
        }
        Err(TryLockError::Error(error)) => Err(error).context(LOCK),
    }
}

/// How long each part took.
struct Clock {
    began: Instant,
    times: Vec<(&'static str, Duration)>,
}

impl Clock {
    fn lap(&mut self, what: &'static str) {
        let before: Duration = self.times.iter().map(|(_, time)| *time).sum();
        self.times.push((what, self.began.elapsed().saturating_sub(before)));
    }

    fn print(&self) {
        let parts: Vec<String> =
            self.times.iter().map(|(what, time)| format!("{what} {:.0} s", time.as_secs_f64())).collect();
        println!("  {:.0} s: {}", self.began.elapsed().as_secs_f64(), parts.join(", "));
    }
}
