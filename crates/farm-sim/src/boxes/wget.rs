//! `emerge --fetchonly`: `layout.conf`, then each distfile with the `wget` command that Portage runs.

use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::programs::{Programs, command, failure};
use super::{BoxError, BoxSpec, RESUME_MIN_BYTES, get};

/// What Portage's Python leaves as it is in a path.
const PATH_SET: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'-').remove(b'~').remove(b'/');

/// What Portage's wget calls itself.
pub(super) const USER_AGENT: &str = "Portage (Gentoo, gentoo.org) distfile-fetch";

/// Attempts that Portage makes at one URI.
const ATTEMPTS: u32 = 3;

/// How a mirror lays its distfiles out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// `filename-hash BLAKE2B 8`.
    Hashed,
    /// All in one directory: also what is assumed without a `layout.conf`.
    Flat,
}

pub(super) fn client_name(programs: &Programs) -> String {
    programs.wget.as_ref().map_or_else(|| "own HTTP client".to_owned(), |program| program.version.clone())
}

/// Asks the mirror for its layout, as Portage does before the first file.
pub(super) async fn read_layout(spec: &BoxSpec, distdir: &Path) -> Layout {
    let path = distdir.join(".layout.conf");
    let url = format!("{}/distfiles/layout.conf", spec.mirror.trim_end_matches('/'));
    let fetched = download(spec, &url, &path, false).await;
    let text = match fetched {
        Ok(()) => tokio::fs::read_to_string(&path).await.unwrap_or_default(),
        Err(_) => String::new(),
    };
    if text.lines().any(|line| line.trim() == "0=filename-hash BLAKE2B 8") {
        Layout::Hashed
    } else {
        Layout::Flat
    }
}

/// Downloads the distfile `name` to `part`.
pub(super) async fn fetch(spec: &BoxSpec, layout: Layout, name: &str, part: &Path) -> Result<(), BoxError> {
    let path = match layout {
        Layout::Hashed => crate::upstream::mirror_path(name),
        Layout::Flat => format!("/distfiles/{name}"),
    };
    let url = format!("{}{}", spec.mirror.trim_end_matches('/'), utf8_percent_encode(&path, PATH_SET));
    let mut attempt = 1;
    loop {
        let length = tokio::fs::metadata(part).await.map_or(0, |metadata| metadata.len());
        match download(spec, &url, part, length >= RESUME_MIN_BYTES).await {
            Ok(()) => return Ok(()),
            Err(error) if attempt == ATTEMPTS => return Err(error),
            Err(error) => tracing::debug!(box_name = spec.name, url, %error, "trying again"),
        }
        attempt += 1;
    }
}

async fn download(spec: &BoxSpec, url: &str, path: &Path, resume: bool) -> Result<(), BoxError> {
    let Some(wget) = &spec.programs.wget else {
        return get::download(url, path, resume).await;
    };
    let mut command = command(&wget.path);
    command.args(["-t", "3", "-T", "60", "--passive-ftp", "-U", USER_AGENT]);
    if resume {
        command.arg("-c");
    }
    let output = command.arg("-O").arg(path).arg(url).output().await?;
    if output.status.success() { Ok(()) } else { Err(failure("wget", output.status.code(), &output.stderr)) }
}
