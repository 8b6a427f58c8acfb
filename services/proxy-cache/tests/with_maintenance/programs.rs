//! The stock programs that fetch files.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// None of them takes longer, however loaded the machine is.
const DEADLINE: Duration = Duration::from_mins(3);

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// As Portage calls it.
    Wget,
    Curl,
    /// In several ranges at once.
    Aria2,
}

impl Program {
    pub(crate) const ALL: [Self; 3] = [Self::Wget, Self::Curl, Self::Aria2];

    fn command(self, url: &str, destination: &Path, resumes: bool) -> Command {
        let mut command = Command::new(match self {
            Self::Wget => "wget",
            Self::Curl => "curl",
            Self::Aria2 => "aria2c",
        });
        match self {
            Self::Wget => {
                command.args(["-t", "3", "-T", "60", "--passive-ftp", "--no-verbose", "-U"]);
                command.args(["Portage (Gentoo, gentoo.org) distfile-fetch", "-O"]).arg(destination);
                command.args(resumes.then_some("-c"));
            }
            Self::Curl => {
                command.args(["--silent", "--show-error", "--fail", "--output"]).arg(destination);
                if resumes {
                    command.args(["--continue-at", "-"]);
                }
            }
            Self::Aria2 => {
                command.args(["--quiet", "--no-conf", "--split=4", "--max-connection-per-server=4"]);
                command.args(["--min-split-size=1M", "--max-tries=3", "--retry-wait=0"]);
                command.args(["--auto-file-renaming=false", "--allow-overwrite=true"]);
                command.arg(format!("--continue={resumes}"));
                command.arg("--dir").arg(destination.parent().unwrap());
                command.arg("--out").arg(destination.file_name().unwrap());
            }
        }
        command.arg(url).kill_on_drop(true).stdin(Stdio::null());
        command
    }

    /// Runs it to its end: exit status 0 or not, and what it said.
    pub(crate) async fn fetch(self, url: &str, destination: &Path, resumes: bool) -> (bool, String) {
        let mut command = self.command(url, destination, resumes);
        let running = tokio::time::timeout(DEADLINE, command.output());
        let output = running.await.unwrap_or_else(|_| panic!("{self:?} does not end: {url}"));
        let output = output.unwrap_or_else(|error| {
            panic!("{self:?}: {error}: `cargo xtask test` installs what the tests need")
        });
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
