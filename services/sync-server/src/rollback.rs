//! Going back to an earlier generation.
//!
//! Boxes compare `metadata/timestamp.chk` and refuse a mirror whose tree is older than theirs. So the earlier
//! state is published as a new generation, whose `timestamp.chk` is a second later than what was served: every
//! box takes it, and the next tree of the source is newer still. A signed tree stays valid: GLEP 74 leaves that
//! file out of the signature.
//!
//! What the source holds by then would undo it at the next look. It is held back until the source has a newer
//! tree, or somebody publishes it by hand.

use gentoo_repo::timestamp;
use tree_store::{Generation, TreeError};

use crate::generations::collect;
use crate::history::{Hold, Origin};
use crate::module::{Module, Modules};

const TIMESTAMP: &str = "metadata/timestamp.chk";

/// Publishes the kept generation `to` again; without one, the one before the live one. Blocking; the caller
/// sees to it that nobody builds meanwhile.
///
/// # Errors
/// There is nothing to go back to, or the generation can't be read.
pub(crate) fn roll_back(
    module: &Module,
    modules: &Modules,
    to: Option<u64>,
) -> Result<Generation, TreeError> {
    let (store, history) = (module.store(), module.history());
    let refused = |why: String| TreeError::Setting { what: format!("module {}", module.name()), why };
    let live = store.live().ok_or_else(|| refused("nothing is served yet".to_owned()))?;
    let kept = store.kept();
    let shown = match history.origin(live.number()).copy_of {
        0 => live.number(),
        copy_of => copy_of,
    };
    let before = kept.iter().rev().copied().find(|&number| number < shown);
    let kept_text = || kept.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let to = match to {
        Some(to) if to == shown || to == live.number() => {
            return Err(refused(format!("generation {to} is what is served")));
        }
        Some(to) if kept.contains(&to) => to,
        Some(to) => return Err(refused(format!("generation {to} is not kept; kept are {}", kept_text()))),
        None => before.ok_or_else(|| refused(format!("nothing older is kept; kept are {}", kept_text())))?,
    };
    let live_s = live.summary().timestamp_ms.div_euclid(1000);
    let seconds = live_s.saturating_add(1);
    let text = timestamp::format_chk(seconds) + "\n";
    let others = modules.live_besides(module);
    let candidate = store.revive(to, TIMESTAMP.as_bytes(), text.as_bytes(), seconds, &others)?;
    let number = candidate.generation().number();
    let hold = Hold {
        number,
        copy_of: to,
        instead_of: live.number(),
        // Of several rollbacks in a row, the source's tree is still the one before the first.
        newer_than_s: history.hold(live.number()).map_or(live_s, |hold| hold.newer_than_s),
    };
    let origin = Origin { verify: history.origin(to).verify, copy_of: to };
    history.note(number, origin, Some(hold), &kept)?;
    let catalogue = store.catalogue(to)?;
    let now_ms = i64::try_from(service_kit::clock::now_ms()).unwrap_or(i64::MAX);
    let generation = store.publish(candidate, &catalogue, now_ms, seconds.saturating_mul(1000))?;
    module.go_live(generation.clone());
    collect(store, module.plan().config.keep);
    tracing::warn!(module = module.name(), number, copy_of = to, instead_of = live.number(), "rolled back");
    Ok(generation)
}
