//! Which decisions came before: delivery is at least once, carrying out is once.
//!
//! A decision is known by its id alone: maintenance gives none twice, not even with another index.

use std::collections::{HashMap, VecDeque};

use super::types::Executed;

/// Answers that are remembered.
const ANSWERS_MAX: usize = 4096;

/// What is known of a decision that comes in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// New; it is taken for running from now on.
    Never,
    /// Queued or under way: its acknowledgement will come.
    Running,
    /// Answered like this.
    Answered(Executed),
}

/// The decisions that are under way, and the last ones that were answered.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// `None`: running. Those are bounded by the lanes.
    decisions: HashMap<String, Option<Executed>>,
    answered: VecDeque<String>,
}

impl Seen {
    pub(super) fn begin(&mut self, id: &str) -> Before {
        match self.decisions.get(id) {
            Some(None) => Before::Running,
            Some(Some(executed)) => Before::Answered(executed.clone()),
            None => {
                self.decisions.insert(id.to_owned(), None);
                Before::Never
            }
        }
    }

    pub(super) fn finish(&mut self, id: &str, executed: Executed) {
        self.decisions.insert(id.to_owned(), Some(executed));
        self.answered.push_back(id.to_owned());
        if self.answered.len() > ANSWERS_MAX
            && let Some(oldest) = self.answered.pop_front()
        {
            self.decisions.remove(&oldest);
        }
    }

    pub(super) fn forget(&mut self, id: &str) {
        self.decisions.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::Outcome;
    use super::*;

    #[test]
    fn an_answer_is_remembered_until_many_came_after_it() {
        let mut seen = Seen::default();
        assert_eq!(seen.begin("a"), Before::Never);
        assert_eq!(seen.begin("a"), Before::Running);
        seen.finish("a", Outcome::Done.into());
        assert_eq!(seen.begin("a"), Before::Answered(Outcome::Done.into()));
        assert_eq!(seen.begin("running"), Before::Never);
        for number in 0..ANSWERS_MAX {
            let id = number.to_string();
            assert_eq!(seen.begin(&id), Before::Never);
            seen.finish(&id, Outcome::Gone.into());
        }
        assert_eq!(seen.begin("a"), Before::Never);
        assert_eq!(seen.begin("running"), Before::Running);
        assert_eq!(seen.decisions.len(), ANSWERS_MAX + 2);
    }
}
