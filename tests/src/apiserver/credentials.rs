//! What clients need to come in: the authority's certificate, a token, a kubeconfig.
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// Names that the server's certificate is good for.
const NAMES: [&str; 3] = ["127.0.0.1", "localhost", "kubernetes.default.svc"];

/// A certificate authority with one server.
#[derive(Debug)]
pub(super) struct Authority {
    pub(super) certificate: String,
}

impl Authority {
    /// Makes an authority, and what the server needs to speak TLS.
    pub(super) fn new() -> Result<(Self, TlsAcceptor), rcgen::Error> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "kubernetes test authority");
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let issuer = Issuer::new(params, key);
        let names: Vec<String> = NAMES.map(str::to_owned).into();
        let server_key = KeyPair::generate()?;
        let server = CertificateParams::new(names)?.signed_by(&server_key, &issuer)?;
        let key = PrivateKeyDer::Pkcs8(server_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has the usual versions")
            .with_no_client_auth()
            .with_single_cert(vec![server.der().clone()], key)
            .expect("the key is the certificate's");
        let authority = Self {
            certificate: certificate.pem(),
        };
        Ok((authority, TlsAcceptor::from(Arc::new(config))))
    }
}

/// Writes a kubeconfig for one token into a folder.
pub(super) fn kubeconfig(
    folder: &Path,
    address: SocketAddr,
    authority: Option<&Authority>,
    token: &str,
) -> io::Result<PathBuf> {
    let (scheme, trusted) = match authority {
        Some(authority) => {
            let file = folder.join("ca.crt");
            fs::write(&file, &authority.certificate)?;
            let line = format!("    certificate-authority: {}\n", file.display());
            ("https", line)
        }
        None => ("http", String::new()),
    };
    let text = format!(
        "apiVersion: v1
kind: Config
current-context: test
clusters:
- name: test
  cluster:
    server: {scheme}://{address}
{trusted}contexts:
- name: test
  context: {{cluster: test, user: test, namespace: default}}
users:
- name: test
  user: {{token: {token:?}}}
"
    );
    let file = folder.join(format!("kubeconfig-{token}"));
    fs::write(&file, text)?;
    Ok(file)
}

/// Writes what a pod finds of its service account: `token`, `ca.crt` and `namespace`.
pub(super) fn service_account(
    folder: &Path,
    authority: Option<&Authority>,
    token: &str,
    namespace: &str,
) -> io::Result<PathBuf> {
    let folder = folder.join(format!("serviceaccount-{token}"));
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("token"), token)?;
    fs::write(folder.join("namespace"), namespace)?;
    if let Some(authority) = authority {
        fs::write(folder.join("ca.crt"), &authority.certificate)?;
    }
    Ok(folder)
}
