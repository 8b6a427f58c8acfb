//! The program as a person meets it: what it prints and what it exits with.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Where nobody listens: port 1 is never given out by the system.
const NOBODY: &str = "http://127.0.0.1:1";

fn rookery(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rookery"));
    command.env_clear().env("HOME", home).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().expect("a temporary directory");
    rookery(home.path()).args(arguments).output().expect("the program starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_wrong_command_line_exits_with_2_and_a_wrong_configuration_with_64() {
    assert_eq!(run(&["fly"]).status.code(), Some(2));
    assert_eq!(run(&[]).status.code(), Some(2));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wrong.toml");
    std::fs::write(&file, "[proxy]\ncapacity = \"lots\"\n").unwrap();
    let file = file.to_str().unwrap();
    for command in ["check-config", "up", "status", "client-config"] {
        let output = run(&["--config", file, command]);
        let expected = if command == "status" { 1 } else { 64 };
        assert_eq!(output.status.code(), Some(expected), "{command}: {}", stderr(&output));
    }
    let message = stderr(&run(&["check-config", "--config", file]));
    assert!(message.contains("wrong.toml:2") && message.contains("proxy.capacity"), "{message}");
    // Each value is one, and the two together are none.
    std::fs::write(file, "[maintenance]\nhigh_water = \"50%\"\nlow_water = \"60%\"\n").unwrap();
    for command in ["check-config", "up"] {
        let output = run(&["--config", file, command]);
        assert_eq!(output.status.code(), Some(64), "{command}: {}", stderr(&output));
        assert!(stderr(&output).contains("wrong.toml:3"), "{command}: {}", stderr(&output));
    }
    let missing = run(&["check-config", "--config", "/nowhere/rookery.toml"]);
    assert_eq!(missing.status.code(), Some(64));
    assert!(stderr(&missing).contains("/nowhere/rookery.toml"), "{}", stderr(&missing));
}

#[test]
fn the_checked_configuration_is_printed_merged_and_is_a_configuration_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rookery.toml");
    std::fs::write(&file, "[proxy]\ncapacity = \"3 GiB\"\n").unwrap();
    let output = rookery(dir.path())
        .args(["check-config", "--config"])
        .arg(&file)
        .env("ROOKERY__SYNC__LISTEN", "127.0.0.1:8731")
        .output()
        .unwrap();
    let text = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(text.contains("capacity = \"3 GiB\"") && text.contains("listen = \"127.0.0.1:8731\""), "{text}");
    assert!(
        text.contains("# sync.listen = \"127.0.0.1:8731\"  (environment variable ROOKERY__SYNC__LISTEN)"),
        "{text}"
    );
    std::fs::write(&file, text).unwrap();
    let again = rookery(dir.path()).args(["check-config", "--config"]).arg(&file).output().unwrap();
    assert!(again.status.success(), "{}", stderr(&again));
    let json = rookery(dir.path()).args(["--json", "check-config", "--config"]).arg(&file).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["proxy"]["capacity"], "3 GiB");
}

#[test]
fn no_password_is_printed_wherever_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rookery.toml");
    let write = |proxy: &str| {
        let text = format!(
            "[proxy]\nupstream_proxy = \"{proxy}\"\nmirrors = [\"https://me:secret@m/gentoo\", \"https://m2\"]\n\
             [maintenance.health]\nwebhook = \"https://me:secret@h/secret?token=secret\"\n\
             webhook_proxy = \"socks5://me:secret@q:1080\"\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    write("socks5://me:secret@p:1080");
    for arguments in [&["check-config"][..], &["--json", "check-config"]] {
        let output = rookery(dir.path()).args(arguments).arg("--config").arg(&file).output().unwrap();
        let text = stdout(&output);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(!text.contains("secret") && text.contains("https://m2"), "{text}");
        for shown in [
            "socks5://me:****@p:1080",
            "https://me:****@m/gentoo",
            "https://h/****",
            "socks5://me:****@q:1080",
        ] {
            assert!(text.contains(shown), "{shown} in {text}");
        }
    }
    write("ftp://me:secret@p");
    let in_file = rookery(dir.path()).args(["check-config", "--config"]).arg(&file).output().unwrap();
    let variable = rookery(dir.path())
        .arg("check-config")
        .env("ROOKERY__PROXY__UPSTREAM_PROXY", "http://me:secret@p/path")
        .output()
        .unwrap();
    for (output, place) in [(in_file, "rookery.toml:2"), (variable, "ROOKERY__PROXY__UPSTREAM_PROXY")] {
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{message}");
        assert!(message.contains(place) && message.contains("me:****@p"), "{message}");
        assert!(!message.contains("secret"), "{message}");
    }
}

#[test]
fn files_that_the_configuration_names_are_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let (file, missing) = (dir.path().join("rookery.toml"), dir.path().join("missing.pem"));
    for (key, lines) in [
        ("proxy.tls.cert", "[proxy.tls]\ncert = \"MISSING\"\nkey = \"MISSING\"\n"),
        ("proxy.upstream_ca", "[proxy]\nupstream_ca = \"MISSING\"\n"),
        ("grpc.token_file", "[grpc]\ntoken_file = \"MISSING\"\n"),
    ] {
        std::fs::write(&file, lines.replace("MISSING", missing.to_str().unwrap())).unwrap();
        let output = rookery(dir.path()).args(["check-config", "--config"]).arg(&file).output().unwrap();
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{key}: {message}");
        for told in ["rookery.toml:2", key, "missing.pem"] {
            assert!(message.contains(told), "{told} in {message}");
        }
    }
    std::fs::write(&file, "[proxy.tls]\ncert = \"c\"\n").unwrap();
    let output = rookery(dir.path()).args(["check-config", "--config"]).arg(&file).output().unwrap();
    let message = stderr(&output);
    assert!(output.status.code() == Some(64) && message.contains("proxy.tls.key"), "{message}");
}

