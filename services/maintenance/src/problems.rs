//! What is wrong, and what to do about it.
//!
//! Each kind has a code, so that programs can tell them apart: it is the `code` label of the metric, the
//! field in JSON, and what the command and the webhook are told.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use cache_policy::UnixMs;
use cache_policy::eviction::Usage;
use cache_policy::source::{Health, Limits, judge};
use rookery_proto::v1::{Module, Problem, ReplicaStatus};

use crate::clock_trust;
use crate::core::Core;
use crate::index::{
    Contradictions, IndexError, ModuleState, RunKind, RunOutcome, RunRow, SourceRow, Suspect,
};
use crate::text::{age, bytes};
use crate::trees::Seen;

/// How long before a key expires somebody is told.
const KEY_NOTICE: Duration = Duration::from_hours(30 * 24);
/// What the subject of a module's problem begins with.
const MODULE: &str = "module ";

impl Core {
    /// Everything that is wrong at `now`.
    pub(crate) async fn problems(
        &self,
        now: UnixMs,
        seen: &Seen,
        known: &[ModuleState],
        replicas: &[ReplicaStatus],
        last_run: Option<&RunRow>,
    ) -> Result<Vec<Problem>, IndexError> {
        let reading = self.reading();
        let mut problems: Vec<_> =
            clock_trust::problem(reading, self.doubt_at(reading)).into_iter().collect();
        problems.extend(tree_problems(seen, known, now));
        problems.extend(expiring_keys(seen, now));
        problems.extend(old_trees(seen, now, self.health.tree_age_max.0));
        if let Some(gap) = self.index.catalogue_gap().await? {
            problems.push(problem(
                "eviction_waits",
                "eviction",
                format!("nothing is evicted: {gap}"),
                "it goes on by itself once the catalogue is complete".to_owned(),
            ));
        }
        problems.extend(self.index.suspects(self.policy.brakes).await?.iter().map(suspect_catalogue));
        problems.extend(run_problem(last_run, &self.index.done_since_night().await?));
        let evicted = self.index.last_done_ms(RunKind::Evict).await? > 0;
        for replica in replicas {
            problems.extend(replica_problem(replica, now, self.health.replica_silent_max.0));
            let high = self.policy.limits.high_water_percent;
            if evicted {
                problems.extend(full_disk(replica, high));
            }
        }
        problems.extend(self.index.contradictions().await?.iter().map(contradicting));
        let failing_ms = u64::try_from(self.health.source_failing.0.as_millis()).unwrap_or(u64::MAX);
        let sources = self.index.failing_sources(now).await?;
        problems.extend(failing_sources(&sources, now, Limits::failing_for_ms(failing_ms)));
        Ok(problems)
    }
}

/// Whether it can't be said that `problem` is over, although it is not among those that are seen: shortly after a
/// start nobody has heard of sync-server yet, or of the import that failed and is tried again.
pub(crate) fn is_undecided(problem: &Problem, seen: &Seen, known: &[ModuleState]) -> bool {
    let Some(modules) = &seen.modules else {
        return problem.subject.starts_with(MODULE);
    };
    let name = problem.subject.strip_prefix(MODULE);
    let module = modules.iter().find(|module| Some(module.name.as_str()) == name);
    let live = module.and_then(|module| module.live.as_ref()).map(|live| live.number);
    let state = known.iter().find(|state| Some(state.name.as_str()) == name);
    problem.code == "catalogue_behind"
        && live.is_some_and(|live| state.is_none_or(|state| state.generation != live))
}

/// One problem for each place, whichever replicas see it.
fn failing_sources(sources: &[SourceRow], now: UnixMs, limits: Limits) -> Vec<Problem> {
    let mut failing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for source in sources {
        let what = match judge(&source.record, now, limits) {
            Health::Sound => continue,
            Health::Dead { since, row } => {
                format!("{row} failures in {} without a success", age(now.since_ms(since)))
            }
            Health::Flaky { tries, failures } => {
                format!("{failures} of {tries} requests failed within an hour")
            }
        };
        let seen = format!("{what}, seen by replica {}: {}", source.replica_id, source.fault);
        failing.entry(&source.origin).or_default().push(seen);
    }
    let one = |(origin, mut seen): (&str, Vec<String>)| {
        let more = seen.len() - 1;
        let mut what = seen.swap_remove(0);
        if more > 0 {
            let _ = write!(what, " (and by {more} more)");
        }
        let to_do =
            "other sources are asked meanwhile; if it lasts, take it out of proxy.mirrors, or look at the \
                     network"
                .to_owned();
        problem("source_failing", &format!("source {origin}"), what, to_do)
    };
    failing.into_iter().map(one).collect()
}

