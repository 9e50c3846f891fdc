//! What finds pods and tells the fleet: Kubernetes and names on threads of their own, and one thread that looks at the fleet file
//! and brings the fleet to what all of them describe.
mod dns;
mod file;
mod kubernetes;
mod reconciler;

pub use dns::Names;
pub use kubernetes::{Kubernetes, KubernetesError};
pub use reconciler::Reconciler;

use crate::config::{Config, DiscoveryConfig};
use crate::fleet::{Fleet, Source};
use std::io;
use std::sync::Arc;

/// All that finds pods for a node. Dropping it ends it; the pods stay.
#[derive(Debug)]
pub struct Discovery {
    _kubernetes: Option<Kubernetes>,
    names: Option<Names>,
    // The last to go, so that what sources describe last is not lost in a queue.
    reconciler: Reconciler,
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
    /// From now on the fleet knows which sources it has to wait for.
    pub fn announce(config: &Config, fleet: &Fleet) {
        let found = &config.discovery;
        let sources = [
            (Source::File, config.fleet.is_some()),
            (Source::Kubernetes, found.kubernetes.is_some()),
            (Source::Dns, !found.dns.is_empty()),
        ];
        let asked = sources.into_iter().filter(|(_, asked)| *asked);
        asked.for_each(|(source, _)| fleet.sources().expect(source));
    }

    /// Starts what the settings ask for. A thread that is there in any case calls `each_second` about once a second.
    ///
    /// # Errors
    /// The system gives no thread, or the configuration to reach Kubernetes cannot be used.
    pub fn start(
        config: &Config,
        fleet: &Arc<Fleet>,
        each_second: impl FnMut() + Send + 'static,
    ) -> Result<Self, StartError> {
        let DiscoveryConfig {
            kubernetes,
            dns,
            dns_interval,
        } = &config.discovery;
        let reconciler = Reconciler::start(fleet, config.fleet.as_deref(), each_second)?;
        let kubernetes = kubernetes.as_ref();
        let kubernetes = kubernetes.map(|config| Kubernetes::start(config, fleet));
        let names = (!dns.is_empty()).then(|| Names::start(dns, *dns_interval, fleet));
        Ok(Self {
            _kubernetes: kubernetes.transpose()?,
            names: names.transpose()?,
            reconciler,
        })
    }

    /// Looks at all sources anew soon, as far as they do not tell by themselves.
    pub fn reload(&self) {
        self.reconciler.reload();
        if let Some(names) = &self.names {
            names.reload();
        }
    }
}
