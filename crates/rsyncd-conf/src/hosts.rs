//! `hosts allow` and `hosts deny`: patterns, and the decision over both lists.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rsync_wire::filter::{Glob, MatchBudget, is_wild};

/// One pattern of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// `*`: everybody.
    Everybody,
    /// Addresses that agree where the mask has ones.
    Network {
        /// What is compared with, masked already.
        address: IpAddr,
        /// As wide as the address. Not always a run of ones.
        mask: IpAddr,
    },
    /// A name as it is, by its addresses and by the host's own name.
    Name(String),
    /// A name with wildcards, by the host's own name.
    WildName(String),
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Everybody);
        }
        if text.starts_with('@') {
            return Err(format!("netgroups are not supported: `{text}`"));
        }
        if text.contains('%') {
            return Err(format!("scopes of link-local addresses are not supported: `{text}`"));
        }
        if let Some((address, mask)) = text.split_once('/') {
            return network(address, mask).ok_or_else(|| format!("expected ADDRESS/MASK, found `{text}`"));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(single(address));
        }
        let octets_only = text.bytes().all(|c| c.is_ascii_digit() || b".*?[]-".contains(&c));
        if octets_only {
            return Err(format!(
                "`{text}` would be compared with names only: expected an address, ADDRESS/MASK or a name"
            ));
        }
        let name_like = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if text.chars().all(name_like) {
            return Ok(Self::Name(text.to_ascii_lowercase()));
        }
        if text.chars().all(|c| name_like(c) || "*?[]!^".contains(c)) && is_wild(text.as_bytes()) {
            return Ok(Self::WildName(text.to_ascii_lowercase()));
        }
        Err(format!("expected an address, ADDRESS/MASK, a name or `*`, found `{text}`"))
    }
}

fn single(address: IpAddr) -> HostPattern {
    let mask = match address {
        IpAddr::V4(_) => IpAddr::from([0xFF; 4]),
        IpAddr::V6(_) => IpAddr::from([0xFF; 16]),
    };
    HostPattern::Network { address, mask }
}

fn network(address: &str, mask: &str) -> Option<HostPattern> {
    let address: IpAddr = address.parse().ok()?;
    let width: u32 = if address.is_ipv4() { 32 } else { 128 };
    let mask = match mask.parse::<u32>() {
        Ok(ones) if ones <= width => {
            let ones = u128::MAX.checked_shl(128 - ones).unwrap_or(0).to_be_bytes();
            match address {
                IpAddr::V4(_) => IpAddr::from([ones[0], ones[1], ones[2], ones[3]]),
                IpAddr::V6(_) => IpAddr::from(ones),
            }
        }
        Ok(_) => return None,
        Err(_) => mask.parse().ok()?,
    };
    let address = masked(address, mask)?;
    Some(HostPattern::Network { address, mask })
}

/// `None` if one of them is of IPv4 and the other one of IPv6.
fn masked(address: IpAddr, mask: IpAddr) -> Option<IpAddr> {
    match (address, mask) {
        (IpAddr::V4(address), IpAddr::V4(mask)) => Some((address & mask).into()),
        (IpAddr::V6(address), IpAddr::V6(mask)) => Some((address & mask).into()),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ones = |octets: &[u8]| {
            let ones: u32 = octets.iter().map(|octet| octet.count_ones()).sum();
            let leading = octets.iter().take_while(|&&octet| octet == 0xFF).count();
            let run =
                u32::try_from(leading * 8).unwrap_or(0) + octets.get(leading).map_or(0, |o| o.leading_ones());
            (ones == run).then_some(ones)
        };
        match self {
            Self::Everybody => f.write_str("*"),
            Self::Name(name) | Self::WildName(name) => f.write_str(name),
            Self::Network { address, mask } => {
                let (run, width) = match mask {
                    IpAddr::V4(mask) => (ones(&mask.octets()), 32),
                    IpAddr::V6(mask) => (ones(&mask.octets()), 128),
                };
                match run {
                    Some(run) if run == width => write!(f, "{address}"),
                    Some(run) => write!(f, "{address}/{run}"),
                    None => write!(f, "{address}/{mask}"),
                }
            }
        }
    }
}

