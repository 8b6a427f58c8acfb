//! The demo: a whole farm on this machine, from a generated tree to a verdict.
//!
//! The verdict rests on what the boxes have on their disks and on what the upstream stand-in counted,
//! never on what Rookery says about itself. Start reading at [`run`].

mod farm;
mod progress;
mod report;
mod scratch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use farm_sim::boxes::{FARM, GentooBox, Programs};
use farm_sim::shopping::{Shopping, shop};
use farm_sim::tree::GeneratedTree;
use farm_sim::upstream::Upstream;
use futures_util::future::try_join_all;
use proxy_cache::client_config::ClientConfig;

use crate::choices::MODULE;
use farm::Mirror;
use progress::BoxProgress;

pub use progress::Progress;
pub use report::{BoxReport, Report, Saved};
pub use scratch::scratch_dir;

/// What the demo is made of.
pub struct Options {
    /// Packages of the generated tree.
    pub packages: usize,
    /// Distfiles that all boxes fetch.
    pub shared: usize,
    /// Distfiles that each box fetches for itself.
    pub private: usize,
    /// Decides everything that is generated.
    pub seed: u64,
    /// What is installed on the boxes.
    pub programs: Programs,
    /// Where progress is shown.
    pub progress: Progress,
    /// Called when the boxes are done and before anybody counts: a test's chance to make the upstream lie.
    pub before_verdict: Option<BeforeVerdict>,
}

/// Gets the upstream and the names of the shared distfiles.
pub type BeforeVerdict = Box<dyn FnOnce(&Upstream, &[String]) + Send>;

impl Options {
    /// A farm of a few packages that needs nothing installed: what tests use.
    #[must_use]
    pub fn small() -> Self {
        Self {
            packages: 60,
            shared: 12,
            private: 2,
            seed: 1,
            programs: Programs::none(),
            progress: Progress::silent(),
            before_verdict: None,
        }
    }
}

/// A demo that has run, with everything still up.
pub struct Demo {
    /// What happened.
    pub report: Report,
    mirror: Mirror,
    upstream: Upstream,
    dir: PathBuf,
}

/// Generates the tree, starts the upstream and Rookery, lets the boxes loose, and judges. All files are
/// below `dir`, which is the caller's to remove when nothing of this runs any more.
///
/// # Errors
/// Something could not be started. That a box or the count is wrong is in the report.
pub async fn run(options: Options, dir: &Path) -> anyhow::Result<Demo> {
    let began = Instant::now();
    let progress = options.progress.clone();
    let upstream = Upstream::start().await.context("the upstream stand-in")?;
    let tree = generate(&options, dir, &upstream, &progress).await?;
    progress.note(&format!(
        "Upstream at {}: {} distfiles. Starting Rookery between it and the boxes.",
        upstream.url(),
        tree.distfiles.len()
    ));
    let mirror = Mirror::start(dir, &tree.dir, &upstream.url()).await?;
    progress.note(&format!("Rookery serves {} and {}.", mirror.sync_uri(), mirror.http_url()));
    for missing in progress::missing_programs(&options.programs) {
        progress.note(&missing);
    }
    let shopping = shop(&tree, FARM.len(), options.shared, options.private, options.seed);
    let boxes = mirror.boxes(dir, &options.programs)?;
    let tree = Arc::new(tree);
    let days = boxes.into_iter().enumerate().map(|(number, gentoo)| {
        let list = shopping.of_box(number);
        let bar = progress.of_box(gentoo.name(), tree.counts.files as u64, list.len() as u64);
        live_a_day(gentoo, list, Arc::clone(&tree), bar)
    });
    let boxes = tokio::select! {
        boxes = try_join_all(days) => boxes?,
        crash = mirror.crashed() => bail!("Rookery: {crash}"),
    };
    progress.finish();
    if let Some(before_verdict) = options.before_verdict {
        before_verdict(&upstream, &shopping.shared);
    }
    let report = judge(&tree, &upstream, &shopping, boxes, began.elapsed());
    Ok(Demo { report, mirror, upstream, dir: dir.to_owned() })
}

impl Demo {
    /// How to use what is still running.
    #[must_use]
    pub fn how_to_use(&self) -> String {
        let config = ClientConfig {
            host: "127.0.0.1".to_owned(),
            port: self.mirror.http_port(),
            is_tls: false,
            rsync_port: self.mirror.rsync_port(),
            module: MODULE.to_owned(),
        };
        let name = self.report.shared_example.as_deref().unwrap_or("layout.conf");
        format!(
            "Everything is still up; Ctrl-C ends it and removes {dir}.\n\n\
             rsync --list-only {sync}/\n\
             wget {http}{path}\n\
             rookery status --endpoint {admin}\n\
             rookery plan --endpoint {admin}\n\
             a page for people: {web}/\n\
             the upstream stand-in: {upstream}\n\n{make_conf}\n{mirrors}\n{repos_conf}",
            dir = self.dir.display(),
            sync = self.mirror.sync_uri(),
            http = self.mirror.http_url(),
            path = farm_sim::upstream::mirror_path(name),
            admin = self.mirror.admin_url(),
            web = self.mirror.web_url(),
            upstream = self.upstream.url(),
            make_conf = config.make_conf(),
            mirrors = config.mirrors(),
            repos_conf = config.repos_conf(),
        )
    }

