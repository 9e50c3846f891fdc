//! Pods of Kubernetes, found by their labels and followed by watches on a thread of their own. Nothing but `get`, `list` and
//! `watch` of pods is ever asked for.
mod book;
mod client;
mod follower;
mod labels;
mod object;
mod pods;
mod problem;
#[cfg(test)]
mod tests;
mod watch;

pub use client::KubernetesError;

use crate::config::{KubernetesConfig, Namespaces};
use crate::fatal::ExitOnPanic;
use crate::fleet::{Fleet, Source};
use crate::limits::{SERVER_CONFIG_TIME, WATCH_STOP_TIME};
use crossbeam_channel::{Receiver, Sender, bounded};
use follower::Follower;
use futures_util::future::join_all;
use kube::Client;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::thread;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use watch::{Watch, Where};

/// The thread. Dropping it ends it; the pods stay.
#[derive(Debug)]
pub struct Kubernetes {
    stop: Option<oneshot::Sender<()>>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

/// What the thread says once it can begin.
type Begun = Sender<Result<(), KubernetesError>>;

impl Kubernetes {
    /// Whether the file that the settings name can be used, without asking anybody. Where the node runs there may be
    /// a service account that is not here, so nothing else is looked at.
    ///
    /// # Errors
    /// The file cannot be read, or is none.
    pub fn check(config: &KubernetesConfig) -> Result<(), KubernetesError> {
        client::check(config)
    }

    /// Finds out how to reach Kubernetes and starts the watches; whether anybody answers shows in the fleet's sources.
    ///
    /// # Errors
    /// The configuration to reach Kubernetes cannot be used, or the system gives no thread.
    pub fn start(config: &KubernetesConfig, fleet: &Arc<Fleet>) -> Result<Self, KubernetesError> {
        fleet.sources().expect(Source::Kubernetes);
        let (stop, stopped) = oneshot::channel();
        let (ends, ended) = bounded(0);
        let (begins, begun) = bounded(1);
        let (config, fleet) = (config.clone(), Arc::clone(fleet));
        thread::Builder::new()
            .name("kvroute-kubernetes".to_owned())
            .spawn(move || {
                let _watch = ExitOnPanic;
                let _ends: Sender<()> = ends;
                run(&config, &fleet, stopped, &begins);
            })
            .map_err(KubernetesError::Thread)?;
        match begun.recv_timeout(SERVER_CONFIG_TIME) {
            Ok(Ok(())) => Ok(Self {
                stop: Some(stop),
                ended,
            }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(KubernetesError::Slow),
        }
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        self.stop = None;
        if self
            .ended
            .recv_timeout(WATCH_STOP_TIME)
            .is_err_and(|error| error.is_timeout())
        {
            tracing::warn!(
                "the thread that watches Kubernetes still waits for its token, and is left alone"
            );
        }
    }
}

/// The thread, from its begin to its end.
fn run(
    config: &KubernetesConfig,
    fleet: &Arc<Fleet>,
    stopped: oneshot::Receiver<()>,
    begun: &Begun,
) {
    let begin = || -> Result<(Runtime, Client, String), KubernetesError> {
        let runtime = runtime().map_err(KubernetesError::Thread)?;
        let (client, namespace) = runtime.block_on(client::connect(config))?;
        Ok((runtime, client, namespace))
    };
    let (runtime, client, namespace) = match begin() {
        Ok(begun) => begun,
        Err(error) => {
            let _ = begun.send(Err(error));
            return;
        }
    };
    let _ = begun.send(Ok(()));
    let places = places(config, namespace);
    let follower = Follower::new(fleet, config, places.len());
    let watches = places
        .iter()
        .map(|place| Watch::new(&client, &follower, place).run());
    runtime.block_on(async {
        tokio::select! {
            _ = stopped => {}
            _ = join_all(watches) => {}
            _ = follower.tell() => {}
        }
    });
    drop(client);
    // Whoever resolves a name there is not waited for.
    runtime.shutdown_background();
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// What is watched; one watch for each.
fn places(config: &KubernetesConfig, own: String) -> Vec<Where> {
    let namespaces = match &config.namespaces {
        Namespaces::Own => vec![Some(own)],
        Namespaces::Named(names) => names.iter().cloned().map(Some).collect(),
        Namespaces::All => vec![None],
    };
    let selector = labels::selector(config.preset, config.selector.as_deref());
    // A namespace that is named twice is watched once.
    let namespaces: BTreeSet<_> = namespaces.into_iter().collect();
    let numbered = (0..).zip(namespaces);
    let place = |(at, namespace)| Where {
        at,
        namespace,
        selector: selector.clone(),
    };
    numbered.map(place).collect()
}
