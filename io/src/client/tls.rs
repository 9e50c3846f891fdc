//! TLS of the client: the only file of it that knows rustls.
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// One connection over TLS.
pub(super) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Whose certificates are believed.
#[derive(Debug)]
pub enum Roots {
    /// Those that the system believes.
    System,
    /// These.
    Given(RootCertStore),
}

/// A file of certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct TlsError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub message: String,
}

impl Roots {
    /// Those of a PEM file.
    ///
    /// # Errors
    /// It cannot be read, or has no certificate that can be a root.
    pub fn from_file(path: &Path) -> Result<Self, TlsError> {
        let wrong = |message: String| TlsError {
            path: path.to_owned(),
            message,
        };
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(path);
        for certificate in certificates.map_err(|error| wrong(error.to_string()))? {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            let added = roots.add(certificate);
            added.map_err(|error| wrong(error.to_string()))?;
        }
        match roots.is_empty() {
            true => Err(wrong("there is no certificate in it".to_owned())),
            false => Ok(Self::Given(roots)),
        }
    }

    fn store(&self) -> io::Result<RootCertStore> {
        if let Self::Given(roots) = self {
            return Ok(roots.clone());
        }
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        match (roots.is_empty(), found.errors.first()) {
            (false, _) => Ok(roots),
            (true, Some(error)) => Err(io::Error::other(format!("the system's roots: {error}"))),
            (true, None) => Err(io::Error::other("the system has no root certificates")),
        }
    }
}

/// TLS over a connection to `host`.
pub(super) fn connect(host: &str, roots: &Roots, stream: TcpStream) -> io::Result<TlsStream> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots.store()?)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let connection = ClientConnection::new(Arc::new(config), name);
    let connection = connection.map_err(|error: rustls::Error| io::Error::other(error))?;
    Ok(StreamOwned::new(connection, stream))
}
