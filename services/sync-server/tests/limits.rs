//! A process whose disk is full, and one that may not read its source: what is live stays, the reason names the
//! path, and nothing needs cleaning by hand.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rookery_proto::v1;
use rookery_proto::v1::tree_client::TreeClient;
use tonic::transport::Channel;

const DEADLINE: Duration = Duration::from_mins(1);

struct Process {
    directory: tempfile::TempDir,
    child: Child,
    client: TreeClient<Channel>,
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Process {
    /// Serves a small tree; `command` runs the program that it is given.
    async fn start(command: impl FnOnce(&Path) -> Command) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let at = |name: &str| directory.path().join(name);
        write(&at("tree"), "metadata/timestamp.chk", "Fri, 21 Aug 2026 17:31:03 +0000\n");
        let port = farm_sim::ports::free_address().unwrap().port();
        let config = format!(
            "[sync]\nlisten = \"127.0.0.1:0\"\ngrpc = \"127.0.0.1:{port}\"\nstate_dir = \"{}\"\n\
             [[sync.modules]]\nname = \"m\"\nsource = {{ dir = \"{}\" }}\nverify = \"none\"\n",
            at("state").display(),
            at("tree").display()
        );
        fs::write(at("rookery.toml"), config).unwrap();
        // Somebody else may not reach the place where it was built. Written by another process: a child that the other
        // test starts meanwhile would inherit the open file, and who is being written to can't be run.
        let copied =
            Command::new("cp").arg(env!("CARGO_BIN_EXE_sync-server")).arg(at("sync-server")).status();
        assert!(copied.unwrap().success());
        let mut command = command(&at("sync-server"));
        command.arg("--config").arg(at("rookery.toml")).stdin(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let started = Instant::now();
        let client = loop {
            match TreeClient::connect(format!("http://127.0.0.1:{port}")).await {
                Ok(client) => break client,
                Err(error) => {
                    assert!(started.elapsed() < DEADLINE, "{error}");
                    assert_eq!(child.try_wait().unwrap(), None);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        let process = Self { directory, child, client };
        process.publish().await.unwrap();
        process
    }

    fn tree(&self) -> PathBuf {
        self.directory.path().join("tree")
    }

    async fn publish(&self) -> Result<v1::PublishResponse, String> {
        let request = v1::PublishRequest { module: "m".to_owned(), allow_older: false };
        let answer = self.client.clone().publish(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
    }

    /// Publishing fails with these words, the first generation stays, and nothing is left over.
    async fn assert_refused(&self, expected: &[&str]) {
        let error = self.publish().await.unwrap_err();
        for part in expected {
            assert!(error.contains(part), "no {part:?} in {error}");
        }
        let listed = self.client.clone().list_modules(v1::ListModulesRequest {}).await.unwrap().into_inner();
        let module = &listed.modules[0];
        assert_eq!((module.live.as_ref().unwrap().number, &module.last_error), (1, &error));
        let temporary = self.directory.path().join("state/m/temporary");
        assert_eq!(fs::read_dir(temporary).unwrap().count(), 0);
    }
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_while_packing_costs_that_generation_only() {
    // No file may grow beyond 64 KiB: to a program that is as good as a full disk.
    let process = Process::start(|program| {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; ulimit -f 128; exec \"$0\" \"$@\""]).arg(program);
        command
    })
    .await;
    fs::write(process.tree().join("large"), vec![7; 3 << 20]).unwrap();
    process.assert_refused(&["state/m/temporary/", "write", "File too large"]).await;
    fs::remove_file(process.tree().join("large")).unwrap();
    fs::write(process.tree().join("small"), "x").unwrap();
    assert_eq!(process.publish().await.unwrap().generation.unwrap().number, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_may_not_be_read_is_named() {
    // root may read everything: then the server is somebody else.
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let process = Process::start(|program| {
        let mut command = Command::new(program);
        if is_root {
            command.uid(65534).gid(65534);
        }
        command
    })
    .await;
    let secret = process.tree().join("metadata/secret");
    fs::write(&secret, "x").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    process.assert_refused(&[secret.to_str().unwrap(), "Permission denied"]).await;
    fs::remove_file(&secret).unwrap();
    let closed = process.tree().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    process.assert_refused(&[closed.to_str().unwrap(), "Permission denied"]).await;
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(process.publish().await.unwrap().changed);
}
