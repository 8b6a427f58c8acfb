//! What stands for several rounds.

/// Of some rounds' figures. Without rounds all three are not a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

/// Median (the upper one of an even number), least and most.
pub(super) fn spread(figures: impl IntoIterator<Item = f64>) -> Spread {
    let mut sorted: Vec<f64> = figures.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    Spread { median: at(sorted.len() / 2), least: at(0), most: at(sorted.len().saturating_sub(1)) }
}

/// The median of each round's own ratio. A machine's speed changes from one round to the next for reasons of its own, so
/// that only what was asked in turn within one round is compared.
pub(super) fn ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    spread(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs)).median
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_of_rounds() {
        assert_eq!(spread([30.0, 10.0, 20.0]), Spread { median: 20.0, least: 10.0, most: 30.0 });
        assert!(spread([]).median.is_nan());
    }

    #[test]
    fn a_round_in_which_the_machine_is_slow_changes_no_ratio() {
        let theirs = [10.0, 10.0, 5.0, 5.0, 5.0];
        let ours = [20.0, 20.0, 10.0, 10.0, 10.0];
        for rounds in 1..=5 {
            assert!((ratio(&ours[..rounds], &theirs[..rounds]) - 2.0).abs() < 1e-9, "{rounds}");
        }
    }
}
