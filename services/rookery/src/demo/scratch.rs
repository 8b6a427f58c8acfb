//! Where the demo works: in memory if there is plenty, because it writes a hundred thousand small files
//! and deletes them again, which no disk needs to see.

use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Linux's directory in memory.
const MEMORY: &str = "/dev/shm";

/// What must be free there. The demo takes a quarter of it.
const FREE_BYTES_MIN: u64 = 4 << 30;

/// Makes a directory below `TMPDIR` if that is set, else in memory, else in the system's temporary
/// directory. It is removed when it is dropped.
///
/// # Errors
/// It can't be made.
pub fn scratch_dir() -> io::Result<TempDir> {
    let builder = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix("rookery-demo-");
        builder
    };
    if std::env::var_os("TMPDIR").is_none()
        && let Some(memory) = plenty_of_memory()
        && let Ok(dir) = builder().tempdir_in(memory)
    {
        return Ok(dir);
    }
    builder().tempdir()
}

fn plenty_of_memory() -> Option<PathBuf> {
    let memory = Path::new(MEMORY);
    let about = rustix::fs::statvfs(memory).ok()?;
    let free_bytes = about.f_bavail.checked_mul(about.f_frsize)?;
    let available_bytes = available_bytes(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
    (free_bytes.min(available_bytes) >= FREE_BYTES_MIN).then(|| memory.to_owned())
}

/// `MemAvailable` of `/proc/meminfo`.
fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_bytes() {
        let meminfo =
            "MemTotal:       24684092 kB\nMemFree:         7000000 kB\nMemAvailable:   22000000 kB\n";
        assert_eq!(available_bytes(meminfo), Some(22_000_000 * 1024));
        assert_eq!(available_bytes("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn it_is_gone_when_it_is_dropped() {
        let dir = scratch_dir().unwrap();
        let path = dir.path().to_owned();
        assert!(path.is_dir());
        drop(dir);
        assert!(!path.exists());
    }
}
