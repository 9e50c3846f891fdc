//! A whole node: index, IO threads, fleet, probe, HTTP server.
//!
//! Its start, in this order: the settings and the files that they name are checked; it listens, and `/healthz` answers; something
//! to start from is had from peers or disk; the pods that were described are entered; workers are synchronised; it is ready. All but
//! the first two go on beside the caller.
use crate::address::Address;
use crate::config::{Config, RoutingConfig, TokenizerMode};
use crate::discovery::{self, Discovery, Kubernetes};
use crate::fleet::{
    AddError, Described, FileError, Fleet, PodSpec, Source, Terms, check_pods, read_pods,
};
use crate::http::{Server, ServerConfig, ServerError, TlsFiles, check_files};
use crate::load::Clock;
use crate::otel::{self, Tracer};
use crate::predict::{LearnConfig, Learner};
use crate::probe::{Probe, ProbeConfig};
use crate::start::Starting;
use crate::status::{EndStep, Ending, Reloaded};
use crate::stream::follow::Timing;
use crate::stream::{Streams, StreamsConfig};
use crate::tokenize::{self, Tokenizer};
use crate::warm::Keeper;
use kvroute_engine::{Budget, Index, IndexConfig};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A running node. Dropping it stops it, the HTTP server first.
#[derive(Debug)]
pub struct Node {
    server: Server,
    keeper: Option<Keeper>,
    tokenizer: Option<tokenize::Running>,
    /// Ends after whoever traces requests.
    otel: Option<otel::Running>,
    probe: Option<Probe>,
    starting: Starting,
    discovery: Discovery,
    fleet: Arc<Fleet>,
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The fleet file cannot be used.
    #[error("fleet: {0}")]
    FleetFile(#[from] FileError),
    /// A pod of the fleet file cannot be used.
    #[error("fleet: {path}: pods[{at}]: {source}", path = path.display())]
    Pod {
        /// The file.
        path: PathBuf,
        /// The pod's place in the list.
        at: usize,
        /// What is wrong with it.
        source: AddError,
    },
    /// The folder of the snapshot cannot be used.
    #[error("snapshot_dir: {path}: {source}", path = path.display())]
    Snapshot {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The IO threads cannot be started.
    #[error("cannot start the IO threads: {0}")]
    Streams(io::Error),
    /// The thread that learns from decisions cannot be started.
    #[error("cannot start the thread that learns from decisions: {0}")]
    Learner(io::Error),
    /// The probe's thread cannot be started.
    #[error("cannot start the probe: {0}")]
    Probe(io::Error),
    /// The thread of the start cannot be started.
    #[error("cannot go on with the start: {0}")]
    Thread(io::Error),
    /// What finds pods cannot be started.
    #[error(transparent)]
    Discovery(discovery::StartError),
    /// The thread that exports spans cannot be started.
    #[error("cannot start the thread that exports spans: {0}")]
    Otel(io::Error),
    /// The tokenizer cannot be started.
    #[error(transparent)]
    Tokenizer(tokenize::StartError),
    /// An address to listen on cannot be had, or the HTTP server cannot be started for another reason.
    #[error(transparent)]
    Server(#[from] ServerError),
}

impl StartError {
    /// Whether the configuration is at fault, and not the system that the node runs on.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::FleetFile(_) | Self::Snapshot { .. } => true,
            Self::Pod { source, .. } => {
                !matches!(source, AddError::NoRoom { .. } | AddError::Starting)
            }
            Self::Server(ServerError::Tls(_) | ServerError::Tokens { .. }) => true,
            Self::Tokenizer(tokenize::StartError::Local { .. }) => true,
            Self::Discovery(error) => error.is_configuration(),
            Self::Streams(_)
            | Self::Learner(_)
            | Self::Otel(_)
            | Self::Tokenizer(_)
            | Self::Probe(_)
            | Self::Thread(_)
            | Self::Server(_) => false,
        }
    }
}

impl Node {
    /// Starts a node: it answers when this returns, and the rest of its start goes on ([`Node::wait_entered`],
    /// `/readyz`). Nothing is bound unless settings and files can be used.
    ///
    /// # Errors
    /// The first that cannot; an address or a thread that is not to be had.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        let pods = check_named_files(config)?;
        if let Some(folder) = &config.snapshot_dir {
            Keeper::check(folder).map_err(|source| snapshot_error(folder, source))?;
        }
        raise_file_limit();
        let fleet = fleet(config)?;
        let tokenizer = match config.tokenizer.mode {
            TokenizerMode::Off => None,
            TokenizerMode::Remote => Some(Tokenizer::start(&config.tokenizer, &fleet)),
        };
        let tokenizer = tokenizer.transpose().map_err(StartError::Tokenizer)?;
        let way = tokenizer.as_ref().map(tokenize::Running::tokenizer);
        let otel = Tracer::start(&config.otlp).map_err(StartError::Otel)?;
        let tracer = otel.as_ref().map(otel::Running::tracer);
        // Whatever it waits for is known before somebody can ask for it.
        Starting::announce(config, &fleet);
        if let Some(pods) = pods {
            let pods = pods.into_iter().map(Described::from);
            fleet.follow(Source::File, pods.collect(), Vec::new());
        }
        Discovery::announce(config, &fleet);
        let server = Server::start_with(&server_config(config), &fleet, way, tracer)?;
        // The way to Kubernetes may be told by a program, which takes its time.
        let discovery = Discovery::start(config, &fleet, server.sampling());
        let discovery = discovery.map_err(StartError::Discovery)?;
        let keeper = config.snapshot_dir.clone().map(|folder| {
            let keeper = Keeper::start(&fleet, folder.clone(), config.snapshot_interval);
            keeper.map_err(|source| snapshot_error(&folder, source))
        });
        let probe = ProbeConfig::of(config.probe_interval, config.routing.load_interval);
        let probe = probe.map(|probe| Probe::start(probe, &fleet)).transpose();
        Ok(Self {
            server,
            keeper: keeper.transpose()?,
            tokenizer,
            otel,
            probe: probe.map_err(StartError::Probe)?,
            starting: Starting::begin(config, &fleet).map_err(StartError::Thread)?,
            discovery,
            fleet,
        })
    }

