//! The process of the node: it says where it answers, and what its index has as often as it is asked.
//!
//! It is told by lines on its standard input: a JSON list of (model, adapter) is answered by one line of JSON. It ends
//! with its input.
use crate::Failure;
use crate::ways::By;
use kvroute::config::{Config, KubernetesConfig, Namespaces, Preset};
use kvroute::node::Node;
use kvroute_engine::Index;
use serde_json::json;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// `node BY [PATH]`: told of pods in this way, with a fleet file or a kubeconfig at PATH. One IO thread and one HTTP
/// thread, with a snapshot every half minute.
pub(crate) fn run(words: &[&str]) -> Result<(), Failure> {
    let (by, path) = match words {
        [by] => (by.parse()?, None),
        [by, path] => (by.parse()?, Some(PathBuf::from(path))),
        _ => return Err("usage: churn node BY [PATH]".into()),
    };
    let folder = tempfile::tempdir()?;
    let mut config = Config {
        snapshot_dir: Some(folder.path().to_owned()),
        snapshot_interval: Some(Duration::from_secs(30)),
        ..Config::default()
    };
    match by {
        By::Http => {}
        By::File => config.fleet = path,
        By::Kubernetes => {
            config.discovery.kubernetes = Some(KubernetesConfig {
                namespaces: Namespaces::All,
                preset: Preset::Aibrix,
                selector: None,
                not_ready: false,
                kubeconfig: path,
            });
        }
    }
    let node = Node::start(&config)?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", node.http_addr())?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let names: Vec<(String, Option<String>)> = serde_json::from_str(&line?)?;
        writeln!(out, "{}", holdings(node.fleet().index(), &names))?;
        out.flush()?;
    }
    node.stop();
    Ok(())
}

/// What the index has.
fn holdings(index: &Arc<Index>, names: &[(String, Option<String>)]) -> serde_json::Value {
    let participant = index.participant();
    // What was given back is freed when nobody can see it any more: somebody has to look.
    participant.collect();
    let pin = participant.pin();
    let of = |(model, adapter): &(String, Option<String>)| {
        pin.contexts(model, adapter.as_deref()).count()
    };
    let contexts: usize = names.iter().map(of).sum();
    json!({"workers": index.workers(), "bytes": index.bytes(), "contexts": contexts})
}
