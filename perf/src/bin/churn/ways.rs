//! The ways in which the node is told of pods, each with what may break in it.
use crate::Failure;
use crate::fleet::Pod;
use crate::plain;
use kvroute::demo::Client;
use kvroute_bench::Random;
use kvroute_tests::apiserver::{
    ApiServer, Fault, PodScript, PodTemplate, StreamFault, TOKEN, Verb,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Between two edits of the fleet file: a node reads it once it has been left alone for a while.
const FILE_INTERVAL: Duration = Duration::from_millis(3_500);

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Kubernetes,
    File,
    Http,
}

impl By {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::File => "file",
            Self::Http => "http",
        }
    }
}

impl FromStr for By {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let mut all = [Self::Kubernetes, Self::File, Self::Http].into_iter();
        all.find(|by| by.as_str() == name)
            .ok_or_else(|| format!("--by: {name:?} is none of kubernetes, file, http"))
    }
}

/// What is told of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Born,
    /// Another one has come under its name.
    Replaced,
    Relabelled,
    Moved,
    /// Its container has ended and is to be started again.
    Crashing,
    Restarted,
    Unready,
    Ready,
    Terminating,
    Evicted,
    /// After one of the last two.
    Gone,
}

/// One way, with what it needs.
pub(crate) enum Way {
    /// Set once the node is there.
    Http(Option<(SocketAddr, Client)>),
    File {
        folder: TempDir,
        pods: BTreeMap<String, Value>,
        changed: bool,
        written: Option<Instant>,
    },
    Kubernetes {
        server: Box<ApiServer>,
        pods: BTreeMap<String, PodScript>,
    },
}

impl Way {
    pub(crate) fn start(by: By) -> Result<Self, Failure> {
        let way = match by {
            By::Http => Self::Http(None),
            By::File => Self::File {
                folder: tempfile::tempdir()?,
                pods: BTreeMap::new(),
                changed: true,
                written: None,
            },
            By::Kubernetes => Self::Kubernetes {
                server: Box::new(ApiServer::start()),
                pods: BTreeMap::new(),
            },
        };
        Ok(way)
    }

    /// The file that the node begins with.
    pub(crate) fn path(&mut self) -> Result<Option<PathBuf>, Failure> {
        self.flush()?;
        Ok(match self {
            Self::Http(_) => None,
            Self::File { folder, .. } => Some(folder.path().join("fleet.yaml")),
            Self::Kubernetes { server, .. } => Some(server.kubeconfig(TOKEN)),
        })
    }

    /// The node is there.
    pub(crate) fn connect(&mut self, address: SocketAddr) {
        if let Self::Http(client) = self {
            *client = Some((address, Client::new(address)));
        }
    }

    /// Tells one thing of a pod. Kubernetes gives uids itself.
    pub(crate) fn tell(&mut self, pod: &mut Pod, step: Step) -> Result<(), Failure> {
        match self {
            Self::Http(None) => Err("the node is not there yet".into()),
            Self::Http(Some((address, client))) => by_http(*address, client, pod, step),
            Self::File { pods, changed, .. } => {
                match step {
                    Step::Born | Step::Replaced | Step::Relabelled | Step::Moved => {
                        pods.insert(pod.name.clone(), spec(pod));
                    }
                    Step::Terminating | Step::Evicted => {
                        pods.remove(&pod.name);
                    }
                    _ => return Ok(()),
                }
                *changed = true;
                Ok(())
            }
            Self::Kubernetes { server, pods } => by_kubernetes(server, pods, pod, step),
        }
    }

    /// What was told since the last time takes effect, now or a little later.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        if let Self::File {
            folder,
            pods,
            changed,
            written,
        } = self
            && *changed
            && written.is_none_or(|at| at.elapsed() > FILE_INTERVAL)
        {
            *changed = false;
            *written = Some(Instant::now());
            let pods: Vec<_> = pods.values().collect();
            replace(folder, &json!({"pods": pods}).to_string())?;
        }
        Ok(())
    }

    /// Whether all that was told has taken effect.
    pub(crate) fn is_flushed(&self) -> bool {
        !matches!(self, Self::File { changed: true, .. })
    }

    /// Something in the way breaks, and heals by itself.
    pub(crate) fn disturb(&mut self, random: &mut Random) -> Result<(), Failure> {
        match self {
            Self::Http(_) => {}
            Self::File {
                folder,
                changed,
                written,
                ..
            } => {
                replace(folder, "pods:\n  - pod: half of an ed")?;
                *changed = true;
                *written = Some(Instant::now());
            }
            Self::Kubernetes { server, .. } => match random.below(10) {
                0 => server.disturb(StreamFault::Close),
                1 => server.disturb(StreamFault::Break),
                2 => server.disturb(StreamFault::BreakAtNext(random.below(2_000))),
                3 => server.disturb(StreamFault::Expire),
                4 => server.disturb(StreamFault::Garbage),
                5 => server.disturb(StreamFault::Bookmark),
                6 => server.break_connections(),
                7 => {
                    // Whoever watches has to list again.
                    server.compact();
                    server.disturb(StreamFault::Close);
                }
                8 => {
                    let wait = Some(1);
                    server.fail_next(Verb::Watch, 1, Fault::Refuse(500, None));
                    server.fail_next(Verb::List, 1, Fault::Refuse(429, wait));
                    server.disturb(StreamFault::Expire);
                }
                _ => {
                    server.fail_next(Verb::List, 1, Fault::Delay(Duration::from_secs(1)));
                    server.restart();
                }
            },
        }
        Ok(())
    }
}