/// What is known about a host beside its address.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Its own name, if that was looked up, found and confirmed.
    pub host: Option<String>,
    /// Addresses of the names in the patterns; `None` for one that could not be looked up.
    pub addresses: Vec<(String, Option<Vec<IpAddr>>)>,
}

/// Whether a pattern applies to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    Yes,
    No,
    /// It depends on a name that is not known.
    Unknown,
}

/// Both lists of a module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostAccess {
    /// Hosts that may; if there are none, all may that are not denied.
    pub allow: Vec<HostPattern>,
    /// Hosts that may not, unless allowed.
    pub deny: Vec<HostPattern>,
}

impl HostAccess {
    /// As rsync decides: a match in `allow` lets in; then, without `deny`, an `allow` list shuts all others out; a
    /// match in `deny` shuts out; all others are let in. A name that is not known lets nobody in: it
    /// does not match in `allow`, and matches in `deny`.
    #[must_use]
    pub fn permits(&self, host: IpAddr, names: &Names) -> bool {
        let host = host.to_canonical();
        if self.allow.iter().any(|pattern| pattern.matches(host, names) == Match::Yes) {
            return true;
        }
        let shut = !self.allow.is_empty() && self.deny.is_empty();
        !shut && self.deny.iter().all(|pattern| pattern.matches(host, names) == Match::No)
    }

    /// Whether names could change the decision about a host: if not, none need to be looked up.
    #[must_use]
    pub fn depends_on_names(&self, host: IpAddr) -> bool {
        let host = host.to_canonical();
        let nothing = Names::default();
        let by_address = self.allow.iter().any(|pattern| pattern.matches(host, &nothing) == Match::Yes);
        !by_address && self.patterns().any(|pattern| pattern.name().is_some())
    }

    /// Names that have to be looked up for their addresses.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.patterns().filter_map(|pattern| match pattern {
            HostPattern::Name(name) => Some(name.as_str()),
            HostPattern::Everybody | HostPattern::Network { .. } | HostPattern::WildName(_) => None,
        })
    }

    fn patterns(&self) -> impl Iterator<Item = &HostPattern> {
        self.allow.iter().chain(&self.deny)
    }
}

impl HostPattern {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) | Self::WildName(name) => Some(name),
            Self::Everybody | Self::Network { .. } => None,
        }
    }

    /// Whether it can only be decided by the host's own name.
    #[must_use]
    pub fn needs_host_name(&self) -> bool {
        matches!(self, Self::WildName(_))
    }

    /// Whether it holds an address, without knowing any names.
    #[must_use]
    pub fn holds(&self, host: IpAddr) -> bool {
        self.matches(host.to_canonical(), &Names::default()) == Match::Yes
    }

    fn matches(&self, host: IpAddr, names: &Names) -> Match {
        let of = |yes| if yes { Match::Yes } else { Match::No };
        match self {
            Self::Everybody => Match::Yes,
            Self::Network { address, mask } => of(masked(host, *mask) == Some(*address)),
            Self::WildName(pattern) => names.host.as_deref().map_or(Match::Unknown, |name| {
                let glob = Glob::new(pattern.as_bytes());
                let name = name.to_ascii_lowercase();
                // A match that is too much work is not known.
                glob.matches(name.as_bytes(), &mut MatchBudget::default()).map_or(Match::Unknown, of)
            }),
            Self::Name(name) => {
                if names.host.as_ref().is_some_and(|host| host.eq_ignore_ascii_case(name)) {
                    return Match::Yes;
                }
                let known = names.addresses.iter().find(|(known, _)| known == name);
                match known.and_then(|(_, addresses)| addresses.as_ref()) {
                    Some(addresses) => of(addresses.iter().any(|address| address.to_canonical() == host)),
                    None => Match::Unknown,
                }
            }
        }
    }
}

