//! Bars where somebody watches, plain lines where not.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use farm_sim::boxes::{self, FetchReport, Listener, Programs, SyncReport};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::text;

/// Where progress is shown.
#[derive(Clone)]
pub struct Progress(Output);

#[derive(Clone)]
enum Output {
    Silent,
    Lines,
    Bars(MultiProgress),
}

impl Progress {
    /// Nowhere.
    #[must_use]
    pub fn silent() -> Self {
        Self(Output::Silent)
    }

    /// On standard error: bars if that is a terminal, else a line now and then.
    #[must_use]
    pub fn on_stderr() -> Self {
        if std::io::stderr().is_terminal() {
            Self(Output::Bars(MultiProgress::new()))
        } else {
            Self(Output::Lines)
        }
    }

    pub(super) fn note(&self, line: &str) {
        match &self.0 {
            Output::Silent => {}
            Output::Lines => eprintln!("{line}"),
            // An error means that nobody sees the bars either.
            Output::Bars(bars) => drop(bars.println(line)),
        }
    }

    /// The bar of one box: first the files of the tree, then its distfiles.
    pub(super) fn of_box(&self, name: &str, tree_files: u64, distfiles: u64) -> BoxProgress {
        let bar = match &self.0 {
            Output::Silent | Output::Lines => None,
            Output::Bars(bars) => {
                let bar =
                    bars.add(ProgressBar::new(tree_files).with_style(style()).with_prefix(name.to_owned()));
                bar.set_message("sync");
                bar.enable_steady_tick(Duration::from_millis(100));
                Some(bar)
            }
        };
        BoxProgress { name: name.to_owned(), progress: self.clone(), bar, distfiles }
    }

    /// The bars have said what they had to say.
    pub(super) fn finish(&self) {
        if let Output::Bars(bars) = &self.0 {
            drop(bars.clear());
        }
    }
}

/// One box's part of it.
#[derive(Clone)]
pub(super) struct BoxProgress {
    name: String,
    progress: Progress,
    bar: Option<ProgressBar>,
    distfiles: u64,
}

impl BoxProgress {
    /// What the box tells while it works.
    pub(super) fn listener(&self) -> Listener {
        let bar = self.bar.clone();
        Arc::new(move |event| {
            let Some(bar) = &bar else { return };
            match event {
                boxes::Progress::Synced { files } => bar.set_position(files),
                boxes::Progress::Fetched { .. } => bar.inc(1),
            }
        })
    }

    pub(super) fn synced(&self, sync: &SyncReport) {
        self.line(&format!(
            "synced {} in {} with {}",
            text::plural(sync.files, "file"),
            text::duration(sync.elapsed),
            sync.client
        ));
        if let Some(bar) = &self.bar {
            bar.set_position(0);
            bar.set_length(self.distfiles);
            bar.set_message("fetch");
        }
    }

    pub(super) fn fetched(&self, fetch: &FetchReport) {
        self.line(&format!(
            "fetched {}, {} in {} with {}",
            text::plural(fetch.files, "distfile"),
            text::bytes(fetch.bytes),
            text::duration(fetch.elapsed),
            fetch.client
        ));
        if let Some(bar) = &self.bar {
            bar.finish_with_message("done");
        }
    }

    pub(super) fn failed(&self, why: &str) {
        self.line(&format!("failed: {why}"));
        if let Some(bar) = &self.bar {
            bar.abandon_with_message("failed");
        }
    }

    fn line(&self, what: &str) {
        // Bars show the same.
        if self.bar.is_none() {
            self.progress.note(&format!("{}: {what}", self.name));
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:>4} {msg:<6} {bar:40} {human_pos:>7} of {human_len}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A line for each stock program that isn't there.
pub(super) fn missing_programs(programs: &Programs) -> Vec<String> {
    let line = |name: &str, missing: bool| {
        missing.then(|| format!("{name} is not installed: the boxes use a client of their own instead."))
    };
    [line("rsync", programs.rsync.is_none()), line("wget", programs.wget.is_none())]
        .into_iter()
        .flatten()
        .collect()
}
