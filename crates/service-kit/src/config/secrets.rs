//! Passwords in URLs, which nothing that is printed may hold.

/// What stands where a password was.
const HIDDEN: &str = "****";

/// `text` with `****` in place of each password of a URL (`scheme://USER:PASSWORD@HOST`). A user of an `http` or
/// `https` URL who has none is a token, and hidden too.
#[must_use]
pub fn without_passwords(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (scheme, url) = (&rest[..at], &rest[at + 3..]);
        shown.push_str(&rest[..at + 3]);
        rest = match userinfo(url) {
            Some(userinfo) => {
                shown.push_str(&hidden(userinfo, scheme.ends_with("http") || scheme.ends_with("https")));
                &url[userinfo.len()..]
            }
            None => url,
        };
    }
    shown + rest
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
            ("http://a:secret@b/?to=http://c:secret@d", "http://a:****@b/?to=http://c:****@d"),
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
}
