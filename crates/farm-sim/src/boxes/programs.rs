//! The stock programs: whether they are installed, and which version.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::BoxError;

/// An installed program.
#[derive(Debug, Clone)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// As it names itself: `rsync 3.5.0`.
    pub version: String,
}

/// What is installed on a box.
#[derive(Debug, Clone, Default)]
pub struct Programs {
    /// The stock `rsync`.
    pub rsync: Option<Program>,
    /// The stock `wget`.
    pub wget: Option<Program>,
}

impl Programs {
    /// Looks for them on PATH. Blocks.
    #[must_use]
    pub fn find() -> Self {
        Self { rsync: find("rsync"), wget: find("wget") }
    }

    /// A box on which neither is installed.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }
}

fn find(name: &str) -> Option<Program> {
    let path = std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())?;
    let version = version(&path).unwrap_or_else(|| "of unknown version".to_owned());
    Some(Program { path, version: format!("{name} {version}") })
}

/// The first word of the first line of `--version` that starts with a digit.
fn version(path: &Path) -> Option<String> {
    let output = Command::new(path).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.lines().next()?.split_whitespace();
    words.find(|word| word.starts_with(|letter: char| letter.is_ascii_digit())).map(str::to_owned)
}

/// A command that doesn't outlive us, speaks English and asks nobody.
pub(super) fn command(path: &Path) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(path);
    command.env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
    // A proxy of the host that runs us is none of the box's.
    for variable in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY", "RSYNC_PROXY"] {
        command.env_remove(variable);
    }
    command
}

/// The error of a program that failed, with the last lines that it said.
pub(super) fn failure(program: &'static str, code: Option<i32>, said: &[u8]) -> BoxError {
    let said = String::from_utf8_lossy(said);
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join(" | ");
    BoxError::Program { program, code: code.unwrap_or(-1), said: last }
}
