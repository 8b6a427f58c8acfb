//! Trees from git repositories.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sync_server::{ModuleConfig, SourceConfig, VerifyMode};

use crate::daemon::write;
use crate::scene::{Scene, eventually, pulled, text};
use crate::{LONG, SHORT};

/// A repository with a branch `main`, and a key to sign commits with.
struct Repository {
    directory: tempfile::TempDir,
}

impl Repository {
    fn new() -> Self {
        let repository = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(repository.path("work")).unwrap();
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        write(&repository.path("work"), "profiles/repo_name", "overlay\n");
        // A thin Manifest: of the files in the repository it says nothing.
        write(
            &repository.path("work"),
            "app-misc/p/Manifest",
            &format!("DIST one 5 BLAKE2B {}\n", "ab".repeat(64)),
        );
        write(&repository.path("work"), "app-misc/p/p-1.ebuild", "EAPI=8\n");
        repository
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn git(&self, arguments: &[&str]) -> String {
        self.git_at("2026-08-21T17:31:03Z", arguments)
    }

    fn git_at(&self, time: &str, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=A", "-c", "user.email=a@example.org"])
            .args(arguments)
            .current_dir(self.path("work"))
            .env("GIT_COMMITTER_DATE", time)
            .env("GIT_AUTHOR_DATE", time)
            .env("GNUPGHOME", self.path("gnupg"))
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A commit of all there is, at this second.
    fn commit(&self, second: u32, more: &[&str]) {
        let time = format!("2026-08-21T17:31:{second:02}Z");
        self.git_at(&time, &["add", "--all"]);
        self.git_at(&time, &[&["commit", "--quiet", "--message=x"], more].concat());
    }

    fn module(&self, poll: Duration) -> ModuleConfig {
        let git = Some(format!("file://{}", self.path("work").display()));
        let source = SourceConfig { git, branch: Some("main".to_owned()), ..SourceConfig::default() };
        ModuleConfig { source, ..pulled("m", &[], poll) }
    }

    /// Makes a key; the file with its public half.
    fn key(&self) -> PathBuf {
        let home = self.path("gnupg");
        fs::create_dir_all(&home).unwrap();
        fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let gpg = |arguments: &[&str]| {
            let mut gpg = Command::new("gpg");
            gpg.args(["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""])
                .args(arguments);
            let output = gpg.env("GNUPGHOME", &home).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        gpg(&["--quick-generate-key", "A <a@example.org>", "ed25519", "sign", "never"]);
        fs::write(self.path("key.asc"), gpg(&["--armor", "--export"])).unwrap();
        self.path("key.asc")
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        // The agent that gpg started for this home directory.
        drop(Command::new("gpgconf").args(["--kill", "all"]).env("GNUPGHOME", self.path("gnupg")).status());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_is_pulled_and_gets_the_time_of_its_commit() {
    let repository = Repository::new();
    write(&repository.path("work"), "gone", "x");
    repository.commit(3, &[]);
    let scene = Scene::start(vec![repository.module(SHORT)]).await;
    let first = scene.generation(1).await;
    assert_eq!(text(&first, "metadata/timestamp.chk").unwrap(), "Fri, 21 Aug 2026 17:31:03 +0000\n");
    assert!(first.lookup(b".git").is_none() && first.lookup(b"gone").is_some());
    assert_eq!((first.summary().distfiles, first.summary().distfiles_without_source), (1, 1));

    // Nothing new, then a new commit; what is no part of it goes.
    let looked_at = scene.module("m").attempt().at_ms;
    eventually("another look", || scene.module("m").attempt().at_ms > looked_at).await;
    assert_eq!(scene.generation(1).await.number(), 1);
    fs::write(scene.staging().join("stray"), "x").unwrap();
    fs::remove_file(repository.path("work/gone")).unwrap();
    repository.commit(9, &[]);
    let second = scene.generation(2).await;
    assert_eq!(text(&second, "metadata/timestamp.chk").unwrap(), "Fri, 21 Aug 2026 17:31:09 +0000\n");
    assert!(second.lookup(b"gone").is_none() && second.lookup(b"stray").is_none());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_commits_that_one_of_the_keys_signed_are_served() {
    let repository = Repository::new();
    let openpgp_key = repository.key();
    repository.commit(3, &["--gpg-sign"]);
    let module = |openpgp_key: &Path| ModuleConfig {
        verify: VerifyMode::Commit,
        openpgp_key: openpgp_key.to_owned(),
        ..repository.module(SHORT)
    };
    let scene = Scene::start(vec![module(&openpgp_key)]).await;
    scene.generation(1).await;
    write(&repository.path("work"), "app-misc/p/p-1.ebuild", "EAPI=8 # bad\n");
    repository.commit(4, &["--no-gpg-sign"]);
    let error = scene.failure("is not signed by a key of").await;
    assert!(error.contains(&repository.git(&["rev-parse", "HEAD"])), "{error}");
    assert_eq!(text(&scene.module("m").live().unwrap(), "app-misc/p/p-1.ebuild").unwrap(), "EAPI=8\n");
    repository.commit(5, &["--gpg-sign", "--allow-empty"]);
    scene.generation(2).await;
    let directory = scene.stop().await;

    // A key that is not in the file does not count, however good its signature is.
    let other = Repository::new();
    let other_key = other.key();
    repository.commit(6, &["--gpg-sign", "--allow-empty"]);
    let scene = Scene::start_in(directory, vec![module(&other_key)]).await;
    scene.failure("is not signed by a key of").await;
    assert_eq!(scene.module("m").live().unwrap().number(), 2);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_no_file_system_takes_is_named() {
    let repository = Repository::new();
    repository.commit(3, &[]);
    let blob = repository.git(&["rev-parse", "HEAD:profiles/repo_name"]);
    let name = "n".repeat(300);
    repository.git(&["update-index", "--add", "--cacheinfo", &format!("100644,{blob},{name}")]);
    repository.git(&["commit", "--quiet", "--message=x"]);
    let scene = Scene::start(vec![repository.module(LONG)]).await;
    let error = scene.failure("File name too long").await;
    assert!(error.contains(&name[..100]), "{error}");
    scene.stop().await;
}
