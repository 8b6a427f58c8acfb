//! Follows sync-server: every generation that it publishes becomes the catalogue here.
//!
//! The only state is in the index: after any failure the next connection is told the live generations
//! again, and whatever is not imported yet is asked for as a difference to what is.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use gentoo_repo::DistfileName;
use rookery_proto::v1::{
    Distfile, DistfileChanges, Generation, ListModulesRequest, StreamDistfilesRequest,
    WatchGenerationsRequest,
};
use service_kit::backoff::Backoff;
use service_kit::grpc::without_deadline;
use service_kit::readiness::Part;
use tonic::Code;

use crate::core::Core;
use crate::index::Step;
use crate::trees;

/// How often the modules' state is looked at although no generation was published: a source that fails
/// publishes nothing.
const RELIST_EVERY: Duration = Duration::from_secs(30);

/// sync-server may compute the whole difference before its first message.
const MESSAGE_WAIT_MAX: Duration = Duration::from_mins(5);

const SOURCES_MAX: usize = 1000;
const PACKAGES_MAX: usize = 10_000;
const DIGESTS_MAX: usize = 16;

/// Follows until the service stops.
pub(crate) async fn run(core: Arc<Core>, ready: Part) -> anyhow::Result<()> {
    let mut backoff = Backoff::default();
    while !core.stop.is_cancelled() {
        update_readiness(&core, &ready).await;
        let followed = core.stop.run_until_cancelled(follow(&core, &ready, &mut backoff)).await;
        let Some(Err(error)) = followed else { return Ok(()) };
        let reason = reason(&error);
        // Said once for each time that it goes away, not for each attempt.
        if backoff.failures() == 0 {
            tracing::warn!(reason, "sync-server is away; going on with the last catalogue");
        }
        core.trees.away(reason);
        update_readiness(&core, &ready).await;
        if !backoff.wait(&core.stop).await {
            break;
        }
    }
    Ok(())
}

fn reason(error: &anyhow::Error) -> String {
    match error.downcast_ref::<tonic::Status>() {
        Some(status) => trees::reason(status),
        None => format!("{error:#}"),
    }
}

async fn follow(core: &Core, ready: &Part, backoff: &mut Backoff) -> anyhow::Result<()> {
    list(core, ready).await?;
    let watch = without_deadline(WatchGenerationsRequest {});
    let mut generations =
        core.tree().watch_generations(watch).await.context("WatchGenerations")?.into_inner();
    tracing::info!("following sync-server");
    backoff.reset();
    let mut relist = tokio::time::interval_at(tokio::time::Instant::now() + RELIST_EVERY, RELIST_EVERY);
    loop {
        tokio::select! {
            message = generations.message() => {
                let generation = message.context("WatchGenerations")?.context("WatchGenerations ended")?;
                // A new module must be known before references are counted without it.
                list(core, ready).await?;
                import(core, &generation).await?;
                update_readiness(core, ready).await;
            }
            _ = relist.tick() => list(core, ready).await?,
        }
    }
}

/// Takes over the list of modules.
async fn list(core: &Core, ready: &Part) -> anyhow::Result<()> {
    let answer = core.tree().list_modules(ListModulesRequest {}).await.context("ListModules")?;
    let modules = answer.into_inner().modules;
    let names: Vec<_> = modules.iter().map(|module| module.name.clone()).collect();
    core.trees.listed(modules);
    // A sync-server without modules is one that was misconfigured; forgetting everything for it would be
    // a poor answer.
    if !names.is_empty() && core.index.set_modules(&names, core.policy.brakes, core.clock.now()).await? {
        core.catalogue_changed();
    }
    update_readiness(core, ready).await;
    Ok(())
}

/// Imports one generation, unless it is there already.
async fn import(core: &Core, generation: &Generation) -> anyhow::Result<()> {
    let imported = import_changes(core, generation).await;
    let module = &generation.module;
    match imported {
        Ok(()) => core.trees.imported(module, None),
        Err(error) => {
            let text = reason(&error);
            tracing::warn!(module, generation = generation.number, error = text, "catalogue not imported");
            core.trees.imported(module, Some(text));
            let kind = error.downcast_ref::<tonic::Status>().map(tonic::Status::code);
            // A newer generation has replaced this one; it is on its way.
            if kind != Some(Code::FailedPrecondition) {
                return Err(error);
            }
        }
    }
    Ok(())
}

