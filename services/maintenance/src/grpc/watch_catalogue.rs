//! The catalogue on its way to one replica: what its copy lacks, then every change.

use std::collections::BTreeMap;
use std::sync::Arc;

use rookery_proto::v1::{CatalogueChange, DistfileChanges, WatchCatalogueRequest};

use super::{Watch, stopping};
use crate::core::Core;
use crate::index::{Change, Index, IndexError, ModuleState};

/// The contract's limit for one batch.
const BATCH_CHANGES_MAX: u32 = 1000;

/// Ends a batch early, well below the 4 MiB that a gRPC client takes by default.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// What the replica holds of one module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copy {
    /// It says so.
    Said { generation: u64 },
    /// It was sent on this stream.
    Sent { generation: u64, revision: i64 },
}

/// Where a module's step begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// The replica has this revision.
    After(i64),
    /// What the replica has can't be told, or is too old: everything.
    Reset,
}

/// What never ends but by an error, the replica's leaving, or the service's stop.
pub(super) fn stream(core: Arc<Core>, request: WatchCatalogueRequest) -> Watch<CatalogueChange> {
    Box::pin(async_stream::try_stream! {
        let _connected = core.presence.connect(&request.replica_id);
        let mut copies: BTreeMap<String, Copy> = request
            .have
            .into_iter()
            .map(|have| (have.module, Copy::Said { generation: have.generation }))
            .collect();
        let mut order_sent: Option<Vec<String>> = None;
        let mut changed = core.catalogue.subscribe();
        loop {
            changed.borrow_and_update();
            let modules = core.index.modules().await?;
            let order: Vec<String> = modules.iter().map(|module| module.name.clone()).collect();
            for module in dropped(&copies, &order) {
                yield farewell(&module, &order);
                copies.remove(&module);
            }
            for module in modules.iter().filter(|module| module.generation > 0) {
                let current = Copy::Sent { generation: module.generation, revision: module.revision };
                let copy = copies.get(&module.name).copied();
                if copy == Some(current) && order_sent.as_ref() == Some(&order) {
                    continue;
                }
                let mut step = Step::new(module, start(&core.index, module, copy).await?);
                while let Some(messages) = step.next(&core.index, &order).await? {
                    for message in messages {
                        yield message;
                    }
                }
                copies.insert(module.name.clone(), current);
            }
            order_sent = Some(order);
            let Some(Ok(())) = core.stop.run_until_cancelled(changed.changed()).await else {
                Err(stopping())?;
                return;
            };
        }
    })
}

/// Modules that the replica has and sync-server no longer does. Without any module, sync-server was not
/// reached yet.
fn dropped(copies: &BTreeMap<String, Copy>, order: &[String]) -> Vec<String> {
    if order.is_empty() {
        return Vec::new();
    }
    copies.keys().filter(|name| !order.contains(name)).cloned().collect()
}

/// Generation 0 with nothing in it: the module is gone.
fn farewell(module: &str, order: &[String]) -> CatalogueChange {
    CatalogueChange {
        module: module.to_owned(),
        generation: 0,
        complete: true,
        changes: Some(DistfileChanges { reset: true, ..DistfileChanges::default() }),
        module_order: order.to_vec(),
    }
}

async fn start(index: &Index, module: &ModuleState, copy: Option<Copy>) -> Result<Start, IndexError> {
    let revision = match copy {
        None => None,
        Some(Copy::Said { generation }) => index.revision_of(module, generation).await?,
        // A replica takes a difference only to a higher generation. sync-server may count anew.
        Some(Copy::Sent { generation, revision }) => {
            let forward = generation < module.generation || revision == module.revision;
            forward.then_some(revision)
        }
    };
    match revision {
        Some(revision) if index.can_start_from(&module.name, revision).await? => Ok(Start::After(revision)),
        _ => Ok(Start::Reset),
    }
}

/// One module's step to its current generation, a page of the index at a time.
///
/// An import may commit between two pages. Its rows have a higher revision than this step goes to, so they
/// are left to the next step; what this one sends is at worst a little of the next generation missing.
struct Step<'a> {
    module: &'a ModuleState,
    reset: bool,
    after: (i64, String),
    first: bool,
    done: bool,
}

impl<'a> Step<'a> {
    fn new(module: &'a ModuleState, start: Start) -> Self {
        let (reset, revision) = match start {
            Start::After(revision) => (false, revision),
            Start::Reset => (true, -1),
        };
        // Names aren't empty: this is before the first row of the next revision.
        Self { module, reset, after: (revision + 1, String::new()), first: true, done: false }
    }

    async fn next(
        &mut self,
        index: &Index,
        order: &[String],
    ) -> Result<Option<Vec<CatalogueChange>>, IndexError> {
        if self.done {
            return Ok(None);
        }
        let after = (self.after.0, self.after.1.as_str());
        let page = index.changes(&self.module.name, after, self.module.revision, BATCH_CHANGES_MAX).await?;
        self.done = page.len() < BATCH_CHANGES_MAX as usize;
        if let Some(last) = page.last() {
            self.after = (last.revision, last.name.clone());
        }
        let mut messages: Vec<_> = batches(page, self.reset)
            .into_iter()
            .map(|changes| CatalogueChange {
                module: self.module.name.clone(),
                generation: self.module.generation,
                complete: false,
                changes: Some(changes),
                module_order: Vec::new(),
            })
            .collect();
        if self.first
            && self.reset
            && let Some(changes) = messages.first_mut().and_then(|message| message.changes.as_mut())
        {
            changes.reset = true;
        }
        self.first = false;
        if self.done
            && let Some(last) = messages.last_mut()
        {
            last.complete = true;
            last.module_order = order.to_vec();
        }
        Ok(Some(messages))
    }
}

/// At least one batch, each below the limit of octets (or of one change).
fn batches(page: Vec<Change>, reset: bool) -> Vec<DistfileChanges> {
    let mut batches = vec![DistfileChanges::default()];
    let mut batch_bytes = 0;
    for change in page {
        if batch_bytes > 0 && batch_bytes + change.encoded_bytes > BATCH_BYTES_MAX {
            batches.push(DistfileChanges::default());
            batch_bytes = 0;
        }
        batch_bytes += change.encoded_bytes;
        let Some(batch) = batches.last_mut() else { continue };
        match change.distfile {
            Some(distfile) => batch.upserts.push(distfile),
            // After a reset there is nothing to remove.
            None if reset => {}
            None => batch.removes.push(change.name),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use rookery_proto::v1::Distfile;

    use super::*;

    fn change(name: &str, encoded_bytes: usize, removed: bool) -> Change {
        let distfile = (!removed).then(|| Distfile { name: name.to_owned(), ..Distfile::default() });
        Change { name: name.to_owned(), revision: 1, distfile, encoded_bytes }
    }

    #[test]
    fn batches_end_before_they_are_too_big() {
        let half = BATCH_BYTES_MAX / 2 + 1;
        let page = vec![change("a", half, false), change("b", half, true), change("c", 3 * half, false)];
        let sizes: Vec<_> = batches(page, false).iter().map(|b| (b.upserts.len(), b.removes.len())).collect();
        assert_eq!(sizes, [(1, 0), (0, 1), (1, 0)]);
        assert_eq!(batches(Vec::new(), true).len(), 1);
    }

    #[test]
    fn reset_needs_no_removals() {
        let batches = batches(vec![change("a", 10, true), change("b", 10, false)], true);
        assert_eq!(batches.len(), 1);
        assert!(batches[0].removes.is_empty());
    }
}
