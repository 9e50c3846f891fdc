//! A whole node: index, IO threads, fleet, probe, HTTP server.
use crate::address::Address;
use crate::config::{Config, RoutingConfig, TokenizerMode};
use crate::discovery::{self, Discovery};
use crate::fleet::{AddError, Described, FileError, Fleet, Source, check_pods, read_pods};
use crate::http::{Server, ServerConfig, ServerError, TlsFiles, check_files};
use crate::load::Clock;
use crate::predict::{LearnConfig, Learner};
use crate::probe::{Probe, ProbeConfig};
use crate::stream::follow::Timing;
use crate::stream::{Streams, StreamsConfig};
use crate::tokenize::{self, Tokenizer};
use crate::warm::{self, Keeper};
use kvroute_engine::{Index, IndexConfig};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A running node. Dropping it stops it, the HTTP server first.
#[derive(Debug)]
pub struct Node {
    server: Server,
    tokenizer: Option<tokenize::Running>,
    keeper: Option<Keeper>,
    probe: Option<Probe>,
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
    /// What finds pods cannot be started.
    #[error(transparent)]
    Discovery(discovery::StartError),
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
            Self::Pod { source, .. } => !matches!(source, AddError::NoRoom { .. }),
            Self::Server(ServerError::Tls(_) | ServerError::Tokens { .. }) => true,
            Self::Tokenizer(tokenize::StartError::Local { .. }) => true,
            Self::Discovery(error) => error.is_configuration(),
            Self::Streams(_)
            | Self::Learner(_)
            | Self::Tokenizer(_)
            | Self::Probe(_)
            | Self::Server(_) => false,
        }
    }
}

impl Node {
    /// Starts a node; it subscribes to the pods of the fleet file and answers when this returns.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        let pods = config.fleet.as_deref().map(read_pods).transpose()?;
        let pods = pods.unwrap_or_default();
        check_pods(pods.clone()).map_err(|(at, source)| pod_error(config, at, source))?;
        let index = Index::new(IndexConfig {
            hash_seed: config.hash_seed,
            contexts_max: config.contexts_max,
            ..IndexConfig::default()
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
        raise_file_limit();
        let streams = Streams::start(&index, &streams).map_err(StartError::Streams)?;
        let routing = &config.routing;
        let clock = Clock::new(routing.request_time, routing.load_interval);
        let learner = Learner::start(&index, learn_config(routing)).map_err(StartError::Learner)?;
        let fleet = Fleet::new(index, streams).timed(clock);
        let fleet = Arc::new(fleet.learning(learner, routing.event_sync));
        let folder = config.snapshot_dir.as_deref();
        if let Some(snapshot) = warm::find(&config.peers, folder, config.hash_seed) {
            fleet.start_from(snapshot);
        }
        if config.fleet.is_some() {
            let pods = pods.into_iter().map(Described::from);
            fleet.follow(Source::File, pods.collect(), Vec::new());
            while fleet.reconcile().more {}
        }
        let tokenizer = match config.tokenizer.mode {
            TokenizerMode::Off => None,
            TokenizerMode::Remote => Some(Tokenizer::start(&config.tokenizer, &fleet)),
        };
        let tokenizer = tokenizer.transpose().map_err(StartError::Tokenizer)?;
        let way = tokenizer.as_ref().map(tokenize::Running::tokenizer);
        let server = Server::start_with(&server_config(config), &fleet, way)?;
        let keeper = config
            .snapshot_dir
            .clone()
            .map(|folder| Keeper::start(&fleet, folder, config.snapshot_interval))
            .transpose()
            .map_err(|source| StartError::Snapshot {
                path: config.snapshot_dir.clone().unwrap_or_default(),
                source,
            })?;
        let probe = ProbeConfig::of(config.probe_interval, routing.load_interval);
        let probe = probe.map(|probe| Probe::start(probe, &fleet)).transpose();
        Ok(Self {
            server,
            tokenizer,
            keeper,
            probe: probe.map_err(StartError::Probe)?,
            discovery: Discovery::start(config, &fleet).map_err(StartError::Discovery)?,
            fleet,
        })
    }

    /// Whether the files that the settings name can be used, without starting anything: how many pods the fleet file
    /// has.
    pub fn check(config: &Config) -> Result<usize, StartError> {
        let pods = config.fleet.as_deref().map(read_pods).transpose()?;
        let pods = pods.unwrap_or_default();
        let count = pods.len();
        check_pods(pods).map_err(|(at, source)| pod_error(config, at, source))?;
        check_files(&server_config(config))?;
        tokenize::check(&config.tokenizer).map_err(StartError::Tokenizer)?;
        Ok(count)
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

    /// Lets requests in flight finish, then ends the HTTP threads and, unless somebody else keeps
    /// the fleet, the IO threads.
    pub fn stop(self) {
        self.server.stop();
        drop(self.tokenizer);
        drop(self.probe);
        drop(self.discovery);
        drop(self.keeper);
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
        ready_share: config.ready_share,
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
