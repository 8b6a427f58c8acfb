//! Passwords and tokens in URLs, which nothing that is printed may hold.

/// What stands where a password was.
pub const HIDDEN: &str = "****";

/// `text` with `****` in place of each password of a URL (`scheme://USER:PASSWORD@HOST`). A user of an `http` or
/// `https` URL who has none is a token, and hidden too; so is the query of such a URL, where tokens are often put.
#[must_use]
pub fn without_passwords(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (scheme, mut url) = (&rest[..at], &rest[at + 3..]);
        shown.push_str(&rest[..at + 3]);
        let is_http = scheme.ends_with("http") || scheme.ends_with("https");
        if let Some(userinfo) = userinfo(url) {
            shown.push_str(&hidden(userinfo, is_http));
            url = &url[userinfo.len()..];
        }
        if let (true, Some(query)) = (is_http, query(url)) {
            shown.push_str(&url[..query.start]);
            shown.push_str(HIDDEN);
            url = &url[query.end..];
        }
        rest = url;
    }
    shown + rest
}

/// An address that is a secret as a whole, as those of webhooks are: `scheme://HOST:PORT/****`.
#[must_use]
pub fn address_without_secrets(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else {
        return if address.is_empty() { String::new() } else { HIDDEN.to_owned() };
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match userinfo(rest) {
        None if matches!(&rest[host.len()..], "" | "/") => address.to_owned(),
        None => format!("{scheme}://{host}/{HIDDEN}"),
        Some(userinfo) => {
            let rest = rest[userinfo.len()..].trim_start_matches('@');
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            format!("{scheme}://{host}/{HIDDEN}")
        }
    }
}

/// [`address_without_secrets`] for serde, so that a configuration can be printed.
///
/// # Errors
/// The serializer's.
pub fn serialize_address<S: serde::Serializer>(address: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&address_without_secrets(address))
}

/// Where what follows the `?` stands; a URL in TOML or JSON ends with its quotation mark.
fn query(url: &str) -> Option<std::ops::Range<usize>> {
    let end = url.find(|letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'' | '#'));
    let end = end.unwrap_or(url.len());
    let start = url[..end].find('?')? + 1;
    (start < end).then_some(start..end)
}

/// What stands before the last `@` of the authority.
fn userinfo(url: &str) -> Option<&str> {
    let url = url.split(char::is_whitespace).next().unwrap_or_default();
    let authority = url.split(['/', '?', '#']).next().unwrap_or_default();
    if let Some((userinfo, _)) = authority.rsplit_once('@') {
        return Some(userinfo);
    }
    // A password with one of these in it is a mistake that is told to the operator, and to nobody else.
    let (_, port) = authority.rsplit_once(':')?;
    let is_port = !port.is_empty() && port.bytes().all(|octet| octet.is_ascii_digit() || octet == b']');
    if is_port { None } else { url.rsplit_once('@').map(|(userinfo, _)| userinfo) }
}

fn hidden(userinfo: &str, is_http: bool) -> String {
    match userinfo.split_once(':') {
        Some((user, _)) => format!("{user}:{HIDDEN}"),
        None if is_http => HIDDEN.to_owned(),
        None => userinfo.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_tokens_are_hidden_and_nothing_else_is() {
        for (text, shown) in [
            ("http://p:3128/", "http://p:3128/"),
            ("http://me:secret@p:3128/", "http://me:****@p:3128/"),
            ("socks5://me:secret@p:1080", "socks5://me:****@p:1080"),
            ("socks5h://:secret@[::1]:1080", "socks5h://:****@[::1]:1080"),
            ("http://me:se@cret@p", "http://me:****@p"),
            ("http://me:se/cret@p", "http://me:****@p"),
            ("http://me:se:cret@p", "http://me:****@p"),
            ("https://secret@h/p", "https://****@h/p"),
            ("ssh://git@h/p", "ssh://git@h/p"),
            ("proxy = \"http://me:secret@p\"  # it", "proxy = \"http://me:****@p\"  # it"),
            ("[\"http://a:secret@b\", \"http://c:secret@d\"]", "[\"http://a:****@b\", \"http://c:****@d\"]"),
            ("http://a:secret@b/?to=http://c:secret@d", "http://a:****@b/?****"),
            ("https://h/hook?token=secret&x=1", "https://h/hook?****"),
            ("https://h?secret", "https://h?****"),
            (
                "w = \"https://h/?t=secret\" # \"https://h/?u=secret\"",
                "w = \"https://h/?****\" # \"https://h/?****\"",
            ),
            ("{\"w\":\"https://h/?t=secret\",\"a\":\"b?c\"}", "{\"w\":\"https://h/?****\",\"a\":\"b?c\"}"),
            ("https://h/a?t=secret is not right", "https://h/a?**** is not right"),
            ("https://h/a? why?", "https://h/a? why?"),
            ("rsync://h/a?b", "rsync://h/a?b"),
            ("https://h/a@1.tgz", "https://h/a@1.tgz"),
            ("https://h:8443/a:b@1.tgz", "https://h:8443/a:b@1.tgz"),
            ("http://[::1]/a@1", "http://[::1]/a@1"),
            ("me@h no URL", "me@h no URL"),
            ("://", "://"),
            ("", ""),
        ] {
            assert_eq!(without_passwords(text), shown);
            assert_eq!(without_passwords(shown), shown, "it is hidden already");
        }
    }

    #[test]
    fn of_a_secret_address_only_the_host_is_shown() {
        for (address, shown) in [
            ("https://hooks.example/services/T0/secret", "https://hooks.example/****"),
            ("https://h:8443/?token=secret", "https://h:8443/****"),
            ("https://h?secret", "https://h/****"),
            ("https://h#secret", "https://h/****"),
            ("https://me:se/cret@h/secret", "https://h/****"),
            ("https://secret@h", "https://h/****"),
            ("http://[::1]:9/secret", "http://[::1]:9/****"),
            ("https://h", "https://h"),
            ("https://h/", "https://h/"),
            ("secret", "****"),
            ("", ""),
        ] {
            assert_eq!(address_without_secrets(address), shown);
            assert_eq!(address_without_secrets(shown), shown, "it is hidden already");
        }
    }
}
