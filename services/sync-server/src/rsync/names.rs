//! Names of hosts and addresses of names, for the lists of who may use a module.
//!
//! Whatever can't be found out in time is not known, and what is not known lets nobody in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rsyncd_conf::hosts::{HostAccess, Names};
use tokio::sync::Semaphore;

/// How long one look-up may take.
const LOOKUP_MAX: Duration = Duration::from_secs(5);
/// How long an answer is believed.
const FRESH: Duration = Duration::from_mins(1);
/// Answers that are kept.
const KEPT_MAX: usize = 4096;
/// Look-ups at a time: each one blocks a thread of the system's resolver.
const LOOKUPS_MAX: usize = 8;

/// Which look-ups a module wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lookups {
    /// Of a host's own name.
    pub reverse: bool,
    /// Of the addresses of the names in the lists.
    pub forward: bool,
}

/// Looks up, and remembers for a while.
#[derive(Clone)]
pub(super) struct Resolver {
    turns: Arc<Semaphore>,
    hosts: Cache<IpAddr, Option<String>>,
    addresses: Cache<String, Option<Vec<IpAddr>>>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            hosts: Cache::default(),
            addresses: Cache::default(),
        }
    }
}

impl Resolver {
    /// What the lists need to know about a host.
    pub(super) async fn names(&self, access: &HostAccess, lookups: Lookups, host: IpAddr) -> Names {
        let mut names = Names::default();
        if !access.depends_on_names(host) {
            return names;
        }
        if lookups.reverse {
            names.host = self.name_of(host).await;
        }
        if lookups.forward {
            for name in access.names() {
                names.addresses.push((name.to_owned(), self.addresses_of(name.to_owned()).await));
            }
        }
        names
    }

    /// A host's own name, if that name leads back to the host: anybody may call a host of theirs what they like.
    pub(super) async fn name_of(&self, host: IpAddr) -> Option<String> {
        if let Some(known) = self.hosts.get(&host) {
            return known;
        }
        let found = self.blocking(move || dns_lookup::lookup_addr(&host).ok()).await.flatten();
        // Without a name, the resolver gives the address back.
        let found = found.filter(|name| name.parse::<IpAddr>().is_err());
        let name = match found {
            Some(name) => {
                let addresses = self.addresses_of(name.to_ascii_lowercase()).await.unwrap_or_default();
                Some(name).filter(|_| addresses.iter().any(|address| address.to_canonical() == host))
            }
            None => None,
        };
        self.hosts.set(host, name.clone());
        name
    }

    async fn addresses_of(&self, name: String) -> Option<Vec<IpAddr>> {
        if let Some(known) = self.addresses.get(&name) {
            return known;
        }
        let wanted = name.clone();
        let found =
            self.blocking(move || Some(dns_lookup::lookup_host(&wanted).ok()?.collect())).await.flatten();
        self.addresses.set(name, found.clone());
        found
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let turns = self.turns.clone();
        let run = async move {
            let turn = turns.acquire_owned().await.ok()?;
            let run = move || {
                let done = work();
                drop(turn);
                done
            };
            tokio::task::spawn_blocking(run).await.ok()
        };
        tokio::time::timeout(LOOKUP_MAX, run).await.ok().flatten()
    }
}

/// Answers and when they came.
struct Cache<K, V>(Arc<Mutex<HashMap<K, (Instant, V)>>>);

impl<K, V> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: std::hash::Hash + Eq, V: Clone> Cache<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(key).filter(|(at, _)| at.elapsed() < FRESH).map(|(_, value)| value.clone())
    }

    fn set(&self, key: K, value: V) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.retain(|_, (at, _)| at.elapsed() < FRESH);
        }
        if kept.len() < KEPT_MAX {
            kept.insert(key, (Instant::now(), value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(allow: &str) -> HostAccess {
        HostAccess { allow: rsyncd_conf::hosts::parse_list(allow).unwrap(), deny: Vec::new() }
    }

    #[tokio::test]
    async fn this_host_is_found_by_its_name_and_a_missing_one_is_not_known() {
        let resolver = Resolver::default();
        let host: IpAddr = "127.0.0.1".parse().unwrap();
        let both = Lookups { reverse: true, forward: true };
        for (allow, lookups, expected) in [
            ("localhost", both, true),
            ("localhost", Lookups { reverse: false, forward: true }, true),
            ("localhost", Lookups::default(), false),
            ("nowhere.invalid", both, false),
            ("*.invalid", both, false),
        ] {
            let access = access(allow);
            for _ in 0..2 {
                let names = resolver.names(&access, lookups, host).await;
                assert_eq!(access.permits(host, &names), expected, "{allow} {lookups:?}");
            }
        }
    }
}
