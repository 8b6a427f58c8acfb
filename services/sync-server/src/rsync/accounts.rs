//! What this host calls users and groups: `/etc/passwd` and `/etc/group`, read for each list that names them. Nothing
//! is asked over a network for a client's sake, so what only a directory service knows has no name.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// Octets of one of these files.
const FILE_LEN_MAX: u64 = 4 << 20;

type Names = HashMap<u32, Vec<u8>>;

/// The names of both.
#[derive(Debug, Clone, Default)]
pub(super) struct Accounts {
    users: Names,
    groups: Names,
}

impl Accounts {
    /// Those of this host; none where a file can't be read. Blocking.
    pub(super) fn of_host() -> Self {
        let read = |path: &str| {
            read(Path::new(path)).unwrap_or_else(|error| {
                tracing::warn!(path, %error, "rsync: owners are sent without names");
                Names::default()
            })
        };
        Self { users: read(PASSWD), groups: read(GROUP) }
    }

    pub(super) fn user(&self, uid: u32) -> Option<&[u8]> {
        self.users.get(&uid).map(Vec::as_slice)
    }

    pub(super) fn group(&self, gid: u32) -> Option<&[u8]> {
        self.groups.get(&gid).map(Vec::as_slice)
    }
}

fn read(path: &Path) -> io::Result<Names> {
    let mut text = Vec::new();
    File::open(path)?.take(FILE_LEN_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_LEN_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(parse(&text))
}

/// Names by number, which is the third field in both files; the first line of a number counts, as for getpwuid(3).
fn parse(text: &[u8]) -> Names {
    let mut names = Names::default();
    for line in text.split(|&octet| octet == b'\n') {
        let mut fields = line.split(|&octet| octet == b':');
        let (Some(name), Some(id)) = (fields.next(), fields.nth(1)) else { continue };
        let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
        // `+` and `-` refer to a directory service.
        let is_name = name.first().is_some_and(|first| !b"+-#".contains(first));
        if let (Some(id), true) = (id, is_name) {
            names.entry(id).or_insert_with(|| name.to_vec());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_number_names_it() {
        let text = b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/root:/bin/sh\nportage:x:250:250::/var/tmp:/bin/false\n\
            +:::::\n-joe:x:7:\n#old:x:8:8\n:x:9:9\nshort:x\nminus:x:-1:1\nword:x:ten:1\n\xffoctets:x:4294967294:0\nlast:x:11:";
        let names = parse(text);
        let of = |id: u32| names.get(&id).map(Vec::as_slice);
        assert_eq!((of(0), of(250)), (Some(&b"root"[..]), Some(&b"portage"[..])));
        assert_eq!((of(u32::MAX - 1), of(11)), (Some(&b"\xffoctets"[..]), Some(&b"last"[..])));
        assert_eq!(names.len(), 4, "{names:?}");
    }

    #[test]
    fn a_file_that_is_not_one_names_nobody() {
        let directory = tempfile::tempdir().unwrap();
        assert!(read(&directory.path().join("none")).is_err());
        let large = directory.path().join("large");
        File::create(&large).unwrap().set_len(FILE_LEN_MAX + 1).unwrap();
        assert_eq!(read(&large).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
