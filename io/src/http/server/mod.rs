//! The HTTP threads: each a single-threaded runtime with listeners of its own on the same ports.
//!
//! The kernel spreads connections over the listeners (SO_REUSEPORT); a connection stays on its
//! thread. Nothing is shared between the threads but the fleet's view, the index, and what is read again when it
//! changes: certificates, tokens, and some of the settings.
mod accept;
mod connection;
mod listen;
mod reload;
mod stream;
mod tls;
mod watch;

pub use tls::{TlsError, TlsFiles};

use super::access::{Door, Gate};
use super::aside::{self, Aside};
use super::body::Held;
use super::flow::Flow;
use super::live::{self, Live};
use super::route::{Router, Seat, seats};
use super::state::ThreadState;
use super::tokens::{Tokens, TokensError};
use crate::address::Address;
use crate::config::RoutingConfig;
use crate::fleet::Fleet;
use crate::limits::{
    BODY_BYTES_DEFAULT, CONNECTIONS_DEFAULT, DRAIN_TIME_DEFAULT, HEAD_TIME_MAX,
    HTTP_THREADS_PER_ASIDE, IDLE_TIME_DEFAULT, REQUESTS_DEFAULT, THREADS_MAX,
};
use crate::otel::Tracer;
use crate::status::{EndStep, Ending, HttpStatus, OwnStatus, SyncMode};
use crate::tokenize::Tokenizer;
use accept::{Listener, accept};
use arc_swap::ArcSwap;
use hyper::server::conn::http1;
use listen::{Bind, Bound, SocketFile};
use reload::Reloader;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tls::Tls;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch::{Receiver, Sender, channel};
use tokio::task::spawn_local;
use tokio::time::timeout_at;
use watch::Watch;

/// How the server runs.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// Where it listens.
    pub listen: Vec<Address>,
    /// Where it listens for what changes the node or shows all that it holds; without it, everywhere.
    pub admin_listen: Option<Address>,
    /// Number of threads, taken as 1 to [`THREADS_MAX`].
    pub threads: usize,
    /// Where knowledge of pods' caches comes from: `/readyz` and a metric tell of it.
    pub sync_mode: SyncMode,
    /// TLS on all TCP listeners.
    pub tls: Option<TlsFiles>,
    /// The file of the bearer tokens that clients need.
    pub token_file: Option<PathBuf>,
    /// The file of the bearer tokens that are needed to change the node.
    pub admin_token_file: Option<PathBuf>,
    /// Connections at once, over all threads.
    pub connections_max: usize,
    /// Bytes of a request's body.
    pub body_max: usize,
    /// Requests that each thread reads or answers at once.
    pub requests_max: usize,
    /// Time without a request after which a connection is closed.
    pub idle_time: Duration,
    /// Time for a request's head, from its first byte.
    pub head_time: Duration,
    /// Time between being not ready and accepting no more connections when the server is stopped.
    pub drain_notice: Duration,
    /// Time for requests in flight after that.
    pub drain_time: Duration,
    /// How pods are chosen.
    pub routing: RoutingConfig,
}

