//! What the kernel says of a server: processor time and memory of all its processes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Clock ticks a second: fixed in Linux's user interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process and everything that it started.
fn family(root: u32) -> BTreeSet<u32> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if let Some(fields) = stat(pid)
            && let Some(parent) = fields.get(1).and_then(|field| field.parse::<u32>().ok())
        {
            parents.insert(pid, parent);
        }
    }
    let mut family = BTreeSet::from([root]);
    loop {
        let more: Vec<_> = parents
            .iter()
            .filter(|(pid, parent)| family.contains(parent) && !family.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return family;
        }
        family.extend(more);
    }
}

/// The fields of /proc/PID/stat after the name, which may hold anything: the state is the first.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// Seconds of processor time so far: user and system, of the family and of its children that ended.
pub(crate) fn cpu_seconds(root: u32) -> f64 {
    let ticks = |pid| {
        let fields = stat(pid).unwrap_or_default();
        // utime, stime, cutime, cstime.
        (11..15).filter_map(|at| fields.get(at)?.parse::<f64>().ok()).sum::<f64>()
    };
    family(root).into_iter().map(ticks).sum::<f64>() / TICKS_PER_SECOND
}

/// How many processes the family has.
pub(crate) fn processes(root: u32) -> usize {
    family(root).len()
}

/// Mebibytes of memory that belong to no file.
pub(crate) fn anonymous_mebibytes(root: u32) -> f64 {
    let kibibytes = |pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok()).unwrap_or(0.0)
    };
    family(root).into_iter().map(kibibytes).sum::<f64>() / 1024.0
}

/// One line on the machine.
pub(crate) fn machine() -> String {
    let first = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
        line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} × {}, {}, Linux {}, load before: {}",
        first("/proc/cpuinfo", "model name"),
        first("/proc/meminfo", "MemTotal"),
        kernel.trim(),
        fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next().unwrap_or("?")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_counts_as_its_parent_does() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sh -c 'read line' & wait"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let own = std::process::id();
        assert!(family(own).contains(&child.id()));
        assert!(!family(child.id()).contains(&own));
        assert!(anonymous_mebibytes(own) > 0.1);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
