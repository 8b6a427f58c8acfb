//! From the directory to the index, at each start.

use std::collections::HashSet;
use std::path::Path;
use std::time::SystemTime;

use super::Paths;
use super::index::{Index, ResponseKey};
use crate::disk::Disk;
use crate::error::StoreError;

/// A head as it was read.
struct Head {
    key: ResponseKey,
    written: SystemTime,
    body: String,
    length_bytes: u64,
    octets: Vec<u8>,
}

/// Removes what is not whole; the number of heads among that. Use is not written down, so that the order is
/// that in which they came or were last validated.
pub(super) fn run(disk: &Disk, paths: &Paths) -> Result<(Index, usize), StoreError> {
    for name in disk.list(&paths.tmp)? {
        disk.remove(&paths.tmp.join(name))?;
    }
    let mut heads = Vec::new();
    let mut removed = 0;
    for name in disk.list(&paths.heads)? {
        let path = paths.heads.join(&name);
        let key = name.to_str().and_then(ResponseKey::of_file_name);
        if let Some(head) = key.and_then(|key| read(disk, paths, key, &path)) {
            heads.push(head);
        } else {
            removed += 1;
            disk.remove(&path)?;
        }
    }
    let named: HashSet<&str> = heads.iter().map(|head| head.body.as_str()).collect();
    for name in disk.list(&paths.bodies)? {
        if !name.to_str().is_some_and(|name| named.contains(name)) {
            disk.remove(&paths.bodies.join(name))?;
        }
    }
    heads.sort_by_key(|head| (head.written, head.key));
    let mut index = Index::default();
    for head in heads {
        index.insert(head.key, head.octets.into(), head.body, head.length_bytes);
    }
    Ok((index, removed))
}

fn read(disk: &Disk, paths: &Paths, key: ResponseKey, path: &Path) -> Option<Head> {
    let written = disk.stat(path).ok()?.modified().ok()?;
    let all = disk.read_small(path).ok()?;
    let end = all.iter().position(|&octet| octet == b'\n')?;
    let (line, octets) = (std::str::from_utf8(&all[..end]).ok()?, all[end + 1..].to_vec());
    let (body, length) = line.strip_prefix("body ")?.split_once(' ')?;
    let is_id = body.len() == 32 && body.bytes().all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'));
    let length_bytes = length.parse().ok().filter(|_| is_id)?;
    let metadata = disk.stat(&paths.bodies.join(body)).ok()?;
    let is_whole = metadata.is_file() && metadata.len() == length_bytes;
    is_whole.then(|| Head { key, written, body: body.to_owned(), length_bytes, octets })
}