/// A pod as files and requests describe it.
fn spec(pod: &Pod) -> Value {
    let place = &pod.place;
    json!({
        "pod": pod.name, "uid": pod.uid, "model": pod.model, "endpoint": format!("{}:8000", place.ip),
        "events": place.events(), "replay": format!("tcp://{}:{}", place.ip, place.replay),
    })
}

fn by_http(address: SocketAddr, client: &mut Client, pod: &Pod, step: Step) -> Result<(), Failure> {
    let name = pod.name.replace('/', "%2F");
    let remove = || plain::ask(address, "DELETE", &format!("/v1/workers/{name}")).map(drop);
    match step {
        // Another uid takes the place of what is known.
        Step::Born | Step::Replaced => {}
        Step::Relabelled | Step::Moved => remove()?,
        Step::Terminating | Step::Evicted => return remove(),
        _ => return Ok(()),
    }
    let _: Value = client.post("/v1/workers", &spec(pod))?;
    Ok(())
}

/// Replaces the fleet file as one should: nobody sees half of it.
fn replace(folder: &TempDir, text: &str) -> Result<(), Failure> {
    let fresh = folder.path().join("fleet.fresh");
    std::fs::write(&fresh, text)?;
    Ok(std::fs::rename(&fresh, folder.path().join("fleet.yaml"))?)
}

fn by_kubernetes(
    server: &ApiServer,
    pods: &mut BTreeMap<String, PodScript>,
    pod: &mut Pod,
    step: Step,
) -> Result<(), Failure> {
    let there = || format!("{} is not there", pod.name);
    match step {
        Step::Born | Step::Replaced => {
            if let Some(old) = pods.get(&pod.name) {
                old.gone();
            }
            let script = server.create(template(pod)?);
            script.start(&pod.place.ip.to_string());
            pod.uid = script.uid();
            pods.insert(pod.name.clone(), script);
            return Ok(());
        }
        Step::Gone => {
            pods.remove(&pod.name).ok_or_else(there)?.gone();
            return Ok(());
        }
        _ => {}
    }
    let script = pods.get(&pod.name).ok_or_else(there)?;
    match step {
        Step::Relabelled => script.relabel("model.aibrix.ai/name", Some(&pod.model)),
        Step::Moved => {
            // Kubernetes tells an address and what it says about ports apart.
            let unusual = pod.place.events != 5_557;
            let [events, replay] =
                [pod.place.events, pod.place.replay].map(|port| port.to_string());
            script
                .annotate("kvroute.io/events-port", unusual.then_some(&events))
                .annotate("kvroute.io/replay-port", unusual.then_some(&replay))
                .change_ip(&pod.place.ip.to_string());
            pod.uid = script.uid();
            script
        }
        Step::Crashing => script.crash_container("engine"),
        Step::Restarted => script.restart_container("engine").ready(),
        Step::Unready => script.unready(),
        Step::Ready => script.ready(),
        Step::Terminating => script.delete(),
        _ => script.evict(),
    };
    Ok(())
}

fn template(pod: &Pod) -> Result<PodTemplate, Failure> {
    let (namespace, name) = pod.name.split_once('/').ok_or("no namespace")?;
    let template = PodTemplate::new(namespace, name)
        .label("model.aibrix.ai/name", &pod.model)
        .label("model.aibrix.ai/kv-events-enabled", "true")
        .label("model.aibrix.ai/port", "8000");
    Ok(match pod.place.events {
        5_557 => template,
        events => template
            .annotation("kvroute.io/events-port", events)
            .annotation("kvroute.io/replay-port", pod.place.replay),
    })
}
