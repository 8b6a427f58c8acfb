//! Numbers, sizes and times as people read them.

use std::time::Duration;

/// `1,234,567`
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `12.3 MiB`, with three digits at most before the point.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// `2.4 s`, `12 min`, `3 h`
pub(crate) fn duration(time: Duration) -> String {
    match time.as_secs() {
        0..100 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 100..6_000 => format!("{} min", seconds / 60),
        seconds @ 6_000..259_200 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// `2026-01-15 12:00 UTC`, or `never` for 0.
pub(crate) fn moment(since_epoch_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(since_epoch_ms) {
        Ok(time) if since_epoch_ms != 0 => time.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        _ => "never".to_owned(),
    }
}

/// `83%`, or `-` of nothing.
pub(crate) fn share(part: u64, whole: u64) -> String {
    (u128::from(part) * 100)
        .checked_div(u128::from(whole))
        .map_or_else(|| "-".to_owned(), |p| format!("{p}%"))
}

/// `file` with an `s` unless there is one.
pub(crate) fn plural(number: u64, word: &str) -> String {
    format!("{} {word}{}", count(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [0, 7, 999, 1_000, 1_234_567].map(count),
            ["0", "7", "999", "1,000", "1,234,567"].map(str::to_owned)
        );
        assert_eq!(
            [0, 1_023, 1_024, 1_536, 1_048_575, 1_048_576, 200_000_000, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1023.9 KiB", "1.0 MiB", "190.7 MiB", "16383.9 PiB"]
                .map(str::to_owned)
        );
        assert_eq!((share(1, 3), share(0, 0)), ("33%".to_owned(), "-".to_owned()));
        assert_eq!((plural(1, "file"), plural(2, "file")), ("1 file".to_owned(), "2 files".to_owned()));
    }

    #[test]
    fn times_read_well() {
        let seconds = [0, 99, 100, 7_200, 864_000];
        assert_eq!(
            seconds.map(|seconds| duration(Duration::from_secs(seconds))),
            ["0.0 s", "99.0 s", "1 min", "2 h", "10 days"].map(str::to_owned)
        );
        assert_eq!(moment(1_768_478_400_000), "2026-01-15 12:00 UTC");
        assert_eq!(moment(0), "never");
    }
}
