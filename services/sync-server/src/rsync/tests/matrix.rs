//! Option by option and protocol by protocol: the stock client must not be able to tell this daemon from the stock
//! one. Compared are the exit code, what the client prints and complains, and the tree that results. What differs is
//! in `matrix/explained.txt` with its reason; anything else fails, and so does a reason that no longer applies.

mod run;
mod trees;

use std::collections::BTreeSet;

use super::bench::Bench;
use run::Outcome;
pub(super) use run::StockDaemon;

const COMBINATIONS: &str = include_str!("matrix/combinations.txt");
const EXPLAINED: &str = include_str!("matrix/explained.txt");
const PROTOCOLS: [&str; 4] = ["29", "30", "31", "32"];

/// What may differ, of which combination, at which protocols.
struct Explained {
    line: &'static str,
    combination: &'static str,
    protocols: Vec<&'static str>,
    parts: Vec<&'static str>,
}

/// `combination | protocols | parts | reason`
fn explained() -> Vec<Explained> {
    let lines = EXPLAINED.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parse = |line: &'static str| {
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        let [combination, protocols, parts, reason] = fields[..] else { panic!("not four fields: {line}") };
        assert!(!reason.is_empty(), "no reason: {line}");
        let protocols = protocols.split_whitespace().collect();
        Explained { line, combination, protocols, parts: parts.split_whitespace().collect() }
    };
    lines.map(parse).collect()
}

/// What a part of the matrix came to.
#[derive(Default)]
struct Findings {
    combinations: usize,
    applied: BTreeSet<&'static str>,
    unexplained: Vec<String>,
}

async fn at_protocol(bench: &Bench, stock: &StockDaemon, protocol: &str, only: &str) -> Findings {
    let explained = explained();
    let mut findings = Findings::default();
    let lines = COMBINATIONS.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    for combination in lines.filter(|line| line.contains(only)) {
        findings.combinations += 1;
        let ours = run::run(bench, &bench.url("m/"), combination, protocol).await;
        let theirs = run::run(bench, &stock.url("m/"), combination, protocol).await;
        for part in Outcome::differences(&ours, &theirs) {
            let covers = |known: &&Explained| {
                known.combination == combination
                    && known.protocols.contains(&protocol)
                    && known.parts.contains(&part)
            };
            if let Some(known) = explained.iter().find(covers) {
                findings.applied.insert(known.line);
                continue;
            }
            let contrast = Outcome::contrast(&ours, &theirs, part);
            findings.unexplained.push(format!("{combination} at {protocol}: {part}\n{contrast}"));
        }
    }
    findings
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_can_tell_it_from_the_stock_daemon() {
    let bench = Bench::of_tree(trees::source).await;
    let stock = StockDaemon::start(&bench.source(), &bench.target("stock"));
    trees::lists(&bench.target("."));
    let only = std::env::var("ROOKERY_MATRIX").unwrap_or_default();
    let parts = PROTOCOLS.map(|protocol| at_protocol(&bench, &stock, protocol, &only));
    let mut all = Findings::default();
    for part in futures_util::future::join_all(parts).await {
        all.combinations += part.combinations;
        all.applied.extend(part.applied);
        all.unexplained.extend(part.unexplained);
    }
    println!("{} combinations, {} unexplained", all.combinations, all.unexplained.len());
    assert!(all.unexplained.is_empty(), "\n{}", all.unexplained.concat());
    let lines = explained().into_iter().map(|known| known.line);
    let stale: Vec<_> = lines.filter(|line| !all.applied.contains(line)).collect();
    // Without root all files are one's own, and some lines have nothing to explain.
    let is_whole = only.is_empty() && trees::is_root();
    assert!(stale.is_empty() || !is_whole, "no longer true: {stale:#?}");
}

/// What names decide is only seen where a client maps them.
#[tokio::test(flavor = "multi_thread")]
async fn owners_are_named_where_the_stock_daemon_names_them() {
    if !trees::is_root() {
        return;
    }
    let bench = Bench::of_tree(trees::source).await;
    let path = bench.source().display().to_string();
    let modules = format!(
        "[numeric]\npath = {path}\nnumeric ids = yes\n[chroot]\npath = {path}\nuse chroot = yes\n\
         [names]\npath = {path}\nnumeric ids = no\n"
    );
    let stock = StockDaemon::with(&bench.source(), &bench.target("stock"), &modules);
    let combination = "-rlptog --usermap=daemon:4321 --groupmap=bin:4322 :: known owned header.txt";
    for (ours, theirs, owner) in [
        ("m/", "m/", "|4321:4322|"),
        ("m/", "names/", "|4321:4322|"),
        ("numeric/", "numeric/", "|1:2|"),
        ("numeric/", "chroot/", "|1:2|"),
    ] {
        for protocol in PROTOCOLS {
            let ours = run::run(&bench, &bench.url(ours), combination, protocol).await;
            let theirs = run::run(&bench, &stock.url(theirs), combination, protocol).await;
            assert_eq!(ours, theirs, "{protocol}");
            assert!(ours.has_known_of(owner), "{owner} at {protocol}: {ours:?}");
        }
    }
}
