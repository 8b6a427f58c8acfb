//! Files of an aliased directory, as they are.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use http_wire::conditional::Validators;

use super::body;
use super::cache_status::CacheStatus;
use super::file_reply::FileHead;
use super::reply::{self, Reply};
use super::request::ClientRequest;
use crate::app::App;
use crate::beneath::Root;

/// Serves `segments` below the directory of `prefix`.
pub(crate) async fn answer(app: &App, request: &ClientRequest, prefix: &str, segments: &[String]) -> Reply {
    let Some(alias) = app.config.aliases.iter().find(|alias| trimmed(&alias.prefix) == prefix) else {
        return reply::not_found("no such alias");
    };
    let (dir, path) = (alias.dir.clone(), segments.iter().collect::<PathBuf>());
    let opened = tokio::task::spawn_blocking(move || open_below(&dir, &path)).await;
    let Ok(Some((file, metadata))) = opened else { return reply::not_found("no such file") };
    let modified = metadata.modified().ok();
    let stamp = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let etag = format!("\"{:x}-{:x}\"", stamp.as_nanos(), metadata.len());
    let head = FileHead::new(metadata.len(), Validators { etag: Some(etag), modified }, CacheStatus::HIT);
    head.reply(&request.method, &request.headers, |selection| body::file(Arc::new(file), selection))
}

/// An alias's prefix as it is compared.
pub(crate) fn trimmed(prefix: &str) -> &str {
    prefix.trim_matches('/')
}

/// Opens a plain file; links are followed as long as they stay inside.
fn open_below(dir: &Path, path: &Path) -> Option<(File, std::fs::Metadata)> {
    let file = Root::open(dir).and_then(|root| root.file_following(path)).ok()?;
    let metadata = file.metadata().ok()?;
    metadata.is_file().then_some((file, metadata))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_outside_the_directory_is_opened() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("dir");
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        std::fs::write(root.path().join("secret"), "x").unwrap();
        std::fs::write(dir.join("sub/file"), "y").unwrap();
        symlink("sub/file", dir.join("inside")).unwrap();
        symlink("../secret", dir.join("outside")).unwrap();
        symlink("/", dir.join("root")).unwrap();
        let opens = |path: &str| open_below(&dir, Path::new(path)).is_some();
        assert!(opens("sub/file") && opens("inside"));
        // A pipe without a writer must not keep a thread waiting.
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        for path in ["pipe", "outside", "root/etc/passwd", "../secret", "sub", "missing", "/etc/passwd"] {
            assert!(!opens(path), "{path}");
        }
    }
}
