//! What somebody was told, and what is to be told next.

use std::collections::BTreeMap;
use std::time::Duration;

use rookery_proto::v1::Problem;
use serde_json::{Value, json};
use tokio::time::Instant;

/// After the first failure; each further wait is twice as long, which makes about an hour in all.
const RETRY_FIRST: Duration = Duration::from_secs(30);
const ATTEMPTS_MAX: u32 = 8;

/// A problem by what it is and whom it is about: its text may change while it lasts.
pub(super) type Known = BTreeMap<(String, String), Problem>;

pub(super) fn known(problems: Vec<Problem>) -> Known {
    problems.into_iter().map(|one| ((one.code.clone(), one.subject.clone()), one)).collect()
}

/// What came and what went, `None` if nothing did.
fn change(before: &Known, now: &Known) -> Option<Value> {
    let list = |of: &Known, without: &Known| {
        of.iter()
            .filter(|(key, _)| !without.contains_key(*key))
            .map(|(_, one)| {
                json!({
                    "code": one.code, "subject": one.subject,
                    "what": one.what, "what_to_do": one.what_to_do,
                })
            })
            .collect::<Vec<_>>()
    };
    let (came, went) = (list(now, before), list(before, now));
    (!came.is_empty() || !went.is_empty())
        .then(|| json!({ "came": came, "went": went, "problems": list(now, &Known::new()) }))
}

/// What a listener knows.
#[derive(Debug, Default)]
pub(super) struct Told {
    known: Known,
    /// What it knows is not written down yet.
    is_new: bool,
    /// The last attempt, if it failed.
    failed: Option<Failed>,
}

#[derive(Debug)]
struct Failed {
    /// What it was about.
    news: Known,
    attempts: u32,
    again: Instant,
}

impl Told {
    /// As it was written down before the last restart.
    pub(super) fn before(problems: Vec<Problem>) -> Self {
        Self { known: known(problems), ..Self::default() }
    }

    /// `now`, with what it was told of and what is not decided to be over yet.
    pub(super) fn open(&self, now: &Known, is_undecided: impl Fn(&Problem) -> bool) -> Known {
        let mut open = now.clone();
        for (key, problem) in self.known.iter().filter(|(_, problem)| is_undecided(problem)) {
            open.entry(key.clone()).or_insert_with(|| problem.clone());
        }
        open
    }

    /// What is to be written down, if anything.
    pub(super) fn to_note(&self) -> Option<Vec<&Problem>> {
        self.is_new.then(|| self.known.values().collect())
    }

    pub(super) fn is_noted(&mut self) {
        self.is_new = false;
    }

    /// What is to be told `at` this time. News are told at once, what failed not before its turn.
    pub(super) fn news(&self, now: &Known, at: Instant) -> Option<Value> {
        let waits = self.failed.as_ref().is_some_and(|failed| at < failed.again && same(&failed.news, now));
        if waits { None } else { change(&self.known, now) }
    }

    pub(super) fn done(&mut self, now: &Known) {
        *self = Self { known: now.clone(), is_new: true, failed: None };
    }

    /// Answers whether it is tried again.
    pub(super) fn failed(&mut self, now: &Known, at: Instant) -> bool {
        let before = self.failed.as_ref().filter(|failed| same(&failed.news, now));
        let attempts = before.map_or(0, |failed| failed.attempts) + 1;
        if attempts >= ATTEMPTS_MAX {
            self.done(now);
            return false;
        }
        let again = at + RETRY_FIRST * 2_u32.pow(attempts - 1);
        self.failed = Some(Failed { news: now.clone(), attempts, again });
        true
    }
}

fn same(one: &Known, other: &Known) -> bool {
    one.keys().eq(other.keys())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(code: &str, what: &str) -> Problem {
        Problem {
            code: code.to_owned(),
            subject: "replica r1".to_owned(),
            what: what.to_owned(),
            ..Problem::default()
        }
    }

    #[test]
    fn only_what_came_or_went_is_told() {
        let none = Known::new();
        let gone = known(vec![problem("replica_gone", "not heard of for 5 min")]);
        let longer = known(vec![problem("replica_gone", "not heard of for 6 min")]);
        assert_eq!(change(&none, &none), None);
        let came = change(&none, &gone).unwrap();
        assert_eq!(
            (&came["came"][0]["code"], came["went"].as_array().unwrap().len()),
            (&"replica_gone".into(), 0)
        );
        assert_eq!(change(&gone, &longer), None, "the same problem, with another time");
        let went = change(&longer, &none).unwrap();
        assert_eq!(
            (went["came"].as_array().unwrap().len(), &went["went"][0]["subject"]),
            (0, &"replica r1".into())
        );
    }

    #[test]
    fn what_was_not_told_is_told_later_and_not_for_ever() {
        let none = Known::new();
        let gone = known(vec![problem("replica_gone", "not heard of for 5 min")]);
        let mut told = Told::default();
        let mut at = Instant::now();
        let start = at;
        let mut attempts = 0;
        while told.news(&gone, at).is_some() {
            attempts += 1;
            if !told.failed(&gone, at) {
                break;
            }
            assert_eq!(told.news(&gone, at), None, "not at once");
            assert!(told.news(&none, at).is_none(), "it went before anybody heard of it");
            at += RETRY_FIRST * 2_u32.pow(attempts - 1);
        }
        assert_eq!(attempts, ATTEMPTS_MAX);
        assert!((at - start).as_secs() < 2 * 3600, "{:?}", at - start);
        assert_eq!(told.news(&gone, at), None, "given up");

        told = Told::default();
        assert!(told.failed(&gone, at));
        let both = known(vec![problem("replica_gone", ""), problem("disk_full", "")]);
        let news = told.news(&both, at).expect("news wait for nothing");
        assert_eq!(news["came"].as_array().unwrap().len(), 2, "with what was not told before");
        told.done(&both);
        assert_eq!(told.news(&none, at).unwrap()["went"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn what_was_told_before_a_restart_is_over_once_that_is_decided() {
        let told = Told::before(vec![problem("replica_gone", ""), problem("tree_old", "")]);
        assert_eq!(told.to_note(), None, "it is written down");
        let at = Instant::now();
        let news = |is_undecided: fn(&Problem) -> bool| {
            let now = told.open(&known(vec![problem("replica_gone", "for longer")]), is_undecided);
            told.news(&now, at)
        };
        assert_eq!(news(|problem| problem.code == "tree_old"), None);
        let over = news(|_| false).unwrap();
        assert_eq!((&over["came"], &over["went"][0]["code"]), (&json!([]), &"tree_old".into()));
    }
}
