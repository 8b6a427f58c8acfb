//! `%VAR%`: a variable's value. What is no reference, or names nothing, stays as it is.

/// Variables that the stock daemon sets for each connection or transfer.
const OF_A_CONNECTION: &str = "RSYNC_";

/// Expands each reference by `lookup`.
///
/// # Errors
/// The name of a variable that only exists while a client is connected.
pub(crate) fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let name = after.split_once('%').map(|(name, _)| name).filter(|name| is_name(name));
        let value = match name {
            Some(name) => match lookup(name) {
                Some(value) => Some((name, value)),
                None if name.starts_with(OF_A_CONNECTION) => return Err(name.to_owned()),
                None => None,
            },
            None => None,
        };
        if let Some((name, value)) = value {
            out.push_str(&value);
            rest = &after[name.len() + 1..];
            continue;
        }
        out.push('%');
        rest = after;
        // A doubled sign is no start of a reference.
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn only_known_variables_are_replaced() {
        let lookup = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        let of = |text| expand(text, &lookup).unwrap();
        // As stock 3.5.0 lists it.
        assert_eq!(of("top %% %HOME% %NOPE% %x"), "top %% /root %NOPE% %x");
        assert_eq!(of("%HOME%%HOME%/%"), "/root/root/%");
        assert_eq!(of("%o %h [%a] %m (%u) %f %l"), "%o %h [%a] %m (%u) %f %l");
        assert_eq!(of("%%HOME%"), "%%HOME%");
        assert_eq!(expand("/home/%RSYNC_USER_NAME%", &lookup), Err("RSYNC_USER_NAME".to_owned()));
    }
}
