//! The images: base images from a registry or made here, ours from the Containerfile.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::command::Run;
use super::engine::{Engine, Kind};

/// Where everything that we build is named.
pub(super) const IMAGES: &str = "localhost/rookery-e2e";

/// Targets of the Containerfile.
pub(super) const SERVICES: [&str; 4] = ["sync-server", "proxy-cache", "maintenance", "rookery"];
const OTHERS: [&str; 2] = ["front", "client"];

/// What a service may add to its base image, and what it may with programs that were not optimised, which
/// are larger and shipped to nobody.
const SERVICE_BYTES_MAX: u64 = 60_000_000;
const UNOPTIMISED_BYTES_MAX: u64 = 120_000_000;

const RUN_BASE: &str = "docker.io/library/debian:bookworm-slim";
const BUILD_BASE: &str = "docker.io/library/rust:1.95-bookworm";
const SUITE: &str = "bookworm";

/// A build from source: dependencies and ours, optimised, on a slow machine.
const BUILD_PATIENCE: Duration = Duration::from_mins(90);

/// What a registry made of the wish for an image.
#[derive(Debug, PartialEq, Eq)]
enum Pulled {
    Here,
    /// No registry can be reached.
    NoRegistry,
    /// It can, and says this.
    Refused(String),
}

/// Builds every image and checks the sizes of the services'. `binaries` is a folder with the programs that
/// were built on this machine; without it, everything is compiled in the build stage.
pub(super) fn build(engine: &Engine, root: &Path, folder: &Path, binaries: Option<&Path>) -> Result<()> {
    let run_base = run_base(engine, folder)?;
    let mut mounts: Vec<String> = Vec::new();
    let build_base = match binaries {
        Some(binaries) => built_base(engine, folder, &run_base, binaries)?,
        None => build_base(engine, folder, &run_base, &mut mounts)?,
    };
    let arguments = [("RUN_BASE", run_base.as_str()), ("BUILD_BASE", build_base.as_str())];
    for target in SERVICES.into_iter().chain(OTHERS) {
        let image = format!("{IMAGES}/{target}");
        let recipe = Recipe { context: root, target: Some(target), arguments: &arguments, mounts: &mounts };
        recipe.build(engine, folder, &image).with_context(|| format!("the image {target}"))?;
    }
    check_sizes(engine, &run_base, if binaries.is_some() { UNOPTIMISED_BYTES_MAX } else { SERVICE_BYTES_MAX })
}

/// What an image is made of: the Containerfile of a folder, and what is said beside it.
#[derive(Clone, Copy)]
struct Recipe<'a> {
    context: &'a Path,
    target: Option<&'a str>,
    arguments: &'a [(&'a str, &'a str)],
    /// `FROM:TO[:ro]`, there while it is built.
    mounts: &'a [String],
}

impl<'a> Recipe<'a> {
    const fn of(context: &'a Path) -> Self {
        Self { context, target: None, arguments: &[], mounts: &[] }
    }

    /// Builds it in the place of what had the name. `folder` is for what has to be written on the way.
    fn build(&self, engine: &Engine, folder: &Path, image: &str) -> Result<()> {
        let before = id_of(engine, image)?;
        let build = match engine.kind {
            Kind::Podman => self.by_podman(engine, image),
            Kind::Docker => self.by_docker(engine, folder, image)?,
        };
        build.patience(BUILD_PATIENCE).output()?;
        remove_replaced(engine, image, before)
    }

    fn by_podman(&self, engine: &Engine, image: &str) -> Run {
        // The other format has no health check.
        let build = engine.run().args(["build", "--quiet", "--format", "docker", "--network", "host"]);
        let build = build.args(self.target.iter().flat_map(|target| ["--target", target]));
        let arguments = self.arguments.iter().map(|(name, value)| format!("{name}={value}"));
        let build = build.args(arguments.flat_map(|argument| ["--build-arg".to_owned(), argument]));
        let build = build.args(self.mounts.iter().flat_map(|mount| ["--volume", mount]));
        build.args(["--tag", image]).arg(self.context)
    }

