//! A whole process: from its configuration to its exit code.

use std::future::Future;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Kit;
use crate::config::{ConfigError, HumanDuration, Settings};
use crate::exit_code::Exit;
use crate::grpc::GrpcConfig;
use crate::lifecycle::Tasks;
use crate::telemetry::{self, LogFormat, Telemetry, TelemetryConfig};

/// How long the last spans may take to be sent.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// How long dropped tasks and blocking file work may take to end after a hard stop.
const HARD_STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The `[process]` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessConfig {
    /// How long work under way may take after the first SIGTERM. Keep it below what the supervisor waits
    /// before it kills (containers: 10 s unless told otherwise).
    pub grace: HumanDuration,
}

impl Default for ProcessConfig {
    fn default() -> Self {
        Self { grace: HumanDuration(Duration::from_secs(30)) }
    }
}

/// Runs a service: reads the configuration, starts telemetry, calls `start` and stays until the process is
/// asked to stop or a critical task crashes. `start` returns once everything listens; what it returns lives
/// until the end. `config` is the file named on the command line.
///
/// The first SIGTERM or SIGINT is the soft stop: [`Tasks::soft`] is cancelled and work under way has the
/// grace time. A second signal, or the end of the grace time, is the hard stop. [`Exit`] lists the codes. SIGHUP
/// counts as one of them if standard error is a terminal, because then the terminal is gone; else it says in the log
/// that nothing is read anew.
pub fn run<F, Fut, T>(service_name: &'static str, config: Option<&Path>, start: F) -> ExitCode
where
    F: FnOnce(Settings, Kit) -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    run_with(service_name, Settings::read(config), start)
}

/// The same with settings that the caller has put together.
pub fn run_with<F, Fut, T>(
    service_name: &'static str,
    settings: Result<Settings, ConfigError>,
    start: F,
) -> ExitCode
where
    F: FnOnce(Settings, Kit) -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => return refuse(service_name, &error.into(), Exit::Config, LogFormat::Text),
    };
    match boot_and_stay(service_name, &settings, start) {
        Ok(Exit::Clean) => Exit::Clean.into(),
        Ok(exit) => exit.into(),
        Err(error) => {
            let exit = Exit::of(&error);
            let format = settings
                .section("telemetry")
                .map_or(LogFormat::Text, |telemetry: TelemetryConfig| telemetry.format);
            refuse(service_name, &located(&settings, error), exit, format)
        }
    }
}

/// How long a `health` command waits: below the three seconds that container health checks are usually
/// given.
pub const HEALTH_TIMEOUT: Duration = Duration::from_millis(2_500);

/// Runs a service's `health` command, which asks the process that runs with the same configuration.
/// Exit codes: 0 it serves, 1 it does not, 64 the configuration is wrong.
pub fn run_health<F, Fut>(service_name: &'static str, config: Option<&Path>, ask: F) -> ExitCode
where
    F: FnOnce(Settings) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    install_crypto_provider();
    let asked = || -> anyhow::Result<()> {
        let settings = Settings::read(config)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(ask(settings))
    };
    match asked() {
        Ok(()) => Exit::Clean.into(),
        Err(error) => refuse(service_name, &error, Exit::of(&error), LogFormat::Text),
    }
}

/// Installs the TLS implementation that all of Rookery uses. [`run`] does it; tests and command lines that
/// don't `run` call it. Calling it again does nothing.
pub fn install_crypto_provider() {
    // An error says that one is installed already.
    drop(rustls::crypto::ring::default_provider().install_default());
}

fn boot_and_stay<F, Fut, T>(service_name: &'static str, settings: &Settings, start: F) -> anyhow::Result<Exit>
where
    F: FnOnce(Settings, Kit) -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    let telemetry_config: TelemetryConfig = settings.section("telemetry")?;
    let process_config: ProcessConfig = settings.section("process")?;
    let grpc: GrpcConfig = settings.section("grpc")?;
    install_crypto_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let kit = Kit { grpc, ..Kit::default() };
    let (telemetry, exit) = runtime.block_on(async {
        let telemetry = telemetry::init(&telemetry_config, service_name)?;
        let exit = stay(settings.clone(), kit, process_config.grace.0, start).await;
        Ok::<_, anyhow::Error>((telemetry, exit))
    })?;
    flush(telemetry);
    runtime.shutdown_timeout(HARD_STOP_TIMEOUT);
    exit
}

