//! What is kept, in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Which response: a digest of its URI, and one of what selects it among those of the same URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResponseKey {
    /// Of the URI.
    pub uri: [u8; 16],
    /// Of the request's headers that selected it.
    pub variant: [u8; 16],
}

impl ResponseKey {
    pub(super) fn file_name(&self) -> String {
        format!("{}-{}", hex::encode(self.uri), hex::encode(self.variant))
    }

    pub(super) fn of_file_name(name: &str) -> Option<Self> {
        let (uri, variant) = name.split_once('-')?;
        let read = |text: &str| -> Option<[u8; 16]> {
            let is_ours = !text.bytes().any(|octet| octet.is_ascii_uppercase());
            hex::decode(text).ok().filter(|_| is_ours)?.try_into().ok()
        };
        Some(Self { uri: read(uri)?, variant: read(variant)? })
    }
}

/// A response that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Which one.
    pub key: ResponseKey,
    /// What the caller knows of it.
    pub head: Arc<[u8]>,
    /// Octets of its body.
    pub length_bytes: u64,
    /// The name of its file.
    pub(super) body: String,
}

struct Entry {
    response: Response,
    /// The greater, the more recently used.
    used: u64,
}

#[derive(Default)]
pub(super) struct Index {
    entries: BTreeMap<ResponseKey, Entry>,
    by_use: BTreeMap<u64, ResponseKey>,
    uses: u64,
    pub(super) used_bytes: u64,
    /// Promised to bodies that are being written.
    pub(super) reserved_bytes: u64,
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn taken_bytes(&self) -> u64 {
        self.used_bytes.saturating_add(self.reserved_bytes)
    }

    pub(super) fn get(&self, key: &ResponseKey) -> Option<&Response> {
        self.entries.get(key).map(|entry| &entry.response)
    }

    /// Whether it is still the one that is kept, with this head and this body.
    pub(super) fn is_current(&self, response: &Response) -> bool {
        self.get(&response.key).is_some_and(|current| current.body == response.body)
    }

    pub(super) fn variants(&self, uri: &[u8; 16]) -> Vec<Response> {
        let first = ResponseKey { uri: *uri, variant: [0; 16] };
        let last = ResponseKey { uri: *uri, variant: [0xff; 16] };
        let mut found: Vec<&Entry> = self.entries.range(first..=last).map(|(_, entry)| entry).collect();
        found.sort_by_key(|entry| std::cmp::Reverse(entry.used));
        found.into_iter().map(|entry| entry.response.clone()).collect()
    }

    pub(super) fn insert(&mut self, key: ResponseKey, head: Arc<[u8]>, body: String, length_bytes: u64) {
        self.remove(&key);
        self.uses += 1;
        self.used_bytes += length_bytes + head.len() as u64;
        let response = Response { key, head, length_bytes, body };
        self.by_use.insert(self.uses, key);
        self.entries.insert(key, Entry { response, used: self.uses });
    }

    pub(super) fn remove(&mut self, key: &ResponseKey) -> Option<Response> {
        let entry = self.entries.remove(key)?;
        self.by_use.remove(&entry.used);
        self.used_bytes -= entry.response.length_bytes + entry.response.head.len() as u64;
        Some(entry.response)
    }

    pub(super) fn touch(&mut self, response: &Response) {
        if !self.is_current(response) {
            return;
        }
        self.uses += 1;
        if let Some(entry) = self.entries.get_mut(&response.key) {
            self.by_use.remove(&entry.used);
            entry.used = self.uses;
            self.by_use.insert(self.uses, response.key);
        }
    }

    pub(super) fn longest_unused(&self) -> Option<ResponseKey> {
        self.by_use.first_key_value().map(|(_, key)| *key)
    }
}
