//! `Range` (RFC 9110, section 14).

use std::ops::Range;

/// What a `Range` header comes to for a file of a known size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it: there is no header, or none that we heed.
    Whole,
    /// One part, not empty.
    Part(Range<u64>),
    /// 416: nothing of it is there.
    Unsatisfiable,
}

/// Reads one `Range` value. Other units, several ranges and anything malformed count as no header,
/// which RFC 9110 allows.
pub(crate) fn parse(value: Option<&str>, size: u64) -> Wanted {
    let Some(spec) = value.and_then(|value| value.trim().strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::Whole };
    match (number(first), number(last)) {
        (Ok(Some(first)), Ok(last)) => {
            if last.is_some_and(|last| last < first) {
                return Wanted::Whole;
            }
            if first >= size {
                return Wanted::Unsatisfiable;
            }
            Wanted::Part(first..last.map_or(size, |last| last.saturating_add(1).min(size)))
        }
        (Ok(None), Ok(Some(suffix))) => {
            if suffix == 0 || size == 0 {
                return Wanted::Unsatisfiable;
            }
            Wanted::Part(size.saturating_sub(suffix)..size)
        }
        _ => Wanted::Whole,
    }
}

/// `Ok(None)` for nothing; digits only.
fn number(text: &str) -> Result<Option<u64>, ()> {
    if text.is_empty() {
        return Ok(None);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(());
    }
    // More digits than fit are simply far behind the end.
    Ok(Some(text.parse().unwrap_or(u64::MAX)))
}

/// The start, end (exclusive) and total of a 206's `Content-Range`; `None` if it isn't of that form.
pub(crate) fn parse_content_range(value: &str) -> Option<(Range<u64>, Option<u64>)> {
    let (span, total) = value.trim().strip_prefix("bytes ")?.trim().split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let (first, last) = (number(first).ok()??, number(last).ok()??);
    let total = if total == "*" { None } else { Some(number(total).ok()??) };
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
            ("bytes=10-", 10, Wanted::Unsatisfiable),
            ("bytes=99999999999999999999-", 10, Wanted::Unsatisfiable),
            ("bytes=-0", 10, Wanted::Unsatisfiable),
            ("bytes=0-", 0, Wanted::Unsatisfiable),
            ("bytes=-1", 0, Wanted::Unsatisfiable),
            ("bytes=5-3", 10, Wanted::Whole),
            ("bytes=0-1,3-4", 10, Wanted::Whole),
            ("bytes=", 10, Wanted::Whole),
            ("bytes=-", 10, Wanted::Whole),
            ("bytes=+1-2", 10, Wanted::Whole),
            ("bytes=a-b", 10, Wanted::Whole),
            ("items=0-1", 10, Wanted::Whole),
        ] {
            assert_eq!(parse(Some(value), size), wanted, "{value} of {size}");
        }
        assert_eq!(parse(None, 10), Wanted::Whole);
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

    proptest! {
        #[test]
        fn a_part_is_never_empty_and_never_beyond_the_end(value in "bytes=[0-9]{0,4}-[0-9]{0,4}", size in 0..3000_u64) {
            if let Wanted::Part(part) = parse(Some(&value), size) {
                prop_assert!(part.start < part.end && part.end <= size);
            }
        }

        #[test]
        fn nothing_panics(value in ".{0,40}", size: u64) {
            let _ = parse(Some(&value), size);
            let _ = parse_content_range(&value);
        }
    }
}