fn flush(telemetry: Telemetry) {
    telemetry.shutdown(FLUSH_TIMEOUT);
}

/// Start, wait for a reason to stop, stop.
async fn stay<F, Fut, T>(settings: Settings, kit: Kit, grace: Duration, start: F) -> anyhow::Result<Exit>
where
    F: FnOnce(Settings, Kit) -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    let mut signals = Signals::new()?;
    let process = kit.readiness.part("process", "starting");
    let tasks = kit.tasks.clone();
    let started = tokio::select! {
        started = start(settings, kit) => Some(started),
        name = signals.next() => {
            tracing::info!(signal = name, "asked to stop while starting");
            None
        }
    };
    let running = match started {
        Some(Ok(running)) => running,
        Some(Err(error)) => {
            drop(tokio::time::timeout(HARD_STOP_TIMEOUT, tasks.stop()).await);
            return Err(error);
        }
        None => return Ok(wind_down(&tasks, grace, &mut signals).await),
    };
    process.ready();
    tokio::select! {
        name = signals.next() => tracing::info!(signal = name, ?grace, "stopping: finishing what is under way"),
        crash = tasks.crashed() => tracing::error!(%crash, "stopping"),
    }
    process.not_ready("stopping");
    let exit = wind_down(&tasks, grace, &mut signals).await;
    drop(running);
    Ok(exit)
}

/// The soft stop, and the hard one if that is not enough.
async fn wind_down(tasks: &Tasks, grace: Duration, signals: &mut Signals) -> Exit {
    let finished = tokio::select! {
        () = tasks.finish() => true,
        () = tokio::time::sleep(grace) => {
            tracing::warn!(left = tasks.running(), ?grace, "the grace time is over: stopping where we are");
            false
        }
        name = signals.next() => {
            tracing::warn!(left = tasks.running(), signal = name, "asked again: stopping where we are");
            false
        }
    };
    if !finished && tokio::time::timeout(HARD_STOP_TIMEOUT, tasks.stop()).await.is_err() {
        tracing::warn!(left = tasks.running(), "tasks ignore the hard stop");
    }
    match (tasks.crash_so_far(), finished) {
        (Some(_), _) => Exit::Crashed,
        (None, true) => Exit::Clean,
        (None, false) => Exit::Hard,
    }
}

/// What asks the process to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// Whoever watches goes away with the terminal. Without one, SIGHUP is what daemons are told to read their
    /// configuration again with.
    has_terminal: bool,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            has_terminal: std::io::stderr().is_terminal(),
        })
    }

    /// Waits for the next one that asks to stop.
    async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => {
                    if self.has_terminal {
                        return "SIGHUP";
                    }
                    tracing::warn!("SIGHUP changes nothing: the configuration is read at the start; check it, then restart");
                }
            }
        }
    }
}

/// Fills in where a wrong value came from, if the one who found it didn't know.
fn located(settings: &Settings, error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<ConfigError>() {
        Some(wrong @ ConfigError::Value { .. }) => settings.locate(wrong).into(),
        _ => error,
    }
}

/// The last line: for people as it is, for a log of JSON as JSON, if there is a log already.
#[allow(clippy::print_stderr, reason = "there may be no log yet")]
fn refuse(service_name: &str, error: &anyhow::Error, exit: Exit, format: LogFormat) -> ExitCode {
    if format == LogFormat::Json && tracing::dispatcher::has_been_set() {
        tracing::error!(code = exit.code(), "{service_name}: {error:#}");
    } else {
        eprintln!("{service_name}: {error:#}");
    }
    exit.into()
}
