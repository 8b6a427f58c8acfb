//! Runs one hot path so often: `rookery-guard PATH TIMES`. `cargo xtask guard` counts the instructions of two runs under
//! callgrind that differ in TIMES alone, so that what is made ready before falls out, and compares them with
//! `figures.txt` beside this crate.
//!
//! Nothing here measures time, and nothing here may depend on chance. Start reading at [`PATHS`].

mod http_paths;
mod rsync_paths;
mod store_path;

use anyhow::{Context as _, Result};

/// Makes ready, then runs the path so often.
type Path = fn(u32) -> Result<()>;

const PATHS: [(&str, Path); 5] = [
    ("encode-list", rsync_paths::encode_list),
    ("serve-cached-list", rsync_paths::serve_cached_list),
    ("plain-hit-head", http_paths::plain_hit_head),
    ("range-parse", http_paths::range_parse),
    ("miss-write-loop", store_path::miss_write_loop),
];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().context("which path?")?;
    let times = arguments.next().context("how often?")?.parse()?;
    let known = || PATHS.map(|(name, _)| name).join(", ");
    let (_, path) = PATHS.iter().find(|(known, _)| *known == name).with_context(known)?;
    path(times)
}
