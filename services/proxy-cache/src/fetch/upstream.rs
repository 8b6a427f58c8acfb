//! The HTTP client side: checked addresses, redirects followed by hand, a limit on every wait.

use std::error::Error as StdError;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cache_policy::UnixMs;
use cache_policy::bandwidth::Bucket;
use http::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue, LOCATION, RANGE, VIA};
use http_wire::via::Via;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Response};
use service_kit::config::ConfigError;
use tokio::net::TcpStream;
use url::{Host, Url};

use super::address::AddressPolicy;
use super::fault::SourceFault;
use crate::app::now_ms;
use crate::config::{Config, Timeouts};

/// What may come at once after a pause, if there is a limit.
const BURST_BYTES: u64 = 256 << 10;
/// Redirects followed for one request.
const REDIRECTS_MAX: usize = 5;

/// Who named a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Maintenance: another replica. Never asked through a proxy.
    Peer,
    /// The operator: it may be in a private network.
    Operator,
    /// The tree, a client or a redirect: only where the address policy permits.
    Checked,
}

/// The clients, one for each kind of trust.
#[derive(Debug, Clone)]
pub(crate) struct Upstreams {
    peer: Client,
    operator: Client,
    checked: Client,
    /// Names are resolved by a proxy, so that the address that they have there can't be pinned.
    is_proxied: bool,
    bucket: Arc<Mutex<Bucket>>,
    policy: Arc<AddressPolicy>,
    timeouts: Timeouts,
    /// What we call ourselves in `Via`.
    pseudonym: String,
}

/// Resolves a name and keeps the addresses that may be used; the connection is made to one of these
/// and not to what the name may resolve to a moment later.
#[derive(Debug)]
struct CheckingResolver(Arc<AddressPolicy>);

/// The name has no address that we connect to.
#[derive(Debug)]
struct RefusedName(String);

impl fmt::Display for RefusedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is in a private network that allow_private_upstreams does not list", self.0)
    }
}

impl StdError for RefusedName {}

