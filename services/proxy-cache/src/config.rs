//! The `[proxy]` section.

mod tunnel_rule;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use service_kit::config::{ByteSize, ConfigError, HumanDuration, Networks, without_passwords};

pub use tunnel_rule::TunnelRule;

/// What an operator may say about one replica. Every key has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The one HTTP port: mirror, forward proxy, client configuration, health.
    pub listen: SocketAddr,
    /// Where the slots `r0`, `r1`, … of the replicas are.
    pub cache_dir: PathBuf,
    /// What blobs and parts may take; beyond it, files pass through unstored.
    pub capacity: ByteSize,
    /// How many bytes a second are read to find damage; 0 for no limit.
    pub scrub_rate: ByteSize,
    /// Gentoo mirrors, asked in this order before a distfile's own sources. The operator named them, so
    /// they may be in private networks.
    pub mirrors: Vec<MirrorUrl>,
    /// Who may ask anything but `/healthz` and `/readyz`.
    pub allow_clients: Networks,
    /// Networks that sources may resolve into although they are private.
    pub allow_private_upstreams: Networks,
    /// Directories whose distfiles are adopted.
    pub import_dirs: Vec<ImportDir>,
    /// Who has to begin each connection with a PROXY protocol header, version 1 or 2, that says whom it is
    /// for: load balancers. From anybody else such a header is refused.
    pub proxy_protocol_from: Networks,
    /// Where other replicas reach this one.
    pub advertise: Advertise,
    /// The rsync port of the mirror host, for `/client/repos.conf`.
    pub rsync_port: u16,
    /// A PEM file with one more authority for `https` upstreams; empty: only the system's.
    pub upstream_ca: PathBuf,
    /// Through which everything outside the farm is asked; empty: nothing.
    pub upstream_proxy: UpstreamProxy,
    /// Hosts and networks that are asked directly all the same, as `NO_PROXY` lists them.
    pub upstream_proxy_except: Vec<String>,
    /// How many bytes a second come from outside the farm, all together; 0 for no limit.
    pub bandwidth: ByteSize,
    /// After so long without an answer the next source is asked, too, and the first that answers is taken; 0:
    /// never. It costs a second request.
    pub hedge_after: HumanDuration,
    /// Directories served as they are, http-replicator's `--alias`.
    pub aliases: Vec<Alias>,
    /// Where the index is.
    pub maintenance: MaintenanceConfig,
    /// When an upstream or a client is given up.
    pub timeouts: Timeouts,
    /// What clients may take of us.
    pub limits: Limits,
    /// What is kept of that which no tree lists.
    pub uncatalogued: Uncatalogued,
    /// Where CONNECT may lead to.
    pub tunnels: Tunnels,
    /// A second port, for clients that want TLS.
    pub tls: Option<TlsConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080),
            cache_dir: PathBuf::from("/var/cache/rookery"),
            capacity: ByteSize(50 << 30),
            scrub_rate: ByteSize(64 << 20),
            mirrors: vec![MirrorUrl("https://distfiles.gentoo.org".to_owned())],
            allow_clients: private_networks(),
            allow_private_upstreams: Networks::default(),
            proxy_protocol_from: Networks::default(),
            import_dirs: Vec::new(),
            advertise: Advertise::Address,
            rsync_port: crate::client_config::RSYNC_PORT,
            upstream_ca: PathBuf::new(),
            upstream_proxy: UpstreamProxy::default(),
            upstream_proxy_except: Vec::new(),
            bandwidth: ByteSize(0),
            hedge_after: HumanDuration(Duration::ZERO),
            aliases: Vec::new(),
            maintenance: MaintenanceConfig::default(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            uncatalogued: Uncatalogued::default(),
            tunnels: Tunnels::default(),
            tls: None,
        }
    }
}

/// Loopback and the networks that are never routed on the Internet.
fn private_networks() -> Networks {
    ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7"]
        .iter()
        .filter_map(|network| network.parse().ok())
        .collect()
}

/// `http://…` or `https://…`, without a slash at its end; `distfiles/XX/NAME` is below it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MirrorUrl(String);

impl MirrorUrl {
    /// The URL, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for MirrorUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let url = url::Url::parse(&text)
            .map_err(|error| format!("expected an http:// or https:// URL ({error})"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err("expected an http:// or https:// URL".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("expected a URL without ? and #".to_owned());
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }
}

impl From<MirrorUrl> for String {
    fn from(url: MirrorUrl) -> Self {
        url.0
    }
}

impl fmt::Debug for MirrorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MirrorUrl({})", without_passwords(&self.0))
    }
}

/// `http://HOST:PORT` or `socks5://HOST:PORT`, with `USER:PASSWORD@` if it wants them; empty for none. Names are
/// resolved there, not here.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UpstreamProxy(Option<url::Url>);

impl UpstreamProxy {
    pub(crate) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn proxy(&self, except: &[String]) -> anyhow::Result<Option<reqwest::Proxy>> {
        let Some(url) = &self.0 else { return Ok(None) };
        let text = url.as_str();
        // With the plain scheme names would be resolved here, past the rules for addresses.
        let text = text
            .strip_prefix("socks5://")
            .map_or_else(|| text.to_owned(), |rest| format!("socks5h://{rest}"));
        let except = reqwest::NoProxy::from_string(&except.join(","));
        Ok(Some(reqwest::Proxy::all(text)?.no_proxy(except)))
    }
}

