//! The same signed trees, good and damaged, before our verification and gemato's: the same verdicts, and ours
//! names the path.
#![allow(clippy::print_stdout, reason = "the table of verdicts is for people")]

mod scenes;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail, ensure};
use rookery_tests::signed::{Rig, Scene};
use tree_store::{BuildRequest, Built, Excludes, Keyring, Store, Verify};

/// Our verdict.
fn ask_ourselves(rig: &Rig, scene: &Scene, dir: &Path) -> Result<Result<(), String>> {
    let state = tempfile::tempdir()?;
    let store = Store::open(state.path(), "m".parse()?)?;
    let request = BuildRequest {
        source: dir,
        excludes: &Excludes::new::<&str>([])?,
        started: SystemTime::now(),
        afresh: false,
        stop: &AtomicBool::new(false),
    };
    let Built::Candidate(candidate) = store.build(&request)? else { bail!("nothing to build") };
    let mode = Verify::Signed(Keyring::open(&rig.key_of(scene))?);
    Ok(tree_store::verify(&candidate, None, &mode, &[]).map(drop).map_err(|error| error.to_string()))
}

/// Trees that we refuse and gemato does not, and why.
const STRICTER: &[(&str, &str)] = &[
    (
        "key that has expired since",
        "whoever has the key of somebody who let it expire can sign with any date: for a tree on a box that may be \
         right, for what a mirror publishes today it is not",
    ),
    ("RMD160 alone", "160 bits are too few to rely on"),
    ("wrong STREEBOG512", "gemato does not know it"),
    ("wrong STREEBOG256", "gemato does not know it"),
    ("the same digest twice in a line", "the line is broken, whichever of them counts"),
    ("a link to nothing", "a link that leads nowhere is published by nobody on purpose"),
    ("a link out of the tree", "what it leads to is on this host alone: no box gets it"),
];

/// Trees that gemato refuses and we do not, and why.
const LAXER: &[(&str, &str)] = &[
    ("STREEBOG512 alone", "gemato does not know it"),
    ("WHIRLPOOL", "gemato leaves it to OpenSSL, which has it no more"),
    ("a path that may be missing", "OPTIONAL is of the first drafts of GLEP 74; gemato knows it no more"),
    ("sub-Manifest in zstd", "gemato does not know it"),
];

#[test]
fn our_verdict_is_gematos() -> Result<()> {
    let rig = Rig::create()?;
    let (mut cells, mut wrong) = (0, Vec::new());
    let excused = |list: &[(&str, &str)], name: &str| list.iter().any(|(excused, _)| *excused == name);
    for (name, scene, expected) in scenes::all()? {
        let dir = tempfile::tempdir()?;
        rig.lay_out(&scene, dir.path()).with_context(|| name.clone())?;
        let ours = ask_ourselves(&rig, &scene, dir.path())?;
        let theirs = rig.ask_gemato(dir.path(), &rig.key_of(&scene))?;
        cells += 1;
        println!("{name}\n    ours:   {ours:?}\n    gemato: {theirs:?}");
        let agrees = match (&ours, &theirs) {
            (Ok(()), Err(_)) => excused(LAXER, &name),
            (Err(_), Ok(())) => excused(STRICTER, &name),
            (Ok(()), Ok(())) | (Err(_), Err(_)) => true,
        };
        let names_path = match &ours {
            Ok(()) => expected.is_empty(),
            Err(error) => !expected.is_empty() && error.starts_with(expected),
        };
        if !agrees || !names_path {
            wrong.push(format!("{name}: ours {ours:?}, gemato {theirs:?}, expected {expected:?}"));
        }
    }
    for (name, why) in STRICTER {
        println!("stricter than gemato: {name}: {why}");
    }
    for (name, why) in LAXER {
        println!("laxer than gemato: {name}: {why}");
    }
    println!("{cells} trees, {} of them with another verdict on purpose", STRICTER.len() + LAXER.len());
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
