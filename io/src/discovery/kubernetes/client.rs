//! The way to Kubernetes: its configuration, and a client that takes no answer without end.
use super::problem::chain;
use crate::config::KubernetesConfig;
use crate::limits::{
    ANSWER_BYTES_MAX, SERVER_CONFIG_TIME, SERVER_CONNECT_TIME, WATCH_GRACE, WATCH_TIME,
};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio_rustls::rustls::crypto::ring;
use tower::util::MapResponseLayer;

/// Why Kubernetes cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// The file that was given cannot be used.
    #[error("kubeconfig: {path}: {why}", path = path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Neither a service account nor one of the usual files is there.
    #[error(
        "kubernetes: no way to reach it: not in a pod with a service account ({in_cluster}), and no usual file \
         ({usual}); kubeconfig names another one"
    )]
    Nowhere {
        /// Why not as a pod.
        in_cluster: String,
        /// Why not by KUBECONFIG or ~/.kube/config.
        usual: String,
    },
    /// What is configured cannot be used.
    #[error("kubernetes: {0}")]
    Client(String),
    /// A program that the kubeconfig names gives no token.
    #[error("kubernetes: the kubeconfig's program for tokens has not answered within {} s", SERVER_CONFIG_TIME.as_secs())]
    Slow,
    /// The system gives no thread, or nothing to wait with.
    #[error("kubernetes: {0}")]
    Thread(std::io::Error),
}

impl KubernetesError {
    /// Whether the configuration is at fault, and not the system that the node runs on.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        !matches!(self, Self::Thread(_) | Self::Slow)
    }
}

/// A client, and the namespace that is its own.
pub(super) async fn connect(
    config: &KubernetesConfig,
) -> Result<(Client, String), KubernetesError> {
    // The client takes the process's provider, and panics where two are compiled in and none is chosen.
    let _ = ring::default_provider().install_default();
    let mut found = find(config).await?;
    // Failures are paced, counted and told here.
    found.default_retry = false;
    found.connect_timeout = Some(SERVER_CONNECT_TIME);
    // Whatever else happens: longer than the longest watch, nobody is silent.
    found.read_timeout = Some(WATCH_TIME * 2 + WATCH_GRACE * 2);
    let namespace = found.default_namespace.clone();
    let builder = ClientBuilder::try_from(found);
    let builder = builder.map_err(|error| KubernetesError::Client(chain(&error)))?;
    let bounded =
        |response: hyper::Response<_>| response.map(|body| Bounded::new(body, ANSWER_BYTES_MAX));
    let client = builder.with_layer(&MapResponseLayer::new(bounded)).build();
    Ok((client, namespace))
}

/// Whether the file that the settings name can be used, without asking anybody.
pub(super) fn check(config: &KubernetesConfig) -> Result<(), KubernetesError> {
    let Some(path) = &config.kubeconfig else {
        return Ok(());
    };
    let file = Kubeconfig::read_from(path);
    file.map(drop).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &KubeconfigError) -> KubernetesError {
    KubernetesError::Kubeconfig {
        path: path.to_owned(),
        why: chain(error),
    }
}

async fn find(config: &KubernetesConfig) -> Result<Config, KubernetesError> {
    let options = KubeConfigOptions::default();
    if let Some(path) = &config.kubeconfig {
        let wrong = |error| unusable(path, &error);
        let file = Kubeconfig::read_from(path).map_err(wrong)?;
        return Config::from_custom_kubeconfig(file, &options)
            .await
            .map_err(wrong);
    }
    let in_cluster = match Config::incluster() {
        Ok(config) => return Ok(config),
        Err(error) => chain(&error),
    };
    let usual = Config::from_kubeconfig(&options).await;
    usual.map_err(|error| KubernetesError::Nowhere {
        in_cluster,
        usual: chain(&error),
    })
}

/// A body of lines, none of which may be longer than so many bytes: events of a watch, or a whole list.
#[derive(Debug)]
struct Bounded<B> {
    inner: B,
    most: usize,
    /// Bytes since the last line's end.
    line: usize,
}

/// A line without end.
#[derive(Debug, thiserror::Error)]
#[error("an answer of more than {0} bytes")]
struct TooLong(usize);

impl<B> Bounded<B> {
    const fn new(inner: B, most: usize) -> Self {
        let line = 0;
        Self { inner, most, line }
    }

    fn count(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.line = match bytes.iter().rposition(|&byte| byte == b'\n') {
            Some(end) => bytes.len() - end - 1,
            None => self.line + bytes.len(),
        };
        if self.line > self.most {
            return Err(TooLong(self.most));
        }
        Ok(())
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin> Body for Bounded<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let next = Pin::new(&mut self.inner).poll_frame(context);
        next.map(|frame| {
            frame.map(|frame| {
                let frame = frame.map_err(Into::into)?;
                if let Some(bytes) = frame.data_ref() {
                    self.count(bytes)?;
                }
                Ok(frame)
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Namespaces, Preset};
    use std::fs;

    /// What is said of a file with this text.
    fn checked(text: &str) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        fs::write(&path, text).unwrap();
        let config = KubernetesConfig {
            namespaces: Namespaces::Own,
            preset: Preset::Aibrix,
            selector: None,
            not_ready: false,
            kubeconfig: Some(path),
        };
        let runtime = super::super::runtime().unwrap();
        let connected = runtime.block_on(connect(&config));
        let (checked, connected) = (check(&config), connected.map(drop));
        let said = checked.as_ref().map_err(ToString::to_string);
        // A check may see less than what connects, and nothing else.
        if let Err(said) = said {
            assert_eq!(connected.as_ref().unwrap_err().to_string(), said);
        }
        connected.map_err(|error| {
            assert!(error.is_configuration());
            error.to_string()
        })
    }

    #[test]
    fn a_kubeconfig_that_cannot_be_used_is_named_and_not_shown() {
        for (text, expected) in [
            (
                "users: [{name: u, user: {token: [secret]}}]",
                "not the YAML of a kubeconfig",
            ),
            (
                "users:\n- name: u\n  user: {token: secret\n",
                "not the YAML of a kubeconfig",
            ),
            ("secret", "not the YAML of a kubeconfig"),
            ("kind: Config", "current context"),
            ("current-context: missing", "missing"),
        ] {
            let said = checked(text).unwrap_err();
            assert!(said.starts_with("kubeconfig: /"), "{said}");
            assert!(
                said.contains(expected) && !said.contains("secret"),
                "{text}: {said}"
            );
        }
    }

    #[test]
    fn a_line_has_an_end_and_a_body_needs_none() {
        let mut body = Bounded::new((), 10);
        for line in ["12345", "6789\n1", "234\n", "1234567890", "\n", "123456789"] {
            assert!(body.count(line.as_bytes()).is_ok(), "{line:?}");
        }
        let error = body.count(b"01").unwrap_err();
        assert_eq!(error.to_string(), "an answer of more than 10 bytes");
    }
}