#[test]
fn whoever_is_asked_and_away_is_named() {
    for arguments in [
        &["status", "--endpoint", NOBODY][..],
        &["plan", "--endpoint", NOBODY],
        &["evict", "--endpoint", NOBODY],
        &["objects", "--endpoint", NOBODY],
        &["pin", "--endpoint", NOBODY],
        &["pin", "a-1.tar", "--endpoint", NOBODY],
        &["unpin", "a-1.tar", "--endpoint", NOBODY],
        &["verify", "--endpoint", NOBODY],
        &["nightly", "--endpoint", NOBODY],
        &["watch", "--count", "1", "--endpoint", NOBODY],
        &["publish", "gentoo-portage", "--endpoint", NOBODY],
        &["health", "--endpoint", NOBODY],
        &["health", "--live", "--endpoint", NOBODY],
    ] {
        let output = run(arguments);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
        assert!(message.contains(NOBODY) && message.contains("is it running?"), "{arguments:?}: {message}");
    }
    let output = run(&["--json", "health", "--endpoint", NOBODY]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &json["ready"]), (Some(1), &serde_json::Value::Bool(false)));
}

#[test]
fn client_configuration_names_host_and_ports() {
    let output = run(&["client-config", "--host", "ws1"]);
    let text = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(text.contains("GENTOO_MIRRORS=\"http://ws1:8080\""), "{text}");
    assert!(text.contains("sync-uri = rsync://ws1"), "{text}");
    let only = stdout(&run(&["client-config", "--host", "ws1", "--only", "mirrors"]));
    assert!(only.contains("local http://ws1:8080") && !only.contains("sync-uri"), "{only}");
    let json: serde_json::Value =
        serde_json::from_slice(&run(&["--json", "client-config", "--host", "ws1"]).stdout).unwrap();
    assert!(json["repos_conf"].as_str().unwrap().contains("[gentoo]"));
}

#[test]
fn completions_and_man_pages_know_every_command() {
    let help = stdout(&run(&["--help"]));
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<_> = commands.take_while(|line| !line.is_empty()).collect();
    let names = commands.iter().filter_map(|line| line.split_whitespace().next());
    let names: Vec<_> = names.filter(|name| *name != "help").collect();
    assert!(names.len() > 15, "{names:?}");
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&run(&["completions", shell]));
        for name in &names {
            assert!(script.contains(name), "{shell}: {name}");
        }
    }
    assert_eq!(run(&["completions", "cmd.exe"]).status.code(), Some(2));
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    assert!(run(&["man", "--dir", pages.to_str().unwrap()]).status.success());
    for name in &names {
        let page = std::fs::read_to_string(pages.join(format!("rookery-{name}.1"))).unwrap();
        assert!(page.contains(".SH"), "{name}");
    }
    assert!(stdout(&run(&["man"])).starts_with(".ie"));
}

#[test]
fn a_schedule_that_makes_no_sense_is_named_with_its_position() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rookery.toml");
    std::fs::write(&file, "[maintenance]\nschedule = { nightly = \"30 25 * * *\" }\n").unwrap();
    let output = run(&["check-config", "--config", file.to_str().unwrap()]);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(64), "{message}");
    assert!(
        message.contains("rookery.toml:2") && message.contains("maintenance.schedule.nightly"),
        "{message}"
    );
    assert!(message.contains("hour \"25\" (character 4)"), "{message}");
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let home = tempfile::tempdir().unwrap();
    let mut child = rookery(home.path())
        .arg("check-config")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_small_demo_ends_well_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let output = rookery(dir.path())
        .args(["--json", "demo", "--packages", "30", "--shared", "5", "--private", "1"])
        .env("TMPDIR", dir.path())
        .env("PATH", "/nowhere")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((report["boxes"].as_array().unwrap().len(), &report["shared"]), (7, &5.into()));
    assert_eq!(report["total"]["upstream_requests"], 5 + 7);
    assert!(stderr(&output).contains("rsync is not installed"), "{}", stderr(&output));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "everything is removed");
}

#[test]
fn an_old_http_replicator_becomes_a_configuration_that_is_understood() {
    let home = tempfile::tempdir().unwrap();
    let old = home.path().join("http-replicator");
    std::fs::write(
        &old,
        "GENERAL_OPTS=\"--dir /old\"\nDAEMON_OPTS=\"$GENERAL_OPTS --ip 10.1.* --port 3128\"\n",
    )
    .unwrap();
    let output = rookery(home.path()).args(["migrate", "--http-replicator"]).arg(&old).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let file = home.path().join("rookery.toml");
    std::fs::write(&file, &output.stdout).unwrap();
    let output = rookery(home.path()).arg("--config").arg(&file).arg("check-config").output().unwrap();
    let merged = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    for told in ["0.0.0.0:3128", "10.1.0.0/16", "\"/old\""] {
        assert!(merged.contains(told), "{told} in {merged}");
    }
    std::fs::write(&old, "A=1\nDAEMON_OPTS=`id`\n").unwrap();
    let output = rookery(home.path()).args(["migrate", "--http-replicator"]).arg(&old).output().unwrap();
    let message = stderr(&output);
    assert!(output.status.code() == Some(1) && message.contains("line 2"), "{message}");
}
