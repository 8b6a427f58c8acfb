//! Filter rules that nobody thought of: generated trees and rules, given to stock rsync's daemon and to this one, as a
//! client's rules and as a module's excludes. Both must list the same names.
//!
//! `ROOKERY_FILTERS=N` runs N cases instead of the usual ones, `ROOKERY_FILTERS_SEED=S` others; a failure names the seed.
//! Nothing is explained away: any difference is a fault.

mod dice;

use std::fs;
use std::path::Path;

use futures_util::{StreamExt as _, stream};
use rsyncd_conf::{Found, RsyncdConf, Surroundings};
use tree_store::Excludes;

use super::bench::Bench;
use super::matrix::StockDaemon;
use dice::{Dice, Rules};

const CASES: usize = 520;
const SEED: u64 = 20_091_130;
/// Rule lists that one tree is listed with.
const CASES_PER_TREE: usize = 52;
/// Clients that run at a time.
const CLIENTS: usize = 4;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: a number")))
}

/// Names and what is wrong, from a listing: permissions, size and time are 46 characters.
fn names(output: &std::process::Output) -> (Option<i32>, Vec<String>) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut names: Vec<String> = text.lines().filter_map(|line| line.get(46..)).map(str::to_owned).collect();
    names.sort_unstable();
    (output.status.code(), names)
}

async fn list(bench: &Bench, rules: &[String], url: String) -> (Option<i32>, Vec<String>) {
    let mut arguments = vec!["-r", "--links", "--list-only", "--no-motd"];
    arguments.extend(rules.iter().map(String::as_str));
    arguments.push(&url);
    names(&bench.rsync(&arguments).await)
}

/// The names that only the first of two has.
fn only(ours: &[String], theirs: &[String]) -> String {
    ours.iter().filter(|name| !theirs.contains(name)).cloned().collect::<Vec<_>>().join(" ")
}

/// A difference, if there is one.
async fn as_client(bench: &Bench, stock: &StockDaemon, rules: Rules) -> Option<String> {
    let path = rules.path;
    let ours = list(bench, &rules.options, bench.url(&format!("m/{path}"))).await;
    let theirs = list(bench, &rules.options, stock.url(&format!("m/{path}"))).await;
    (ours != theirs).then(|| {
        format!(
            "client, {path:?}: {:?}\n  exits {:?} {:?}; only ours: {}; only theirs: {}\n",
            rules.options,
            ours.0,
            theirs.0,
            only(&ours.1, &theirs.1),
            only(&theirs.1, &ours.1)
        )
    })
}

/// A configuration refers to nothing.
struct Alone;

impl Surroundings for Alone {
    fn read(&mut self, path: &str) -> Result<Found, String> {
        Err(path.to_owned())
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

/// What a generation with these excludes would have.
fn kept(root: &Path, excludes: &Excludes, below: &str, names: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        let is_directory = entry.file_type().unwrap().is_dir();
        if excludes.matches(path.as_bytes(), is_directory) {
            continue;
        }
        if is_directory {
            kept(root, excludes, &path, names);
        }
        names.push(path);
    }
}

/// A difference between the module `number` of the stock daemon and the excludes that its section comes to here.
async fn as_module(bench: &Bench, stock: &StockDaemon, number: usize, section: &str) -> Option<String> {
    let (code, theirs) = list(bench, &[], stock.url(&format!("x{number}/"))).await;
    let conf = RsyncdConf::parse("conf", format!("[x]\npath = /x\n{section}").as_bytes(), &mut Alone);
    let patterns = &conf.unwrap_or_else(|faults| panic!("{section}: {faults:?}")).modules[0].patterns;
    let excludes = match Excludes::new(patterns) {
        Ok(excludes) => excludes,
        Err(error) => return Some(format!("module: {section}: {error}\n")),
    };
    let mut ours = vec![".".to_owned()];
    kept(&bench.source(), &excludes, "", &mut ours);
    ours.sort_unstable();
    (code != Some(0) || ours != theirs).then(|| {
        format!(
            "module: {section}  exit {code:?}; only ours: {}; only theirs: {}\n",
            only(&ours, &theirs),
            only(&theirs, &ours)
        )
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_hide_the_same_as_in_stock_rsync() {
    let cases = usize::try_from(setting("ROOKERY_FILTERS", CASES as u64)).unwrap();
    let seed = setting("ROOKERY_FILTERS_SEED", SEED);
    let mut dice = Dice::new(seed);
    let mut differences = Vec::new();
    let mut ran = 0;
    while ran < cases {
        let tree = dice.fork();
        let bench = Bench::of_tree(|root: &Path| dice::write_tree(tree, root)).await;
        let sections: Vec<String> = (0..CASES_PER_TREE / 2).map(|_| dice.section()).collect();
        let modules = sections
            .iter()
            .enumerate()
            .map(|(number, section)| format!("[x{number}]\npath = {}\n{section}", bench.source().display()));
        let stock = StockDaemon::with(&bench.source(), &bench.target("stock"), &modules.collect::<String>());
        let rules: Vec<Rules> = (0..CASES_PER_TREE / 2).map(|_| dice.rules()).collect();
        let (bench, stock) = (&bench, &stock);
        let clients = rules.into_iter().map(|rules| as_client(bench, stock, rules));
        let modules =
            sections.iter().enumerate().map(|(number, section)| as_module(bench, stock, number, section));
        ran += clients.len() + modules.len();
        let found = stream::iter(clients).buffer_unordered(CLIENTS).collect::<Vec<_>>().await;
        differences.extend(found.into_iter().flatten());
        let found = stream::iter(modules).buffer_unordered(CLIENTS).collect::<Vec<_>>().await;
        differences.extend(found.into_iter().flatten());
    }
    println!("{ran} cases of seed {seed}, {} differences", differences.len());
    assert!(differences.is_empty(), "seed {seed}:\n{}", differences.concat());
}
