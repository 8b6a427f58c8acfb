//! Certificate and key of the port for TLS.
//!
//! They are read once, at the start: a renewed certificate is shown after a restart.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use service_kit::config::ConfigError;

use crate::config::TlsConfig;

const CERT: &str = "proxy.tls.cert";
const KEY: &str = "proxy.tls.key";
/// No chain of certificates is longer.
const FILE_OCTETS_MAX: u64 = 1 << 20;

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
