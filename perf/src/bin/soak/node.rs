//! The process of the node: it says where it answers, and runs until its standard input ends.
use crate::Failure;
use kvroute::config::Config;
use kvroute::node::Node;
use std::io::{Read, Write};
use std::time::Duration;

/// One IO thread and one HTTP thread, with a snapshot every half minute.
pub(crate) fn run() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let node = Node::start(&Config {
        snapshot_dir: Some(folder.path().to_owned()),
        snapshot_interval: Some(Duration::from_secs(30)),
        ..Config::default()
    })?;
    if !node.wait_entered(Duration::from_secs(60)) {
        return Err("the node does not start".into());
    }
    println!("{}", node.http_addr());
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    node.stop();
    Ok(())
}