fn old_trees(seen: &Seen, now: UnixMs, age_max: Duration) -> Vec<Problem> {
    let age_ms_max = u64::try_from(age_max.as_millis()).unwrap_or(u64::MAX);
    let live = seen.modules.iter().flatten().filter_map(|module| Some((module, module.live.as_ref()?)));
    live.filter_map(|(module, live)| {
        // A repository without a timestamp is as old as its last change that was seen.
        let made = if live.timestamp_ms > 0 { live.timestamp_ms } else { live.published_ms };
        let age_ms = now.since_ms(UnixMs::new(made));
        (made > 0 && age_ms > age_ms_max).then(|| {
            problem(
                "tree_old",
                &format!("{MODULE}{}", module.name),
                format!("its tree is {} old", age(age_ms)),
                "look whether its source is still brought up to date".to_owned(),
            )
        })
    })
    .collect()
}

/// Keys of which one expires soon, or all have expired.
fn expiring_keys(seen: &Seen, now: UnixMs) -> Vec<Problem> {
    let modules = seen.modules.iter().flatten().filter(|module| module.key_expires_ms > 0);
    modules
        .filter_map(|module| {
            let expires = UnixMs::new(module.key_expires_ms);
            let left_ms = expires.since_ms(now);
            let what = if expires <= now {
                format!("the last key that may sign its tree expired {} ago", age(now.since_ms(expires)))
            } else if u128::from(left_ms) <= KEY_NOTICE.as_millis() {
                format!("a key that may sign its tree expires in {}", age(left_ms))
            } else {
                return None;
            };
            Some(problem(
                "key_expires",
                &format!("{MODULE}{}", module.name),
                what,
                "get the new keys, put them at the module's openpgp_key and restart sync-server".to_owned(),
            ))
        })
        .collect()
}

fn suspect_catalogue(suspect: &Suspect) -> Problem {
    let look = if suspect.is_gone { "put it back into sync.modules" } else { "look at the tree" };
    problem(
        "catalogue_suspect",
        &format!("{MODULE}{}", suspect.module),
        format!("nothing is evicted: {suspect}"),
        format!("{look}; if it is right, `rookery evict --yes-catalogue {}`", suspect.module),
    )
}

/// What of the last run is still to be done; what `done` names was done by command since.
fn run_problem(last_run: Option<&RunRow>, done: &[String]) -> Option<Problem> {
    let open = last_run?.steps.iter().filter(|step| !done.contains(&step.name));
    let step = |outcome: RunOutcome| open.clone().find(|step| step.outcome == outcome.as_str());
    if let Some(failed) = step(RunOutcome::Failed) {
        return Some(problem(
            "run_failed",
            "nightly run",
            format!("its step {} failed: {}", failed.name, failed.report),
            format!("correct that, then `rookery nightly --only {}`, or wait for the next", failed.name),
        ));
    }
    let stopped = step(RunOutcome::Stopped)?;
    Some(problem(
        "eviction_stopped",
        "eviction",
        format!("the last run stopped and asks: {}", stopped.report),
        "look at `rookery plan`; if it is right, `rookery evict --yes-delete PERCENT`".to_owned(),
    ))
}

fn full_disk(replica: &ReplicaStatus, high_water_percent: u8) -> Option<Problem> {
    let usage = Usage { used_bytes: replica.used_bytes, capacity_bytes: replica.capacity_bytes };
    let over = usage.used_bytes.checked_sub(usage.share_bytes(high_water_percent))?;
    (over > 0).then(|| {
        problem(
            "disk_full",
            &format!("replica {}", replica.replica_id),
            format!("{} above the high water although evictions were made", bytes(over)),
            "give it more proxy.capacity, unpin, or lower maintenance.keep_accessed; `rookery plan` says what \
             keeps the rest"
                .to_owned(),
        )
    })
}

fn tree_problems(seen: &Seen, known: &[ModuleState], now: UnixMs) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(away) = &seen.away {
        problems.push(problem(
            "sync_server_away",
            "sync-server",
            format!("not reached: {away}"),
            "start it, or correct maintenance.sync; the last catalogue stays in use meanwhile".to_owned(),
        ));
    }
    for module in seen.modules.iter().flatten() {
        let subject = format!("module {}", module.name);
        problems.extend(source_problem(&subject, module, now));
        if !module.hold.is_empty() {
            let what_to_do = format!(
                "nothing, if that is as it should be; `rookery publish {} --allow-older` serves what the source has",
                module.name
            );
            problems.push(problem("tree_held", &subject, module.hold.clone(), what_to_do));
        }
        let behind = known.iter().find(|state| state.name == module.name);
        let live = module.live.as_ref().map_or(0, |live| live.number);
        if let (Some(error), Some(state)) = (seen.import_errors.get(&module.name), behind)
            && state.generation != live
        {
            problems.push(problem(
                "catalogue_behind",
                &subject,
                format!("catalogue is at generation {}, {live} is served: {error}", state.generation),
                "it is tried again by itself; see the log of maintenance".to_owned(),
            ));
        }
    }
    problems
}