    /// Waits until what to start from is decided and all pods that the sources described first are entered; `false` if that
    /// takes longer than this. Pods that come in process ([`Fleet::add`]) are taken from then on, and before it only by nodes without
    /// peers and snapshot.
    #[must_use]
    pub fn wait_entered(&self, patience: Duration) -> bool {
        let begun = Instant::now();
        while !self.fleet.is_entered() {
            if begun.elapsed() > patience {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Whether the files that the settings name can be used, without starting anything: how many pods the fleet file
    /// has.
    pub fn check(config: &Config) -> Result<usize, StartError> {
        let pods = check_named_files(config)?;
        tokenize::check(&config.tokenizer).map_err(StartError::Tokenizer)?;
        Ok(pods.map_or(0, |pods| pods.len()))
    }

    /// The fleet, to add and remove pods in process.
    #[must_use]
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// Where it answers HTTP, with the port that the system chose.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Where it answers HTTP, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        self.server.addresses()
    }

    /// The admin listener's address, if there is one.
    #[must_use]
    pub fn admin_address(&self) -> Option<&Address> {
        self.server.admin_address()
    }

    /// Reads certificates, tokens and the fleet file again soon.
    pub fn reload(&self) {
        self.server.reload();
        self.discovery.reload();
    }

    /// Goes on by these settings, as far as a running node takes them.
    pub fn take(&self, config: &Config) {
        self.fleet.start().set_terms(terms(config));
        self.server.take(&server_config(config));
    }

    /// Counts a configuration that was read again and cannot be used.
    pub fn count_bad_configuration(&self) {
        let status = self.server.status();
        status.add_reload_failure(Reloaded::Configuration);
    }

    /// Lets requests in flight finish, writes the last snapshot, then ends the threads; those that receive events unless somebody
    /// else keeps the fleet.
    pub fn stop(self) {
        self.stop_by(&Ending::default());
    }

    /// The same, as far as there is time for it: steps are cut short, and what cannot be is left to whoever watches over
    /// `ending`.
    pub fn stop_by(self, ending: &Ending) {
        self.starting.stop();
        self.server.stop_by(ending);
        ending.enter(EndStep::Snapshot);
        if let Some(keeper) = self.keeper {
            keeper.stop_by(ending.deadline());
        }
        ending.enter(EndStep::Threads);
        drop((self.tokenizer, self.probe, self.starting, self.discovery));
        drop(self.otel);
    }
}

/// Whether the files that the settings name can be used; the pods of the fleet file, if there is one.
fn check_named_files(config: &Config) -> Result<Option<Vec<PodSpec>>, StartError> {
    let pods = config.fleet.as_deref().map(read_pods).transpose()?;
    let checked = check_pods(pods.clone().unwrap_or_default());
    checked.map_err(|(at, source)| pod_error(config, at, source))?;
    check_files(&server_config(config))?;
    if let Some(kubernetes) = &config.discovery.kubernetes {
        let checked = Kubernetes::check(kubernetes);
        checked.map_err(|error| StartError::Discovery(error.into()))?;
    }
    Ok(pods)
}

/// The fleet, empty, with all that fills it.
fn fleet(config: &Config) -> Result<Arc<Fleet>, StartError> {
    let index = Index::new(IndexConfig {
        hash_seed: config.hash_seed.0,
        contexts_max: config.contexts_max,
        budget: Budget {
            bytes: config.index_max,
            ..Budget::default()
        },
    });
    let streams = StreamsConfig {
        threads: config.io_threads,
        pin: config.pin,
        replays: config.replays,
        timing: Timing {
            replay: config.replay_timeout,
            ..Timing::default()
        },
    };
    let streams = Streams::start(&index, &streams).map_err(StartError::Streams)?;
    let routing = &config.routing;
    let clock = Clock::new(routing.request_time, routing.load_interval);
    let learner = Learner::start(&index, learn_config(routing)).map_err(StartError::Learner)?;
    let fleet = Fleet::new(index, streams).timed(clock);
    let fleet = fleet.learning(learner, routing.event_sync);
    fleet.start().set_terms(terms(config));
    Ok(Arc::new(fleet))
}

/// What readiness asks for.
fn terms(config: &Config) -> Terms {
    Terms {
        share: config.ready_share,
        patience: config.ready_timeout,
    }
}

fn snapshot_error(folder: &Path, source: io::Error) -> StartError {
    StartError::Snapshot {
        path: folder.to_owned(),
        source,
    }
}

fn pod_error(config: &Config, at: usize, source: AddError) -> StartError {
    StartError::Pod {
        path: config.fleet.as_deref().unwrap_or(Path::new("")).to_owned(),
        at,
        source,
    }
}

fn learn_config(routing: &RoutingConfig) -> LearnConfig {
    LearnConfig {
        speculative: routing.speculative_time,
        approximate: routing.approximate_time,
        max_blocks: routing.approximate_blocks,
        shadow: routing.shadow,
    }
}

fn server_config(config: &Config) -> ServerConfig {
    ServerConfig {
        listen: config.listen.clone(),
        admin_listen: config.admin_listen.clone(),
        threads: config.http_threads,
        sync_mode: config.sync_mode,
        tls: config.tls.as_ref().map(|(cert, key)| TlsFiles {
            cert: cert.clone(),
            key: key.clone(),
        }),
        token_file: config.token_file.clone(),
        admin_token_file: config.admin_token_file.clone(),
        connections_max: config.connections_max,
        body_max: config.body_max,
        requests_max: config.requests_max,
        idle_time: config.idle_timeout,
        drain_notice: config.drain_notice,
        drain_time: config.drain,
        routing: config.routing.clone(),
        ..ServerConfig::default()
    }
}

/// Raises the limit of open files as far as the system lets us: a worker takes four or five, and the usual limit is
/// 1,024.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
