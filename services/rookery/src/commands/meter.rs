//! How far something is, for people: a bar where somebody watches, a line now and then where not, and
//! nothing for programs.

use std::future::Future;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Cli;

/// How often a line is written where there is no terminal; a new step is said at once.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// How often whoever works is asked.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(500);

/// What a command exits with that was interrupted, as shells have it.
pub(super) const INTERRUPTED: u8 = 130;

/// One thing that is shown; erased when it is dropped.
pub(super) struct Meter {
    how: How,
    step: String,
    said: Instant,
}

enum How {
    Bar(ProgressBar),
    Lines,
    Silent,
}

/// How far it is.
pub(super) struct At<'a> {
    /// What is being done; a change of it is said at once.
    pub(super) step: &'a str,
    /// What is counted, in the plural; empty: nothing.
    pub(super) unit: &'a str,
    pub(super) done: u64,
    /// 0: not known.
    pub(super) total: u64,
    /// Something behind it, as `3.0 MiB`.
    pub(super) more: &'a str,
}

impl Meter {
    pub(super) fn new(cli: &Cli) -> Self {
        let how = if cli.json {
            How::Silent
        } else if std::io::stderr().is_terminal() {
            How::Bar(ProgressBar::no_length())
        } else {
            How::Lines
        };
        Self { how, step: String::new(), said: Instant::now() }
    }

    pub(super) fn at(&mut self, at: &At<'_>) {
        let is_new = self.step != at.step;
        if is_new {
            at.step.clone_into(&mut self.step);
        }
        match &self.how {
            How::Bar(bar) => at.draw(bar),
            How::Lines if is_new || self.said.elapsed() >= SAY_EVERY => {
                eprintln!("{}", at.line());
                self.said = Instant::now();
            }
            How::Lines | How::Silent => {}
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let How::Bar(bar) = &self.how {
            bar.finish_and_clear();
        }
    }
}

impl At<'_> {
    fn draw(&self, bar: &ProgressBar) {
        let template = if self.total > 0 {
            "{prefix} {wide_bar} {pos} of {len} {msg}, {eta} left"
        } else {
            "{prefix} {spinner} {elapsed} {msg}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(self.step.to_owned());
        bar.set_message(self.words());
        bar.set_length(self.total);
        bar.set_position(self.done);
        bar.tick();
    }

    fn words(&self) -> String {
        let comma = if self.unit.is_empty() || self.more.is_empty() { "" } else { ", " };
        format!("{}{comma}{}", self.unit, self.more)
    }

    fn line(&self) -> String {
        if self.total == 0 {
            return format!("{} …", self.step);
        }
        format!("{} {} of {} {}", self.step, self.done, self.total, self.words())
    }
}

/// Waits for `work` unless whoever waits interrupts that; `None` then.
pub(super) async fn interruptible<T>(
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<Option<T>> {
    tokio::select! {
        done = work => done.map(Some),
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| None).map_err(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_known() {
        let at = |unit, done, total, more| At { step: "import", unit, done, total, more }.line();
        assert_eq!(at("files", 3, 10, "3.0 MiB"), "import 3 of 10 files, 3.0 MiB");
        assert_eq!(at("evictions", 0, 2, ""), "import 0 of 2 evictions");
        assert_eq!(at("", 0, 0, ""), "import …");
    }
}
