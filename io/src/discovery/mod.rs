//! What finds pods and tells the fleet: each source on a thread of its own, and one thread that brings the fleet to what they
//! describe.
mod dns;
mod file;
mod kubernetes;
mod reconciler;

pub use dns::Names;
pub use file::FleetFile;
pub use kubernetes::{Kubernetes, KubernetesError};
pub use reconciler::Reconciler;

use crate::config::{Config, DiscoveryConfig};
use crate::fleet::Fleet;
use std::io;
use std::sync::Arc;

/// All that finds pods for a node. Dropping it ends it; the pods stay.
#[derive(Debug)]
pub struct Discovery {
    file: Option<FleetFile>,
    _kubernetes: Option<Kubernetes>,
    names: Option<Names>,
    // The last to go, so that what sources describe last is not lost in a queue.
    _reconciler: Reconciler,
}

/// Why pods cannot be looked for.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system gives no thread.
    #[error("cannot start what finds pods: {0}")]
    Thread(#[from] io::Error),
    /// Kubernetes cannot be asked.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
}

impl StartError {
    /// Whether the configuration is at fault, and not the system that the node runs on.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Kubernetes(error) if error.is_configuration())
    }
}

impl Discovery {
    /// Starts what the settings ask for.
    ///
    /// # Errors
    /// The system gives no thread, or the configuration to reach Kubernetes cannot be used.
    pub fn start(config: &Config, fleet: &Arc<Fleet>) -> Result<Self, StartError> {
        let DiscoveryConfig {
            kubernetes,
            dns,
            dns_interval,
        } = &config.discovery;
        let reconciler = Reconciler::start(fleet)?;
        let file = config.fleet.as_deref();
        let file = file.map(|path| FleetFile::start(path, fleet));
        let kubernetes = kubernetes.as_ref();
        let kubernetes = kubernetes.map(|config| Kubernetes::start(config, fleet));
        let names = (!dns.is_empty()).then(|| Names::start(dns, *dns_interval, fleet));
        Ok(Self {
            file: file.transpose()?,
            _kubernetes: kubernetes.transpose()?,
            names: names.transpose()?,
            _reconciler: reconciler,
        })
    }

    /// Looks at all sources anew soon, as far as they do not tell by themselves.
    pub fn reload(&self) {
        if let Some(file) = &self.file {
            file.reload();
        }
        if let Some(names) = &self.names {
            names.reload();
        }
    }
}
