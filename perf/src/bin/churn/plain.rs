//! Requests whose answers are no JSON, each over a connection of its own.
use crate::Failure;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The answer's body; an error unless it succeeded.
pub(crate) fn ask(address: SocketAddr, method: &str, path: &str) -> Result<String, Failure> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(
        connection,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    if !head.starts_with("HTTP/1.1 2") {
        return Err(format!("{method} {path}: {head}: {body}").into());
    }
    Ok(body.to_owned())
}

/// Series of metrics: those of each pod by its name, and how many are of none.
pub(crate) fn series(metrics: &str) -> (std::collections::BTreeMap<String, Vec<String>>, usize) {
    let mut of_pods = std::collections::BTreeMap::<String, Vec<String>>::new();
    let mut others = 0;
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let family = line.split(['{', ' ']).next().unwrap_or_default();
        let pod = line.split_once("pod=\"");
        match pod.and_then(|(_, rest)| rest.split_once('"')) {
            Some((pod, _)) => {
                let of_pod = of_pods.entry(pod.to_owned()).or_default();
                of_pod.push(family.to_owned());
            }
            None if !line.is_empty() => others += 1,
            None => {}
        }
    }
    (of_pods, others)
}
