//! Which addresses an upstream may have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use service_kit::config::Networks;

/// Public addresses, and those that the operator listed.
#[derive(Debug, Clone, Default)]
pub(crate) struct AddressPolicy {
    allow_private: Networks,
}

impl AddressPolicy {
    pub(crate) fn new(allow_private: Networks) -> Self {
        Self { allow_private }
    }

    /// Whether a connection to `address` may be made.
    pub(crate) fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.allow_private.contains(address)
    }
}

/// False for everything that is special in the IANA registries (RFC 6890 and its successors), also
/// when it is wrapped into an IPv6 address.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = a == 0
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && matches!(b, 18 | 19))
        || a >= 224;
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let groups = address.segments();
    let wrapped = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match groups {
        // 6to4
        [0x2002, high, low, ..] |
        // NAT64
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => wrapped(high, low),
        // Documentation, benchmarking, ORCHID, Teredo: 2001::/23 and two more.
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        // Everything public is in 2000::/3 today.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_refused_in_every_disguise() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
        ] {
            assert!(!AddressPolicy::default().permits(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn public_addresses_are_permitted() {
        for address in [
            "1.1.1.1",
            "89.16.167.134",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.255.255",
            "223.255.255.255",
            "2001:470:ea4a::1",
            "2a00::1",
            "2002:0101:0101::1",
            "64:ff9b::101:101",
            "::ffff:1.1.1.1",
        ] {
            assert!(AddressPolicy::default().permits(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn listed_networks_are_permitted() {
        let policy = AddressPolicy::new(Networks::parse(["10.13.18.0/24"]).unwrap());
        assert!(policy.permits("10.13.18.7".parse().unwrap()));
        assert!(policy.permits("::ffff:10.13.18.7".parse().unwrap()));
        assert!(!policy.permits("10.13.19.7".parse().unwrap()));
        assert!(!policy.permits("127.0.0.1".parse().unwrap()));
    }
}
