//! Project sites that are reached by TLS only: an upstream stand-in behind a terminator.
//!
//! The terminator knows nothing of HTTP. What was asked and sent is counted by the stand-in behind it.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use farm_sim::upstream::Upstream;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The name that the certificate is for.
const HOST: &str = "localhost";

/// The sites. They are gone when this is dropped.
#[derive(Debug)]
pub struct HttpsSites {
    /// What answers, and counts.
    pub upstream: Upstream,
    /// A PEM file with the authority that signed the certificate; no client knows it by itself.
    pub authority: PathBuf,
    _stop: DropGuard,
}

impl HttpsSites {
    /// Listens on a free loopback port; writes the authority's certificate to `dir`.
    ///
    /// # Errors
    /// There is no such port, or the file can't be written.
    pub async fn start(dir: &Path) -> Result<Self> {
        let authority = dir.join("sites-ca.pem");
        let acceptor = TlsAcceptor::from(Arc::new(certified(&authority)?));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("https://{HOST}:{}", listener.local_addr()?.port());
        let upstream = Upstream::bind_as(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &url).await?;
        let stop = CancellationToken::new();
        let accepting = accept(listener, acceptor, upstream.address(), stop.clone());
        #[allow(clippy::disallowed_methods, reason = "it ends with the sites")]
        drop(tokio::spawn(stop.clone().run_until_cancelled_owned(accepting)));
        Ok(Self { upstream, authority, _stop: stop.drop_guard() })
    }
}

/// A new authority, written to `file`, and a certificate of it.
fn certified(file: &Path) -> Result<ServerConfig> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(file, params.self_signed(&key)?.pem()).with_context(|| file.display().to_string())?;
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec![HOST.to_owned()])?.signed_by(&key, &issuer)?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    Ok(ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?)
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, to: SocketAddr, stop: CancellationToken) {
    loop {
        // An error here is one connection's, or a shortage that passes.
        let Ok((socket, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let acceptor = acceptor.clone();
        // Who does not shake hands, or goes in the middle, is seen by the other side.
        let passing = async move { drop(pass(acceptor, socket, to).await) };
        #[allow(clippy::disallowed_methods, reason = "it ends with the sites")]
        drop(tokio::spawn(stop.clone().run_until_cancelled_owned(passing)));
    }
}

async fn pass(acceptor: TlsAcceptor, socket: TcpStream, to: SocketAddr) -> io::Result<()> {
    let mut client = acceptor.accept(socket).await?;
    let mut server = TcpStream::connect(to).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
