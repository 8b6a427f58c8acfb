//! A process that looks once a minute, and what happens to its clock.

use proptest::prelude::*;

use super::*;

const MIN_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MIN_MS;
const YEAR_MS: u64 = 365 * DAY_MS;
const NOW: UnixMs = UnixMs::new(1_700_000_000_000);
/// No process knows when the host began.
const BEGUN_MS: u64 = 77_777;

struct Host {
    trust: Trust,
    reading: Reading,
    disk: Remembered,
}

impl Host {
    fn new() -> Self {
        let disk = Remembered { believed: NOW, doubted_ms: 0 };
        let reading = Reading { now: NOW, ran_ms: BEGUN_MS, tree: None };
        Self { trust: Trust::resume(disk, BEGUN_MS), reading, disk }
    }

    /// The process ends, and another one begins after so long.
    fn restart(&mut self, off_ms: u64) {
        self.reading.now = self.reading.now.after_ms(off_ms);
        self.reading.ran_ms = BEGUN_MS;
        self.trust = Trust::resume(self.disk, BEGUN_MS);
    }

    fn look(&mut self) -> Looked {
        self.reading.now = self.reading.now.after_ms(MIN_MS);
        self.reading.ran_ms += MIN_MS;
        let before = self.trust.judge(self.reading);
        let looked = self.trust.look(self.reading);
        assert_eq!(looked.verdict, before, "a look judges as one who only asks");
        self.disk = looked.remember.unwrap_or(self.disk);
        looked
    }

    fn looks(&mut self, minutes: u64) -> Vec<Looked> {
        (0..minutes).map(|_| self.look()).collect()
    }

    fn is_doubted(&self) -> bool {
        matches!(self.trust.judge(self.reading), Verdict::Doubted(_))
    }

    fn jump(&mut self, ms: u64) {
        self.reading.now = self.reading.now.after_ms(ms);
    }

    fn jump_back(&mut self, ms: u64) {
        self.reading.now = self.reading.now.before_ms(ms);
    }
}

#[test]
fn a_jump_of_years_is_doubted_until_the_clock_is_put_right() {
    let mut host = Host::new();
    host.looks(30);
    host.jump(10 * YEAR_MS);
    assert!(host.is_doubted(), "at once, and not with the next look only");
    let expected = NOW.after_ms(31 * MIN_MS);
    let first = host.look();
    let doubt = Doubt { expected, ahead_ms: 10 * YEAR_MS, left_ms: DOUBT_MS_MAX };
    assert_eq!((first.verdict, first.is_news), (Verdict::Doubted(doubt), true));
    assert_eq!(first.remember, Some(Remembered { believed: expected, doubted_ms: 0 }));
    // Ten minutes prove nothing of what lies so far from what was known.
    assert!(
        host.looks(120).iter().all(|looked| matches!(looked.verdict, Verdict::Doubted(_)) && !looked.is_news)
    );
    host.jump_back(10 * YEAR_MS);
    let right = host.look();
    assert_eq!(
        (right.verdict, right.is_news, right.look),
        (Verdict::Believed(Belief::WentOn), true, Look::SetBack)
    );
    let believed = NOW.after_ms(152 * MIN_MS);
    assert_eq!(right.remember, Some(Remembered { believed, doubted_ms: 0 }));
}

#[test]
fn a_doubt_outlives_processes_and_ends_after_three_days_of_running() {
    let mut host = Host::new();
    host.looks(5);
    host.jump(10 * YEAR_MS);
    let days = DOUBT_MS_MAX / DAY_MS;
    let mut news = 0;
    for day in 0..=days {
        news = host.looks(DAY_MS / MIN_MS).iter().filter(|looked| looked.is_news).count();
        assert_eq!(host.is_doubted(), day < days, "day {day}");
        host.restart(HOUR_MS);
    }
    assert_eq!(news, 2, "it is doubted as in the process before, and then no more");
    assert!(!host.is_doubted() && !host.look().is_news, "it stays so over a restart");
    // Each restart may forget what was not worth a write, not more.
    assert!(host.disk.believed >= NOW.after_ms(10 * YEAR_MS + days * DAY_MS));
}

#[test]
fn a_host_that_was_off_for_months_is_believed_with_the_first_new_tree() {
    let mut host = Host::new();
    host.reading.tree = Some(NOW.before_ms(HOUR_MS));
    host.looks(100);
    host.restart(90 * DAY_MS);
    assert!(host.is_doubted() && matches!(host.look().verdict, Verdict::Doubted(_)));
    host.reading.tree = Some(host.reading.now.before_ms(TREE_APART_MS_MAX));
    assert!(matches!(host.look().verdict, Verdict::Doubted(_)), "that one is two days and a minute old");
    host.reading.tree = Some(host.reading.now.before_ms(HOUR_MS));
    let looked = host.look();
    assert_eq!((looked.verdict, looked.is_news), (Verdict::Believed(Belief::Tree), true));
    assert_eq!(host.disk.believed, host.reading.now);
    host.reading.tree = None;
    assert_eq!(host.look().verdict, Verdict::Believed(Belief::WentOn));
}

