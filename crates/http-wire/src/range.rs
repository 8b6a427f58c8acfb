//! `Range` and `Content-Range` (RFC 9110, section 14).

use std::ops::Range;

/// Ranges of one request; who asks for more gets the whole file. Each costs a read and a head of its own
/// (CVE-2011-3192 was thousands of them).
pub const RANGES_MAX: usize = 64;

/// What a `Range` header comes to for a file of a known size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All of it: there is no header, or none that we heed.
    Whole,
    /// One part, not empty.
    Part(Range<u64>),
    /// Several, none of them empty, in the order in which they were asked for; together no more than the file.
    Parts(Vec<Range<u64>>),
    /// 416: nothing of it is there.
    Unsatisfiable,
}

/// Reads one `Range` value. Other units, anything malformed, and ranges that are too many or that overlap until they
/// are more than the file count as no header, which RFC 9110 allows (section 14.2). Of several ranges those that lie
/// behind the end are left out.
#[must_use]
pub fn parse(value: Option<&str>, size: u64) -> Wanted {
    let Some(set) = value.and_then(range_set) else { return Wanted::Whole };
    let mut parts = Vec::new();
    let (mut count, mut octets) = (0, Some(0_u64));
    for spec in set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty()) {
        count += 1;
        let Some(part) = part_of(spec, size).filter(|_| count <= RANGES_MAX) else { return Wanted::Whole };
        if !part.is_empty() {
            octets = octets.and_then(|octets| octets.checked_add(part.end - part.start));
            parts.push(part);
        }
    }
    match parts.as_slice() {
        [] if count == 0 => Wanted::Whole,
        [] => Wanted::Unsatisfiable,
        [part] => Wanted::Part(part.clone()),
        _ if octets.is_none_or(|octets| octets > size) => Wanted::Whole,
        _ => Wanted::Parts(parts),
    }
}

/// What stands after `bytes=`; the unit's case doesn't matter.
fn range_set(value: &str) -> Option<&str> {
    let (unit, set) = value.trim().split_once('=')?;
    unit.eq_ignore_ascii_case("bytes").then_some(set)
}

/// `None` if malformed; empty if nothing of it is there.
fn part_of(spec: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = spec.split_once('-')?;
    match (number(first)?, number(last)?) {
        (Some(first), last) => {
            if last.is_some_and(|last| last < first) {
                return None;
            }
            let end = last.map_or(size, |last| last.saturating_add(1).min(size));
            Some(first.min(end)..end)
        }
        (None, Some(suffix)) => Some(size.saturating_sub(suffix)..size),
        (None, None) => None,
    }
}

/// `Some(None)` for nothing; digits only.
#[allow(clippy::option_option, reason = "malformed, absent, there")]
fn number(text: &str) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    // More digits than fit are simply far behind the end.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| Some(text.parse().unwrap_or(u64::MAX)))
}