impl Default for ServerConfig {
    /// One thread on a port of the system's choice, of this machine only.
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()],
            admin_listen: None,
            threads: 1,
            sync_mode: SyncMode::default(),
            tls: None,
            token_file: None,
            admin_token_file: None,
            connections_max: CONNECTIONS_DEFAULT,
            body_max: BODY_BYTES_DEFAULT,
            requests_max: REQUESTS_DEFAULT,
            idle_time: IDLE_TIME_DEFAULT,
            head_time: HEAD_TIME_MAX,
            drain_notice: Duration::ZERO,
            drain_time: DRAIN_TIME_DEFAULT,
            routing: RoutingConfig::default(),
        }
    }
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address cannot be had.
    #[error("{key}: {address}: {source}")]
    Listen {
        /// The setting.
        key: &'static str,
        /// The address.
        address: Address,
        /// Why not.
        source: io::Error,
    },
    /// The certificate or its key cannot be used.
    #[error("tls_cert: {0}")]
    Tls(#[from] TlsError),
    /// A file of tokens cannot be used.
    #[error("{key}: {path}: {source}", path = path.display())]
    Tokens {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: TokensError,
    },
    /// A thread cannot be had.
    #[error("cannot start the HTTP threads: {0}")]
    Threads(#[from] io::Error),
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<Address>,
    admin_address: Option<Address>,
    status: Arc<HttpStatus>,
    flow: Arc<Flow>,
    live: live::Shared,
    /// Until when requests in flight may go on, once it stops.
    stopping: Sender<Option<Instant>>,
    threads: Vec<JoinHandle<()>>,
    reloader: Option<Reloader>,
    /// They end when the threads above have.
    _aside: aside::Threads,
    /// Removed after the threads have ended.
    _files: Vec<SocketFile>,
}

impl Server {
    /// Binds, and starts the threads. Fails if an address is in use, even by another node.
    pub fn start(config: &ServerConfig, fleet: &Arc<Fleet>) -> Result<Self, ServerError> {
        Self::start_with(config, fleet, None, None)
    }

    /// The same, with somebody who makes tokens of text, and somebody who decides which requests are traced.
    pub fn start_with(
        config: &ServerConfig,
        fleet: &Arc<Fleet>,
        tokenizer: Option<&Tokenizer>,
        tracer: Option<&Tracer>,
    ) -> Result<Self, ServerError> {
        let status = Arc::new(HttpStatus::of(config.sync_mode));
        let gate = Arc::new(gate(config, &status)?);
        let tls = config.tls.as_ref().map(Tls::load).transpose()?;
        let tls = tls.map(Arc::new);
        let mut binds = bind_all(config)?;
        let (for_clients, for_admins) = binds.split_at(config.listen.len());
        let addresses = for_clients.iter().map(|bind| bind.address.clone());
        let addresses = addresses.collect();
        let admin_address = for_admins.first().map(|bind| bind.address.clone());
        let live = Arc::new(ArcSwap::from_pointee(live_of(config)));
        let reloader = Reloader::start(&gate, tls.as_ref())?;
        let threads = config.threads.clamp(1, THREADS_MAX);
        let answer_aside = threads.div_ceil(HTTP_THREADS_PER_ASIDE);
        let seats = seats(threads + answer_aside, config.routing.decisions);
        let mut seats = seats.peekable();
        let counted = seats.peek().map(|seat| Arc::clone(seat.status().all()));
        let flow = Arc::new(Flow::new(fleet, &counted.unwrap_or_default(), &status));
        let states = seats.by_ref().take(answer_aside);
        let states = states.map(|seat| {
            let shared = (config, &live, &flow);
            begin(seat, fleet, &status, shared, (tokenizer, tracer))
        });
        let (aside, answering_aside) = Aside::start(states)?;
        let (stopping, stop) = channel(None);
        let mut server = Self {
            addresses,
            admin_address,
            status,
            flow,
            live,
            stopping,
            threads: Vec::new(),
            reloader,
            _aside: answering_aside,
            _files: binds
                .iter_mut()
                .filter_map(|bind| bind.file.take())
                .collect(),
        };
        for (number, seat) in seats.enumerate() {
            let sockets = binds.iter_mut().enumerate().filter_map(|(at, bind)| {
                let admin = config.admin_listen.is_some() && at == config.listen.len();
                Some((bind.sockets.pop()?, admin))
            });
            let thread = Thread {
                config: config.clone(),
                fleet: Arc::clone(fleet),
                gate: Arc::clone(&gate),
                flow: Arc::clone(&server.flow),
                live: Arc::clone(&server.live),
                tls: tls.clone(),
                aside: aside.clone(),
                seat,
                tokenizer: tokenizer.cloned(),
                tracer: tracer.cloned(),
                sockets: sockets.collect(),
                stop: stop.clone(),
            };
            server.threads.push(thread.start(number)?);
        }
        Ok(server)
    }

    /// Where it listens first by TCP, with the port that the system chose; 0.0.0.0:0 if it does not.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        let tcp = self.addresses.iter().find_map(|address| match address {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        });
        tcp.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
    }

    /// Where it listens, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The admin listener's address, if there is one.
    #[must_use]
    pub fn admin_address(&self) -> Option<&Address> {
        self.admin_address.as_ref()
    }

    /// What it counts.
    #[must_use]
    pub fn status(&self) -> &Arc<HttpStatus> {
        &self.status
    }

    /// Reads certificates and tokens again soon.
    pub fn reload(&self) {
        if let Some(reloader) = &self.reloader {
            reloader.reload();
        }
    }

    /// Goes on by these settings, as far as they can change while it runs: the share of workers for readiness, the times of
    /// the end, and how pods are chosen. Each thread sees them at its next request.
    pub fn take(&self, config: &ServerConfig) {
        self.live.store(Arc::new(live_of(config)));
    }

    /// Takes a sample of what the node does, for `/v1/flow`. O(workers).
    pub fn sample(&self) {
        self.flow.sample();
    }

    /// The same, for whoever is to do that each second.
    pub fn sampling(&self) -> impl Fn() + Send + use<> {
        let flow = Arc::clone(&self.flow);
        move || flow.sample()
    }

    /// It is about to stop: it is not ready any more, and what would never end ends.
    fn leave(&self) {
        self.status.leave();
        self.flow.end();
    }

    /// Says that it is not ready, for [`ServerConfig::drain_notice`]; then accepts no more connections, ends idle
    /// ones, lets requests in flight finish for up to [`ServerConfig::drain_time`], and joins the threads.
    pub fn stop(self) {
        self.stop_by(&Ending::default());
    }

    /// The same, as far as there is time for it.
    pub fn stop_by(self, ending: &Ending) {
        ending.enter(EndStep::Notice);
        self.leave();
        let live = self.live.load_full();
        thread::sleep(ending.at_most(live.drain_notice));
        ending.enter(EndStep::Requests);
        let until = Instant::now() + ending.at_most(live.drain_time);
        self.stopping.send_replace(Some(until));
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.leave();
        let until = Instant::now() + self.live.load().drain_time;
        self.stopping.send_if_modified(|stopping| {
            let first = stopping.is_none();
            *stopping = stopping.or(Some(until));
            first
        });
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("an HTTP thread has panicked");
            }
        }
    }
}

