//! A tree on disk, its generation, the daemon on a port of its own, and the client's command line.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use gentoo_repo::catalogue::Catalogue;
use service_kit::lifecycle::Tasks;
use tokio::net::TcpListener;
use tree_store::{BuildRequest, Built, Excludes, Generation, Store};

use rsyncd_conf::hosts::HostAccess;
use rsyncd_conf::refuse::RefusedOptions;

use rsync_wire::login::AuthDigest;

use super::super::{Limits, LoginRules, Lookups, Module, Motd, RsyncServer, serve};

/// What the article's tree and the protocol's corners have: names that sort oddly, links, an empty file, a large
/// one, one that does not compress.
pub(super) fn write_tree(root: &Path) {
    let files: &[(&str, Vec<u8>)] = &[
        ("header.txt", b"hello\n".to_vec()),
        ("empty", Vec::new()),
        ("metadata/timestamp.chk", b"Tue, 14 Nov 2023 22:13:20 +0000\n".to_vec()),
        ("metadata/md5-cache/app-misc/foo-1.0", b"EAPI=8\n".to_vec()),
        ("metadata/md5-cache/app-misc/foo-1.0-r1", b"EAPI=8\nSLOT=0\n".to_vec()),
        ("app-misc/foo/foo-1.0.ebuild", b"EAPI=8\n".to_vec()),
        ("app-misc/foo/foo-1.0-r1.ebuild", b"EAPI=8\n\n".to_vec()),
        ("app-misc/foo/Manifest", b"DIST foo-1.0.tar.gz 1 SHA512 00\n".to_vec()),
        ("app-misc/foo+bar/foo+bar-2.ebuild", b"EAPI=8\n\n\n".to_vec()),
        ("app-misc/name with space.txt", b"spaces\n".to_vec()),
        ("app-misc/\u{fc}ml\u{e4}ut-\u{65e5}\u{672c}.txt", b"utf8\n".to_vec()),
        ("big/text", b"gentoo portage ebuild manifest ".repeat(20_000)),
        ("big/noise", noise(400_000)),
        ("sort/a/inner", b"1".to_vec()),
        ("sort/a-b", b"22".to_vec()),
        ("sort/a.b", b"333".to_vec()),
        ("sort/a0", b"4444".to_vec()),
        ("sort/b/inner", b"55555".to_vec()),
        ("sort/b.d/inner", b"666666".to_vec()),
        ("sort/z", b"7777777".to_vec()),
    ];
    for (path, contents) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, contents).unwrap();
    }
    // Enough small files for indexes of more than one octet.
    for number in 0..300 {
        let path = root.join(format!("many/d{:02}/f{number}", number % 40));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("contents of {number}\n").repeat(number % 30)).unwrap();
    }
    fs::create_dir(root.join("emptydir")).unwrap();
    fs::set_permissions(root.join("big/noise"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("header.txt", root.join("link")).unwrap();
    symlink("../../header.txt", root.join("app-misc/foo/link-up")).unwrap();
}

fn noise(len: usize) -> Vec<u8> {
    let mut x = 7_u32;
    let mut step = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        x.to_le_bytes()[3]
    };
    (0..len).map(|_| step()).collect()
}

/// A daemon over one generation.
pub(super) struct Bench {
    directory: tempfile::TempDir,
    pub(super) address: SocketAddr,
    tasks: Tasks,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.tasks.soft().cancel();
        self.tasks.hard().cancel();
    }
}

pub(super) fn generation(state: &Path, source: &Path) -> Generation {
    let store = Store::open(state, "m".parse().unwrap()).unwrap();
    let built = store.build(&BuildRequest {
        source,
        excludes: &Excludes::new::<&str>([]).unwrap(),
        started: SystemTime::now() + Duration::from_hours(1),
        afresh: false,
        stop: &AtomicBool::new(false),
    });
    let Built::Candidate(candidate) = built.unwrap() else { panic!("unchanged") };
    store.publish(candidate, &Catalogue::default(), 1, 2).unwrap()
}

impl Bench {
    /// The module `m`, for everyone; `more` are modules of the same tree.
    pub(super) async fn start(limits: Limits, more: &[(&str, bool, HostAccess)]) -> Self {
        Self::serving(write_tree, limits, more).await
    }

    /// The module `m` of another tree, and `numeric`, which sends owners as numbers alone.
    pub(super) async fn of_tree(write: impl FnOnce(&Path)) -> Self {
        let numeric = ("numeric", true, HostAccess::default());
        Self::serving(write, Limits::default(), &[numeric]).await
    }

