//! Names of hosts to addresses, on threads of their own.
//!
//! libzmq resolves a name in the thread that moves the bytes of all workers, each time it connects: one name whose
//! server does not answer would hold up everybody. So libzmq is given addresses only. Most fleets have none but
//! addresses; the threads are started with the first name.
use super::{Inbox, Note};
use crate::limits::{ADDRESSES_MAX, RESOLVER_QUEUE_MAX, RESOLVER_THREADS};
use crossbeam_channel::{Receiver, Sender, bounded};
use kvroute_engine::types::WorkerId;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread;

/// Resolves for all workers.
#[derive(Clone, Debug, Default)]
pub(super) struct Resolver {
    queue: Arc<OnceLock<Sender<Query>>>,
    tickets: Arc<AtomicU64>,
}

/// Somebody's question.
#[derive(Debug)]
struct Query {
    endpoints: Vec<String>,
    /// Given back with the answer, so that it reaches nobody else: numbers of workers are used again.
    ticket: u64,
    worker: WorkerId,
    inbox: Arc<Inbox>,
}

/// An answer, and the ticket of its question.
pub(super) type Answered = (u64, Resolved);

/// For each of the endpoints asked for the same with addresses in place of the name, those of IPv4 first: engines
/// rarely listen on others. Or the name that has no address, and why.
pub(super) type Resolved = Result<Vec<Vec<String>>, String>;

/// Whether an endpoint has a name to be resolved.
pub(super) fn has_name(endpoint: &str) -> bool {
    host_and_port(endpoint).is_some_and(|(host, _)| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().is_err()
    })
}

impl Resolver {
    /// Has endpoints resolved; the answer comes as a note with the ticket given here. `None` if too many wait.
    pub(super) fn ask(
        &self,
        endpoints: Vec<String>,
        worker: WorkerId,
        inbox: &Arc<Inbox>,
    ) -> Option<u64> {
        let queue = self.queue.get_or_init(start);
        // Relaxed: a count.
        let ticket = self.tickets.fetch_add(1, Relaxed);
        let query = Query {
            endpoints,
            ticket,
            worker,
            inbox: Arc::clone(inbox),
        };
        queue.try_send(query).is_ok().then_some(ticket)
    }
}

/// Starts the threads. They end with the last one who may ask.
fn start() -> Sender<Query> {
    let (sender, queue) = bounded::<Query>(RESOLVER_QUEUE_MAX);
    for n in 0..RESOLVER_THREADS {
        let queue = queue.clone();
        let thread = thread::Builder::new().name(format!("kvroute-names-{n}"));
        if let Err(error) = thread.spawn(move || run(&queue)) {
            tracing::error!(%error, "cannot start a thread that resolves names");
        }
    }
    sender
}

fn run(queue: &Receiver<Query>) {
    for query in queue {
        let all = query.endpoints.iter().map(|endpoint| resolve(endpoint));
        let resolved = all.collect();
        query
            .inbox
            .tell(query.worker, Note::Resolved((query.ticket, resolved)));
    }
}

/// The endpoint with each of its host's addresses.
fn resolve(endpoint: &str) -> Result<Vec<String>, String> {
    let Some((host, port)) = host_and_port(endpoint).filter(|_| has_name(endpoint)) else {
        return Ok(vec![endpoint.to_owned()]);
    };
    let found = port
        .parse::<u16>()
        .map_err(io::Error::other)
        .and_then(|port| (host, port).to_socket_addrs());
    let found = found.map_err(|error| format!("{host}: {error}"))?;
    let mut found: Vec<_> = found.take(ADDRESSES_MAX).collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    if found.is_empty() {
        return Err(format!("{host}: no address"));
    }
    let written = found.iter().map(|address| format!("tcp://{address}"));
    Ok(written.collect())
}

/// `tcp://host:port` in its parts.
fn host_and_port(endpoint: &str) -> Option<(&str, &str)> {
    endpoint.strip_prefix("tcp://")?.rsplit_once(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_resolved() {
        for address in [
            "tcp://10.0.0.7:5557",
            "tcp://[fd00::1]:5557",
            "ipc:///tmp/localhost:1",
        ] {
            assert!(!has_name(address), "{address}");
            assert_eq!(resolve(address), Ok(vec![address.to_owned()]));
        }
        assert!(has_name("tcp://vllm-0.vllm:5557"));
        let local = resolve("tcp://localhost:5557").expect("every machine knows it");
        assert_eq!(local[0], "tcp://127.0.0.1:5557");
        let error = resolve("tcp://no-such-host.invalid:5557").unwrap_err();
        assert!(error.contains("no-such-host.invalid"), "{error}");
    }
}