/// What a thread that answers aside begins with.
fn begin(
    seat: Seat,
    fleet: &Arc<Fleet>,
    status: &Arc<HttpStatus>,
    (config, live, flow): (&ServerConfig, &live::Shared, &Arc<Flow>),
    (tokenizer, tracer): (Option<&Tokenizer>, Option<&Tracer>),
) -> impl FnOnce() -> ThreadState + Send + use<> {
    let (fleet, status) = (Arc::clone(fleet), Arc::clone(status));
    let (live, flow) = (Arc::clone(live), Arc::clone(flow));
    let router = Router::new(seat, &config.routing);
    let (tokenizer, tracer) = (tokenizer.cloned(), tracer.cloned());
    move || ThreadState::new(fleet, status, (&live, flow), router, tokenizer, tracer)
}

/// What of the settings can change.
fn live_of(config: &ServerConfig) -> Live {
    Live {
        drain_notice: config.drain_notice,
        drain_time: config.drain_time,
        routing: live::Routing::of(&config.routing),
    }
}

/// Who may have what.
fn gate(config: &ServerConfig, status: &Arc<HttpStatus>) -> Result<Gate, ServerError> {
    let tokens = |key, path: &Option<PathBuf>| load_tokens(key, path.as_deref());
    Ok(Gate {
        tokens: tokens("token_file", &config.token_file)?,
        admin_tokens: tokens("admin_token_file", &config.admin_token_file)?,
        separate: config.admin_listen.is_some(),
        requests_max: config.requests_max,
        status: Arc::clone(status),
    })
}

/// The addresses for clients, and then that for admins if it is one of its own.
fn bind_all(config: &ServerConfig) -> Result<Vec<Bind>, ServerError> {
    let for_clients = config.listen.iter().map(|address| ("listen", address));
    let for_admins = config.admin_listen.iter();
    let all = for_clients.chain(for_admins.map(|address| ("admin_listen", address)));
    all.map(|(key, address)| bind(key, address, config.threads))
        .collect()
}

fn bind(key: &'static str, address: &Address, threads: usize) -> Result<Bind, ServerError> {
    let threads = threads.clamp(1, THREADS_MAX);
    Bind::new(address, threads).map_err(|source| ServerError::Listen {
        key,
        address: address.clone(),
        source,
    })
}

