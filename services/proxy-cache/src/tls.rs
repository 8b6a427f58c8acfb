//! Certificate and key of the port for TLS.
//!
//! The files are looked at every few seconds: a renewed certificate is shown to whoever connects from then on. Files that
//! can't be used change nothing but what `/readyz` warns of.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use service_kit::config::ConfigError;
use service_kit::readiness::Readiness;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::TlsConfig;

const CERT: &str = "proxy.tls.cert";
const KEY: &str = "proxy.tls.key";
/// No chain of certificates is longer.
const FILE_OCTETS_MAX: u64 = 1 << 20;
/// Whose warnings these are.
pub(crate) const PART: &str = "proxy-cache";
/// Between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// What new connections are served with; clones see each renewal.
#[derive(Debug, Clone)]
pub(crate) struct Tls(watch::Receiver<Arc<ServerConfig>>);

impl Tls {
    /// For one connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.borrow()))
    }
}

/// Looks after the files.
#[derive(Debug)]
pub(crate) struct Renewal {
    config: TlsConfig,
    shown: watch::Sender<Arc<ServerConfig>>,
    /// Those that are shown, or were told to be of no use.
    judged: [Option<Stamp>; 2],
    /// Of no use at the last look. Certificate and key are replaced one after the other, so that only what stands
    /// still is judged.
    doubted: Option<[Option<Stamp>; 2]>,
}

/// What the port is served with now, and who renews it.
///
/// # Errors
/// As [`server_config`].
pub(crate) fn open(config: &TlsConfig) -> Result<(Tls, Renewal), ConfigError> {
    // Before they are read: what changes after that is seen by the next look.
    let judged = stamps(config);
    let (shown, seen) = watch::channel(server_config(config)?);
    Ok((Tls(seen), Renewal { config: config.clone(), shown, judged, doubted: None }))
}

impl Renewal {
    /// Looks until the soft stop. What is wrong is told once, and below `/readyz` until it is right.
    pub(crate) async fn run(mut self, readiness: Readiness, soft: CancellationToken) {
        while soft.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            match self.look().await {
                None => {}
                Some(Ok(())) => {
                    info!(cert = %self.config.cert.display(), "the renewed certificate is shown from now on");
                    readiness.warn(PART, &[]);
                }
                Some(Err(error)) => {
                    warn!(%error, "the certificate from before is still shown");
                    let what = "the renewed certificate can't be used, the one from before is shown; the log says why";
                    readiness.warn(PART, &[("proxy.tls".to_owned(), what.to_owned())]);
                }
            }
        }
    }

    /// What came of new files, if there are any.
    async fn look(&mut self) -> Option<Result<(), ConfigError>> {
        let (config, judged) = (self.config.clone(), self.judged);
        let looking = tokio::task::spawn_blocking(move || {
            let found = stamps(&config);
            (found, (found != judged).then(|| server_config(&config)))
        });
        let (found, opened) = looking.await.ok()?;
        match opened? {
            Ok(server) => {
                (self.judged, self.doubted) = (found, None);
                self.shown.send_replace(server);
                Some(Ok(()))
            }
            Err(_) if self.doubted != Some(found) => {
                self.doubted = Some(found);
                None
            }
            Err(error) => {
                self.judged = found;
                Some(Err(error))
            }
        }
    }
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    place: (u64, u64),
    octets: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Of certificate and key; `None` for a file that is not there.
fn stamps(config: &TlsConfig) -> [Option<Stamp>; 2] {
    [&config.cert, &config.key].map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Stamp {
            place: (metadata.dev(), metadata.ino()),
            octets: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    })
}

/// What the port is served with.
///
/// # Errors
/// The key whose file can't be used, the file, and why.
pub(crate) fn server_config(config: &TlsConfig) -> Result<Arc<ServerConfig>, ConfigError> {
    service_kit::process::install_crypto_provider();
    let (cert, key) = (read(&config.cert, CERT)?, read(&config.key, KEY)?);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&cert).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| no_pem(&config.cert, CERT, "certificates"))?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|_| no_pem(&config.key, KEY, "a private key without a password"))?;
    let mut server =
        ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).map_err(|error| {
            let (cert, key) = (config.cert.display(), config.key.display());
            ConfigError::wrong(
                KEY,
                format!("expected the key of the certificate in {cert}, found {key}: {error}"),
            )
        })?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}

fn read(path: &Path, key: &str) -> Result<Vec<u8>, ConfigError> {
    let unusable = |why: String| {
        ConfigError::wrong(key, format!("expected a file that can be read, found {}: {why}", path.display()))
    };
    let metadata = std::fs::metadata(path).map_err(|error| unusable(error.to_string()))?;
    if !metadata.is_file() || metadata.len() > FILE_OCTETS_MAX {
        return Err(unusable("it is no file of at most 1 MiB".to_owned()));
    }
    std::fs::read(path).map_err(|error| unusable(error.to_string()))
}

fn no_pem(path: &Path, key: &str, holds: &str) -> ConfigError {
    ConfigError::wrong(key, format!("expected a PEM file with {holds}, found {}", path.display()))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_is_told_by_key_and_path() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            dir.path().join(name)
        };
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["ws1".to_owned()]).unwrap().self_signed(&key).unwrap();
        let (cert, key) = (file("cert.pem", &certificate.pem()), file("key.pem", &key.serialize_pem()));
        let other = file("other.pem", &KeyPair::generate().unwrap().serialize_pem());
        let empty = file("empty.pem", "");
        let broken = file("broken.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
        let missing = dir.path().join("missing.pem");
        let listen = "127.0.0.1:0".parse().unwrap();
        let config =
            |cert: &Path, key: &Path| TlsConfig { listen, cert: cert.to_owned(), key: key.to_owned() };
        assert!(server_config(&config(&cert, &key)).is_ok());
        for (cert, key, at, named) in [
            (&missing, &key, "proxy.tls.cert", &missing),
            (&empty, &key, "proxy.tls.cert", &empty),
            (&broken, &key, "proxy.tls.cert", &broken),
            (&key, &key, "proxy.tls.cert", &key),
            (&dir.path().to_owned(), &key, "proxy.tls.cert", &dir.path().to_owned()),
            (&cert, &missing, "proxy.tls.key", &missing),
            (&cert, &empty, "proxy.tls.key", &empty),
            (&cert, &cert, "proxy.tls.key", &cert),
            (&cert, &other, "proxy.tls.key", &other),
        ] {
            let message = server_config(&config(cert, key)).unwrap_err().to_string();
            assert!(message.contains(at) && message.contains(named.to_str().unwrap()), "{message}");
        }
    }
}