    async fn serving(write: impl FnOnce(&Path), limits: Limits, more: &[(&str, bool, HostAccess)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        fs::create_dir(&source).unwrap();
        write(&source);
        let generation = generation(&directory.path().join("state"), &source);
        let module = |name: &str, listed, access| {
            let generation = generation.clone();
            Module {
                name: name.to_owned(),
                comment: "a test tree".to_owned(),
                listed,
                access,
                lookups: Lookups::default(),
                max_connections: 0,
                timeout_s: 0,
                login: None,
                refused: Arc::new(RefusedOptions::default()),
                dont_compress: false,
                numeric_ids: name == "numeric",
                log: Arc::default(),
                live: Arc::new(move || Some(generation.clone())),
            }
        };
        let mut modules = vec![module("m", true, HostAccess::default())];
        modules.extend(more.iter().map(|(name, listed, access)| module(name, *listed, access.clone())));
        let secrets_file = directory.path().join("secrets");
        fs::write(&secrets_file, "larry:moo\n@root:group-moo\n").unwrap();
        fs::set_permissions(&secrets_file, fs::Permissions::from_mode(0o600)).unwrap();
        let with_login = |name: &str, users: &str, weakest| Module {
            login: Some(Arc::new(LoginRules {
                users: rsyncd_conf::auth::parse_rules(users).unwrap(),
                secrets_file: secrets_file.clone(),
                weakest,
                strict_modes: true,
            })),
            ..module(name, true, HostAccess::default())
        };
        modules.push(with_login("private", "eve:deny larry:ro @root nobody", None));
        modules.push(with_login("strong", "larry", Some(AuthDigest::Sha256)));
        let pending = Module { live: Arc::new(|| None), ..module("pending", true, HostAccess::default()) };
        modules.push(pending);
        for (name, max_connections) in [("narrow", 1), ("off", -1)] {
            modules.push(Module { max_connections, ..module(name, true, HostAccess::default()) });
        }
        let motd = directory.path().join("motd");
        fs::write(&motd, "welcome\n").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits { bodies: Some((directory.path().to_owned(), 8 << 20)), ..limits };
        let server = Arc::new(RsyncServer::new(modules, Motd::new(Some(motd)), &limits));
        let tasks = Tasks::new();
        tasks.spawn_critical("rsync", serve(listener, server, tasks.clone()));
        Self { directory, address, tasks }
    }

    pub(super) async fn plain() -> Self {
        Self::start(Limits::default(), &[]).await
    }

    pub(super) fn source(&self) -> PathBuf {
        self.directory.path().join("source")
    }

    pub(super) fn target(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Where the daemon serves a path: the module first.
    pub(super) fn url(&self, path: &str) -> String {
        format!("rsync://{}/{path}", self.address)
    }

    /// Runs the client; `{}` in an argument stands for the daemon's address.
    pub(super) async fn rsync(&self, arguments: &[&str]) -> Output {
        let arguments = arguments.iter().map(|argument| argument.replace("{}", &self.url("")));
        let mut command = Command::new(client());
        command.args(arguments).current_dir(self.directory.path()).env("LC_ALL", "C.UTF-8");
        run(command).await
    }

    /// Runs the client as a user with a password, against a URL path.
    pub(super) async fn rsync_as(&self, user: &str, password: &str, options: &[&str], path: &str) -> Output {
        let mut command = Command::new(client());
        command.args(options).arg(format!("rsync://{user}@{}/{path}", self.address));
        command.env("RSYNC_PASSWORD", password).env("LC_ALL", "C.UTF-8").current_dir(self.directory.path());
        run(command).await
    }

    /// The client must succeed; gives what it printed.
    pub(super) async fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.rsync(arguments).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "rsync {arguments:?}: {} {stderr}", output.status);
        assert_eq!(stderr, "", "rsync {arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The client must fail with this code; gives what it complained.
    pub(super) async fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.rsync(arguments).await;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert_eq!(output.status.code(), Some(code), "rsync {arguments:?}: {text}");
        text
    }

    /// What the stock client, comparing by contents, would still change in `target`.
    pub(super) async fn differences(&self, from: &str, target: &Path) -> String {
        let mut command = Command::new("rsync");
        command
            .args(["-rlpt", "--checksum", "--omit-dir-times", "--delete", "--dry-run", "--itemize-changes"])
            .arg(format!("{}/{from}", self.source().display()))
            .arg(format!("{}/", target.display()));
        let output = run(command).await;
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The client under test; another version's can be named.
fn client() -> String {
    std::env::var("ROOKERY_TEST_RSYNC").unwrap_or_else(|_| "rsync".to_owned())
}

async fn run(mut command: Command) -> Output {
    let run = move || command.output();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    output.expect("rsync can't be run: `cargo xtask test` installs it")
}