    /// By its compose, which has the engine's own builder do it: `docker build` without a plugin is another one, that
    /// builds each stage anew.
    fn by_docker(&self, engine: &Engine, folder: &Path, image: &str) -> Result<Run> {
        ensure!(
            self.mounts.is_empty(),
            "docker can't lend this machine's Rust to a build: --full needs a registry"
        );
        let arguments: BTreeMap<_, _> = self.arguments.iter().copied().collect();
        let mut build = json!({ "context": self.context, "dockerfile": "Containerfile", "args": arguments });
        if let Some(target) = self.target {
            build["target"] = target.into();
        }
        let file = folder.join("build.json");
        fs::write(&file, json!({"services": {"one": {"image": image, "build": build}}}).to_string())?;
        Ok(engine.compose(folder).arg("--file").arg(&file).args(["build", "--quiet"]))
    }
}

/// Removes what had the image's name before, unless it is the same still or another image is built upon it.
fn remove_replaced(engine: &Engine, image: &str, before: Option<String>) -> Result<()> {
    let now = id_of(engine, image)?;
    if let Some(before) = before.filter(|before| now.as_ref() != Some(before)) {
        drop(engine.run().args(["rmi", &before]).finish()?);
    }
    Ok(())
}

fn check_sizes(engine: &Engine, base: &str, bytes_max: u64) -> Result<()> {
    let base_bytes = size_of(engine, base)?;
    for service in SERVICES {
        let added = size_of(engine, &format!("{IMAGES}/{service}"))?.saturating_sub(base_bytes);
        println!("  {service:12} {:3} MB above its base", added / 1_000_000);
        ensure!(added <= bytes_max, "{service}: {added} bytes above its base are more than {bytes_max}");
    }
    Ok(())
}

fn size_of(engine: &Engine, image: &str) -> Result<u64> {
    Ok(engine.run().args(["image", "inspect", "--format", "{{.Size}}", image]).output()?.trim().parse()?)
}

fn id_of(engine: &Engine, image: &str) -> Result<Option<String>> {
    let found = engine.run().args(["image", "inspect", "--format", "{{.Id}}", image]).finish()?;
    Ok(found.status.success().then(|| found.stdout.trim().to_owned()))
}

/// The base under which services run; made from Debian's packages where no registry answers.
fn run_base(engine: &Engine, folder: &Path) -> Result<String> {
    match pull(engine, RUN_BASE)? {
        Pulled::Here => return Ok(RUN_BASE.to_owned()),
        Pulled::Refused(why) => {
            bail!("the registry of {RUN_BASE} says: {why}: try again later, or `{} login`", engine.name())
        }
        Pulled::NoRegistry => {}
    }
    let image = format!("{IMAGES}/debian:{SUITE}-slim");
    if id_of(engine, &image)?.is_some() {
        return Ok(image);
    }
    println!("  no registry answers: making a stand-in for {RUN_BASE}");
    let root = folder.join(SUITE);
    let complete = root.with_extension("complete");
    if !complete.is_file() {
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        Run::new("debootstrap").args(["--variant=minbase", SUITE]).args([&root]).output()?;
        let _caches_are_ballast = fs::remove_dir_all(root.join("var/cache/apt/archives"));
        fs::write(complete, "")?;
    }
    import(engine, &root, &image)?;
    Ok(image)
}

/// A base in which everything is built already: `binaries` has a folder `out` with the programs.
fn built_base(engine: &Engine, folder: &Path, run_base: &str, binaries: &Path) -> Result<String> {
    let image = format!("{IMAGES}/built");
    fs::write(binaries.join("Containerfile"), format!("FROM {run_base}\nCOPY out /out\n"))?;
    Recipe::of(binaries).build(engine, folder, &image)?;
    Ok(image)
}