async fn import_changes(core: &Core, generation: &Generation) -> anyhow::Result<()> {
    let Step::Since(since_generation) = core.index.begin_import(generation).await? else { return Ok(()) };
    let begun = tokio::time::Instant::now();
    let request = StreamDistfilesRequest {
        module: generation.module.clone(),
        generation: generation.number,
        since_generation,
    };
    let mut changes = core.tree().stream_distfiles(without_deadline(request)).await?.into_inner();
    let mut everything = since_generation == 0;
    let mut first = true;
    while let Some(message) = next(&mut changes).await? {
        everything |= first && message.reset;
        first = false;
        stage(core, &generation.module, message).await?;
    }
    let summary =
        core.index.finish_import(generation, everything, core.policy.brakes, core.clock.now()).await?;
    core.catalogue_changed();
    if let Some(suspect) = &summary.suspect {
        tracing::warn!(
            module = generation.module,
            "nothing is evicted before the operator agrees: {suspect}"
        );
    }
    if summary.new_series {
        tracing::warn!(
            module = generation.module,
            generation = generation.number,
            "sync-server counts generations anew: its state was lost"
        );
    }
    tracing::info!(
        module = generation.module,
        generation = generation.number,
        distfiles = summary.distfiles,
        changed = summary.changed,
        removed = summary.removed,
        took_ms = begun.elapsed().as_millis(),
        "catalogue imported"
    );
    Ok(())
}

async fn next(changes: &mut tonic::Streaming<DistfileChanges>) -> anyhow::Result<Option<DistfileChanges>> {
    let message = tokio::time::timeout(MESSAGE_WAIT_MAX, changes.message()).await;
    Ok(message
        .with_context(|| format!("sync-server sent nothing for {} s", MESSAGE_WAIT_MAX.as_secs()))??)
}

async fn stage(core: &Core, module: &str, mut message: DistfileChanges) -> anyhow::Result<()> {
    let before = message.upserts.len() + message.removes.len();
    message.upserts.retain(|distfile| is_sound(module, distfile));
    message.removes.retain(|name| DistfileName::try_from(name.as_str()).is_ok());
    let left_out = before - message.upserts.len() - message.removes.len();
    if left_out > 0 {
        tracing::warn!(module, left_out, "distfiles left out of the catalogue: not what a Manifest can say");
    }
    core.index.stage(&message.upserts, &message.removes).await?;
    Ok(())
}

/// sync-server has parsed them; what arrives is still checked, because it is stored and handed on.
fn is_sound(module: &str, distfile: &Distfile) -> bool {
    let sound = DistfileName::try_from(distfile.name.as_str()).is_ok()
        && distfile.sources.len() <= SOURCES_MAX
        && distfile.packages.len() <= PACKAGES_MAX
        && distfile.packages.iter().all(|package| !package.contains(char::is_control))
        && (1..=DIGESTS_MAX).contains(&distfile.digests.len())
        && distfile.digests.iter().all(|digest| {
            (1..=64).contains(&digest.value.len())
                && (digest.algorithm != "BLAKE2B" || digest.value.len() == 64)
        });
    if !sound {
        tracing::debug!(module, name = ?distfile.name, "unsound distfile");
    }
    sound
}

/// Ready once every module is served and its catalogue is here. With sync-server away, what the index
/// remembers decides.
async fn update_readiness(core: &Core, ready: &Part) {
    match unready(core).await {
        Ok(reasons) if reasons.is_empty() => ready.ready(),
        Ok(reasons) => ready.not_ready(&reasons.join("; ")),
        Err(error) => ready.not_ready(&error.to_string()),
    }
}

async fn unready(core: &Core) -> Result<Vec<String>, crate::index::IndexError> {
    let known = core.index.modules().await?;
    let seen = core.trees.seen();
    let mut reasons = Vec::new();
    if known.is_empty() {
        reasons.push(match (&seen.modules, &seen.away) {
            (Some(_), _) => "sync-server has no modules (sync.modules)".to_owned(),
            (None, Some(away)) => format!("sync-server not reached yet: {away}"),
            (None, None) => "sync-server not reached yet".to_owned(),
        });
    }
    for module in known {
        let live = seen.modules.iter().flatten().find(|live| live.name == module.name);
        if let Some(live) = live.filter(|live| live.live.is_none()) {
            let why = if live.last_error.is_empty() { "still being built" } else { &live.last_error };
            reasons.push(format!("module {}: no generation yet: {why}", module.name));
        } else if module.generation == 0 {
            let why = seen.import_errors.get(&module.name).map_or("in progress", String::as_str);
            reasons.push(format!("module {}: catalogue not imported yet: {why}", module.name));
        }
    }
    Ok(reasons)
}