    /// Ends everything; what is under way may finish for a moment.
    pub async fn stop(self) {
        self.mirror.stop().await;
    }
}

async fn generate(
    options: &Options,
    dir: &Path,
    upstream: &Upstream,
    progress: &Progress,
) -> anyhow::Result<GeneratedTree> {
    progress.note(&format!("Generating a tree of {} packages.", options.packages));
    let spec = farm_sim::tree::TreeSpec {
        seed: options.seed,
        packages: options.packages,
        source_base: upstream.url(),
        ..farm_sim::tree::TreeSpec::default()
    };
    let target = dir.join("tree");
    let tree = tokio::task::spawn_blocking(move || farm_sim::tree::generate(&spec, &target)).await??;
    upstream.put_tree(&tree);
    Ok(tree)
}

/// Sync, fetch, compare.
async fn live_a_day(
    gentoo: GentooBox,
    list: Vec<String>,
    tree: Arc<GeneratedTree>,
    bar: BoxProgress,
) -> anyhow::Result<BoxReport> {
    let gentoo = gentoo.with_listener(bar.listener());
    let mut report = BoxReport::new(gentoo.name());
    match gentoo.sync().await {
        Ok(sync) => {
            bar.synced(&sync);
            report.sync = Some(sync);
        }
        Err(error) => {
            report.problems.push(format!("sync: {error}"));
            bar.failed(&error.to_string());
            return Ok(report);
        }
    }
    match gentoo.fetch(&list).await {
        Ok(fetch) => {
            bar.fetched(&fetch);
            report.problems.extend(fetch.failures.iter().map(|(name, why)| format!("{name}: {why}")));
            report.fetch = Some(fetch);
        }
        Err(error) => report.problems.push(format!("fetch: {error}")),
    }
    let (differences, wrong) = tokio::task::spawn_blocking(move || {
        let differences = gentoo.compare_tree(&tree.dir)?;
        let wrong = list.into_iter().filter(|name| !is_right(&tree, &gentoo, name)).collect::<Vec<_>>();
        Ok::<_, std::io::Error>((differences, wrong))
    })
    .await??;
    let different = differences.iter().map(|found| format!("{}: {}", found.path.display(), found.what));
    report.problems.extend(different);
    report.problems.extend(wrong.into_iter().map(|name| format!("{name}: not what was generated")));
    Ok(report)
}

/// Whether the box's distfile is what the generator made, octet for octet.
fn is_right(tree: &GeneratedTree, gentoo: &GentooBox, name: &str) -> bool {
    use std::io::Read as _;
    let Some(contents) = tree.distfile(name).map(farm_sim::tree::GeneratedDistfile::contents) else {
        return false;
    };
    let Ok(file) = std::fs::File::open(gentoo.distdir().join(name)) else { return false };
    let mut found = Vec::new();
    // One octet more than there should be is enough to know.
    let read = file.take(contents.size_bytes() + 1).read_to_end(&mut found);
    read.is_ok() && found == contents.to_bytes()
}

fn judge(
    tree: &GeneratedTree,
    upstream: &Upstream,
    shopping: &Shopping,
    boxes: Vec<BoxReport>,
    elapsed: Duration,
) -> Report {
    let counts = upstream.counts_by_distfile();
    let mut problems = Vec::new();
    for name in shopping.all() {
        let count = counts.get(name).copied().unwrap_or_default();
        let size = tree.distfile(name).map_or(0, |file| file.size_bytes);
        if count.requests != 1 {
            problems.push(format!("{name}: requested {} times upstream", count.requests));
        } else if count.bytes != size {
            problems.push(format!("{name}: {} of {size} bytes sent by the upstream", count.bytes));
        }
    }
    let mut total = Saved::default();
    for count in counts.values() {
        total.upstream_requests += count.requests;
        total.upstream_bytes += count.bytes;
    }
    for fetch in boxes.iter().filter_map(|gentoo| gentoo.fetch.as_ref()) {
        total.box_requests += fetch.files;
        total.box_bytes += fetch.bytes;
    }
    Report {
        packages: tree.counts.packages,
        tree_files: tree.counts.files,
        shared: shopping.shared.len(),
        shared_example: shopping.shared.first().cloned(),
        boxes,
        total,
        problems,
        elapsed,
    }
}

#[cfg(test)]
mod tests;
