//! The log, line by line. What no two daemons can agree on is masked: time and process, how many octets framing and
//! compression took, and the line of the source that the stock program names after an error.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::pair::Pair;
use super::write;

/// How long after its end a connection's last line may take.
const LATE_MAX: Duration = Duration::from_secs(15);

/// Lines as they can be compared.
fn lines(path: &Path) -> Vec<String> {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().filter(|line| !line.contains("rsyncd version ")).map(plain).collect()
}

fn plain(line: &str) -> String {
    let line = line.split_once("] ").map_or(line, |(_, rest)| rest);
    let line = line.split(" at ").next().unwrap_or(line);
    let words = line.split(' ').map(|word| match word.split_once('=') {
        // What was sent for a file; the time of the line.
        Some((name @ ("sent" | "now"), _)) => format!("{name}=#"),
        _ => word.to_owned(),
    });
    let line = words.collect::<Vec<_>>().join(" ");
    if let Some((_, total)) = line.split_once(" total size ").filter(|_| line.starts_with("sent ")) {
        return format!("sent # bytes  received # bytes  total size {total}");
    }
    // A generation knows no size of a directory.
    let is_directory = line.contains("item=cd") || line.contains("item=.d");
    if is_directory { line.split(" len=").next().unwrap_or(&line).to_owned() } else { line }
}

/// What is written last may come a little later.
async fn assert_same(pair: &Pair, sessions: usize) {
    assert_same_files(&pair.ours.log, &pair.theirs.log).await;
    let begun = lines(&pair.ours.log).iter().filter(|line| line.starts_with("connect from")).count();
    assert_eq!(begun, sessions);
}

async fn assert_same_files(ours: &Path, theirs: &Path) {
    let started = Instant::now();
    while lines(ours) != lines(theirs) && started.elapsed() < LATE_MAX {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (ours, theirs) = (lines(ours), lines(theirs));
    let differ = ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs);
    assert!(
        ours == theirs,
        "first: {differ:#?}\nours:\n{}\n\ntheirs:\n{}",
        ours.join("\n"),
        theirs.join("\n")
    );
}

/// Runs each against both, one after the other.
async fn run(pair: &Pair, clients: &[(&str, &str, bool)]) {
    for (arguments, password, keep) in clients {
        for daemon in [&pair.ours, &pair.theirs] {
            drop(pair.client(daemon, arguments, password, *keep).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_usual_format() {
    let conf = "reverse lookup = no\nlog file = {log}\ntransfer logging = yes\n\
        [m]\npath = {}/tree\nexclude = /local\n\
        [private]\npath = {}/tree\nexclude = /local\nauth users = larry\nsecrets file = {}/secrets\n\
        [off]\npath = {}/tree\nmax connections = -1\n\
        [denied]\npath = {}/tree\nhosts deny = *\n\
        [quiet]\npath = {}/tree\ntransfer logging = no\n\
        [refuses]\npath = {}/tree\nrefuse options = checksum\n";
    let pair = Pair::start(conf, write).await;
    let clients = [
        ("{url}", "", false),
        ("-rlpt --no-inc-recursive {url}m/ {out}", "", false),
        ("-rlpt --no-inc-recursive {url}m/ {out}", "", true),
        ("-rlptz --no-inc-recursive {url}m/app-misc/ {out}", "", false),
        ("-rlptn --no-inc-recursive {url}m/app-misc/ {out}", "", false),
        ("--list-only {url}m/", "", false),
        ("-rt --no-inc-recursive --protocol=29 {url}m/app-misc {url}m/metadata {out}", "", false),
        ("-t {url}m/nosuch {url}m/large {out}", "", false),
        ("-t @larry@{url}private/large {out}", "moo", false),
        ("-t {url}off/large {out}", "", false),
        ("-t {url}denied/large {out}", "", false),
        ("-t {url}missing/large {out}", "", false),
        ("-t {url}quiet/large {url}quiet/nosuch {out}", "", false),
        ("-tc {url}refuses/large {out}", "", false),
        ("-t --remove-source-files {url}m/large {out}", "", false),
    ];
    run(&pair, &clients).await;
    assert_same(&pair, clients.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_escape() {
    let conf = "reverse lookup = no\nlog file = {log}\ntransfer logging = yes\n\
        log format = item=%i f=%f n=%n o=%o m=%m u=%u h=%h a=%a B=%B c=%c C=%C G=%G L=%L M=%M P=%P U=%U sent=%b %-9m| %9m| %z %% len=%l %'l %''l %'''l\n\
        [m]\npath = {}/tree\nexclude = /local\n\
        [private]\npath = {}/tree\nexclude = /local\nauth users = larry\nsecrets file = {}/secrets\n";
    let pair = Pair::start(conf, write).await;
    let clients = [
        ("-rlpt --no-inc-recursive {url}m/ {out}", "", false),
        (
            "-rlptog --no-inc-recursive --checksum-choice=md5 @larry@{url}private/app-misc/ {out}",
            "moo",
            false,
        ),
        ("-rltR --no-inc-recursive {url}m/app-misc/./foo {url}m/link {out}", "", false),
        ("-rR --no-inc-recursive --protocol=29 {url}m/app-misc/foo {out}", "", false),
        ("-rt --no-inc-recursive --protocol=30 {url}m/app-misc/foo/foo* {out}", "", false),
        // Only attributes differ, then only times, then a delta.
        ("-rlpt --no-inc-recursive --chmod=F600 {url}m/ {out}", "", false),
        ("-rlpt --no-inc-recursive {url}m/ {out}", "", true),
        ("-rl --no-inc-recursive {url}m/ {out}", "", false),
        ("-rlpt --no-inc-recursive --size-only {url}m/ {out}", "", true),
        ("-rl --no-inc-recursive {url}m/ {out}", "", false),
        ("-rlt --no-inc-recursive --no-whole-file {url}m/ {out}", "", true),
    ];
    run(&pair, &clients).await;
    assert_same(&pair, clients.len()).await;
}

/// A module may have a file of its own; what comes before it is chosen is in the daemon's.
#[tokio::test(flavor = "multi_thread")]
async fn a_module_with_its_own_file() {
    let conf = "reverse lookup = no\nlog file = {log}\ntransfer logging = yes\n\
        [m]\npath = {}/tree\nlog file = {log}-of-m\n";
    let pair = Pair::start(conf, write).await;
    let clients = [("-t {url}m/large {out}", "", false), ("-t {url}m/nosuch {out}", "", false)];
    run(&pair, &clients).await;
    assert_same(&pair, clients.len()).await;
    let of_module =
        |path: &Path| path.with_file_name(format!("{}-of-m", path.file_name().unwrap().display()));
    assert_same_files(&of_module(&pair.ours.log), &of_module(&pair.theirs.log)).await;
}
