//! The three files that point a Gentoo box at this mirror. Pure; the port's `/client/…` and
//! `rookery client-config` print the same text.

use std::fmt::Write as _;

/// The rsync daemon's port, left out of URIs.
pub const RSYNC_PORT: u16 = 873;

/// What a box has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientConfig {
    /// The mirror's host name or address, as boxes reach it; an IPv6 address without brackets.
    pub host: String,
    /// The port of the HTTP side.
    pub port: u16,
    /// Whether that port speaks TLS.
    pub is_tls: bool,
    /// The port of the rsync side.
    pub rsync_port: u16,
    /// The rsync module of the main tree.
    pub module: String,
}

impl ClientConfig {
    /// For `/etc/portage/make.conf`.
    #[must_use]
    pub fn make_conf(&self) -> String {
        format!(
            "# /etc/portage/make.conf: distfiles come from the mirror.\nGENTOO_MIRRORS=\"{}\"\n",
            self.mirror_url()
        )
    }

    /// For `/etc/portage/mirrors`: also files that RESTRICT keeps from `GENTOO_MIRRORS` come from the mirror.
    #[must_use]
    pub fn mirrors(&self) -> String {
        format!(
            "# /etc/portage/mirrors: so do files with RESTRICT=\"mirror\".\nlocal {}\n",
            self.mirror_url()
        )
    }

    /// For `/etc/portage/repos.conf/gentoo.conf`.
    #[must_use]
    pub fn repos_conf(&self) -> String {
        format!(
            "# /etc/portage/repos.conf/gentoo.conf: the tree comes from the mirror, and its signature is\n\
             # still checked here (a tree that has none needs sync-rsync-verify-metamanifest = no).\n\
             [DEFAULT]\nmain-repo = gentoo\n\n\
             [gentoo]\nlocation = /var/db/repos/gentoo\nsync-type = rsync\nsync-uri = {}\nauto-sync = yes\n\
             sync-rsync-verify-metamanifest = yes\n\
             sync-openpgp-key-path = /usr/share/openpgp-keys/gentoo-release.asc\n",
            self.sync_uri()
        )
    }

    /// What `GENTOO_MIRRORS` is set to.
    #[must_use]
    pub fn mirror_url(&self) -> String {
        format!("{}://{}:{}", scheme(self.is_tls), self.bracketed_host(), self.port)
    }

    /// What `sync-uri` is set to.
    #[must_use]
    pub fn sync_uri(&self) -> String {
        let mut uri = format!("rsync://{}", self.bracketed_host());
        if self.rsync_port != RSYNC_PORT {
            // Writing to a String can't fail.
            let _ = write!(uri, ":{}", self.rsync_port);
        }
        format!("{uri}/{}", self.module)
    }

    fn bracketed_host(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

/// Of the HTTP side's URLs.
pub(crate) fn scheme(is_tls: bool) -> &'static str {
    if is_tls { "https" } else { "http" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(host: &str, rsync_port: u16) -> ClientConfig {
        ClientConfig {
            host: host.to_owned(),
            port: 8080,
            is_tls: false,
            rsync_port,
            module: "gentoo-portage".to_owned(),
        }
    }

    #[test]
    fn all_three_name_the_host() {
        let config = config("ws1", RSYNC_PORT);
        assert!(config.make_conf().contains("\nGENTOO_MIRRORS=\"http://ws1:8080\"\n"));
        assert!(config.mirrors().contains("\nlocal http://ws1:8080\n"));
        assert!(config.repos_conf().contains("\nsync-uri = rsync://ws1/gentoo-portage\n"));
    }

    #[test]
    fn other_ports_and_ipv6_are_written_as_uris_want_them() {
        assert_eq!(config("127.0.0.1", 8730).sync_uri(), "rsync://127.0.0.1:8730/gentoo-portage");
        assert_eq!(config("::1", 8730).sync_uri(), "rsync://[::1]:8730/gentoo-portage");
        assert_eq!(config("::1", 8730).mirror_url(), "http://[::1]:8080");
        let tls = ClientConfig { port: 8443, is_tls: true, ..config("ws1", RSYNC_PORT) };
        assert_eq!(tls.mirror_url(), "https://ws1:8443");
    }
}