#[test]
fn an_operator_ends_a_doubt() {
    let mut host = Host::new();
    host.jump(YEAR_MS);
    host.looks(200);
    assert!(host.is_doubted());
    host.disk = host.trust.agree(host.reading);
    assert!(!host.is_doubted());
    assert_eq!(host.disk, Remembered { believed: host.reading.now, doubted_ms: 0 });
    host.restart(0);
    assert!(!host.is_doubted() && !host.look().is_news);
}

#[test]
fn a_day_off_a_suspended_host_and_a_slow_clock_are_no_news() {
    let mut host = Host::new();
    host.looks(61);
    host.restart(JUMP_MS_MAX - HOUR_MS);
    assert!(!host.look().is_news && !host.is_doubted());
    // Asleep: the clock and the time that passed go on together.
    host.jump(300 * DAY_MS);
    host.reading.ran_ms += 300 * DAY_MS;
    assert!(!host.look().is_news && !host.is_doubted());
    host.jump(JUMP_MS_MAX);
    assert!(!host.look().is_news && !host.is_doubted());
    host.jump(JUMP_MS_MAX + 1);
    assert!(host.is_doubted());
}

#[test]
fn a_clock_that_is_behind_for_minutes_after_a_start_is_not_doubted_when_it_is_told_the_time() {
    let mut host = Host::new();
    host.looks(70);
    host.restart(0);
    host.jump_back(20 * YEAR_MS);
    assert!(host.looks(9).iter().all(|looked| looked.look == Look::Begun && !looked.is_news));
    host.jump(20 * YEAR_MS);
    assert!(!host.look().is_news && !host.is_doubted());
}

#[test]
fn what_lies_ahead_is_not_put_back_to_a_clock_that_is_behind_a_tree() {
    let mut host = Host::new();
    host.reading.tree = Some(NOW);
    host.restart(0);
    host.jump_back(20 * YEAR_MS);
    assert!(host.looks(60).iter().all(|looked| looked.look == Look::SetBack));
    assert!(is_behind(host.reading) && !host.trust.may_put_back(host.reading));
    host.jump(20 * YEAR_MS);
    let looks = host.looks(11);
    let proven: Vec<_> = (0..11).filter(|&at| looks[at].look == Look::Proven).collect();
    assert_eq!(proven, [9], "ten minutes after it was put right");
    assert!(!host.is_doubted() && host.trust.may_put_back(host.reading));
}

proptest! {
    /// Whatever came before, a clock that stays is believed in the end, and nothing is remembered too often.
    #[test]
    fn every_doubt_ends(
        steps in proptest::collection::vec((0_u64..20, any::<bool>(), 0_u64..3, any::<bool>()), 0..12),
    ) {
        let mut host = Host::new();
        for (years, is_back, restarts, is_agreed) in steps {
            if is_back {
                host.jump_back(years * YEAR_MS);
            } else {
                host.jump(years * YEAR_MS);
            }
            host.looks(15);
            for _ in 0..restarts {
                host.restart(MIN_MS);
                host.looks(15);
            }
            if is_agreed {
                host.disk = host.trust.agree(host.reading);
                prop_assert!(!host.is_doubted());
            }
        }
        let looks = host.looks(DOUBT_MS_MAX / MIN_MS + 1);
        prop_assert!(!host.is_doubted());
        let writes = looks.iter().filter(|looked| looked.remember.is_some()).count() as u64;
        prop_assert!(writes <= DOUBT_MS_MAX / HOUR_MS + 2, "{writes}");
        prop_assert_eq!(host.looks(60).iter().filter(|looked| looked.is_news).count(), 0);
    }

    #[test]
    fn no_reading_is_too_odd(believed in any::<i64>(), doubted_ms in any::<u64>(), readings in proptest::collection::vec(any::<(i64, u64, Option<i64>)>(), 0..20)) {
        let mut trust = Trust::resume(Remembered { believed: UnixMs::new(believed), doubted_ms }, 0);
        for (now, ran_ms, tree) in readings {
            let reading = Reading { now: UnixMs::new(now), ran_ms, tree: tree.map(UnixMs::new) };
            let looked = trust.look(reading);
            if let Verdict::Doubted(doubt) = looked.verdict {
                prop_assert!(doubt.ahead_ms > JUMP_MS_MAX && doubt.left_ms > 0);
                trust.agree(reading);
                prop_assert!(matches!(trust.judge(reading), Verdict::Believed(_)));
            }
        }
    }
}
