//! The process as an operator meets it: wrong configuration, signals, strangers on its ports.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use rookery_tests::farm::{Addresses, Farm};
use rookery_tests::program;

/// What is wrong, and what the message must hold besides the file's name.
const WRONG_CONFIGURATIONS: &[(&str, &[&str])] = &[
    ("[proxy]\nlisten = \"8080\"\n", &["proxy.listen", "address"]),
    ("[proxy]\ncapacity = \"many\"\n", &["proxy.capacity", "many"]),
    ("[proxy]\nlisten_on = \"127.0.0.1:1\"\n", &["proxy", "listen_on"]),
    ("[sink]\nlisten = \"127.0.0.1:1\"\n", &["sink"]),
    ("[[sync.modules]]\nname = \"a/b\"\nsource = { dir = \"/tmp\" }\n", &["name", "a/b"]),
    ("[sync]\nmax_connections = -1\n", &["sync.max_connections"]),
    ("[maintenance]\nschedule = { nightly = \"25:00\" }\n", &["nightly", "25:00"]),
    ("[proxy\n", &["wrong.toml:1:7"]),
    ("[maintenance]\nlisten = \"0.0.0.0:0\"\n", &["maintenance.listen", "token"]),
];

#[test]
fn a_wrong_configuration_names_file_key_and_expectation_and_exits_with_64() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("wrong.toml");
    for (text, expected) in WRONG_CONFIGURATIONS {
        fs::write(&file, text)?;
        for command in ["check-config", "up"] {
            let output = Command::new(program::rookery())
                .arg("--config")
                .arg(&file)
                .arg(command)
                .env("XDG_STATE_HOME", dir.path())
                .output()?;
            let message = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{command} with {text:?}: {message}");
            assert!(message.contains("wrong.toml"), "{command} with {text:?}: {message}");
            for part in *expected {
                assert!(message.contains(part), "{command} with {text:?}: no {part:?} in {message}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_wrong_environment_variable_is_named() -> Result<()> {
    let output = Command::new(program::rookery())
        .arg("check-config")
        .env("ROOKERY__PROXY__CAPACITY", "lots")
        .env_remove("ROOKERY_CONFIG")
        .output()?;
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{message}");
    assert!(message.contains("ROOKERY__PROXY__CAPACITY"), "{message}");
    Ok(())
}

#[test]
fn the_delivered_configuration_is_right() -> Result<()> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/rookery.toml");
    let output = Command::new(program::rookery()).args(["--config", file, "check-config"]).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_well_and_the_next_start_serves_the_same() -> Result<()> {
    let mut farm = Farm::start(&[]).await?;
    let status = farm.stop_mirror().await?;
    assert_eq!(status.code(), Some(0), "{}", farm.log_end());
    farm.start_mirror().await?;
    let status = farm.stop_mirror().await?;
    assert_eq!(status.code(), Some(0), "{}", farm.log_end());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named() -> Result<()> {
    let mut farm = Farm::start(&[]).await?;
    farm.stop_mirror().await?;
    let Addresses { rsync, http, web, tree, index } = farm.addresses;
    for (address, key) in [
        (rsync, "sync.listen"),
        (tree, "sync.grpc"),
        (index, "maintenance.listen"),
        (web, "maintenance.web"),
        (http, "proxy.listen"),
    ] {
        let taken = TcpListener::bind(address)?;
        let output = farm.rookery().arg("up").output()?;
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{message}");
        let [reason, advice] = [format!("{address}: Address already in use"), format!("or change {key}")];
        assert!(message.contains(&reason) && message.contains(&advice), "{message}");
        drop(taken);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_turned_away_and_clients_still_served() -> Result<()> {
    let farm = Farm::start(&[]).await?;
    let addresses = farm.addresses;
    let noise: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"@RSYNCD: 31.0\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-stranger\r\n",
        &[0xff; 4096],
    ];
    for address in [addresses.rsync, addresses.http, addresses.web, addresses.tree, addresses.index] {
        for bytes in noise {
            let answer = exchange(address, bytes)?;
            assert!(answer.len() < 64 * 1024, "{address} answered {} bytes", answer.len());
        }
    }
    let greeting = exchange(addresses.rsync, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")?;
    assert!(String::from_utf8_lossy(&greeting).contains("@ERROR: protocol startup error"), "{greeting:?}");
    let modules = program::stock("rsync").arg(format!("rsync://{}/", addresses.rsync)).output()?;
    assert!(modules.status.success(), "{}", String::from_utf8_lossy(&modules.stderr));
    assert!(String::from_utf8_lossy(&modules.stdout).contains("gentoo-portage"));
    Ok(())
}

/// Sends `bytes`, says that no more will come, and reads what is answered until the end.
fn exchange(address: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    // The peer may have closed already: what it said until then is what counts.
    let sent = socket.write_all(bytes).and_then(|()| socket.shutdown(std::net::Shutdown::Write));
    let mut answer = Vec::new();
    let read = socket.take(64 * 1024).read_to_end(&mut answer);
    if sent.is_ok()
        && let Err(error) = read
    {
        anyhow::ensure!(
            error.kind() == std::io::ErrorKind::ConnectionReset,
            "{address} neither answers nor closes after {bytes:?}: {error}"
        );
    }
    Ok(answer)
}
