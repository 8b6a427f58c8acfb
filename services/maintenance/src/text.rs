//! Numbers as people read them.

use cache_policy::UnixMs;

/// How long ago something was, in one or two digits: `3 min`, `2 h`, `5 d`.
pub(crate) fn age(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds @ 7200..=172_799 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// A size with a binary unit and one decimal: `1.5 GiB`.
pub(crate) fn bytes(octets: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if octets < 1024 {
        return format!("{octets} B");
    }
    let mut unit = 0;
    // In tenths, so that no float is needed.
    let mut tenths = u128::from(octets) * 10 / 1024;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// The day of a time, UTC: `2026-11-03`.
pub(crate) fn date(at: UnixMs) -> String {
    jiff::Timestamp::from_millisecond(at.get())
        .map_or_else(|_| "long ago".to_owned(), |time| time.strftime("%Y-%m-%d").to_string())
}

/// A time, UTC: `2026-11-03T04:05:06Z`.
pub(crate) fn moment(at: UnixMs) -> String {
    jiff::Timestamp::from_millisecond(at.get())
        .map_or_else(|_| "long ago".to_owned(), |time| format!("{time:.0}"))
}

/// Text as it stands in HTML.
pub(crate) fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([age(0), age(119_999), age(120_000), age(7_200_000)], ["0 s", "119 s", "2 min", "2 h"]);
        assert_eq!([bytes(1023), bytes(1536), bytes(1 << 30)], ["1023 B", "1.5 KiB", "1.0 GiB"]);
        assert_eq!(bytes(u64::MAX), "16383.9 PiB");
        assert_eq!(date(UnixMs::new(1_700_000_000_000)), "2023-11-14");
        assert_eq!(html("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
