//! What finds pods and tells the fleet: each source on a thread of its own, and one thread that brings the fleet to what they
//! describe.
mod reconciler;

pub use reconciler::Reconciler;

use crate::config::Config;
use crate::fleet::Fleet;
use std::io;
use std::sync::Arc;

/// All that finds pods for a node. Dropping it ends it; the pods stay.
#[derive(Debug)]
pub struct Discovery {
    // The last to go, so that what sources describe last is not lost in a queue.
    _reconciler: Reconciler,
}

impl Discovery {
    /// Starts what the settings ask for.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(_config: &Config, fleet: &Arc<Fleet>) -> io::Result<Self> {
        Ok(Self {
            _reconciler: Reconciler::start(fleet)?,
        })
    }
}
