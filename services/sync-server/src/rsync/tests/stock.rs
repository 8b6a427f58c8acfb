//! What people do with the stock client.

use std::fs;
use std::time::Duration;

use rsyncd_conf::hosts::HostAccess;

use super::super::Limits;
use super::bench::Bench;

/// Portage's own options.
const PORTAGE: &[&str] = &[
    "--recursive",
    "--links",
    "--safe-links",
    "--perms",
    "--times",
    "--omit-dir-times",
    "--compress",
    "--force",
    "--whole-file",
    "--delete",
    "--stats",
    "--human-readable",
    "--timeout=180",
    "--exclude=/distfiles",
    "--exclude=/local",
    "--exclude=/packages",
    "--exclude=/.git",
    "--verbose",
];

fn with<'a>(options: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [options, more].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn portage_syncs_then_has_nothing_to_do_then_deletes() {
    let bench = Bench::plain().await;
    let target = bench.target("target");
    let said = bench.succeeds(&with(PORTAGE, &["{}m/", "target/"])).await;
    assert!(said.contains("Number of regular files transferred: 320"), "{said}");
    assert_eq!(bench.differences("", &target).await, "");
    fs::write(target.join("stray"), "not upstream").unwrap();
    fs::write(target.join("header.txt"), "changed here").unwrap();
    let said = bench.succeeds(&with(PORTAGE, &["{}m/", "target/"])).await;
    assert!(said.contains("Number of regular files transferred: 1\n"), "{said}");
    assert!(said.contains("deleting stray"), "{said}");
    assert!(!target.join("stray").exists());
    let said = bench.succeeds(&with(PORTAGE, &["{}m/", "target/"])).await;
    assert!(said.contains("Number of regular files transferred: 0\n"), "{said}");
    assert_eq!(bench.differences("", &target).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_protocol_carries_every_kind_of_request() {
    let bench = Bench::plain().await;
    fs::write(bench.target(".").join("list"), "app-misc/foo\nmetadata/timestamp.chk\nsort/a/\n").unwrap();
    for version in ["29", "30", "31", "32"] {
        let protocol = format!("--protocol={version}");
        for options in
            [&["-rlpt"][..], &["-a"], &["-aH", "--numeric-ids"], &["-rlptz"], &["-rlptc"], &["-rlpts"]]
        {
            let target = bench.target("target");
            bench.succeeds(&with(options, &[&protocol, "{}m/", "target/"])).await;
            assert_eq!(bench.differences("", &target).await, "", "{version} {options:?}");
            fs::write(target.join("header.txt"), "jello\n").unwrap();
            let said =
                bench.succeeds(&with(options, &[&protocol, "--checksum", "-i", "{}m/", "target/"])).await;
            assert!(said.contains(">fc"), "{version} {options:?} {said}");
        }
        let name = format!("some{version}/");
        let target = bench.target(&name);
        bench.succeeds(&["-rlpt", &protocol, "--files-from=list", "{}m/", &name]).await;
        assert!(target.join("sort/a/inner").exists() && !target.join("sort/z").exists(), "{version}");
        bench.succeeds(&["-rlptR", &protocol, "{}m/metadata/md5-cache", &name]).await;
        assert!(target.join("metadata/md5-cache/app-misc/foo-1.0").exists(), "{version}");
        bench.fails(23, &["-rlpt", &protocol, "{}m/nosuch", &name]).await;
        let said = bench.succeeds(&["-r", &protocol, "{}m/sort/"]).await;
        assert!(said.contains(" b.d/inner"), "{version}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn portage_probes_the_timestamp() {
    let bench = Bench::plain().await;
    fs::write(bench.target(".").join("probe"), "").unwrap();
    bench.succeeds(&with(PORTAGE, &["--inplace", "{}m/metadata/timestamp.chk", "probe"])).await;
    let probe = fs::read(bench.target(".").join("probe")).unwrap();
    assert_eq!(probe, b"Tue, 14 Nov 2023 22:13:20 +0000\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_copy_gives_the_same_tree() {
    let bench = Bench::plain().await;
    let ways: &[&[&str]] = &[
        &["-rlpt"],
        &["-a", "--numeric-ids"],
        &["-a"],
        &["-aHx"],
        &["-rlptc"],
        &["-rlptW"],
        &["-rlpt", "--protocol=31"],
        &["-rlpt", "--no-inc-recursive"],
        &["-rlpts"],
        &["-rlpt", "--bwlimit=100000"],
        &["-rlpt", "--timeout=5"],
        &["-rlptz"],
        &["-rlptz", "--compress-choice=zstd"],
        &["-rlptz", "--compress-choice=lz4"],
        &["-rlptz", "--compress-choice=zlibx"],
        &["-rlptz", "--compress-choice=zlib"],
        &["-rlptz", "--compress-choice=zlib", "--compress-level=9"],
        &["-rlptz", "--compress-choice=zstd", "--compress-level=19"],
        &["-rlptz", "--compress-choice=none"],
        &["-rlpt", "--checksum-choice=xxh128"],
        &["-rlpt", "--checksum-choice=xxh3"],
        &["-rlpt", "--checksum-choice=xxh64"],
        &["-rlpt", "--checksum-choice=md5"],
        &["-rlpt", "--checksum-choice=sha1"],
        &["-rlptc", "--checksum-choice=xxh3,md5", "--checksum-seed=-12345"],
        &["-rlptW", "--checksum-choice=none"],
    ];
    for (number, options) in ways.iter().enumerate() {
        let name = format!("way{number}/");
        let target = bench.target(&name);
        bench.succeeds(&with(options, &["{}m/", &name])).await;
        assert_eq!(bench.differences("", &target).await, "", "{options:?}");
        // The second run must agree that there is nothing to do.
        let said = bench.succeeds(&with(options, &["--itemize-changes", "{}m/", &name])).await;
        assert_eq!(
            said.lines().filter(|line| line.contains("f.") || line.starts_with('>')).count(),
            0,
            "{said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_files_arrive_whole_whatever_the_client_has() {
    let bench = Bench::plain().await;
    for options in
        [&["-rlptI"][..], &["-rlptI", "--inplace"], &["-rlptIz"], &["-rlptI", "--no-whole-file", "-B700"]]
    {
        let target = bench.target("target");
        bench.succeeds(&["-rlpt", "{}m/big/", "target/"]).await;
        let mut text = fs::read(target.join("text")).unwrap();
        text.splice(3000..3010, *b"INSERTED HERE");
        fs::write(target.join("text"), text).unwrap();
        bench.succeeds(&with(options, &["{}m/big/", "target/"])).await;
        assert_eq!(bench.differences("big/", &target).await, "", "{options:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn appended_files_are_completed() {
    let bench = Bench::plain().await;
    for option in ["--append", "--append-verify"] {
        let target = bench.target("target");
        bench.succeeds(&["-rlpt", "{}m/big/", "target/"]).await;
        for name in ["text", "noise"] {
            let file = fs::OpenOptions::new().write(true).open(target.join(name)).unwrap();
            file.set_len(150_001).unwrap();
        }
        bench.succeeds(&["-rlpt", option, "{}m/big/", "target/"]).await;
        assert_eq!(bench.differences("big/", &target).await, "", "{option}");
    }
    // What --append trusts is wrong: the client notices and asks again.
    let target = bench.target("target");
    fs::write(target.join("text"), [b'x'; 1000]).unwrap();
    bench.succeeds(&["-rlpt", "--append-verify", "{}m/big/", "target/"]).await;
    assert_eq!(bench.differences("big/", &target).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_are_honoured() {
    let bench = Bench::plain().await;
    let cases: &[&[&str]] = &[
        &["--exclude=/sort"],
        &["--exclude=*.ebuild"],
        &["--exclude=foo/***"],
        &["--exclude=**/inner"],
        &["--exclude=app-misc/*/"],
        &["--exclude=a[-.]b"],
        &["--include=*/", "--include=*.ebuild", "--exclude=*"],
        &["-f", "-! */"],
        &["-f", "H *.txt", "-f", "P stray"],
        &["-f", "-p /big"],
        &["--exclude=many", "--delete-excluded", "--delete"],
    ];
    for (number, filters) in cases.iter().enumerate() {
        let (ours, theirs) = (format!("ours{number}/"), format!("theirs{number}/"));
        bench.target(&ours);
        bench.target(&theirs);
        let source = format!("{}/", bench.source().display());
        bench.succeeds(&[&["-rlpt"], *filters, &["--exclude=/many", "{}m/", &ours]].concat()).await;
        bench
            .succeeds(&[&["-rlpt"], *filters, &["--exclude=/many", source.as_str(), &theirs]].concat())
            .await;
        let compare = ["-rlpt", "--checksum", "--omit-dir-times", "--delete", "-ni", &theirs, &ours];
        assert_eq!(bench.succeeds(&compare).await, "", "{filters:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_what_rsync_makes_of_them() {
    let bench = Bench::plain().await;
    fs::write(bench.target(".").join("list"), "app-misc/foo\nmetadata/timestamp.chk\nsort/a/\nheader.txt\n")
        .unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        (&["-rlpt"], &["sort"]),
        (&["-rlpt"], &["sort/", "metadata/"]),
        (&["-rlpt"], &["app-misc/name with space.txt"]),
        (&["-rlpt"], &["*.txt"]),
        (&["-rlpt"], &["app-misc/f*/*.ebuild"]),
        (&["-rlpt"], &["sort/./a/../b/"]),
        (&["-lptd"], &["sort/"]),
        (&["-lpt"], &["sort/z"]),
        (&["-rlptR"], &["app-misc/foo/Manifest", "metadata/md5-cache"]),
        (&["-rlptR"], &["./metadata/md5-cache", "./app-misc/foo"]),
        (&["-rlptR"], &["metadata/./md5-cache/app-misc"]),
        (&["-rlptR", "--no-implied-dirs"], &["app-misc/foo/Manifest"]),
        (&["-rlpt", "--files-from=list"], &[""]),
        (&["-rlpt", "--files-from=list", "--no-relative"], &[""]),
        (&["-lpt", "--files-from=list"], &[""]),
    ];
    for (number, (options, paths)) in cases.iter().enumerate() {
        let (ours, theirs) = (format!("ours{number}/"), format!("theirs{number}/"));
        bench.target(&ours);
        bench.target(&theirs);
        let served: Vec<String> = paths.iter().map(|path| format!("{{}}m/{path}")).collect();
        let served: Vec<&str> = served.iter().map(String::as_str).collect();
        bench.succeeds(&[*options, &served, &[ours.as_str()]].concat()).await;
        let script = paths.iter().map(|path| format!("{}/{path}", bench.source().display()));
        let script: Vec<String> = script.collect();
        local_copy(&bench, options, &script, &theirs);
        let compare = ["-rlpt", "--checksum", "--omit-dir-times", "--delete", "-ni", &theirs, &ours];
        assert_eq!(bench.succeeds(&compare).await, "", "{options:?} {paths:?}");
    }
}

/// The stock client on its own, which needs a shell for wildcards and `/./` before the source for `-R`.
fn local_copy(bench: &Bench, options: &[&str], paths: &[String], target: &str) {
    let source = bench.source();
    let paths: Vec<String> = paths
        .iter()
        .map(|path| {
            let path = path.strip_prefix(&format!("{}/", source.display())).unwrap();
            let dotted = options.contains(&"-rlptR") && !path.contains("./");
            let path = format!("source/{}{path}", if dotted { "./" } else { "" });
            if path.contains('*') { path } else { format!("'{path}'") }
        })
        .collect();
    let line = format!("rsync {} {} {target}", options.join(" "), paths.join(" "));
    let mut shell = std::process::Command::new("sh");
    let done = shell.args(["-c", &line]).current_dir(source.parent().unwrap()).output().unwrap();
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_paths_are_reported_by_name() {
    let bench = Bench::plain().await;
    bench.target("target");
    let said = bench.fails(23, &["-rlpt", "{}m/nosuch", "target/"]).await;
    assert!(said.contains("link_stat \"nosuch\" (in m) failed: No such file or directory (2)"), "{said}");
    let said = bench.fails(23, &["-rlpt", "{}m/no/such/path", "target/"]).await;
    assert!(said.contains("change_dir \"no/such\" (in m) failed"), "{said}");
    bench.fails(23, &["-rlpt", "{}m/nosuch", "{}m/header.txt", "target/"]).await;
    assert!(bench.target("target").join("header.txt").exists());
    bench.succeeds(&["-rlpt", "--ignore-missing-args", "{}m/nosuch", "target/"]).await;
    // Nothing outside of the module can be named.
    let said = bench.fails(23, &["-rlpt", "{}m/../../../../etc/passwd", "target/"]).await;
    assert!(said.contains("(in m)"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_and_dry_runs() {
    let bench = Bench::plain().await;
    let said = bench.succeeds(&["{}"]).await;
    assert!(said.contains("welcome\n") && said.contains("m              \ta test tree\n"), "{said}");
    let said = bench.succeeds(&["{}m/"]).await;
    assert!(said.contains(" header.txt") && !said.contains("inner"), "{said}");
    let said = bench.succeeds(&["-r", "{}m/"]).await;
    assert!(said.contains(" sort/b.d/inner"), "{said}");
    let target = bench.target("target");
    let said = bench.succeeds(&["-rlptn", "--itemize-changes", "{}m/", "target/"]).await;
    assert!(said.contains(">f+++++++++ header.txt"), "{said}");
    assert!(fs::read_dir(target).unwrap().next().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_granted_is_refused_by_name() {
    let bench = Bench::plain().await;
    bench.target("target");
    let said = bench.fails(1, &["-rlpt", "source/sort", "{}m/up/"]).await;
    assert!(said.contains("ERROR: module is read only"), "{said}");
    for (option, name) in [("--atimes", "--atimes (-U)"), ("--iconv=utf8,latin1", "--iconv")] {
        let said = bench.fails(4, &["-rlpt", option, "{}m/", "target/"]).await;
        assert!(said.contains("refuses") && said.contains(name), "{option}: {said}");
    }
    let said = bench.fails(1, &["-rlpt", "--remove-source-files", "{}m/sort/", "target/"]).await;
    assert!(said.contains("--remove-source-files"), "{said}");
    let said = bench.fails(4, &["-rlpt", "-f", ": sub/.rsync-filter", "{}m/", "target/"]).await;
    assert!(said.contains("files of other directories"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_hosts_and_connections_are_limited() {
    let denied = HostAccess { allow: vec!["192.0.2.0/24".parse().unwrap()], deny: Vec::new() };
    let queue_timeout = Duration::from_secs(1);
    let limits = Limits { max_connections: 1, queue_timeout, ..Limits::default() };
    let more = [("closed", true, denied.clone()), ("hidden", false, denied)];
    let bench = Bench::start(limits, &more).await;
    bench.target("target");
    let said = bench.fails(5, &["-rlpt", "{}nosuch/", "target/"]).await;
    assert!(said.contains("@ERROR: Unknown module 'nosuch'"), "{said}");
    let said = bench.fails(5, &["-rlpt", "{}closed/", "target/"]).await;
    assert!(said.contains("@ERROR: access denied to closed from UNDETERMINED (127.0.0.1)"), "{said}");
    let said = bench.fails(5, &["-rlpt", "{}hidden/", "target/"]).await;
    assert!(said.contains("@ERROR: Unknown module 'hidden'"), "{said}");
    let said = bench.fails(5, &["-rlpt", "{}pending/", "target/"]).await;
    assert!(said.contains("@ERROR: module pending has no tree to serve yet"), "{said}");
    assert!(!bench.succeeds(&["{}"]).await.contains("hidden"));
    // One that has its slot and says nothing more; the next one waits in vain.
    let mut holder = super::strangers::hold_module(bench.address, "m").await;
    let said = bench.fails(5, &["-rlpt", "{}m/", "target/"]).await;
    assert!(said.contains("@ERROR: max connections (1) reached -- try again later"), "{said}");
    holder.close().await;
    // The slot is free as soon as the daemon sees the end.
    let mut tries = 0;
    while !bench.rsync(&["-rlpt", "{}m/sort/", "target/"]).await.status.success() {
        tries += 1;
        assert!(tries < 20, "the slot was not given back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_and_an_address_have_their_own_limits() {
    let queue_timeout = Duration::from_secs(1);
    let limits = Limits { connections_per_address: 2, queue_timeout, ..Limits::default() };
    let bench = Bench::start(limits, &[]).await;
    bench.target("target");
    let said = bench.fails(5, &["-rlpt", "{}off/", "target/"]).await;
    assert!(said.contains("@ERROR: max connections (-1) reached -- try again later"), "{said}");
    let mut narrow = super::strangers::hold_module(bench.address, "narrow").await;
    let said = bench.fails(5, &["-rlpt", "{}narrow/", "target/"]).await;
    assert!(said.contains("@ERROR: max connections (1) reached -- try again later"), "{said}");
    bench.succeeds(&["-rlpt", "{}m/sort/", "target/"]).await;
    let mut other = super::strangers::hold_module(bench.address, "m").await;
    let said = bench.fails(5, &["-rlpt", "{}m/", "target/"]).await;
    assert!(said.contains("@ERROR: max connections (2) reached -- try again later"), "{said}");
    narrow.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_served_when_a_turn_is_free() {
    let limits = Limits { queue_timeout: Duration::from_mins(1), ..Limits::default() };
    let bench = Bench::start(limits, &[]).await;
    let target = bench.target("target");
    let mut holder = super::strangers::hold_module(bench.address, "narrow").await;
    // Whether it asks before or after the turn is given back.
    let waiting = super::strangers::ask_for_module(bench.address, "narrow").await;
    holder.close().await;
    waiting.granted().await.close().await;
    bench.succeeds(&["-rlpt", "{}narrow/", "target/"]).await;
    assert_eq!(bench.differences("", &target).await, "");
}
