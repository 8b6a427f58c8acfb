//! Which decisions came before: delivery is at least once, carrying out is once.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::types::Executed;

/// Answers that are remembered.
const ANSWERS_MAX: usize = 4096;

/// What maintenance has in its hands is not sent again later than this. An index that is made anew counts its decisions
/// anew, so that an answer must not be remembered for longer than it has to.
const ANSWER_LIFE: Duration = Duration::from_mins(10);

/// What is known of a decision that comes in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// New; it is taken for running from now on.
    Never,
    /// Queued or under way: its acknowledgement will come.
    Running,
    /// Something else is queued or under way under this id: an index that is gone made that decision.
    Taken,
    /// Answered like this.
    Answered(Executed),
}

/// The decisions that are under way, and the last ones that were answered.
#[derive(Debug)]
pub(super) struct Seen<W> {
    /// Those that are running are bounded by the lanes.
    decisions: HashMap<String, Decision<W>>,
    answered: VecDeque<String>,
}

#[derive(Debug)]
struct Decision<W> {
    work: W,
    /// `None`: running.
    answer: Option<(Instant, Executed)>,
}

impl<W> Default for Seen<W> {
    fn default() -> Self {
        Self { decisions: HashMap::new(), answered: VecDeque::new() }
    }
}

impl<W: Clone + PartialEq> Seen<W> {
    /// `is_untold`: its acknowledgement has not reached maintenance.
    pub(super) fn begin(
        &mut self,
        id: &str,
        work: &W,
        now: Instant,
        is_untold: impl FnOnce() -> bool,
    ) -> Before {
        match self.decisions.get(id) {
            Some(Decision { work: before, answer: None }) if before == work => return Before::Running,
            Some(Decision { answer: None, .. }) => return Before::Taken,
            Some(Decision { work: before, answer: Some((at, executed)) })
                if before == work && (now.duration_since(*at) < ANSWER_LIFE || is_untold()) =>
            {
                return Before::Answered(executed.clone());
            }
            Some(_) => self.answered.retain(|answered| answered != id),
            None => {}
        }
        self.decisions.insert(id.to_owned(), Decision { work: work.clone(), answer: None });
        Before::Never
    }

    pub(super) fn finish(&mut self, id: &str, executed: Executed, now: Instant) {
        let Some(decision) = self.decisions.get_mut(id) else { return };
        decision.answer = Some((now, executed));
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

    fn begin(seen: &mut Seen<u8>, id: &str, work: u8, now: Instant) -> Before {
        seen.begin(id, &work, now, || false)
    }

    #[test]
    fn an_answer_is_remembered_until_many_came_after_it() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        assert_eq!(begin(&mut seen, "a", 1, now), Before::Never);
        assert_eq!(begin(&mut seen, "a", 1, now), Before::Running);
        seen.finish("a", Outcome::Done.into(), now);
        assert_eq!(begin(&mut seen, "a", 1, now), Before::Answered(Outcome::Done.into()));
        assert_eq!(begin(&mut seen, "running", 1, now), Before::Never);
        for number in 0..ANSWERS_MAX {
            let id = number.to_string();
            assert_eq!(begin(&mut seen, &id, 1, now), Before::Never);
            seen.finish(&id, Outcome::Gone.into(), now);
        }
        assert_eq!(begin(&mut seen, "a", 1, now), Before::Never);
        assert_eq!(begin(&mut seen, "running", 1, now), Before::Running);
        assert_eq!((seen.decisions.len(), seen.answered.len()), (ANSWERS_MAX + 2, ANSWERS_MAX));
    }

    #[test]
    fn an_answer_is_for_the_same_work_and_for_a_while() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        assert_eq!(begin(&mut seen, "1", 1, now), Before::Never);
        assert_eq!(begin(&mut seen, "1", 2, now), Before::Taken);
        seen.finish("1", Outcome::Done.into(), now);
        assert_eq!(begin(&mut seen, "1", 2, now), Before::Never, "an index that was made anew counts anew");
        seen.finish("1", Outcome::Gone.into(), now);
        let later = now + ANSWER_LIFE;
        let untold = seen.begin("1", &2, later, || true);
        assert_eq!(untold, Before::Answered(Outcome::Gone.into()), "maintenance was away all the while");
        assert_eq!(begin(&mut seen, "1", 2, later), Before::Never);
        seen.finish("1", Outcome::Busy.into(), later);
        assert_eq!((seen.decisions.len(), seen.answered.len()), (1, 1));
    }
}
