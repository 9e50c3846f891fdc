//! SIGHUP: the configuration read again, what can change live taken, and the rest told of.
use super::serve::Source;
use kvroute::config::{ConfigError, Standing};
use kvroute::logging::Log;
use kvroute::node::Node;
use std::fmt::Display;
use std::time::Duration;

/// What is needed to read it again.
pub(super) struct Reload {
    source: Source,
    standing: Standing,
    log: &'static Log,
}

impl Reload {
    /// Of a node that was started with these settings.
    pub(super) fn new(source: Source, standing: Standing, log: &'static Log) -> Self {
        Self {
            source,
            standing,
            log,
        }
    }

    /// The time to end in, as it was set last.
    pub(super) fn grace(&self) -> Duration {
        self.standing.config().grace
    }

    /// Reads it again. If it cannot be used, nothing changes.
    pub(super) fn again(&mut self, node: &Node) {
        if let Err(error) = self.try_again(node) {
            node.count_bad_configuration();
            tracing::warn!(%error, "the configuration cannot be used; the last good one stays");
        }
    }

    fn try_again(&mut self, node: &Node) -> Result<(), ConfigError> {
        let given = self.source.given()?;
        let changes = self.standing.take(&given)?;
        let config = self.standing.config();
        // Before it is told, so that whoever reads it finds it so.
        node.take(config);
        for change in &changes.live {
            let (key, from) = (&*change.key, change.source.as_str());
            tracing::info!(key, was = %change.from, is = %change.to, from, "setting changed");
        }
        if !changes.restart.is_empty() {
            let keys = listed(&changes.restart);
            tracing::warn!(%keys, "settings have changed that need a restart; the old ones stay");
        }
        if let Err(error) = self.log.configure(&config.log.filter, config.log.rate) {
            tracing::warn!(%error, "cannot change what is logged");
        }
        for warning in given.warnings(config) {
            tracing::warn!("{warning}");
        }
        tracing::info!(changed = changes.live.len(), "configuration read again");
        Ok(())
    }
}

fn listed(items: &[impl Display]) -> String {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    items.join(", ")
}
