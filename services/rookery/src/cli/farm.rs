//! What may be asked of maintenance, and ordered.

use clap::{Args, ValueEnum};

use super::Admin;

/// Delete what `plan` lists. Exits 3, having deleted nothing, if a brake asks first.
#[derive(Debug, Args)]
pub(crate) struct Evict {
    /// Only say what would be deleted.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Agree to delete up to this share of a replica.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub(crate) yes_delete: Option<u32>,
    /// Agree to a module's catalogue as it is now, although it lost so much; may be repeated.
    #[arg(long, value_name = "MODULE")]
    pub(crate) yes_catalogue: Vec<String>,
    /// Agree that maintenance's clock is right, although it jumped ahead.
    #[arg(long)]
    pub(crate) yes_clock: bool,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

/// `45%` or `45`.
fn percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<u32>().ok();
    number.filter(|percent| (1..=100).contains(percent)).ok_or_else(|| "1% to 100% is expected".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct Objects {
    /// Only those with this in their names.
    #[arg(default_value = "")]
    pub(crate) name: String,
    /// Only those of this replica.
    #[arg(long, value_name = "ID", default_value = "")]
    pub(crate) replica: String,
    /// Only these.
    #[arg(long, value_enum)]
    pub(crate) state: Option<State>,
    /// What they are sorted by.
    #[arg(long, value_enum, default_value_t = Sort::Name)]
    pub(crate) sort: Sort,
    /// The other way round.
    #[arg(long)]
    pub(crate) reverse: bool,
    /// At most so many.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    /// A module refers to it.
    Referenced,
    /// None does.
    Unreferenced,
    /// Kept by `rookery pin`.
    Pinned,
    /// Its contents are wrong.
    Quarantined,
}

impl State {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Referenced => "referenced",
            Self::Unreferenced => "unreferenced",
            Self::Pinned => "pinned",
            Self::Quarantined => "quarantined",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// By name.
    Name,
    /// By size, the smallest first.
    Size,
    /// By the last request, the oldest first.
    Access,
    /// By the number of requests, the fewest first.
    Requests,
}

#[derive(Debug, Args)]
pub(crate) struct Pin {
    /// The file; without it, what is pinned is listed.
    pub(crate) name: Option<String>,
    /// Why, for people.
    #[arg(long, default_value = "")]
    pub(crate) note: String,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

#[derive(Debug, Args)]
pub(crate) struct Unpin {
    /// The file.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

/// Refused while it is alive. Its disk is not touched: the first slot of the cache directory that nobody has
/// locked goes to the next replica that starts there, with its name and all that is in it.
#[derive(Debug, Args)]
pub(crate) struct Forget {
    /// The replica, as `rookery status` names it.
    #[arg(value_name = "REPLICA")]
    pub(crate) replica: String,
    /// Only say what would be forgotten.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The files; without any, everything that the farm has.
    pub(crate) names: Vec<String>,
    /// Only say how much would be read.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Don't wait for the answers.
    #[arg(long)]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

#[derive(Debug, Args)]
pub(crate) struct Nightly {
    /// Only say what each step would do.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Only this step; may be repeated.
    #[arg(long, value_enum, value_name = "STEP")]
    pub(crate) only: Vec<Step>,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// Look at the trees' sources.
    Publish,
    /// Wait until what is served is in the catalogue.
    Catalogue,
    /// Adopt what lies in the replicas' import directories.
    Import,
    /// Read a share of all blobs.
    Scrub,
    /// Say what goes, and why.
    Plan,
    /// Delete it.
    Evict,
}

impl Step {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Catalogue => "catalogue",
            Self::Import => "import",
            Self::Scrub => "scrub",
            Self::Plan => "plan",
            Self::Evict => "evict",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Seconds between two looks.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) interval: u64,
    /// End after so many looks [default: never].
    #[arg(long)]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// For which shell.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Where the pages are written; without it, the page of `rookery` itself is printed.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<std::path::PathBuf>,
}
