//! The secrets file: one `USER:PASSWORD` or `@GROUP:PASSWORD` a line.

/// The passwords that would do for a user, by the first line of the user and the first one of the group.
#[must_use]
pub fn passwords<'a>(file: &'a [u8], user: &str, group: Option<&str>) -> Vec<&'a [u8]> {
    let group = group.map(|group| format!("@{group}"));
    let names = [Some(user).filter(|user| !user.starts_with(['@', '#'])), group.as_deref()];
    names.into_iter().flatten().filter_map(|name| password(file, name)).collect()
}

fn password<'a>(file: &'a [u8], name: &str) -> Option<&'a [u8]> {
    file.split(|&octet| octet == b'\n').find_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        line.strip_prefix(name.as_bytes())?.strip_prefix(b":")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_have_their_own_lines() {
        let file =
            b"#larry:commented\nlarry:moo\r\nlarry:second\n@larry:group\nb:with:colon \n:empty\nlast:x";
        let of = |user, group| passwords(file, user, group);
        assert_eq!(of("larry", None), [b"moo"]);
        assert_eq!(of("larry", Some("larry")), [&b"moo"[..], b"group"]);
        assert_eq!(of("b", None), [b"with:colon "]);
        assert_eq!(of("last", None), [b"x"]);
        assert!(of("lar", None).is_empty() && of("@larry", None).is_empty() && of("#larry", None).is_empty());
    }
}
