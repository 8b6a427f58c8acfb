//! Running programs so that an interruption ends them, and what was made is then removed.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

/// Longer than anything but a build from source takes.
const PATIENCE: Duration = Duration::from_mins(10);
const TICK: Duration = Duration::from_millis(20);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT and SIGTERM end the program that runs and let the caller clean up.
pub(super) fn catch_interruptions() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                eprintln!("xtask: interrupted: removing what was made");
                INTERRUPTED.store(true, Ordering::SeqCst);
            }
        });
    });
    Ok(())
}

/// An error once the run was interrupted.
pub(super) fn check_interruption() -> Result<()> {
    ensure!(!INTERRUPTED.load(Ordering::SeqCst), "interrupted");
    Ok(())
}

/// What a program ended with.
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Finished {
    /// The last line that it said, which mostly is the reason.
    pub(super) fn reason(&self) -> &str {
        let said = |text: &'static str, found: &str| (!found.trim().is_empty()).then_some(text);
        let text = match said("stderr", &self.stderr) {
            Some(_) => &self.stderr,
            None => &self.stdout,
        };
        text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing")
    }
}

/// One run of a program, in a process group of its own: a terminal's Ctrl-C reaches us alone.
pub(super) struct Run {
    command: Command,
    patience: Duration,
    is_cleanup: bool,
}

impl Run {
    pub(super) fn new(program: impl AsRef<Path>) -> Self {
        let mut command = Command::new(program.as_ref());
        command.stdin(Stdio::null()).process_group(0);
        Self { command, patience: PATIENCE, is_cleanup: false }
    }

    pub(super) fn args<S: AsRef<std::ffi::OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.command.args(arguments);
        self
    }

    pub(super) fn arg(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub(super) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(super) fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    pub(super) fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Goes on although the run was interrupted.
    pub(super) fn cleanup(mut self) -> Self {
        self.is_cleanup = true;
        self
    }

    /// Its standard output, if it succeeded.
    pub(super) fn output(self) -> Result<String> {
        let what = self.what();
        let finished = self.finish()?;
        ensure!(finished.status.success(), "{what}: {}", finished.reason());
        Ok(finished.stdout)
    }

    /// What it ended with, success or not.
    pub(super) fn finish(mut self) -> Result<Finished> {
        let what = self.what();
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().with_context(|| what.clone())?;
        let stdout = child.stdout.take().map(reader);
        let stderr = child.stderr.take().map(reader);
        let status = self.wait(&mut child).with_context(|| what)?;
        Ok(Finished { status, stdout: text_of(stdout), stderr: text_of(stderr) })
    }

    fn wait(&self, child: &mut Child) -> Result<ExitStatus> {
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            let is_interrupted = !self.is_cleanup && INTERRUPTED.load(Ordering::SeqCst);
            if is_interrupted || began.elapsed() > self.patience {
                if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                    // It may have ended by itself.
                    let _gone_already = kill_process_group(group, Signal::KILL);
                }
                child.wait()?;
                check_interruption()?;
                bail!("did not end within {:?}", self.patience);
            }
            std::thread::sleep(TICK);
        }
    }

    fn what(&self) -> String {
        let program = Path::new(self.command.get_program()).file_name().unwrap_or_default().to_string_lossy();
        let words = self.command.get_args().take(4).map(|word| word.to_string_lossy());
        std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ")
    }
}

fn reader(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What can't be read is missing from a message; nothing depends on it.
        drop(stream.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn text_of(reader: Option<JoinHandle<String>>) -> String {
    reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
}

/// Asks again and again until there is an answer; at most for `patience`.
pub(super) fn eventually<T>(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let began = Instant::now();
    loop {
        check_interruption()?;
        if let Some(answer) = ask().with_context(|| what.to_owned())? {
            return Ok(answer);
        }
        ensure!(began.elapsed() < patience, "waited {patience:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(150));
    }
}
