//! The compose project: brought up, asked, and removed without a trace.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::command::{Run, eventually};
use super::engine::Engine;
use super::host::{LABEL, PROJECT};
use super::images::IMAGES;

/// The services' user in the images.
const SERVICE_UID: u32 = 8730;

/// Secrets that must not get into a trace or a log.
pub(super) const MIRROR_PASSWORD: &str = "mirror-password-of-the-farm";

/// How long services may take to be ready, and boxes to live their day.
const PATIENCE: Duration = Duration::from_mins(3);

pub(super) const BOXES: [&str; 7] =
    ["box-ws1", "box-ws2", "box-ws3", "box-ws4", "box-ws5", "box-db1", "box-db2"];

/// Everything that one run makes.
pub(super) struct Farm<'a> {
    pub(super) engine: &'a Engine,
    pub(super) root: &'a Path,
    /// What the containers share with us.
    pub(super) dir: PathBuf,
    pub(super) http_port: u16,
    pub(super) rsync_port: u16,
    replicas: usize,
}

impl<'a> Farm<'a> {
    /// Writes the plan with the `farm` program, the configuration and the token; makes no container.
    pub(super) fn plan(
        engine: &'a Engine,
        root: &'a Path,
        dir: PathBuf,
        program: &Path,
        wheels: &Path,
        ports: (u16, u16),
    ) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        Run::new(program).args(["--dir"]).args([&dir]).args(["plan"]).output()?;
        fs::create_dir_all(dir.join("wheels"))?;
        for wheel in fs::read_dir(wheels)? {
            let wheel = wheel?;
            fs::copy(wheel.path(), dir.join("wheels").join(wheel.file_name()))?;
        }
        fs::write(dir.join("rookery.toml"), configuration())?;
        let farm = Self { engine, root, dir, http_port: ports.0, rsync_port: ports.1, replicas: 1 };
        farm.write_token()?;
        Ok(farm)
    }

    fn write_token(&self) -> Result<()> {
        let mut random = [0_u8; 32];
        std::io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut random)?;
        let token = format!("{:032x}{:032x}", high_half(&random), high_half(&random[16..]));
        let path = self.token_file();
        let folder = path.parent().context("it has a parent")?;
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        fs::write(&path, token)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400))?;
        Ok(std::os::unix::fs::chown(&path, Some(SERVICE_UID), None)?)
    }

    pub(super) fn token_file(&self) -> PathBuf {
        self.dir.join("private/grpc-token")
    }

    fn compose(&self) -> Run {
        // With several replicas a published port would collide; each gets one of its own.
        let http = if self.replicas == 1 {
            format!("127.0.0.1:{}:8080", self.http_port)
        } else {
            "127.0.0.1::8080".to_owned()
        };
        self.engine
            .compose(self.root)
            .env("ROOKERY_IMAGES", IMAGES)
            .env("ROOKERY_E2E_DIR", &self.dir)
            .env("ROOKERY_CONFIG_FILE", self.dir.join("rookery.toml"))
            .env("ROOKERY_TOKEN_FILE", self.token_file())
            .env("ROOKERY_TREE", self.dir.join("tree"))
            .env("ROOKERY_KEYS", self.dir.join("lists"))
            .env("ROOKERY_OTLP_ENDPOINT", "http://traces:4317")
            .env("ROOKERY_HTTP_PUBLISH", http)
            .env("ROOKERY_RSYNC_PUBLISH", format!("127.0.0.1:{}:873", self.rsync_port))
            .args(["--project-name", PROJECT, "--file", "compose.yaml", "--profile", "e2e"])
    }

    /// Brings the mirror up with that many replicas of proxy-cache, and waits until all is ready.
    pub(super) fn up(&mut self, replicas: usize) -> Result<()> {
        self.replicas = replicas;
        let scale = format!("proxy-cache={replicas}");
        let services = ["sync-server", "maintenance", "proxy-cache", "ws1", "upstream", "traces"];
        self.compose().args(["up", "--detach", "--no-build", "--scale", &scale]).args(services).output()?;
        self.wait_until_ready()
    }

    /// Ready is what each service says of itself, and that each replica has the catalogue and is known to the
    /// front.
    pub(super) fn wait_until_ready(&self) -> Result<()> {
        let proxies = self.proxies();
        let services =
            [container("sync-server", 1), container("maintenance", 1)].into_iter().chain(proxies.clone());
        for name in services {
            let program =
                name.trim_start_matches("rookery-e2e_").rsplit_once('_').map_or("", |(program, _)| program);
            let mut said = String::new();
            let ready = eventually(&format!("{name} is ready"), PATIENCE, || {
                let asked = self.engine.run().args(["exec", &name, program, "health"]).finish()?;
                asked.reason().clone_into(&mut said);
                Ok(asked.status.success().then_some(()))
            });
            ready.with_context(|| format!("{said}; its log ends with {}", self.log_end(&name)))?;
        }
        for name in &proxies {
            let url = format!("http://{}:8080/", self.address(name)?);
            eventually(&format!("{name} has the catalogue"), PATIENCE, || {
                Ok(page(&url)?.contains("catalogue is here").then_some(()))
            })?;
        }
        eventually("the front passes requests on", PATIENCE, || {
            Ok((page("http://10.13.18.101:8080/readyz")?.trim() == "ready").then_some(()))
        })?;
        eventually("the front knows all replicas", PATIENCE, || {
            let log = self.engine.run().args(["logs", &container("ws1", 1)]).finish()?;
            let log = log.stdout + &log.stderr;
            let known = (1..=8)
                .filter(|number| log.contains(&format!("replicas/replica{number} ('proxy-cache') is UP")));
            Ok((known.count() >= self.replicas).then_some(()))
        })
    }

    pub(super) fn proxies(&self) -> Vec<String> {
        (1..=self.replicas).map(|number| container("proxy-cache", number)).collect()
    }

    /// The container's address in the services' network.
    pub(super) fn address(&self, name: &str) -> Result<String> {
        self.address_in(&format!("{PROJECT}_internal"), name)
    }

    pub(super) fn address_in(&self, network: &str, name: &str) -> Result<String> {
        let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
        Ok(self.engine.run().args(["inspect", "--format", &format, name]).output()?.trim().to_owned())
    }

    /// Its addresses in all networks, separated by spaces.
    pub(super) fn addresses(&self, name: &str) -> Result<String> {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        self.engine.run().args(["inspect", "--format", format, name]).output()
    }

    /// Lets all boxes live their day, and gives their reports.
    pub(super) fn boxes(&self) -> Result<Vec<Value>> {
        self.compose().args(["up", "--detach", "--no-build", "--no-deps"]).args(BOXES).output()?;
        let mut reports = Vec::new();
        for service in BOXES {
            let name = container(service, 1);
            let waited = self.engine.run().patience(PATIENCE).args(["wait", &name]).output();
            let code = waited.with_context(|| format!("{name}: {}", self.log_end(&name)))?;
            let path =
                self.dir.join("reports").join(service.trim_start_matches("box-")).with_extension("json");
            let report = fs::read(&path)
                .with_context(|| format!("{name} wrote no report: {}", self.log_end(&name)))?;
            let report: Value = serde_json::from_slice(&report)?;
            ensure!(code.trim() == "0", "{name} exited with {}: {}", code.trim(), report["problems"]);
            reports.push(report);
        }
        Ok(reports)
    }

    /// Says something to the upstream or the trace collector.
    pub(super) fn tell(&self, service: &str, words: &[&str]) -> Result<Value> {
        let name = container(service, 1);
        let said = self.engine.run().args(["exec", &name, "farm", "ctl"]).args(words).output()?;
        Ok(serde_json::from_str(&said).unwrap_or_else(|_| Value::String(said.trim().to_owned())))
    }

    /// A client in the boxes' network that fetches one distfile as Portage would and checks it.
    pub(super) fn client(&self, name: &str, mode: &str, words: &[&str]) -> Run {
        let network = format!("{PROJECT}_farm");
        let run = self.engine.run().patience(PATIENCE).args(["run", mode, "--name", name, "--label", LABEL]);
        let run = run.args(["--network", &network, "--add-host", "ws1:10.13.18.101", "--cap-drop", "ALL"]);
        run.args([&format!("{IMAGES}/client")]).args(words)
    }

    pub(super) fn log_end(&self, name: &str) -> String {
        let log = self.engine.run().args(["logs", "--tail", "3", name]).finish();
        log.map_or_else(
            |error| error.to_string(),
            |log| (log.stdout + &log.stderr).trim().replace('\n', " | "),
        )
    }

    /// Everything that the services logged.
    pub(super) fn logs(&self) -> Result<String> {
        let mut all = String::new();
        for name in
            [container("sync-server", 1), container("maintenance", 1)].into_iter().chain(self.proxies())
        {
            let log = self.engine.run().args(["logs", &name]).finish()?;
            all.push_str(&log.stdout);
            all.push_str(&log.stderr);
        }
        Ok(all)
    }
}

