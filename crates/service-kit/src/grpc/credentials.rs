//! Tokens and certificates, from files.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use subtle::ConstantTimeEq as _;
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

use super::{GrpcConfig, TlsConfig};
use crate::config::ConfigError;

/// No token or PEM file is larger than this.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Shorter ones can be guessed.
const TOKEN_CHARS_MIN: usize = 16;

/// Where container engines mount secrets, one file each.
const MOUNTED_SECRETS: &str = "/run/secrets";

/// A token, which is never printed.
#[derive(Clone)]
pub(super) struct Token(http::HeaderValue);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// What `authorization` must say.
    pub(super) fn header(&self) -> http::HeaderValue {
        self.0.clone()
    }

    /// Is it this token? Takes the same time wherever the first difference is.
    pub(super) fn matches(&self, header: &http::HeaderValue) -> bool {
        self.0.as_bytes().ct_eq(header.as_bytes()).into()
    }
}

/// The configured token.
pub(super) fn token(config: &GrpcConfig) -> Result<Option<Token>, ConfigError> {
    const KEY: &str = "grpc.token_file";
    let Some(path) = &config.token_file else {
        return Ok(None);
    };
    let text = read(path, KEY)?;
    let mode = std::fs::metadata(path).map_err(|error| unreadable(path, KEY, &error))?.permissions().mode();
    if let Err(expected) = check_mode(path, mode) {
        let found = format!("expected {expected}, found {} with mode {:o}", path.display(), mode & 0o777);
        return Err(ConfigError::wrong(KEY, found));
    }
    let token = text.trim();
    let usable = token.len() >= TOKEN_CHARS_MIN && token.bytes().all(|byte| byte.is_ascii_graphic());
    let header = usable.then(|| http::HeaderValue::try_from(format!("Bearer {token}")).ok()).flatten();
    match header {
        Some(mut header) => {
            header.set_sensitive(true);
            Ok(Some(Token(header)))
        }
        None => Err(ConfigError::wrong(
            KEY,
            format!(
                "expected one line of at least {TOKEN_CHARS_MIN} printable characters in {}",
                path.display()
            ),
        )),
    }
}

/// Whether a token file with these permission bits is nobody else's business; if not, what is expected.
///
/// Container engines give a secret to a container by mounting it there, often with the bits 0444 because
/// they don't know its user. Who could read it inside is us; the mount keeps everybody else out. That
/// nobody but its owner may write it is demanded there too: who can write it can let himself in.
fn check_mode(path: &Path, mode: u32) -> Result<(), &'static str> {
    let is_mounted_secret = path.parent() == Some(Path::new(MOUNTED_SECRETS));
    match (is_mounted_secret, mode) {
        (true, mode) if mode & 0o022 != 0 => Err("a secret that only its owner can write (chmod 444)"),
        (false, mode) if mode & 0o007 != 0 => Err("a file that others can't use (chmod 640)"),
        _ => Ok(()),
    }
}

/// A server that shows our certificate and demands one.
pub(super) fn server_tls(config: &TlsConfig) -> Result<ServerTlsConfig, ConfigError> {
    Ok(ServerTlsConfig::new().identity(identity(config)?).client_ca_root(authority(config)?))
}

/// A client that shows our certificate and demands one.
pub(super) fn client_tls(config: &TlsConfig) -> Result<ClientTlsConfig, ConfigError> {
    Ok(ClientTlsConfig::new().identity(identity(config)?).ca_certificate(authority(config)?))
}

fn identity(config: &TlsConfig) -> Result<Identity, ConfigError> {
    let cert = pem(&config.cert, "grpc.tls.cert", "CERTIFICATE-----")?;
    let key = pem(&config.key, "grpc.tls.key", "PRIVATE KEY-----")?;
    Ok(Identity::from_pem(cert, key))
}

fn authority(config: &TlsConfig) -> Result<Certificate, ConfigError> {
    Ok(Certificate::from_pem(pem(&config.ca, "grpc.tls.ca", "CERTIFICATE-----")?))
}

fn pem(path: &Path, key: &str, holds: &str) -> Result<String, ConfigError> {
    let text = read(path, key)?;
    if text.contains(holds) {
        return Ok(text);
    }
    let expected =
        format!("expected a PEM file with a {}, found none in {}", holds.trim_matches('-'), path.display());
    Err(ConfigError::wrong(key, expected))
}

fn read(path: &Path, key: &str) -> Result<String, ConfigError> {
    let size = std::fs::metadata(path).map_err(|error| unreadable(path, key, &error))?.len();
    if size > FILE_BYTES_MAX {
        return Err(ConfigError::wrong(key, format!("{} is larger than 1 MiB", path.display())));
    }
    std::fs::read_to_string(path).map_err(|error| unreadable(path, key, &error))
}

fn unreadable(path: &Path, key: &str, error: &std::io::Error) -> ConfigError {
    ConfigError::wrong(key, format!("expected a file that can be read, found {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_secret_may_be_read_but_not_written_by_others() {
        let mounted = |mode| check_mode(Path::new("/run/secrets/grpc-token"), mode);
        for mode in [0o444, 0o644, 0o400, 0o440] {
            assert_eq!(mounted(mode), Ok(()), "{mode:o}");
        }
        for mode in [0o666, 0o446, 0o464, 0o777] {
            assert!(mounted(mode).is_err_and(|expected| expected.contains("444")), "{mode:o}");
        }
        for elsewhere in ["/run/secrets.d/token", "/run/secrets/../token", "/etc/rookery/token", "token"] {
            assert!(check_mode(Path::new(elsewhere), 0o444).is_err(), "{elsewhere}");
            assert_eq!(check_mode(Path::new(elsewhere), 0o640), Ok(()), "{elsewhere}");
        }
    }
}
