//! What finds pods and tells the fleet: each source on a thread of its own, and one thread that brings the fleet to what they
//! describe.
mod dns;
mod file;
mod reconciler;

pub use dns::Names;
pub use file::FleetFile;
pub use reconciler::Reconciler;

use crate::config::{Config, DiscoveryConfig};
use crate::fleet::Fleet;
use std::io;
use std::sync::Arc;

/// All that finds pods for a node. Dropping it ends it; the pods stay.
#[derive(Debug)]
pub struct Discovery {
    file: Option<FleetFile>,
    names: Option<Names>,
    // The last to go, so that what sources describe last is not lost in a queue.
    _reconciler: Reconciler,
}

impl Discovery {
    /// Starts what the settings ask for.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(config: &Config, fleet: &Arc<Fleet>) -> io::Result<Self> {
        let DiscoveryConfig {
            dns, dns_interval, ..
        } = &config.discovery;
        let file = config.fleet.as_deref();
        let file = file.map(|path| FleetFile::start(path, fleet));
        let names = (!dns.is_empty()).then(|| Names::start(dns, *dns_interval, fleet));
        Ok(Self {
            file: file.transpose()?,
            names: names.transpose()?,
            _reconciler: Reconciler::start(fleet)?,
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