/// The body of a page, or nothing while there is none.
pub(super) fn page(url: &str) -> Result<String> {
    let curl = ["--silent", "--show-error", "--max-time", "5", "--noproxy", "*", url];
    Ok(Run::new("curl").args(curl).finish()?.stdout)
}

/// The first 16 octets as a number.
fn high_half(octets: &[u8]) -> u128 {
    octets.iter().take(16).fold(0, |number, octet| number << 8 | u128::from(*octet))
}

/// The name that podman-compose gives, and docker's compose for the sake of compatibility.
pub(super) fn container(service: &str, number: usize) -> String {
    format!("{PROJECT}_{service}_{number}")
}

fn configuration() -> String {
    format!(
        "[sync]\nlisten = \"0.0.0.0:873\"\nstate_dir = \"/var/lib/rookery/trees\"\n\n\
         [[sync.modules]]\nname = \"gentoo-portage\"\ncomment = \"The farm's tree\"\n\
         source = {{ dir = \"/var/db/repos/gentoo\" }}\nverify = \"consistent\"\n\n\
         [proxy]\nlisten = \"0.0.0.0:8080\"\ncache_dir = \"/var/cache/rookery\"\ncapacity = \"2 GiB\"\n\
         mirrors = [\"http://farm:{MIRROR_PASSWORD}@10.89.73.240:8000\"]\n\
         allow_clients = [\"10.13.18.0/24\", \"10.89.0.0/16\", \"172.16.0.0/12\", \"127.0.0.0/8\"]\n\
         allow_private_upstreams = [\"10.89.73.240/32\"]\n\n\
         [maintenance]\nindex = \"sqlite:///var/lib/rookery/index.db\"\nlease = \"5s\"\n"
    )
}

/// Removes every container, volume and network of this project, whoever was interrupted, and makes sure of it.
pub(super) fn remove_all(engine: &Engine) -> Result<()> {
    let filter = format!("label={LABEL}");
    let list = |words: &[&str]| -> Result<Vec<String>> {
        let found = engine.run().cleanup().args(words).args(["--quiet", "--filter", &filter]).output()?;
        Ok(found.lines().map(str::to_owned).collect())
    };
    for (what, remove) in [
        (&["ps", "--all"][..], engine.remove_containers()),
        (&["volume", "ls"], &["volume", "rm"]),
        (&["network", "ls"], &["network", "rm"]),
    ] {
        let found = list(what)?;
        if !found.is_empty() {
            engine.run().cleanup().args(remove).args(&found).output()?;
        }
        let left = list(what)?;
        if !left.is_empty() {
            bail!(
                "could not remove {}: `{} {} {}` does it",
                left.join(" "),
                engine.name(),
                remove.join(" "),
                left.join(" ")
            );
        }
    }
    Ok(())
}
