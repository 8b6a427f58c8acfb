//! `--ip 10.13.18.*`: addresses with wildcards, as networks.

use std::net::Ipv4Addr;

use super::Fault;

/// Networks that one pattern may become.
const NETWORKS_MAX: usize = 4096;

/// A network in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Network {
    address: u32,
    prefix_bits: u32,
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from_bits(self.address), self.prefix_bits)
    }
}

/// The networks that exactly the addresses of all patterns are in, none twice.
pub(super) fn networks(patterns: &[String]) -> Result<Vec<Network>, Fault> {
    let mut networks = Vec::new();
    for pattern in patterns {
        networks.extend(of_pattern(pattern)?);
    }
    Ok(merged(networks))
}

fn of_pattern(pattern: &str) -> Result<Vec<Network>, Fault> {
    let fault = |what: &str| Fault::Option { option: format!("--ip {pattern}"), what: what.to_owned() };
    let mut octets: Vec<&str> = pattern.split('.').collect();
    // A star at the end stands for the rest, dots and all.
    while octets.len() < 4 && octets.last() == Some(&"*") {
        octets.push("*");
    }
    if octets.len() != 4 {
        return Err(fault("an IPv4 address with * and ? is expected"));
    }
    while octets.last() == Some(&"*") {
        octets.pop();
    }
    let mut starts = vec![0_u32];
    for octet in &octets {
        let values: Vec<u32> = (0..=255).filter(|value| matches(octet, &value.to_string())).collect();
        if values.is_empty() {
            return Err(fault("an IPv4 address with * and ? is expected"));
        }
        if starts.len() * values.len() > NETWORKS_MAX {
            return Err(fault("too many networks: write allow_clients by hand"));
        }
        starts = starts.iter().flat_map(|start| values.iter().map(move |value| start << 8 | value)).collect();
    }
    let prefix_bits = 8 * u32::try_from(octets.len()).unwrap_or(4);
    let networks = starts
        .into_iter()
        .map(|start| Network { address: start.checked_shl(32 - prefix_bits).unwrap_or(0), prefix_bits });
    Ok(networks.collect())
}

/// `*` is any number of digits, `?` is one.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => (0..=text.len()).any(|at| matches(&pattern[1..], &text[at..])),
        Some('?') => !text.is_empty() && matches(&pattern[1..], &text[1..]),
        Some(c) => text.starts_with(c) && matches(&pattern[c.len_utf8()..], &text[1..]),
    }
}

/// Joins halves to wholes, and drops what is in another one.
fn merged(mut networks: Vec<Network>) -> Vec<Network> {
    loop {
        networks.sort_unstable();
        let before = networks.len();
        let mut merged: Vec<Network> = Vec::with_capacity(before);
        for network in networks {
            match merged.last_mut() {
                Some(last) if contains(*last, network) => {}
                Some(last) if is_other_half(*last, network) => last.prefix_bits -= 1,
                _ => merged.push(network),
            }
        }
        if merged.len() == before {
            return merged;
        }
        networks = merged;
    }
}

fn mask(prefix_bits: u32) -> u32 {
    u32::MAX.checked_shl(32 - prefix_bits).unwrap_or(0)
}

fn contains(outer: Network, inner: Network) -> bool {
    outer.prefix_bits <= inner.prefix_bits && inner.address & mask(outer.prefix_bits) == outer.address
}

/// `high` follows `low`, and both make one network of twice the size.
fn is_other_half(low: Network, high: Network) -> bool {
    low.prefix_bits == high.prefix_bits
        && low.prefix_bits > 0
        && low.address & !mask(low.prefix_bits - 1) == 0
        && high.address == low.address | 1 << (32 - low.prefix_bits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(patterns: &[&str]) -> Vec<String> {
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        networks(&patterns).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn wildcards_become_networks() {
        assert_eq!(of(&["10.13.18.*"]), ["10.13.18.0/24"]);
        assert_eq!(of(&["10.*"]), ["10.0.0.0/8"]);
        assert_eq!(of(&["*"]), ["0.0.0.0/0"]);
        assert_eq!(of(&["*.*.*.*"]), ["0.0.0.0/0"]);
        assert_eq!(of(&["10.0.0.1"]), ["10.0.0.1/32"]);
        assert_eq!(of(&["10.0.0.?"]), ["10.0.0.0/29", "10.0.0.8/31"]);
        assert_eq!(of(&["10.13.18.5", "10.13.18.*", "10.13.19.*"]), ["10.13.18.0/23"]);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for wrong in ["", "10.13", "10.13.18.256", "host", "10.13.18.*.*", "::1", "*.*.*.1", "10..0.1"] {
            assert!(networks(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn an_address_is_in_if_and_only_if_it_matches(
            patterns in prop::collection::vec("10\\.[01]\\.(\\*|1\\?|[0-9])\\.(\\*|2[0-9]|1\\*|\\?)", 1..4),
            address in (0..2_u8, 0..20_u8, 0..40_u8),
        ) {
            let text = format!("10.{}.{}.{}", address.0, address.1, address.2);
            let octets: Vec<&str> = text.split('.').collect();
            let is_match = |pattern: &String| {
                pattern.split('.').zip(&octets).all(|(pattern, octet)| matches(pattern, octet))
            };
            let address: Ipv4Addr = text.parse().unwrap();
            let single = Network { address: address.to_bits(), prefix_bits: 32 };
            // Some are too many networks.
            let Ok(networks) = networks(&patterns) else { return Ok(()) };
            let is_in = networks.iter().any(|network| contains(*network, single));
            prop_assert_eq!(is_in, patterns.iter().any(is_match));
        }
    }
}