impl Resolve for CheckingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = Arc::clone(&self.0);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let permitted: Vec<SocketAddr> = found.filter(|address| policy.permits(address.ip())).collect();
            if permitted.is_empty() {
                return Err(RefusedName(name.as_str().to_owned()).into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

impl Upstreams {
    /// `pseudonym` is what we call ourselves in `Via`.
    pub(crate) fn new(config: &Config, pseudonym: &str) -> anyhow::Result<Self> {
        let policy = Arc::new(AddressPolicy::new(config.allow_private_upstreams.clone()));
        let authorities = authorities(&config.upstream_ca)?;
        let builder = || -> anyhow::Result<reqwest::ClientBuilder> {
            let mut builder = Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .connect_timeout(config.timeouts.connect.0)
                .pool_idle_timeout(Duration::from_secs(30))
                .user_agent(concat!("rookery/", env!("CARGO_PKG_VERSION")));
            if let Some(authorities) = &authorities {
                builder = builder.tls_certs_merge(authorities.clone());
            }
            Ok(builder)
        };
        let resolver = || Arc::new(CheckingResolver(Arc::clone(&policy)));
        let (operator, checked) = match config.upstream_proxy.proxy(&config.upstream_proxy_except)? {
            None => (builder()?, builder()?.dns_resolver(resolver())),
            // What would be resolved here is the proxy's own name.
            Some(proxy) => (builder()?.proxy(proxy.clone()), builder()?.proxy(proxy)),
        };
        let bucket = Bucket::new(config.bandwidth.0, BURST_BYTES, UnixMs::new(now_ms()));
        Ok(Self {
            peer: builder()?.build()?,
            operator: operator.build()?,
            checked: checked.build()?,
            is_proxied: config.upstream_proxy.is_set(),
            bucket: Arc::new(Mutex::new(bucket)),
            policy,
            timeouts: config.timeouts,
            pseudonym: pseudonym.to_owned(),
        })
    }

    /// One GET or HEAD, without following redirects. The answer's head is there; any status. `via` are
    /// the caches through which whoever made us ask came.
    pub(crate) async fn send(
        &self,
        method: http::Method,
        url: &Url,
        trust: Trust,
        headers: HeaderMap,
        via: &Via,
    ) -> Result<Response, SourceFault> {
        let client = match trust {
            Trust::Peer => &self.peer,
            Trust::Operator => &self.operator,
            Trust::Checked => {
                self.check_literal(url)?;
                self.check_name(url).await?;
                &self.checked
            }
        };
        let mut request = client.request(method, url.clone()).headers(headers);
        // What is stored, or passed on, is the file itself.
        request = request.header(ACCEPT_ENCODING, "identity");
        if let Some(via) = via.with(&self.pseudonym) {
            request = request.header(VIA, via);
        }
        match tokio::time::timeout(self.timeouts.headers.0, request.send()).await {
            // 101: to what nobody asked for. It is no answer that can be passed on.
            Ok(Ok(response)) if response.status().is_informational() => {
                Err(SourceFault::Status(response.status().as_u16()))
            }
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(fault_of(&error)),
            Err(_) => Err(SourceFault::TimedOut("its answer")),
        }
    }

    /// GET from `start` on, following redirects; each one is checked as the first URL was. The answer
    /// is a 200 or a 206.
    pub(crate) async fn get(
        &self,
        url: &Url,
        trust: Trust,
        start: u64,
        extra: &HeaderMap,
        via: &Via,
    ) -> Result<Response, SourceFault> {
        let mut headers = extra.clone();
        if start > 0 {
            let range = HeaderValue::from_str(&format!("bytes={start}-"));
            headers.insert(RANGE, range.map_err(|_| SourceFault::WrongRange)?);
        }
        self.follow(http::Method::GET, url, trust, headers, via).await
    }

    /// As [`Self::get`] with any headers, for GET and HEAD.
    pub(crate) async fn follow(
        &self,
        method: http::Method,
        url: &Url,
        trust: Trust,
        headers: HeaderMap,
        via: &Via,
    ) -> Result<Response, SourceFault> {
        let mut at = url.clone();
        let mut trust = trust;
        for _ in 0..=REDIRECTS_MAX {
            let response = self.send(method.clone(), &at, trust, headers.clone(), via).await?;
            match response.status().as_u16() {
                200 | 206 => return Ok(response),
                301 | 302 | 303 | 307 | 308 => {
                    let next = redirect(&at, &response)?;
                    if next.origin() != at.origin() {
                        trust = Trust::Checked;
                    }
                    at = next;
                }
                status @ (404 | 410) => return Err(SourceFault::Missing(status)),
                status => return Err(SourceFault::Status(status)),
            }
        }
        Err(SourceFault::BadRedirect(format!("more than {REDIRECTS_MAX} redirects")))
    }

    /// A connection to one of the addresses of `host`, if these may be used; to the very address that was checked.
    pub(crate) async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, SourceFault> {
        if self.is_proxied {
            return Err(SourceFault::Refused("tunnels don't go through proxy.upstream_proxy".to_owned()));
        }
        let connecting = async {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let broken = |error: std::io::Error| SourceFault::Broken(error.to_string());
            let found = tokio::net::lookup_host((bare, port)).await.map_err(broken)?;
            let mut last = SourceFault::Refused(RefusedName(host.to_owned()).to_string());
            for address in found.filter(|address| self.policy.permits(address.ip())) {
                match TcpStream::connect(address).await {
                    Ok(socket) => return Ok(socket),
                    Err(error) => last = broken(error),
                }
            }
            Err(last)
        };
        tokio::time::timeout(self.timeouts.connect.0, connecting)
            .await
            .unwrap_or(Err(SourceFault::TimedOut("the connection")))
    }

    /// The next piece of a body from outside the farm, no faster than `proxy.bandwidth`; `None` at its clean end.
    pub(crate) async fn chunk(&self, response: &mut Response) -> Result<Option<Bytes>, SourceFault> {
        self.wait_for_bandwidth().await;
        let chunk = self.chunk_at_once(response).await?;
        self.took(chunk.as_ref().map_or(0, Bytes::len));
        Ok(chunk)
    }

    /// Bytes came that were not waited for.
    pub(crate) fn took(&self, bytes: usize) -> Duration {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_millis(bucket.take(bytes as u64, UnixMs::new(now_ms())))
    }

    /// Returns when more bytes may come.
    pub(crate) async fn wait_for_bandwidth(&self) {
        loop {
            let wait = self.took(0);
            if wait.is_zero() {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// The next piece of a body as soon as it is there.
    pub(crate) async fn chunk_at_once(&self, response: &mut Response) -> Result<Option<Bytes>, SourceFault> {
        match tokio::time::timeout(self.timeouts.chunk.0, response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(fault_of(&error)),
            Err(_) => Err(SourceFault::TimedOut("its body")),
        }
    }

    /// Behind a proxy it is the proxy that connects. What is private as seen from here is refused all the same;
    /// what can't be resolved here is left to it.
    async fn check_name(&self, url: &Url) -> Result<(), SourceFault> {
        let Some(Host::Domain(name)) = url.host().filter(|_| self.is_proxied) else { return Ok(()) };
        let Ok(found) = tokio::net::lookup_host((name, 0)).await else { return Ok(()) };
        let found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
        if found.is_empty() || found.iter().all(|address| self.policy.permits(*address)) {
            Ok(())
        } else {
            Err(SourceFault::Refused(RefusedName(name.to_owned()).to_string()))
        }
    }

    /// Addresses in a URL are not resolved, so they are checked here.
    fn check_literal(&self, url: &Url) -> Result<(), SourceFault> {
        let address: IpAddr = match url.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        if self.policy.permits(address) {
            Ok(())
        } else {
            Err(SourceFault::Refused(RefusedName(address.to_string()).to_string()))
        }
    }
}

/// What stands in `proxy.upstream_ca`.
///
/// # Errors
/// The file, and why it can't be used.
pub(crate) fn authorities(path: &Path) -> Result<Option<Vec<reqwest::Certificate>>, ConfigError> {
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let unusable = |why: String| {
        let expected = format!("expected a PEM file with certificates, found {}: {why}", path.display());
        ConfigError::wrong("proxy.upstream_ca", expected)
    };
    let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let found = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(error.to_string()))?;
    if found.is_empty() { Err(unusable("none is in it".to_owned())) } else { Ok(Some(found)) }
}

fn redirect(from: &Url, response: &Response) -> Result<Url, SourceFault> {
    let bad = |what: &str| SourceFault::BadRedirect(what.to_owned());
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let to = from.join(location.ok_or_else(|| bad("a redirect without a place"))?);
    let to = to.map_err(|_| bad("a redirect to no URL"))?;
    if matches!(to.scheme(), "http" | "https") { Ok(to) } else { Err(bad("a redirect to another scheme")) }
}

/// The innermost reason tells most; a URL may hold a password, so it is left out.
fn fault_of(error: &reqwest::Error) -> SourceFault {
    let mut innermost: &(dyn StdError + 'static) = error;
    while let Some(source) = innermost.source() {
        if let Some(refused) = source.downcast_ref::<RefusedName>() {
            return SourceFault::Refused(refused.to_string());
        }
        innermost = source;
    }
    if error.is_connect() && error.is_timeout() {
        SourceFault::TimedOut("the connection")
    } else if error.is_timeout() {
        SourceFault::TimedOut("its answer")
    } else if std::ptr::addr_eq(innermost, error) {
        SourceFault::Broken("the request failed".to_owned())
    } else {
        SourceFault::Broken(innermost.to_string())
    }
}

/// A URL for the log: without a user, a password, a query.
pub(crate) fn redacted(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstreams() -> Upstreams {
        service_kit::process::install_crypto_provider();
        Upstreams::new(&Config::default(), "rookery-test").unwrap()
    }

    #[tokio::test]
    async fn private_upstreams_are_refused_as_literals_and_by_name() {
        let upstreams = upstreams();
        let none = HeaderMap::new();
        for url in [
            "http://127.0.0.1:1/x",
            "http://0x7f.1:1/x",
            "http://2130706433:1/x",
            "http://[::1]:1/x",
            "http://[::ffff:7f00:1]:1/x",
            "http://169.254.169.254/latest/meta-data",
            "http://localhost:1/x",
        ] {
            let url = Url::parse(url).unwrap();
            let fault = upstreams.get(&url, Trust::Checked, 0, &none, &Via::default()).await.unwrap_err();
            assert!(matches!(fault, SourceFault::Refused(_)), "{url}: {fault:?}");
        }
        let url = Url::parse("http://127.0.0.1:1/x").unwrap();
        let fault = upstreams.get(&url, Trust::Operator, 0, &none, &Via::default()).await.unwrap_err();
        assert!(matches!(fault, SourceFault::Broken(_)), "nobody listens there: {fault:?}");
    }

    #[test]
    fn the_log_has_no_password() {
        let url = Url::parse("https://me:secret@h.example:8443/a/b?token=secret#x").unwrap();
        assert_eq!(redacted(&url), "https://h.example:8443/a/b");
    }
}