/// Reads a list.
///
/// # Errors
/// The pattern that can't be read.
pub fn parse_list(text: &str) -> Result<Vec<HostPattern>, String> {
    crate::value::words(text).into_iter().map(str::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<HostPattern> {
        parse_list(text).unwrap()
    }

    fn permits(allow: &str, deny: &str, host: &str) -> bool {
        let access = HostAccess { allow: list(allow), deny: list(deny) };
        access.permits(host.parse().unwrap(), &Names::default())
    }

    #[test]
    fn addresses_are_matched_as_rsync_does() {
        for (allow, deny, host, expected) in [
            ("", "", "192.0.2.1", true),
            ("10.13.18.0/24", "", "10.13.18.7", true),
            ("10.13.18.0/24", "", "10.13.19.7", false),
            ("10.13.18.0/24", "", "::ffff:10.13.18.7", true),
            ("", "10.13.18.0/24", "10.13.18.7", false),
            ("", "10.13.18.0/24", "10.13.19.7", true),
            ("10.13.18.0/24", "*", "10.13.18.7", true),
            ("10.13.18.0/24", "*", "10.13.19.7", false),
            ("10.13.18.0/24", "*", "2001:db8::1", false),
            ("10.13.18.0/24", "192.0.2.0/24", "198.51.100.1", true),
            ("127.0.0.0/255.0.0.0", "", "127.9.9.9", true),
            ("10.0.0.1/255.0.0.255", "", "10.7.7.1", true),
            ("10.0.0.1/255.0.0.255", "", "10.7.7.2", false),
            ("0.0.0.0/0", "", "10.7.7.2", true),
            ("0.0.0.0/0", "", "::1", false),
            ("2001:db8::/32", "", "2001:db8::1", true),
            ("2001:db8::1/ffff:ffff::", "", "2001:db8:9::7", true),
            ("10.1.1.1, 10.1.1.2\t10.1.1.3", "", "10.1.1.3", true),
        ] {
            assert_eq!(permits(allow, deny, host), expected, "{allow:?} {deny:?} {host}");
        }
    }

    #[test]
    fn a_name_that_is_not_known_lets_nobody_in() {
        let host = "10.1.1.1".parse().unwrap();
        let named = |name: &str| Names { host: Some(name.to_owned()), addresses: Vec::new() };
        let found = |addresses: Option<Vec<IpAddr>>| Names {
            host: None,
            addresses: vec![("ws1".to_owned(), addresses)],
        };
        let allow = |text| HostAccess { allow: list(text), deny: Vec::new() };
        let deny = |text| HostAccess { allow: Vec::new(), deny: list(text) };
        for (access, names, expected) in [
            (allow("ws1"), Names::default(), false),
            (deny("ws1"), Names::default(), false),
            (allow("ws1"), found(None), false),
            (deny("ws1"), found(None), false),
            (allow("ws1"), found(Some(vec![host])), true),
            (deny("ws1"), found(Some(vec![host])), false),
            (deny("ws1"), found(Some(Vec::new())), true),
            (allow("WS1"), named("ws1"), true),
            (allow("*.lan"), Names::default(), false),
            (deny("*.lan"), Names::default(), false),
            (allow("*.lan"), named("WS1.LAN"), true),
            (deny("*.lan"), named("ws1.wan"), true),
        ] {
            assert_eq!(access.permits(host, &names), expected, "{access:?} {names:?}");
        }
        assert!(allow("*.lan").depends_on_names(host));
        assert!(!allow("10.1.1.1 *.lan").depends_on_names(host));
    }

    #[test]
    fn what_could_be_misread_is_refused() {
        for text in ["10.0.0.0/33", "10.13.18.*", "@net", "fe80::1%eth0", "10.0.0.0/ffff::", "a b/", "x(y"] {
            assert!(parse_list(text).is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_are_written_as_they_are_read() {
        for text in [
            "*",
            "10.13.18.0/24",
            "10.0.0.1/255.0.0.255",
            "ws1",
            "*.lan",
            "2001:db8::/32",
            "::1",
            "0.0.0.0/0",
        ] {
            assert_eq!(text.parse::<HostPattern>().unwrap().to_string(), text);
        }
    }
}