/// The start, end (exclusive) and total of a 206's `Content-Range`; `None` if it isn't of that form.
#[must_use]
pub fn parse_content_range(value: &str) -> Option<(Range<u64>, Option<u64>)> {
    let (span, total) = value.trim().strip_prefix("bytes ")?.trim().split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let (first, last) = (number(first)??, number(last)??);
    let total = if total == "*" { None } else { Some(number(total)??) };
    let end = last.checked_add(1)?;
    (first < end && total.is_none_or(|total| end <= total)).then_some((first..end, total))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_matrix() {
        for (value, size, wanted) in [
            ("bytes=0-0", 10, Wanted::Part(0..1)),
            ("bytes=0-", 10, Wanted::Part(0..10)),
            ("bytes=3-5", 10, Wanted::Part(3..6)),
            ("bytes=9-", 10, Wanted::Part(9..10)),
            ("bytes=5-99", 10, Wanted::Part(5..10)),
            ("bytes=-3", 10, Wanted::Part(7..10)),
            ("bytes=-99", 10, Wanted::Part(0..10)),
            ("Bytes=3-5", 10, Wanted::Part(3..6)),
            ("bytes=10-", 10, Wanted::Unsatisfiable),
            ("bytes=99999999999999999999-", 10, Wanted::Unsatisfiable),
            ("bytes=18446744073709551615-18446744073709551615", 10, Wanted::Unsatisfiable),
            ("bytes=-0", 10, Wanted::Unsatisfiable),
            ("bytes=0-", 0, Wanted::Unsatisfiable),
            ("bytes=-1", 0, Wanted::Unsatisfiable),
            ("bytes=5-3", 10, Wanted::Whole),
            ("bytes=", 10, Wanted::Whole),
            ("bytes=,", 10, Wanted::Whole),
            ("bytes=-", 10, Wanted::Whole),
            ("bytes=+1-2", 10, Wanted::Whole),
            ("bytes=1 -2", 10, Wanted::Whole),
            ("bytes=a-b", 10, Wanted::Whole),
            ("bytes 1-2", 10, Wanted::Whole),
            ("items=0-1", 10, Wanted::Whole),
            ("bytes=0-1,3-4", 10, Wanted::Parts(vec![0..2, 3..5])),
            ("bytes=3-4 ,\t0-1,,-1", 10, Wanted::Parts(vec![3..5, 0..2, 9..10])),
            ("bytes=0-1,1-2", 10, Wanted::Parts(vec![0..2, 1..3])),
            ("bytes=0-4,5-9", 10, Wanted::Parts(vec![0..5, 5..10])),
            ("bytes=0-1,20-30", 10, Wanted::Part(0..2)),
            ("bytes=20-30,40-", 10, Wanted::Unsatisfiable),
            ("bytes=0-1,x", 10, Wanted::Whole),
            ("bytes=0-1,5-3", 10, Wanted::Whole),
            ("bytes=0-,0-", 10, Wanted::Whole),
            ("bytes=0-5,5-9", 10, Wanted::Whole),
            ("bytes=0-,0-", u64::MAX, Wanted::Whole),
        ] {
            assert_eq!(parse(Some(value), size), wanted, "{value} of {size}");
        }
        assert_eq!(parse(None, 10), Wanted::Whole);
    }

    #[test]
    fn ranges_without_end_are_the_whole_file() {
        let ranges = |count: usize| {
            let specs: Vec<String> = (0..count).map(|number| format!("{number}-{number}")).collect();
            parse(Some(&format!("bytes={}", specs.join(","))), 10_000)
        };
        assert!(matches!(ranges(RANGES_MAX), Wanted::Parts(parts) if parts.len() == RANGES_MAX));
        assert_eq!(ranges(RANGES_MAX + 1), Wanted::Whole);
        // Those behind the end count, too.
        assert_eq!(parse(Some(&format!("bytes=0-0{}", ",99999-".repeat(RANGES_MAX))), 10_000), Wanted::Whole);
    }

    #[test]
    fn a_content_range_is_read() {
        assert_eq!(parse_content_range("bytes 5-9/10"), Some((5..10, Some(10))));
        assert_eq!(parse_content_range("bytes 5-9/*"), Some((5..10, None)));
        for wrong in ["bytes 5-4/10", "bytes 5-10/10", "bytes */10", "5-9/10", "bytes 5-9", "bytes -9/10", ""]
        {
            assert_eq!(parse_content_range(wrong), None, "{wrong}");
        }
    }

    /// What one spec means, said in another way: octet by octet.
    fn octets(first: Option<u64>, last: Option<u64>, size: u64) -> Vec<u64> {
        let is_in = |octet: &u64| match (first, last) {
            (Some(first), last) => *octet >= first && last.is_none_or(|last| *octet <= last),
            (None, suffix) => octet + suffix.unwrap_or(0) >= size,
        };
        (0..size).filter(is_in).collect()
    }

    proptest! {
        #[test]
        fn parts_are_what_was_asked_for_and_never_more_than_the_file(
            specs in prop::collection::vec((prop::option::of(0..40_u64), prop::option::of(0..40_u64)), 1..5),
            size in 0..40_u64,
        ) {
            let text = |number: &Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
            let written: Vec<String> =
                specs.iter().map(|(first, last)| format!("{}-{}", text(first), text(last))).collect();
            let is_valid = specs.iter().all(|spec| match spec {
                (Some(first), Some(last)) => first <= last,
                (None, None) => false,
                (Some(_), None) | (None, Some(_)) => true,
            });
            let asked: Vec<Vec<u64>> = specs
                .iter()
                .map(|(first, last)| octets(*first, *last, size))
                .filter(|octets| !octets.is_empty())
                .collect();
            let got = match parse(Some(&format!("bytes={}", written.join(", "))), size) {
                Wanted::Whole => {
                    let sum: usize = asked.iter().map(Vec::len).sum();
                    prop_assert!(!is_valid || (asked.len() > 1 && sum as u64 > size));
                    return Ok(());
                }
                Wanted::Unsatisfiable => Vec::new(),
                Wanted::Part(part) => vec![part],
                Wanted::Parts(parts) => {
                    prop_assert!(parts.len() > 1);
                    prop_assert!(parts.iter().map(|part| part.end - part.start).sum::<u64>() <= size);
                    parts
                }
            };
            prop_assert!(is_valid);
            prop_assert_eq!(got.into_iter().map(Iterator::collect::<Vec<u64>>).collect::<Vec<_>>(), asked);
        }

        #[test]
        fn nothing_panics(value in ".{0,40}", size: u64) {
            drop(parse(Some(&value), size));
            drop(parse_content_range(&value));
        }
    }
}
