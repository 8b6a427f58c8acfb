//! Small files of a service that are there whole or not at all, whatever moment the machine stops at.
//!
//! The order is always: write under a temporary name, fsync the file, rename, fsync the directory. The stores keep to the
//! same order with file operations of their own, each of which a test can make fail. Everything here blocks.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Puts a whole file in the place of another one. `temporary` is where it is written first, in the same directory; what a
/// kill left there is overwritten.
///
/// # Errors
/// The disk. What was there before is there still, unless it was only the last step that failed.
pub fn replace(path: &Path, temporary: &Path, octets: &[u8]) -> io::Result<()> {
    create(temporary, octets)?;
    fs::rename(temporary, path)?;
    sync_directory(path.parent().unwrap_or(Path::new("/")))
}

/// Writes a file whose octets last; that its name does is for [`sync_directory`] to see to.
///
/// # Errors
/// The disk.
pub fn create(path: &Path, octets: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(octets)?;
    file.sync_all()
}

/// Makes the names in a directory last.
///
/// # Errors
/// The disk.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_what_a_kill_left_is_not_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let (path, temporary) = (directory.path().join("a"), directory.path().join("a.new"));
        fs::write(&temporary, "half of something longer").unwrap();
        for octets in ["one", "two"] {
            replace(&path, &temporary, octets.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), octets);
            assert!(!temporary.exists());
        }
    }

    #[test]
    fn what_was_there_stays_where_the_new_one_can_not_be_written() {
        let directory = tempfile::tempdir().unwrap();
        let (path, temporary) = (directory.path().join("a"), directory.path().join("a.new"));
        replace(&path, &temporary, b"one").unwrap();
        fs::create_dir(&temporary).unwrap();
        replace(&path, &temporary, b"two").unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
    }
}
