//! What one client got of one distfile, told to maintenance when it is over.

use std::net::IpAddr;

use blob_store::BlobDigest;
use gentoo_repo::DistfileName;

use crate::app::now_ms;
use crate::farm::{Access, AccessOutcome, Farm};

/// Reports itself when dropped: a body that was not sent to its end counts as failed.
#[derive(Debug)]
pub(crate) struct Tally {
    farm: Farm,
    access: Access,
    expected_bytes: u64,
}

impl Tally {
    pub(crate) fn new(
        farm: &Farm,
        name: &DistfileName,
        digest: Option<BlobDigest>,
        client: IpAddr,
        outcome: AccessOutcome,
        expected_bytes: u64,
    ) -> Self {
        let access = Access {
            name: name.as_str().to_owned(),
            blake2b: digest.map(|digest| *digest.as_bytes()),
            client,
            at_ms: now_ms(),
            bytes_served: 0,
            outcome,
        };
        farm.access_begins();
        Self { farm: farm.clone(), access, expected_bytes }
    }

    /// Bytes were handed to the connection.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.access.bytes_served += bytes;
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let mut access = Access { name: std::mem::take(&mut self.access.name), ..self.access.clone() };
        if access.bytes_served < self.expected_bytes {
            access.outcome = AccessOutcome::Failed;
        }
        self.farm.access_ends(access);
    }
}