/// Why a module's source gave nothing, and when it is looked at again.
fn source_problem(subject: &str, module: &Module, now: UnixMs) -> Option<Problem> {
    if !module.last_error.is_empty() {
        let next = age(UnixMs::new(module.next_attempt_ms).since_ms(now));
        let what = match &module.live {
            Some(live) => {
                format!("not published: {}; generation {} is still served", module.last_error, live.number)
            }
            None => format!("no generation yet: {}", module.last_error),
        };
        let name = &module.name;
        let mut to_do = format!("correct the source, then `rookery publish {name}`; next look in {next}");
        if !module.report.is_empty() {
            to_do = format!(
                "`rookery generations {name} --refused` names each fault, as {}; {to_do}",
                module.report
            );
        }
        return Some(problem("tree_refused", subject, what, to_do));
    }
    if module.live.is_some() {
        return None;
    }
    let what = match module.activity.as_str() {
        "" => "its first generation is still being built".to_owned(),
        activity => format!("no generation yet: {activity}"),
    };
    Some(problem("tree_missing", subject, what, "wait".to_owned()))
}

fn contradicting(found: &Contradictions) -> Problem {
    let Contradictions { replica_id, blobs, name, told_bytes, known_bytes } = found;
    problem(
        "inventory_contradicts",
        &format!("replica {replica_id}"),
        format!(
            "tells of {blobs} blobs with another size than is known, which count for nothing; one is {name:?}: \
             {told_bytes} bytes told, {known_bytes} known"
        ),
        "look at its disk and its release: a verified blob can't have another size; it is over with its next \
         inventory that is right"
            .to_owned(),
    )
}

fn replica_problem(replica: &ReplicaStatus, now: UnixMs, silent_max: Duration) -> Option<Problem> {
    let silent_ms = now.since_ms(UnixMs::new(replica.last_seen_ms));
    if replica.connected || u128::from(silent_ms) < silent_max.as_millis() {
        return None;
    }
    Some(problem(
        "replica_gone",
        &format!("replica {}", replica.replica_id),
        format!("not heard of for {}", age(silent_ms)),
        format!(
            "start it, or check its proxy.maintenance.endpoint; decisions wait for it. If it is gone for good: \
             `rookery forget {}`",
            replica.replica_id
        ),
    ))
}

fn problem(code: &str, subject: &str, what: String, what_to_do: String) -> Problem {
    Problem { subject: subject.to_owned(), what, what_to_do, code: code.to_owned() }
}

#[cfg(test)]
mod tests {
    use rookery_proto::v1::Generation;

    use super::*;

    #[test]
    fn what_depends_on_sync_server_is_not_over_before_it_was_heard_of() {
        let module = |live| Module {
            name: "gentoo".to_owned(),
            live: Some(Generation { number: live, ..Generation::default() }),
            ..Module::default()
        };
        let state = |generation| ModuleState {
            name: "gentoo".to_owned(),
            generation,
            revision: 1,
            distfiles: 1,
            series_floor: 0,
        };
        let of = |code: &str, subject: &str| problem(code, subject, String::new(), String::new());
        let old = of("tree_old", "module gentoo");
        let behind = of("catalogue_behind", "module gentoo");
        let nobody = Seen::default();
        assert!(is_undecided(&old, &nobody, &[state(1)]) && is_undecided(&behind, &nobody, &[state(2)]));
        assert!(!is_undecided(&of("replica_gone", "replica r1"), &nobody, &[]));
        let heard = Seen { modules: Some(vec![module(2)]), ..Seen::default() };
        assert!(!is_undecided(&old, &heard, &[state(1)]));
        assert!(is_undecided(&behind, &heard, &[state(1)]) && is_undecided(&behind, &heard, &[]));
        assert!(!is_undecided(&behind, &heard, &[state(2)]));
        let gone = Seen { modules: Some(Vec::new()), ..Seen::default() };
        assert!(!is_undecided(&behind, &gone, &[state(1)]), "the module is");
    }
}
