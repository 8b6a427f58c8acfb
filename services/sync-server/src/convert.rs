//! From our types to the contract's.

use std::net::IpAddr;
use std::path::PathBuf;

use gentoo_repo::{Distfile, Restriction};
use rookery_proto::v1;
use tree_store::{Generation, TreeError};

use crate::module::Module;
use crate::pins::Pins;
use crate::refusals::{FaultRecord, Report};

pub(crate) fn generation(generation: &Generation) -> v1::Generation {
    let summary = generation.summary();
    v1::Generation {
        module: generation.module().to_owned(),
        number: generation.number(),
        published_ms: summary.published_ms,
        timestamp_ms: summary.timestamp_ms,
        files: summary.files,
        bytes: summary.bytes,
        distfiles: summary.distfiles,
        distfiles_without_source: summary.distfiles_without_source,
        files_added: summary.changes.added,
        files_changed: summary.changes.changed,
        files_removed: summary.changes.removed,
    }
}

/// A kept generation with what is known of it. Blocking.
pub(crate) fn kept_generation(
    module: &Module,
    number: u64,
    pins: &Pins,
) -> Result<v1::KeptGeneration, TreeError> {
    let summary = generation(&module.store().generation(number)?);
    let origin = module.history().origin(number);
    let hosts = pins.of(module.name(), number).into_iter();
    let holder = |(host, connections): (IpAddr, u32)| v1::Holder { host: host.to_string(), connections };
    Ok(v1::KeptGeneration {
        generation: Some(summary),
        verify: origin.verify,
        copy_of: origin.copy_of,
        live: module.live().is_some_and(|live| live.number() == number),
        holders: hosts.map(holder).collect(),
    })
}

pub(crate) fn module(module: &Module) -> v1::Module {
    let attempt = module.attempt();
    v1::Module {
        name: module.name().to_owned(),
        comment: module.plan().config.comment.clone(),
        live: module.live().as_ref().map(generation),
        last_error: attempt.error,
        last_attempt_ms: i64::try_from(attempt.at_ms).unwrap_or(i64::MAX),
        verify: module.plan().config.verify.as_str().to_owned(),
        source: module.source(),
        next_attempt_ms: i64::try_from(attempt.next_ms).unwrap_or(i64::MAX),
        activity: module.activity(),
        hold: module.hold(),
        key_expires_ms: module.key_expires_ms(),
        report: attempt.report.map_or_else(String::new, |place| place.display().to_string()),
    }
}

pub(crate) fn refusal((place, report): (PathBuf, Report)) -> v1::TreeRefusal {
    let fault = |fault: FaultRecord| {
        let FaultRecord { path, line, kind, why, expected, found, copy } = fault;
        v1::TreeFault { path, line, kind, why, expected, found, copy }
    };
    v1::TreeRefusal {
        module: report.module,
        verify: report.verify,
        refused_ms: i64::try_from(report.refused_ms).unwrap_or(i64::MAX),
        last_ms: i64::try_from(report.last_ms).unwrap_or(i64::MAX),
        times: report.times,
        files: report.files,
        faults_count: report.faults_count,
        faults: report.faults.into_iter().map(fault).collect(),
        directory: place.display().to_string(),
    }
}

pub(crate) fn distfile(distfile: Distfile) -> v1::Distfile {
    let restriction = match distfile.restriction {
        Restriction::None => v1::Restriction::None,
        Restriction::Mirror => v1::Restriction::Mirror,
        Restriction::Fetch => v1::Restriction::Fetch,
    };
    let digests = distfile.digests.iter().map(|(algorithm, value)| v1::Digest {
        algorithm: algorithm.manifest_name().to_owned(),
        value: value.to_vec(),
    });
    v1::Distfile {
        name: distfile.name.as_str().to_owned(),
        size_bytes: distfile.size_bytes,
        digests: digests.collect(),
        sources: distfile.sources,
        restriction: restriction.into(),
        packages: distfile.packages.iter().map(ToString::to_string).collect(),
    }
}
