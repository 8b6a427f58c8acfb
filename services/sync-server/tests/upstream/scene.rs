//! A sync-server that pulls.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use service_kit::Kit;
use service_kit::config::HumanDuration;
use sync_server::{Config, Looked, Module, ModuleConfig, PullConfig, Running, SourceConfig, VerifyMode};
use tokio::time::timeout;
use tree_store::Generation;

use crate::daemon::DEADLINE;

pub(crate) struct Scene {
    pub(crate) directory: tempfile::TempDir,
    kit: Kit,
    pub(crate) running: Running,
}

/// A module that is pulled from `urls`, in this order.
pub(crate) fn pulled(name: &str, urls: &[String], poll: Duration) -> ModuleConfig {
    let urls = urls.iter().map(|url| url.parse().unwrap()).collect();
    ModuleConfig {
        source: SourceConfig { rsync: Some(sync_server::Upstreams(urls)), ..SourceConfig::default() },
        verify: VerifyMode::Consistent,
        poll: Some(HumanDuration(poll)),
        ..ModuleConfig::of_dir(name, Path::new("/"))
    }
}

impl Scene {
    pub(crate) async fn start(modules: Vec<ModuleConfig>) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), modules).await
    }

    pub(crate) async fn start_in(directory: tempfile::TempDir, modules: Vec<ModuleConfig>) -> Self {
        let any = "127.0.0.1:0".parse().unwrap();
        let config = Config {
            listen: any,
            grpc: any,
            state_dir: directory.path().join("state"),
            pull: PullConfig { answer: HumanDuration(Duration::from_secs(5)), ..PullConfig::default() },
            modules,
            ..Config::default()
        };
        let kit = Kit::default();
        let running = sync_server::start(config, &kit).await.unwrap();
        Self { directory, kit, running }
    }

    pub(crate) fn module(&self, name: &str) -> &Module {
        self.running.modules.get(name).unwrap()
    }

    pub(crate) fn staging(&self) -> PathBuf {
        self.directory.path().join("state/.upstream/m/tree")
    }

    pub(crate) fn unready(&self) -> Vec<(String, String)> {
        self.kit.readiness.check().err().unwrap_or_default()
    }

    pub(crate) async fn publish(&self, allow_older: bool) -> Result<Looked, String> {
        timeout(DEADLINE, self.module("m").publish(allow_older)).await.unwrap()
    }

    /// Waits for a generation of `m` of this number or a later one.
    pub(crate) async fn generation(&self, number: u64) -> Generation {
        self.generation_of("m", number).await
    }

    pub(crate) async fn generation_of(&self, module: &str, number: u64) -> Generation {
        let mut watch = self.module(module).watch();
        let is_there = |live: &Option<Generation>| live.as_ref().is_some_and(|live| live.number() >= number);
        let waited = timeout(DEADLINE, watch.wait_for(is_there)).await;
        let error = self.module(module).attempt().error;
        waited
            .unwrap_or_else(|_| panic!("no generation {number} of {module}: {error}"))
            .unwrap()
            .clone()
            .unwrap()
    }

    /// Waits for the end of a look that failed with these words.
    pub(crate) async fn failure(&self, expected: &str) -> String {
        let started = Instant::now();
        loop {
            let error = self.module("m").attempt().error;
            if error.contains(expected) {
                return error;
            }
            assert!(started.elapsed() < DEADLINE, "no {expected:?} in {error:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn stop(self) -> tempfile::TempDir {
        timeout(DEADLINE, self.kit.tasks.finish()).await.unwrap();
        assert_eq!(self.kit.tasks.crash_so_far(), None);
        self.directory
    }
}

/// Waits until it holds.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A file's text.
pub(crate) fn text(generation: &Generation, path: &str) -> Option<String> {
    let id = generation.lookup(path.as_bytes())?;
    Some(String::from_utf8(generation.read(id, 1 << 20).unwrap()).unwrap())
}
