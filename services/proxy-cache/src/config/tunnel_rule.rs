//! Which hosts and ports tunnels may lead to: `HOST:PORT`, `*.DOMAIN:PORT`.

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

/// One entry of `proxy.tunnels.allow`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TunnelRule {
    /// In lower case; with a dot at its begin it is what names end with.
    host: String,
    port: u16,
}

impl TunnelRule {
    /// Whether a tunnel to `host` and `port` may be made. A pattern never permits an address.
    #[must_use]
    pub fn permits(&self, host: &str, port: u16) -> bool {
        if port != self.port {
            return false;
        }
        let host = normal(host);
        if self.host.starts_with('.') {
            host.len() > self.host.len() && host.ends_with(&self.host)
        } else {
            host == self.host
        }
    }
}

impl TryFrom<String> for TunnelRule {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let expected = || format!(r#"expected "HOST:PORT" or "*.DOMAIN:PORT", found "{text}""#);
        let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
        let port = port.parse::<u16>().ok().filter(|&port| port > 0).ok_or_else(expected)?;
        let host = normal(host);
        let domain = host.strip_prefix("*.");
        let name = domain.unwrap_or(&host);
        let is_bracketed = in_brackets(&host).is_some();
        // Names don't end with a number: that is how addresses end.
        if domain.is_some_and(ends_with_number) {
            return Err(expected());
        }
        let is_name = !name.is_empty()
            && name.split('.').all(|label| !label.is_empty())
            && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_'));
        if !is_bracketed && !is_name {
            return Err(expected());
        }
        let host = host.strip_prefix('*').map_or_else(|| host.clone(), str::to_owned);
        Ok(Self { host, port })
    }
}

/// One spelling of each host.
fn normal(host: &str) -> String {
    match in_brackets(host) {
        Some(address) => format!("[{address}]"),
        None => host.trim_end_matches('.').to_ascii_lowercase(),
    }
}

fn in_brackets(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

fn ends_with_number(domain: &str) -> bool {
    let last = domain.rsplit('.').next().unwrap_or(domain);
    let hexadecimal = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|o| o.is_ascii_hexdigit()));
    hexadecimal || last.bytes().all(|octet| octet.is_ascii_digit())
}

impl From<TunnelRule> for String {
    fn from(rule: TunnelRule) -> Self {
        let star = if rule.host.starts_with('.') { "*" } else { "" };
        format!("{star}{}:{}", rule.host, rule.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> TunnelRule {
        TunnelRule::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn a_rule_is_a_host_or_what_its_name_ends_with_and_one_port() {
        assert!(rule("github.com:443").permits("GitHub.com", 443));
        assert!(rule("github.com:443").permits("github.com.", 443));
        assert!(!rule("github.com:443").permits("github.com", 22));
        assert!(!rule("github.com:443").permits("evil-github.com", 443));
        assert!(!rule("github.com:443").permits("github.com.evil.example", 443));
        assert!(rule("*.gentoo.org:443").permits("gitweb.gentoo.org", 443));
        assert!(!rule("*.gentoo.org:443").permits("gentoo.org", 443));
        assert!(!rule("*.gentoo.org:443").permits("evilgentoo.org", 443));
        assert!(rule("[2001:db8::1]:443").permits("[2001:db8::1]", 443));
        assert!(rule("[2001:DB8:0::1]:443").permits("[2001:db8::0001]", 443));
    }

    #[test]
    fn a_rule_keeps_its_form_and_nonsense_is_refused() {
        for text in ["github.com:443", "*.gentoo.org:443", "10.1.2.3:8443"] {
            assert_eq!(String::from(rule(text)), text);
        }
        for wrong in [
            "",
            "github.com",
            "github.com:0",
            "github.com:70000",
            ":443",
            "*:443",
            "*.:443",
            "a b:443",
            "a..b:1",
            "[no address]:443",
            "[10.0.0.1]:443",
            "*.[2001:db8::1]:443",
            "*.0.0.1:443",
            "*.0x7f:443",
        ] {
            assert!(TunnelRule::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