impl TryFrom<String> for UpstreamProxy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let expected = "expected http://HOST:PORT, socks5://HOST:PORT or nothing";
        let url = url::Url::parse(&text).map_err(|error| format!("{expected} ({error})"))?;
        let is_usable = matches!(url.scheme(), "http" | "socks5" | "socks5h")
            && url.has_host()
            && matches!(url.path(), "" | "/")
            && url.query().is_none();
        if is_usable { Ok(Self(Some(url))) } else { Err(expected.to_owned()) }
    }
}

impl From<UpstreamProxy> for String {
    fn from(proxy: UpstreamProxy) -> Self {
        proxy.0.map(Self::from).unwrap_or_default()
    }
}

impl fmt::Debug for UpstreamProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.as_ref().map_or("", url::Url::as_str);
        write!(f, "UpstreamProxy({})", without_passwords(text))
    }
}

/// Where other replicas reach this one: empty (found out), `auto`, `none`, or `http://host:port`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Advertise {
    /// The address that we listen at, else the one on the way to maintenance.
    #[default]
    Address,
    /// This host's name: what a container engine's resolver knows a replica by.
    HostName,
    /// They can't.
    Never,
    /// Here.
    At(MirrorUrl),
}

impl TryFrom<String> for Advertise {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "" => Ok(Self::Address),
            "auto" => Ok(Self::HostName),
            "none" => Ok(Self::Never),
            _ => MirrorUrl::try_from(text)
                .map(Self::At)
                .map_err(|_| "expected http://HOST:PORT, \"auto\", \"none\" or nothing".to_owned()),
        }
    }
}

impl From<Advertise> for String {
    fn from(advertise: Advertise) -> Self {
        match advertise {
            Advertise::Address => Self::new(),
            Advertise::HostName => "auto".to_owned(),
            Advertise::Never => "none".to_owned(),
            Advertise::At(url) => url.into(),
        }
    }
}

/// A directory whose distfiles are adopted after they were compared with the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportDir {
    /// The directory.
    pub dir: PathBuf,
    /// What becomes of a file that was adopted.
    #[serde(default)]
    pub after: AfterImport,
    /// What is in the directories below it, too.
    #[serde(default)]
    pub recursive: bool,
}

/// What becomes of a file in an import directory once a blob with its contents is in place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AfterImport {
    /// It stays.
    #[default]
    Keep,
    /// It is removed if it equals the blob byte for byte.
    Remove,
}

/// `/PREFIX/…` answers with the files below `dir`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alias {
    /// The directory; nothing outside it is ever served.
    pub dir: PathBuf,
    /// The first part of the path, without slashes at its ends.
    pub prefix: String,
}

/// The `[proxy.maintenance]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaintenanceConfig {
    /// `http://host:port` of `CacheIndex`.
    pub endpoint: String,
}

impl Default for MaintenanceConfig {
    fn default() -> Self {
        Self { endpoint: "http://127.0.0.1:7070".to_owned() }
    }
}

/// The `[proxy.timeouts]` table. None of them bounds a whole transfer: large files on slow links are
/// legitimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// For an upstream's connection, TLS included.
    pub connect: HumanDuration,
    /// For an upstream's response head.
    pub headers: HumanDuration,
    /// For each chunk of an upstream's body.
    pub chunk: HumanDuration,
    /// For the first byte to a client, over all sources: shorter than the 60 s of Portage's wget.
    pub first_byte: HumanDuration,
    /// For a client's request head, from the end of the answer before it: how long an idle connection is
    /// kept, too.
    pub client_head: HumanDuration,
    /// How long a client may take less than `limits.client_rate` of what is ready for it.
    pub client_stall: HumanDuration,
    /// How long another cache waits for a download that it did not start and of which nothing comes: it
    /// may be waiting for itself.
    pub loop_wait: HumanDuration,
    /// How long a client gets 404 for ranges of a name whose download turned out wrong.
    pub refuse_ranges: HumanDuration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = |seconds| HumanDuration(Duration::from_secs(seconds));
        Self {
            connect: seconds(10),
            headers: seconds(30),
            chunk: seconds(30),
            first_byte: seconds(50),
            client_head: seconds(30),
            client_stall: seconds(120),
            loop_wait: seconds(10),
            refuse_ranges: seconds(60),
        }
    }
}

/// The `[proxy.limits]` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections served at the same time; more wait in the kernel's queue.
    pub connections: u32,
    /// Connections of one address; more get 503.
    pub connections_per_client: u32,
    /// Headers of one request; more get 431.
    pub request_headers: u32,
    /// Octets of a request's head.
    pub request_head: ByteSize,
    /// What a client takes at least in a second, over `timeouts.client_stall`; only while something is
    /// ready for it. There is no limit on the time of a whole transfer.
    pub client_rate: ByteSize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_client: 256,
            request_headers: 64,
            request_head: ByteSize(16 << 10),
            client_rate: ByteSize(1 << 10),
        }
    }
}

