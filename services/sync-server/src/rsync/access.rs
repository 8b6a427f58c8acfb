//! Who may use a module: `hosts allow` and `hosts deny`, by address only. Names would have to be looked up,
//! and a lookup that fails must not open a module.

use ipnet::IpNet;
use std::net::IpAddr;

/// The two lists of a module.
#[derive(Debug, Clone, Default)]
pub struct HostAccess {
    /// Hosts that may; if there are none, all may that are not denied.
    pub allow: Vec<IpNet>,
    /// Hosts that may not, unless allowed.
    pub deny: Vec<IpNet>,
}

impl HostAccess {
    /// As rsync decides: a match in `allow` lets in; then, without `deny`, an `allow` list shuts all others out; a
    /// match in `deny` shuts out; all others are let in.
    #[must_use]
    pub fn permits(&self, host: IpAddr) -> bool {
        let host = host.to_canonical();
        let holds = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&host));
        if holds(&self.allow) {
            return true;
        }
        let shut = !self.allow.is_empty() && self.deny.is_empty();
        !shut && !holds(&self.deny)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(allow: &[&str], deny: &[&str], host: &str) -> bool {
        let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect();
        HostAccess { allow: nets(allow), deny: nets(deny) }.permits(host.parse().unwrap())
    }

    #[test]
    fn hosts_are_matched_as_rsync_does() {
        let lan = "10.13.18.0/24";
        let all = ["0.0.0.0/0", "::/0"];
        for (allow, deny, host, expected) in [
            (&[][..], &[][..], "192.0.2.1", true),
            (&[lan][..], &[][..], "10.13.18.7", true),
            (&[lan], &[], "10.13.19.7", false),
            (&[lan], &[], "::ffff:10.13.18.7", true),
            (&[], &[lan], "10.13.18.7", false),
            (&[], &[lan], "10.13.19.7", true),
            (&[lan], &all, "10.13.18.7", true),
            (&[lan], &all, "10.13.19.7", false),
            (&[lan], &all, "2001:db8::1", false),
            (&[lan], &["192.0.2.0/24"], "198.51.100.1", true),
            (&["2001:db8::/32"], &[], "2001:db8::1", true),
        ] {
            assert_eq!(permits(allow, deny, host), expected, "{allow:?} {deny:?} {host}");
        }
    }
}
