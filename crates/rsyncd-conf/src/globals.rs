//! What concerns the daemon as a whole.

use std::net::IpAddr;

use crate::hosts::{self, HostPattern};
use crate::section::Reader;
use crate::value;

/// The global parameters. What a module may override is in each [`crate::Module`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Globals {
    /// Where to listen.
    pub address: Option<IpAddr>,
    /// The port to listen on.
    pub port: Option<u16>,
    /// The message of the day.
    pub motd_file: Option<String>,
    /// Each connection starts with a header that says where it comes from.
    pub proxy_protocol: bool,
    /// Who may send that header.
    pub proxy_protocol_hosts: Vec<HostPattern>,
    /// `max connections` where no module has begun yet.
    pub max_connections: Option<i32>,
    /// Where transfers are logged before a module is known.
    pub log_file: Option<String>,
}

impl Globals {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        let globals = Self {
            address: reader.read("address", |text| {
                text.parse().map_err(|_| format!("expected an address such as 10.13.18.101, found `{text}`"))
            }),
            port: reader.read("port", |text| value::number(text, "a port from 0 to 65535")),
            motd_file: reader.path("motd file"),
            proxy_protocol: reader.boolean("proxy protocol").unwrap_or(false),
            proxy_protocol_hosts: reader.read("proxy protocol hosts", hosts::parse_list).unwrap_or_default(),
            max_connections: reader.read("max connections", |text| value::number(text, "a whole number")),
            log_file: reader.path("log file"),
        };
        if globals.proxy_protocol && globals.proxy_protocol_hosts.is_empty() {
            let what = "proxy protocol: expected `proxy protocol hosts` with the proxies' addresses: a header is \
                        believed only from them";
            reader.fault("proxy protocol", what.to_owned());
        }
        let by_name =
            |pattern: &&HostPattern| matches!(pattern, HostPattern::Name(_) | HostPattern::WildName(_));
        if let Some(pattern) = globals.proxy_protocol_hosts.iter().find(by_name) {
            let what =
                format!("proxy protocol hosts: expected addresses and networks, found the name `{pattern}`");
            reader.fault("proxy protocol hosts", what);
        }
        globals
    }
}
