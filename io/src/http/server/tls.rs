//! TLS for the TCP listeners: the only file that knows rustls.
use crate::limits::TLS_FILE_BYTES_MAX;
use arc_swap::ArcSwap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// One connection over TLS.
pub(super) type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// The files of a certificate and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, then those that lead to a root.
    pub cert: PathBuf,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// Why a certificate or key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {message}", path = path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The two do not belong together, or cannot be used.
    #[error("{cert}: {source}", cert = cert.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
}

/// The pair that new connections are given.
pub(super) struct Tls {
    files: TlsFiles,
    config: ArcSwap<ServerConfig>,
}

impl Tls {
    pub(super) fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self {
            files: files.clone(),
            config: ArcSwap::new(read(files)?),
        })
    }

    /// Reads both files again; what cannot be used changes nothing. Connections keep what they began with.
    pub(super) fn reload(&self) -> Result<(), TlsError> {
        self.config.store(read(&self.files)?);
        Ok(())
    }

    pub(super) fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// The handshake.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream> {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        acceptor.accept(stream).await
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.files).finish()
    }
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let wrong = |path: &Path, error: &pem::Error| TlsError::Pem {
        path: path.to_owned(),
        // What rustls says may repeat bytes of the file.
        message: match error {
            pem::Error::NoItemsFound => "has no certificate or key in PEM".to_owned(),
            _ => "is not PEM".to_owned(),
        },
    };
    let text = bytes(&files.cert)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain
        .and_then(|chain| match chain.is_empty() {
            true => Err(pem::Error::NoItemsFound),
            false => Ok(chain),
        })
        .map_err(|error| wrong(&files.cert, &error))?;
    let key = PrivateKeyDer::from_pem_slice(&bytes(&files.key)?)
        .map_err(|error| wrong(&files.key, &error))?;
    let pair = |source| TlsError::Pair {
        cert: files.cert.clone(),
        source,
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn bytes(path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = || {
        let mut bytes = Vec::new();
        let file = File::open(path)?.take(TLS_FILE_BYTES_MAX + 1);
        { file }.read_to_end(&mut bytes)?;
        if bytes.len() as u64 > TLS_FILE_BYTES_MAX {
            return Err(io::Error::other("the file is too large for a certificate"));
        }
        Ok(bytes)
    };
    read().map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}
