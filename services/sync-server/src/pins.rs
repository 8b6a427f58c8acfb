//! Who is being served from which generation now.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tree_store::Generation;

type Counts = BTreeMap<(String, u64), BTreeMap<IpAddr, u32>>;

/// Counts connections by generation and host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pins(Arc<Mutex<Counts>>);

/// One connection's place in the count.
#[derive(Debug)]
pub(crate) struct Pin {
    pins: Pins,
    generation: (String, u64),
    host: IpAddr,
}

impl Pins {
    /// Counts a connection until the result is dropped.
    pub(crate) fn enter(&self, generation: &Generation, host: IpAddr) -> Pin {
        let key = (generation.module().to_owned(), generation.number());
        *self.lock().entry(key.clone()).or_default().entry(host).or_default() += 1;
        Pin { pins: self.clone(), generation: key, host }
    }

    /// The hosts that are served from a generation now, with their connections.
    pub(crate) fn of(&self, module: &str, number: u64) -> BTreeMap<IpAddr, u32> {
        self.lock().get(&(module.to_owned(), number)).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut counts = self.pins.lock();
        let Some(hosts) = counts.get_mut(&self.generation) else { return };
        match hosts.get_mut(&self.host) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(hosts.remove(&self.host)),
        }
        if hosts.is_empty() {
            counts.remove(&self.generation);
        }
    }
}
