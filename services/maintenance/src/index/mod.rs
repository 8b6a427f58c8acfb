//! The index: everything that maintenance remembers, in one SQLite file.
//!
//! Start reading at [`Index::open`]; each file beside this one is one subject. Only this module knows SQL.
//! It must not decide: who may fetch and what goes is asked of `cache_policy` inside the transaction that
//! stores the answer.
//!
//! All writes go through one connection, so a transaction never has to be repeated because another one
//! came first; reads have connections of their own and see the last committed state (WAL).

mod access;
mod ahead;
mod blob;
mod catalogue;
mod clock;
mod connection;
mod contradiction;
mod counter;
mod day;
mod decision;
mod dialect;
mod eviction;
mod facts;
mod file;
mod forget;
mod height;
mod import;
mod inventory;
mod lease;
mod lock;
mod object;
mod pin;
mod references;
mod replica;
mod run;
mod scrub;
mod source;
mod status;
mod told;

pub(crate) use access::AccessRecord;
pub(crate) use blob::{BlobRecord, Committed};
pub(crate) use catalogue::{Change, ModuleState};
pub(crate) use contradiction::Contradictions;
pub(crate) use decision::{Acknowledged, Acknowledgement, DecisionRow, Order, Outcome, PendingDecision};
pub(crate) use eviction::{Agreement, CatalogueGap, FarmPlan, Planned, Policy, ReplicaPlan, Suspect};
pub use file::IndexError;
pub(crate) use forget::Forgetting;
pub(crate) use import::Step;
pub(crate) use inventory::Inventory;
pub(crate) use lease::{Acquisition, Object};
pub(crate) use object::{ObjectOrder, ObjectQuery, ObjectRow, ObjectState, Objects};
pub(crate) use pin::Pin;
pub(crate) use replica::Replica;
pub(crate) use run::{INTERRUPTED, RunKind, RunOutcome, RunRow, StepRow};
pub(crate) use source::{SourceReport, SourceRow};
pub(crate) use status::{ReplicaRow, Totals};

use connection::{Pool, Tx};

/// The open index. Cheap to clone; the file stays locked until the last clone is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    writer: Pool,
    reader: Pool,
    /// Held while an inventory is taken over.
    inventories: std::sync::Arc<tokio::sync::Mutex<()>>,
    _lock: std::sync::Arc<lock::IndexLock>,
}

impl Index {
    /// Waits for what is under way and writes the log back into the file.
    pub(crate) async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    async fn write(&self) -> Result<Tx, IndexError> {
        self.writer.begin_write().await
    }

    /// Several queries that see one state.
    async fn read(&self) -> Result<Tx, IndexError> {
        self.reader.begin().await
    }
}

/// SQL has no unsigned numbers; sizes and counts beyond 2^63 don't exist.
fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// How many rows one `INSERT` carries: SQLite takes 32766 bound values, and more rows gain nothing.
const ROWS_PER_INSERT: usize = 500;
