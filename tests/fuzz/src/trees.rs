//! The files of tree-store. Each input is a body: a frame's checksum would keep everything else out.

use tree_store::fuzzing;

pub(crate) fn index(body: &[u8]) {
    let _accepted = fuzzing::index(body);
}

pub(crate) fn catalogue(body: &[u8]) {
    let _accepted = fuzzing::catalogue(body);
}

pub(crate) fn seen(body: &[u8]) {
    let _accepted = fuzzing::seen(body);
}

pub(crate) fn known(body: &[u8]) {
    let _accepted = fuzzing::known(body);
}

/// A whole frame, as found on disk.
pub(crate) fn frame(octets: &[u8]) {
    fuzzing::frame(octets);
}