/// The `[proxy.uncatalogued]` table: what passes through and may be kept by the rules of RFC 9111.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Uncatalogued {
    /// Of `proxy.capacity`, of which it is never more than a tenth; 0: nothing is kept.
    pub capacity: ByteSize,
    /// Larger ones pass through.
    pub object_max: ByteSize,
    /// How long after it went stale a response is a better answer than none, unless it says so itself.
    pub stale_if_error: HumanDuration,
}

impl Default for Uncatalogued {
    fn default() -> Self {
        Self {
            capacity: ByteSize(1 << 30),
            object_max: ByteSize(256 << 20),
            stale_if_error: HumanDuration(Duration::from_hours(7 * 24)),
        }
    }
}

/// The `[proxy.tunnels]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tunnels {
    /// `HOST:PORT` or `*.DOMAIN:PORT`; empty: CONNECT is refused.
    pub allow: Vec<TunnelRule>,
    /// How long nothing may go either way; never 0.
    #[serde(deserialize_with = "some_time")]
    pub idle: HumanDuration,
    /// How long one may last, however much goes through; 0: as long as it likes.
    pub lifetime: HumanDuration,
    /// At the same time; more get 503.
    pub connections: u32,
}

/// A time that is not 0.
fn some_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HumanDuration, D::Error> {
    let time = HumanDuration::deserialize(deserializer)?;
    if time.0.is_zero() {
        return Err(D::Error::custom(r#"expected a time above 0 such as "2m""#));
    }
    Ok(time)
}

impl Default for Tunnels {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            idle: HumanDuration(Duration::from_mins(2)),
            lifetime: HumanDuration(Duration::from_hours(24)),
            connections: 256,
        }
    }
}

/// The `[proxy.tls]` table. Who asks there gets what `proxy.listen` gives, under the same limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Where; never the port of `proxy.listen`.
    #[serde(default = "tls_listen")]
    pub listen: SocketAddr,
    /// PEM file of the certificate, and behind it those up to the authority that clients know.
    pub cert: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
}

fn tls_listen() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8443)
}

impl Config {
    /// Are the files there and usable that are read at the start? What `check-config` asks.
    ///
    /// # Errors
    /// The key, and what was expected of its file.
    pub fn check_files(&self) -> Result<(), ConfigError> {
        crate::fetch::upstream::authorities(&self.upstream_ca)?;
        self.tls.as_ref().map(crate::tls::server_config).transpose()?;
        Ok(())
    }

    /// What of the capacity is for responses that no tree lists.
    #[must_use]
    pub fn uncatalogued_bytes(&self) -> u64 {
        self.uncatalogued.capacity.0.min(self.capacity.0 / 10)
    }

    /// What of the capacity is for blobs and parts.
    #[must_use]
    pub fn blob_bytes(&self) -> u64 {
        self.capacity.0 - self.uncatalogued_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_an_http_url_without_a_slash_at_its_end() {
        let mirror = |text: &str| MirrorUrl::try_from(text.to_owned());
        assert_eq!(mirror("https://distfiles.gentoo.org/").unwrap().as_str(), "https://distfiles.gentoo.org");
        assert_eq!(mirror("http://m/gentoo").unwrap().as_str(), "http://m/gentoo");
        for wrong in ["", "distfiles.gentoo.org", "ftp://m/gentoo", "http://m/?a=b", "file:///etc"] {
            assert!(mirror(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_upstream_proxy_is_http_or_socks5_and_its_password_is_not_told() {
        let proxy = |text: &str| UpstreamProxy::try_from(text.to_owned());
        for text in ["", "http://p:3128/", "socks5://me:secret@p:1080"] {
            let proxy = proxy(text).unwrap();
            assert_eq!(String::from(proxy.clone()), text);
            assert!(!format!("{proxy:?}").contains("secret"));
            assert_eq!(proxy.proxy(&["10.0.0.0/8".to_owned()]).unwrap().is_some(), !text.is_empty());
        }
        for wrong in ["p:3128", "https://p", "ftp://p", "http://p/path", "socks4://p", "http://"] {
            assert!(proxy(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn debug_output_has_no_password() {
        let mirror = MirrorUrl::try_from("https://me:secret@m/gentoo".to_owned()).unwrap();
        let upstream_proxy = UpstreamProxy::try_from("http://me:secret@p".to_owned()).unwrap();
        let config = Config { mirrors: vec![mirror], upstream_proxy, ..Config::default() };
        let text = format!("{config:?}");
        assert!(!text.contains("secret") && text.contains("m/gentoo"), "{text}");
    }

    #[test]
    fn an_address_to_advertise_is_a_url_or_a_word() {
        let advertise = |text: &str| Advertise::try_from(text.to_owned());
        for text in ["", "auto", "none", "http://ws1:8080"] {
            assert_eq!(String::from(advertise(text).unwrap()), text);
        }
        assert!(advertise("ws1:8080").is_err());
    }

    #[test]
    fn the_default_client_networks_all_parse() {
        assert_eq!(private_networks().iter().count(), 6);
    }
}
