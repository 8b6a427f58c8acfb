//! An rsyncd.conf means the same here as to stock rsync: both daemons run with the same file and are asked the same by
//! the same client. Compared are the list of modules, what the client prints and complains, its exit code, and the log.

#![allow(clippy::unwrap_used, reason = "a test")]

mod logs;
mod pair;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use pair::{Daemon, Outcome, Pair, hold};
use rustix::process::Signal;

/// A small tree with names that a log has to watch.
fn write(here: &Path) {
    let tree = here.join("tree");
    for (path, text) in [
        ("metadata/timestamp.chk", "Fri, 21 Aug 2026 17:31:03 +0000\n"),
        ("app-misc/foo/foo-1.ebuild", "EAPI=8\n"),
        ("app-misc/foo/foo-2.ebuild", "EAPI=8\nSLOT=0\n"),
        ("app-misc/evil\nname", "x\n"),
        ("app-misc/a\\#123b", "x\n"),
        ("app-misc/t\tab", "x\n"),
        ("secret/hidden", "hidden\n"),
        ("local/mine", "mine\n"),
    ] {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fs::write(tree.join("large"), vec![7; 100_000]).unwrap();
    symlink("app-misc/foo", tree.join("link")).unwrap();
    date(&tree);
    fs::write(here.join("motd"), "welcome\nto all\n").unwrap();
    fs::write(here.join("secrets"), "larry:moo\neve:apple\n@root:group\n").unwrap();
    fs::set_permissions(here.join("secrets"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(here.join("open-secrets"), "larry:moo\n").unwrap();
    fs::set_permissions(here.join("open-secrets"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(here.join("excludes"), "# a comment\n/local\n*.ebuild\n").unwrap();
}

/// Gives directories one time in the past: whether one was made in the same second as the client's is chance.
fn date(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            date(&entry.path());
        }
    }
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    fs::File::open(directory).unwrap().set_modified(time).unwrap();
}

/// Which of a client's processes sees first that the stock daemon is gone is chance.
fn without_resets(outcome: &mut Outcome) {
    let lines = outcome.complained.lines().filter(|line| !line.contains("Connection reset by peer"));
    outcome.complained = lines.fold(String::new(), |text, line| text + line + "\n");
}

/// The stock daemon shows the whole path of what a module hides, and the last name of what is not there: so clients can
/// tell the two apart. Here they can't, as what is hidden is not there.
fn without_paths_of_hidden(outcome: &mut Outcome) {
    const BEFORE: &str = "link_stat \"/";
    let show = |line: &str| match line.split_once(BEFORE).and_then(|(start, rest)| {
        let (path, end) = rest.split_once('"')?;
        Some(format!("{start}link_stat \"{}\"{end}", path.rsplit('/').next()?))
    }) {
        Some(line) => line + "\n",
        None => line.to_owned() + "\n",
    };
    outcome.complained = outcome.complained.lines().map(show).collect();
}

async fn compare(pair: &Pair, arguments: &str, password: &str) {
    let mut ours = pair.client(&pair.ours, arguments, password, false).await;
    let mut theirs = pair.client(&pair.theirs, arguments, password, false).await;
    without_resets(&mut ours);
    without_resets(&mut theirs);
    without_paths_of_hidden(&mut theirs);
    assert_eq!(ours, theirs, "{arguments}");
}

/// The stock daemon closes with input unread when it refuses an option, and its client reports a broken socket beside
/// the text; ours ends with code 4.
async fn compare_refusal(pair: &Pair, arguments: &str) {
    let text = |outcome: &Outcome| {
        let lines = outcome.complained.lines();
        let refusal = |line: &&str| line.contains("refuse");
        lines.filter(refusal).map(str::to_owned).collect::<Vec<_>>()
    };
    let ours = pair.client(&pair.ours, arguments, "", false).await;
    let theirs = pair.client(&pair.theirs, arguments, "", false).await;
    assert_eq!((text(&ours).len(), text(&ours)), (1, text(&theirs)), "{arguments}: {ours:?} {theirs:?}");
    assert_eq!(ours.code, Some(4), "{arguments}");
    assert_ne!(theirs.code, Some(0), "{arguments}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_use_which_module() {
    let conf = "reverse lookup = no\nmotd file = {}/motd\ncomment = a tree\n\
        [all]\npath = {}/tree\n\
        [unlisted]\npath = {}/tree\nlist = no\n\
        [allowed]\npath = {}/tree\nhosts allow = 127.0.0.1\ncomment = for one\n\
        [net]\npath = {}/tree\nhosts allow = 127.0.0.0/30\n\
        [mask]\npath = {}/tree\nhosts allow = 127.0.0.0/255.255.255.254\n\
        [wild]\npath = {}/tree\nhosts allow = *.example 127.0.0.0/29\nhosts deny = *\n\
        [denied]\npath = {}/tree\nhosts deny = 127.0.0.1 127.0.0.5\n\
        [both]\npath = {}/tree\nhosts allow = 127.0.0.1\nhosts deny = 127.0.0.1\n\
        [hidden]\npath = {}/tree\nlist = no\nhosts allow = 127.0.0.9\n\
        [none]\npath = {}/tree\nhosts deny = *\n\
        [names]\npath = {}/tree\nhosts allow = nowhere.invalid\n";
    let pair = Pair::start(conf, write).await;
    let modules = [
        "all", "unlisted", "allowed", "net", "mask", "wild", "denied", "both", "hidden", "none", "names",
        "missing",
    ];
    for address in ["127.0.0.1", "127.0.0.2", "127.0.0.5", "127.0.0.9"] {
        compare(&pair, &format!("--address={address} {{url}}"), "").await;
        for module in modules {
            compare(
                &pair,
                &format!("--address={address} -r --dirs {{url}}{module}/metadata/timestamp.chk {{out}}"),
                "",
            )
            .await;
        }
    }
    // Names are case-sensitive, and are not paths.
    for path in
        ["ALL/", "all/../all/metadata/", "all//metadata/", "al/", "all/nosuch", "all/metadata/nosuch/x"]
    {
        compare(&pair, &format!("-rlpt -i {{url}}{path} {{out}}"), "").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_log_in() {
    let conf = "reverse lookup = no\nauth users = larry, @root, eve:deny\nsecrets file = {}/secrets\n\
        [private]\npath = {}/tree\n\
        [strong]\npath = {}/tree\nauth digest = sha256\n\
        [deny]\npath = {}/tree\nauth users = larry:deny *\n\
        [open]\npath = {}/tree\nsecrets file = {}/open-secrets\n\
        [lax]\npath = {}/tree\nsecrets file = {}/open-secrets\nstrict modes = no\n\
        [missing]\npath = {}/tree\nsecrets file = {}/no-secrets\n\
        [readers]\npath = {}/tree\nauth users = larry:ro eve:rw\n";
    let pair = Pair::start(conf, write).await;
    for module in ["private", "strong", "deny", "open", "lax", "missing", "readers"] {
        for (user, password) in [
            ("larry", "moo"),
            ("larry", "wrong"),
            ("larry", ""),
            ("eve", "apple"),
            ("root", "group"),
            ("stranger", "moo"),
        ] {
            if password.is_empty() {
                continue;
            }
            compare(&pair, &format!("-t @{user}@{{url}}{module}/metadata/timestamp.chk {{out}}"), password)
                .await;
            compare(
                &pair,
                &format!("--protocol=29 -t @{user}@{{url}}{module}/metadata/timestamp.chk {{out}}"),
                password,
            )
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_module_leaves_out() {
    let conf = "reverse lookup = no\n\
        [plain]\npath = {}/tree\n\
        [exclude]\npath = {}/tree\nexclude = /secret /local\n\
        [include]\npath = {}/tree\ninclude = foo-1.ebuild\nexclude = *.ebuild\n\
        [filter]\npath = {}/tree\nfilter = - /secret\n\
        [from]\npath = {}/tree\nexclude from = {}/excludes\n\
        [directories]\npath = {}/tree\nexclude = foo/ link/\n\
        [deep]\npath = {}/tree\nexclude = app-misc/foo/*.ebuild\n\
        [stars]\npath = {}/tree\nexclude = **/foo-2*\n";
    let pair = Pair::start(conf, write).await;
    for module in ["plain", "exclude", "include", "filter", "from", "directories", "deep", "stars"] {
        for path in [
            "",
            "secret",
            "secret/",
            "secret/hidden",
            "app-misc/foo/foo-1.ebuild",
            "app-misc/foo",
            "local/*",
            "*",
        ] {
            // `/distfiles`, `/local` and the like are never in a generation: they are not asked for in `plain`.
            if module != "exclude" && (path.contains("local") || path.is_empty() || path == "*") {
                continue;
            }
            let options = if path.is_empty() { "-rlpt -i" } else { "-rlpt -i --no-inc-recursive" };
            compare(&pair, &format!("{options} {{url}}{module}/{path} {{out}}"), "").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_module_refuses() {
    let conf = "reverse lookup = no\n\
        [letters]\npath = {}/tree\nrefuse options = c z\n\
        [words]\npath = {}/tree\nrefuse options = checksum compress delete\n\
        [wild]\npath = {}/tree\nrefuse options = comp* check*\n\
        [all]\npath = {}/tree\nrefuse options = * !archive\n\
        [zip]\npath = {}/tree\nrefuse options = zip\n";
    let pair = Pair::start(conf, write).await;
    for (arguments, is_refusal) in [
        ("-rtc {url}letters/metadata {out}", true),
        ("-rtz {url}letters/metadata {out}", true),
        ("-rt {url}letters/metadata {out}", false),
        ("-rt --checksum {url}words/metadata {out}", true),
        ("-rt --compress {url}words/metadata {out}", true),
        ("-rt --delete {url}words/metadata {out}", false),
        ("-rtz {url}wild/metadata {out}", true),
        ("-rt --checksum-choice=md5 {url}wild/metadata {out}", true),
        ("-rt {url}wild/metadata {out}", false),
        ("-rtS {url}all/metadata {out}", true),
        ("-rt {url}all/metadata {out}", false),
        ("-rt {url}zip/metadata {out}", false),
    ] {
        if is_refusal {
            compare_refusal(&pair, arguments).await;
        } else {
            compare(&pair, arguments, "").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_many_may_connect() {
    let conf = "reverse lookup = no\n\
        [one]\npath = {}/tree\nmax connections = 1\nlock file = {}/lock-one\n\
        [off]\npath = {}/tree\nmax connections = -1\nlock file = {}/lock-off\n\
        [many]\npath = {}/tree\nlock file = {}/lock-many\n";
    let pair = Pair::start(conf, |here| {
        write(here);
    })
    .await;
    let ask = |module: &str| format!("-t {{url}}{module}/metadata/timestamp.chk {{out}}");
    for module in ["one", "off", "many"] {
        compare(&pair, &ask(module), "").await;
    }
    let held = [hold(&pair.ours, "one"), hold(&pair.theirs, "one")];
    for module in ["one", "off", "many"] {
        compare(&pair, &ask(module), "").await;
    }
    drop(held);
}

/// What a client's statistics say that it got, in octets.
async fn received(pair: &Pair, daemon: &Daemon, arguments: &str) -> u64 {
    let outcome = pair.client(daemon, arguments, "", false).await;
    let line = outcome.printed.lines().find_map(|line| line.strip_prefix("Total bytes received: "));
    let digits = line.map(|count| count.replace(',', ""));
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("{arguments}: {outcome:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_module_does_not_compress() {
    const TEXT_LINES: u64 = 5000;
    let conf = "reverse lookup = no\n\
        [plain]\npath = {}/tree\n\
        [star]\npath = {}/tree\ndont compress = *\n\
        [also]\npath = {}/tree\ndont compress = *.gz * text\n\
        [words]\npath = {}/tree\ndont compress = *.gz text tex*\n";
    let pair = Pair::start(conf, |here| {
        write(here);
        let line = |number| format!("the {number}. line of a text that can be compressed\n");
        fs::write(here.join("tree/text"), (0..TEXT_LINES).map(line).collect::<String>()).unwrap();
    })
    .await;
    for way in ["zlib", "zlibx", "zstd", "lz4"] {
        for options in ["", "--compress-level=9", "--skip-compress=txt"] {
            let mut got = Vec::new();
            for module in ["plain", "words", "star", "also"] {
                let arguments =
                    format!("-t -z --compress-choice={way} {options} --stats {{url}}{module}/text {{out}}");
                let ours = received(&pair, &pair.ours, &arguments).await;
                let theirs = received(&pair, &pair.theirs, &arguments).await;
                // Libraries of another version or make compress a little more or less.
                assert!(ours.abs_diff(theirs) < 300 + theirs / 4, "{arguments}: {ours}, {theirs}");
                got.push(ours);
            }
            let [plain, words, star, also] = got[..] else { panic!() };
            assert_eq!((plain, star), (words, also), "{way} {options}: only `*` counts");
            assert_eq!(star > 40 * TEXT_LINES, way.starts_with("zlib"), "{way} {options}: {star}");
            assert!(plain < 20 * TEXT_LINES, "{way} {options}: {plain}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_ends_nothing() {
    let pair = Pair::start("reverse lookup = no\n[m]\npath = {}/tree\n", write).await;
    let held = hold(&pair.ours, "m");
    pair.ours.signal(Signal::HUP);
    for _ in 0..3 {
        compare(&pair, "-t {url}m/metadata/timestamp.chk {out}", "").await;
    }
    drop(held);
}