/// The base under which cargo runs: the machine's own toolchain and a C compiler where no registry answers.
fn build_base(engine: &Engine, folder: &Path, run_base: &str, mounts: &mut Vec<String>) -> Result<String> {
    match pull(engine, BUILD_BASE)? {
        Pulled::Here => return Ok(BUILD_BASE.to_owned()),
        Pulled::Refused(why) => {
            bail!("the registry of {BUILD_BASE} says: {why}: try again later, or `{} login`", engine.name())
        }
        Pulled::NoRegistry => {}
    }
    let image = format!("{IMAGES}/rust:{SUITE}");
    let sysroot = Run::new("rustc").args(["--print", "sysroot"]).output()?;
    mounts.push(format!("{}:/opt/rust:ro", sysroot.trim()));
    let cargo_home = std::env::var_os("CARGO_HOME").map(std::path::PathBuf::from);
    let cargo_home = cargo_home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    if let Some(registry) = cargo_home.map(|home| home.join("registry")).filter(|registry| registry.is_dir())
    {
        // Crates that are here already; cargo adds what is missing.
        mounts.push(format!("{}:/opt/cargo/registry", registry.display()));
    }
    let context = folder.join("rust");
    fs::create_dir_all(&context)?;
    let text = format!(
        "FROM {run_base}\nRUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates gcc libc6-dev \
         make && rm -rf /var/lib/apt/lists/*\nENV PATH=/opt/rust/bin:/usr/bin:/bin CARGO_HOME=/opt/cargo\n"
    );
    fs::write(context.join("Containerfile"), text)?;
    Recipe::of(&context).build(engine, folder, &image)?;
    Ok(image)
}

fn pull(engine: &Engine, image: &str) -> Result<Pulled> {
    if id_of(engine, image)?.is_some() {
        return Ok(Pulled::Here);
    }
    let pulled = engine.run().args(["pull", "--quiet", image]).finish()?;
    if pulled.status.success() {
        return Ok(Pulled::Here);
    }
    Ok(judge_pull(pulled.reason()))
}

/// From the engine's words: did somebody answer?
fn judge_pull(said: &str) -> Pulled {
    const NOBODY: [&str; 7] = [
        "no such host",
        "connection refused",
        "i/o timeout",
        "network is unreachable",
        "no route to host",
        "server misbehaving",
        "context deadline exceeded",
    ];
    if NOBODY.iter().any(|nobody| said.contains(nobody)) {
        Pulled::NoRegistry
    } else {
        let said = said.trim_start_matches("Error: ").trim_start_matches("Error response from daemon: ");
        Pulled::Refused(said.to_owned())
    }
}

/// Makes an image of a folder.
fn import(engine: &Engine, folder: &Path, image: &str) -> Result<()> {
    let archive = folder.with_extension("tar");
    Run::new("tar")
        .args(["--directory"])
        .args([folder])
        .args(["--create", "--file"])
        .args([&archive])
        .args(["."])
        .output()?;
    let before = id_of(engine, image)?;
    engine.run().args(["import"]).args([&archive]).args([image]).output()?;
    fs::remove_file(&archive)?;
    remove_replaced(engine, image, before)
}

/// Removes every image that was made here.
pub(super) fn remove_all(engine: &Engine) -> Result<()> {
    let named = engine.run().args(["images", "--format", "{{.Repository}}:{{.Tag}}"]).output()?;
    let prefix = format!("{IMAGES}/");
    let ours: Vec<&str> = named.lines().filter(|name| name.starts_with(&prefix)).collect();
    if !ours.is_empty() {
        engine.run().args(["rmi", "--force"]).args(&ours).output()?;
    }
    println!("removed {} images", ours.len());
    Ok(())
}

/// A registry that answers every request with an error must not be taken for none.
pub(super) fn check_refusal(engine: &Engine) -> Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for mut socket in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _any_request = socket.read(&mut request);
            let answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _or_it_hung_up = socket.write_all(answer.as_bytes());
        }
    });
    let image = format!("{address}/library/debian:none");
    let pulled = engine.run().args(["pull", "--quiet"]).args(engine.pull_options()).arg(&image).finish()?;
    match judge_pull(pulled.reason()) {
        Pulled::Refused(why) => {
            println!("  a registry that answers with errors: \"{why}\"");
            Ok(())
        }
        other @ (Pulled::Here | Pulled::NoRegistry) => {
            bail!("a registry that answers 403 was taken for {other:?}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_that_is_not_there_is_not_one_that_refuses() {
        let nobody = "Error: initializing source docker://debian:bookworm-slim: pinging container registry \
                      registry-1.docker.io: Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup \
                      registry-1.docker.io on 10.0.0.1:53: no such host";
        assert_eq!(judge_pull(nobody), Pulled::NoRegistry);
        let limit = "Error: initializing source docker://debian:bookworm-slim: reading manifest bookworm-slim in \
                     docker.io/library/debian: toomanyrequests: You have reached your pull rate limit.";
        assert!(matches!(judge_pull(limit), Pulled::Refused(why) if why.contains("toomanyrequests")));
    }
}
