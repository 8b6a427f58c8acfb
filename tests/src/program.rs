//! Finding the programs that the tests drive.

use std::path::PathBuf;
use std::process::Command;

/// The `rookery` program: `ROOKERY_BIN`, else the one that was built beside this test.
///
/// # Panics
/// There is none; the message says how to get it.
#[must_use]
pub fn rookery() -> PathBuf {
    let program = std::env::var_os("ROOKERY_BIN").map_or_else(beside_this_test, PathBuf::from);
    assert!(
        program.is_file(),
        "{} is missing: `cargo build --package rookery` builds it, `cargo xtask test` does everything",
        program.display()
    );
    program
}

// target/debug/deps/NAME-HASH → target/debug/rookery
fn beside_this_test() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    test.parent().and_then(std::path::Path::parent).map(|folder| folder.join("rookery")).unwrap_or_default()
}

/// A stock program of the system.
///
/// # Panics
/// It is not installed; the message says how to get it.
#[must_use]
pub fn stock(name: &str) -> Command {
    let installed = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()));
    assert!(installed, "{name} is not installed: `cargo xtask test` installs what the tests need");
    Command::new(name)
}

/// `wget` as Portage calls it for a distfile, resuming what is there.
#[must_use]
pub fn wget_resume(destination: &std::path::Path, url: &str) -> Command {
    let mut command = stock("wget");
    command.args(["-c", "-t", "3", "-T", "60", "--passive-ftp", "--no-verbose"]);
    command.args(["-U", "Portage (Gentoo, gentoo.org) distfile-fetch", "-O"]).arg(destination).arg(url);
    command
}
