//! Booleans, numbers, lists.

/// `yes`, `true`, `1` and their opposites, in any case.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "1" => Ok(true),
        "no" | "false" | "0" => Ok(false),
        _ => Err(format!("expected yes or no, found `{text}`")),
    }
}

/// The same, or that nothing is said.
pub(crate) fn perhaps(text: &str) -> Result<Option<bool>, String> {
    match text.to_ascii_lowercase().as_str() {
        "unset" | "-1" => Ok(None),
        text => boolean(text).map(Some).map_err(|_| format!("expected yes, no or unset, found `{text}`")),
    }
}

/// A whole number of a range.
pub(crate) fn number<T: std::str::FromStr>(text: &str, expected: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("expected {expected}, found `{text}`"))
}

/// Words between commas and white space; between commas only if the list starts with one.
pub(crate) fn words(text: &str) -> Vec<&str> {
    let words: Box<dyn Iterator<Item = &str>> = match text.trim_start().strip_prefix(',') {
        Some(rest) => Box::new(rest.split(',').map(str::trim)),
        None => Box::new(text.split([',', ' ', '\t', '\r', '\n'])),
    };
    words.filter(|word| !word.is_empty()).collect()
}
