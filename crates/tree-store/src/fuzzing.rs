//! The decoders of this crate's files for the fuzzer, which only has octets. What is accepted must come back when it
//! is written again. Each function says whether it was accepted.

use std::path::Path;

use crate::codec::{self, Kind, Writer};
use crate::index::Index;
use crate::memory::Memory;
use crate::sightings::Sightings;
use crate::{catalogue as catalogue_file, index as index_file, memory, sightings};

fn seal(kind: Kind, body: &[u8]) -> Option<Vec<u8>> {
    let mut writer = Writer::new(kind);
    writer.raw(body);
    writer.finish().ok()
}

/// The body of an index of module `m`, number 1, of either version that is read.
///
/// # Panics
/// If what was accepted does not come back: that is a finding.
#[must_use]
pub fn index(body: &[u8]) -> bool {
    let decode = |frame: Vec<u8>| Index::decode(&frame, "m", 1).ok();
    let mut is_accepted = false;
    for kind in [index_file::KIND, index_file::KIND_WITHOUT_OWNERS] {
        let Some((index, summary)) = seal(kind, body).and_then(decode) else { continue };
        let again = index.encode("m", 1, &summary).ok().and_then(decode);
        assert!(again == Some((index, summary)));
        is_accepted = true;
    }
    is_accepted
}

/// The body of a catalogue.
///
/// # Panics
/// If what was accepted does not come back: that is a finding.
#[must_use]
pub fn catalogue(body: &[u8]) -> bool {
    let decode = |frame: Vec<u8>| catalogue_file::decode(&frame).ok();
    let Some(read) = seal(catalogue_file::KIND, body).and_then(decode) else { return false };
    let again = catalogue_file::encode(&read).ok().and_then(decode);
    assert!(again == Some(read));
    true
}

/// The body of the sightings of generation 1 of the source `/s`.
///
/// # Panics
/// If what was accepted does not come back: that is a finding.
#[must_use]
pub fn seen(body: &[u8]) -> bool {
    let decode = |frame: Vec<u8>| Sightings::decode(&frame, 1, Path::new("/s")).ok();
    let Some(read) = seal(sightings::KIND, body).and_then(decode) else { return false };
    let again = read.encode(1, Path::new("/s")).ok().and_then(decode);
    assert!(again == Some(read));
    true
}

/// The body of what is known of generation 1, without the rules by which it was found out: they are this program's.
///
/// # Panics
/// If what was accepted does not come back: that is a finding.
#[must_use]
pub fn known(body: &[u8]) -> bool {
    let decode = |frame: Vec<u8>| Memory::decode(&frame, 1).ok();
    let (number, rest) = body.split_at(body.len().min(size_of::<u64>()));
    let body = [number, &memory::rules(), rest].concat();
    let Some(read) = seal(memory::KIND, &body).and_then(decode) else { return false };
    let again = read.encode(1).ok().and_then(decode);
    assert!(again.is_some_and(|again| again.fits == read.fits));
    true
}

/// A whole frame of any kind.
pub fn frame(octets: &[u8]) {
    for kind in [
        index_file::KIND,
        index_file::KIND_WITHOUT_OWNERS,
        catalogue_file::KIND,
        sightings::KIND,
        memory::KIND,
    ] {
        drop(codec::unseal(kind, octets));
    }
}