/// Whether the certificate and the files of tokens can be used, without starting anything.
///
/// # Errors
/// The first that cannot.
pub fn check_files(config: &ServerConfig) -> Result<(), ServerError> {
    load_tokens("token_file", config.token_file.as_deref())?;
    load_tokens("admin_token_file", config.admin_token_file.as_deref())?;
    config.tls.as_ref().map(Tls::load).transpose()?;
    Ok(())
}

fn load_tokens(key: &'static str, path: Option<&Path>) -> Result<Option<Tokens>, ServerError> {
    let tokens = path.map(|path| {
        Tokens::load(path).map_err(|source| ServerError::Tokens {
            key,
            path: path.to_owned(),
            source,
        })
    });
    tokens.transpose()
}

/// What a thread's connections share.
#[derive(Debug)]
struct Shared {
    state: RefCell<ThreadState>,
    /// What the thread counts.
    status: OwnStatus,
    held: Held,
    aside: Aside,
    watch: Rc<Watch>,
    http: http1::Builder,
    connections_max: usize,
}

/// What a thread begins with.
struct Thread {
    config: ServerConfig,
    fleet: Arc<Fleet>,
    gate: Arc<Gate>,
    flow: Arc<Flow>,
    live: live::Shared,
    tls: Option<Arc<Tls>>,
    aside: Aside,
    seat: Seat,
    tokenizer: Option<Tokenizer>,
    tracer: Option<Tracer>,
    /// Each with whether it is the admin listener's.
    sockets: Vec<(Bound, bool)>,
    stop: Receiver<Option<Instant>>,
}

impl Thread {
    /// Returns when the thread listens.
    fn start(self, number: usize) -> io::Result<JoinHandle<()>> {
        let (ready, started) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name(format!("kvroute-http-{number}"))
            .spawn(move || self.run(&ready))?;
        match started.recv() {
            Ok(Ok(())) => Ok(thread),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("an HTTP thread ended at its start")),
        }
    }

    fn run(self, ready: &mpsc::SyncSender<io::Result<()>>) {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(self.serve(ready)),
            Err(error) => drop(ready.send(Err(error))),
        }
    }

    /// From the start to the end of the last connection.
    async fn serve(self, ready: &mpsc::SyncSender<io::Result<()>>) {
        let config = &self.config;
        let under_way = Rc::new(Cell::new(0));
        let listeners = self.sockets.into_iter().map(|(bound, admin)| {
            let door = Door {
                gate: Arc::clone(&self.gate),
                admin,
                under_way: Rc::clone(&under_way),
            };
            Listener::new(bound, self.tls.as_ref(), door)
        });
        let listeners: Vec<_> = match listeners.collect::<io::Result<_>>() {
            Ok(listeners) => listeners,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let status = Arc::clone(&self.gate.status);
        let shared = Rc::new(Shared {
            status: self.seat.status().clone(),
            state: RefCell::new(ThreadState::new(
                self.fleet,
                status,
                (&self.live, self.flow),
                Router::new(self.seat, &config.routing),
                self.tokenizer,
                self.tracer,
            )),
            held: Held::new(config.body_max),
            aside: self.aside,
            watch: Rc::new(Watch::new(config.idle_time, config.head_time)),
            http: connection::http(),
            connections_max: config.connections_max,
        });
        let accepting: Vec<_> = listeners
            .into_iter()
            .map(|listener| spawn_local(accept(listener, Rc::clone(&shared))))
            .collect();
        let watch = Rc::clone(&shared.watch);
        drop(spawn_local(async move { watch.keep().await }));
        // It is waited for.
        let _ = ready.send(Ok(()));
        let mut stop = self.stop;
        let until = stop.wait_for(Option::is_some).await;
        let until = until.ok().and_then(|until| *until);
        for task in accepting {
            task.abort();
            // Its listener is closed when it has ended.
            let _ = task.await;
        }
        shared.watch.finish();
        let ended = shared.watch.empty();
        let until = until.unwrap_or_else(Instant::now);
        if timeout_at(until.into(), ended).await.is_err() {
            tracing::warn!(
                connections = shared.watch.len(),
                "some requests were not finished in time"
            );
        }
    }
}
