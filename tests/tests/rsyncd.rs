//! An operator's rsyncd.conf, as it is: the file of 2009 in a network namespace with the addresses of its farm.

#![allow(clippy::print_stdout, reason = "says what it skips")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use farm_sim::tree::{self, TreeSpec};
use rookery_tests::farm::DEADLINE;
use rookery_tests::program;

/// As it was published; another directory is put in.
const RSYNCD_CONF: &str = include_str!("../../crates/rsyncd-conf/tests/article.conf");
const PATH: &str = "/usr/portage";

const MIRROR: &str = "10.13.18.101";
const BOX: &str = "10.13.18.102";
const STRANGER: &str = "10.13.19.7";

/// A mirror in a network of its own, in which this host has all of the addresses.
struct Mirror {
    process: Child,
}

impl Mirror {
    fn start(dir: &Path, tree: &Path) -> Result<Self> {
        let conf = dir.join("rsyncd.conf");
        fs::write(&conf, RSYNCD_CONF.replace(PATH, &tree.display().to_string()))?;
        let config = dir.join("rookery.toml");
        let state = dir.display();
        let text = format!(
            "[sync]\nrsyncd_conf = \"{}\"\nstate_dir = \"{state}/trees\"\n[proxy]\ncache_dir = \"{state}/cache\"\n\
             listen = \"127.0.0.1:8080\"\n[maintenance]\nindex = \"sqlite://{state}/index.db\"\n",
            conf.display()
        );
        fs::write(&config, text)?;
        let setup = format!(
            "ip link set lo up && for address in {MIRROR} {BOX} {STRANGER}; do ip address add $address/32 dev lo || \
             exit 9; done && exec \"$0\" \"$@\""
        );
        let process = program::stock("unshare")
            .args(["--net", "sh", "-c", &setup])
            .arg(program::rookery())
            .arg("--config")
            .arg(&config)
            .arg("up")
            .stderr(Stdio::from(fs::File::create(dir.join("log"))?))
            .spawn()?;
        let mut mirror = Self { process };
        mirror.wait_until_ready(dir)?;
        Ok(mirror)
    }

    fn wait_until_ready(&mut self, dir: &Path) -> Result<()> {
        let until = Instant::now() + DEADLINE;
        loop {
            let listed = self.rsync(BOX, &[&format!("rsync://{MIRROR}/niden-gentoo-portage/")])?;
            if listed.status.success() {
                return Ok(());
            }
            if let Some(status) = self.process.try_wait()? {
                bail!("the mirror ended with {status}: {}", fs::read_to_string(dir.join("log"))?);
            }
            ensure!(Instant::now() < until, "not ready: {}", String::from_utf8_lossy(&listed.stderr));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The client, inside of the mirror's network, coming from an address.
    fn rsync(&self, from: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = program::stock("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.process.id())).arg("rsync");
        command.arg(format!("--address={from}")).args(arguments);
        command.output().context("rsync")
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Whether this process may make networks; if not, says so.
fn may_make_networks() -> bool {
    let tried = Command::new("unshare").args(["--net", "ip", "link", "set", "lo", "up"]).output();
    match tried {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            println!(
                "skipped: no network namespaces here: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
            false
        }
        Err(error) => {
            println!("skipped: unshare or ip can't be run: {error}");
            false
        }
    }
}

#[test]
fn the_file_of_2009_works_unchanged() -> Result<()> {
    if !may_make_networks() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let spec = TreeSpec { packages: 5, ..TreeSpec::default() };
    let tree = tree::generate(&spec, &dir.path().join("portage"))?;
    for name in ["distfiles", "packages"] {
        fs::create_dir(tree.dir.join(name))?;
        fs::write(tree.dir.join(name).join("big"), "not for boxes")?;
    }
    let mirror = Mirror::start(dir.path(), &tree.dir)?;

    let list = mirror.rsync(BOX, &[&format!("rsync://{MIRROR}/")])?;
    let text = String::from_utf8_lossy(&list.stdout);
    assert_eq!(text, "niden-gentoo-portage\tniden.net Gentoo Portage tree\n");

    let target = dir.path().join("box");
    let url = format!("rsync://{MIRROR}/niden-gentoo-portage/");
    let synced = mirror.rsync(BOX, &["-rlpt", &url, &target.display().to_string()])?;
    ensure!(synced.status.success(), "{}", String::from_utf8_lossy(&synced.stderr));
    assert!(target.join("metadata/timestamp.chk").is_file());
    assert!(!target.join("distfiles").exists() && !target.join("packages").exists());

    let refused = mirror.rsync(STRANGER, &[&url])?;
    let text = String::from_utf8_lossy(&refused.stdout) + String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(5), "{text}");
    let expected = format!("@ERROR: access denied to niden-gentoo-portage from UNDETERMINED ({STRANGER})");
    assert!(text.contains(&expected), "{text}");
    Ok(())
}

#[test]
fn what_is_not_supported_stops_the_start_with_file_and_line() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let conf = dir.path().join("rsyncd.conf");
    let config = dir.path().join("rookery.toml");
    fs::write(&config, format!("[sync]\nrsyncd_conf = \"{}\"\n", conf.display()))?;
    let tree = dir.path().display();
    for (text, expected) in [
        (format!("[m]\npath = {tree}\nread only = no\n"), "rsyncd.conf:3: `read only = no`"),
        (format!("[m]\npath = {tree}\nfrobnicate = 1\n"), "rsyncd.conf:3: unknown parameter `frobnicate`"),
        (format!("[m]\npath = {tree}\npost-xfer exec = /bin/true\n"), "rsyncd.conf:3: `post-xfer exec`"),
    ] {
        fs::write(&conf, &text)?;
        for command in ["check-config", "up"] {
            let output =
                Command::new(program::rookery()).arg("--config").arg(&config).arg(command).output()?;
            let message = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{command} with {text:?}: {message}");
            assert!(message.contains(expected) && message.contains("rookery.toml:2"), "{command}: {message}");
        }
    }
    Ok(())
}

#[test]
fn check_config_and_migrate_show_what_the_file_comes_to() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let conf = dir.path().join("rsyncd.conf");
    fs::write(&conf, RSYNCD_CONF.replace(PATH, &dir.path().display().to_string()))?;
    let config = dir.path().join("rookery.toml");
    fs::write(&config, format!("[sync]\nrsyncd_conf = \"{}\"\n", conf.display()))?;
    let run = |arguments: &[&str]| -> Result<String> {
        let output = Command::new(program::rookery()).args(arguments).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    let checked = run(&["--config", &config.display().to_string(), "check-config"])?;
    let migrated = run(&["migrate", "--rsyncd", &conf.display().to_string()])?;
    for text in [&checked, &migrated] {
        assert!(text.contains("name = \"niden-gentoo-portage\""), "{text}");
        assert!(text.contains("hosts_allow = [\"10.13.18.0/24\"]"), "{text}");
        assert!(text.contains("max_connections = 5"), "{text}");
        assert!(text.contains("rsyncd.conf:4: `use chroot` is accepted"), "{text}");
    }
    let again = dir.path().join("migrated.toml");
    fs::write(&again, &migrated)?;
    let rechecked = run(&["--config", &again.display().to_string(), "check-config"])?;
    let part = |text: &str| {
        text.split_once("\n[sync]\n").map(|(_, rest)| rest.split("\n# Given").next().map(str::to_owned))
    };
    assert_eq!(part(&rechecked), part(&checked), "both mean the same");
    Ok(())
}
