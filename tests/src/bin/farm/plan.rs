//! What the farm's day will be: the same for all who know the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use farm_sim::boxes::FARM;
use farm_sim::shopping::shop;
use farm_sim::tree::{GeneratedTree, Restriction, TreeSpec};
use rookery_tests::distfile::ExtraDistfile;
use serde_json::json;

/// Where the upstream is, for everybody who can reach it.
///
/// An address instead of a name: the name server of a container engine loses questions while containers come
/// and go, and the farm is to test Rookery.
pub(crate) const UPSTREAM_URL: &str = "http://10.89.73.240:8000";

/// The box with the real Portage.
const PORTAGE_BOX: &str = "db2";

const SHARED: usize = 24;
const PRIVATE: usize = 3;
const PORTAGE_FILES: usize = 6;
const LARGE_BYTES: u64 = 40_000_000;

/// The tree of the farm.
pub(crate) fn tree_spec() -> TreeSpec {
    TreeSpec { packages: 120, source_base: UPSTREAM_URL.to_owned(), ..TreeSpec::default() }
}

/// Files that no box has on its list: for downloads that are disturbed, and for one that is traced.
pub(crate) fn extra() -> Vec<ExtraDistfile> {
    let traced =
        ["traced-1.tar", "refused-1.tar", "afterwards-1.tar"].map(|name| ExtraDistfile::new(name, 3_000_000));
    traced.into_iter().chain([ExtraDistfile::new("disturbed-1.tar", LARGE_BYTES)]).collect()
}

/// Writes the tree, each box's list and what is expected below `dir`.
pub(crate) fn write(dir: &Path) -> Result<()> {
    for fresh in ["tree", "lists", "reports"] {
        let path = dir.join(fresh);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(path)?;
    }
    // The boxes have users of their own.
    fs::set_permissions(dir.join("reports"), fs::Permissions::from_mode(0o777))?;
    let tree = farm_sim::tree::generate(&tree_spec(), &dir.join("tree"))?;
    for file in extra() {
        file.add_to_tree(&tree.dir, UPSTREAM_URL)?;
    }
    let shopping = shop(&tree, FARM.len(), SHARED, PRIVATE, 1);
    let mut expected = BTreeSet::new();
    for (number, name) in FARM.iter().enumerate() {
        let list =
            if *name == PORTAGE_BOX { portage_list(&tree) } else { plain_list(shopping.of_box(number)) };
        expected.extend(list.names.iter().cloned());
        fs::write(dir.join("lists").join(name).with_extension("json"), serde_json::to_vec(&list)?)?;
    }
    let size = |name: &String| Ok((name.clone(), tree.distfile(name).context(name.clone())?.size_bytes));
    let expected: BTreeMap<String, u64> = expected.iter().map(size).collect::<Result<_>>()?;
    let extra: Vec<_> = extra()
        .iter()
        .map(|file| json!({ "name": file.name, "path": file.mirror_path(), "size": file.contents.size_bytes() }))
        .collect();
    let plan = json!({
        "boxes": FARM,
        "distfiles": expected,
        "extra": extra,
        "tree": { "packages": tree.counts.packages, "files": tree.counts.files },
    });
    Ok(fs::write(dir.join("plan.json"), serde_json::to_vec_pretty(&plan)?)?)
}

/// What one box fetches.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct List {
    /// Distfiles that it ends with.
    pub(crate) names: Vec<String>,
    /// What it asks Portage for.
    pub(crate) atoms: Vec<String>,
}

fn plain_list(names: Vec<String>) -> List {
    List { names, atoms: Vec::new() }
}

/// A few packages whose distfiles are needed with any USE flags, of both kinds that may be fetched.
fn portage_list(tree: &GeneratedTree) -> List {
    let is_plain = |name: &str| !name.contains("-doc-") && !name.contains('@');
    let of = |restriction: Restriction, count: usize| {
        let files = tree.distfiles.iter().filter(move |file| file.restriction == restriction);
        files.filter(move |file| is_plain(&file.name)).take(count)
    };
    let chosen: Vec<_> = of(Restriction::None, PORTAGE_FILES).chain(of(Restriction::Mirror, 1)).collect();
    let packages: BTreeSet<&String> = chosen.iter().filter_map(|file| file.packages.first()).collect();
    let is_theirs = |packages_of: &[String]| packages_of.iter().any(|one| packages.contains(one));
    let names = tree.distfiles.iter().filter(|file| is_plain(&file.name) && is_theirs(&file.packages));
    List {
        names: names.map(|file| file.name.clone()).collect(),
        atoms: packages.iter().map(|package| format!("={package}")).collect(),
    }
}
