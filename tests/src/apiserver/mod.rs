//! A server that speaks the Kubernetes API's list and watch of pods over real HTTP, driven by a script of pods'
//! lives, and by faults that a test turns on.
//!
//! A real kube-apiserver is in none of the package registries that builds use (etcd and kubectl alone are), so this
//! one follows its documented behaviour and what it is known to do: changes are numbered, watches resume where
//! they say or are told that it is too late (410, in the stream), pods that begin or stop to be selected are told as
//! added and deleted, lists come in pages of one moment. The independent witness is kubectl, Kubernetes' own client:
//! `tests/tests/apiserver.rs` has it list and watch here.
//!
//! Memory is bounded: the history has a maximum, and watches read it at their clients' pace.
mod access;
mod answer;
mod body;
mod credentials;
mod faults;
mod list;
mod pods;
mod requests;
mod selector;
mod serve;
mod state;
mod status;
mod store;
mod watching;

pub use access::Permissions;
pub use faults::{Fault, StreamFault};
pub use pods::{PodScript, PodTemplate};
pub use requests::{Query, Request, Verb};

use credentials::{Authority, kubeconfig, service_account};
use faults::Pieces;
use serve::Server;
use state::{Order, Shared};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The token that may get, list and watch all pods.
pub const TOKEN: &str = "reader";

/// Changes that a watch can be behind.
const HISTORY_MAX: usize = 10_000;

/// Time for what a test waits for, on a machine that is busy with builds.
const WAIT_TIME_MAX: Duration = Duration::from_secs(60);

/// What a server begins with.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether it speaks TLS, with an authority of its own.
    pub tls: bool,
    /// The latest changes that are remembered.
    pub history_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: true,
            history_max: HISTORY_MAX,
        }
    }
}

/// A running server. Dropping it ends it.
pub struct ApiServer {
    shared: Arc<Shared>,
    server: Server,
    authority: Option<Authority>,
    folder: TempDir,
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ApiServer").field(&self.url()).finish()
    }
}

impl ApiServer {
    /// Starts one with TLS.
    ///
    /// # Panics
    /// There is no port or no folder for temporary files.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// Starts one.
    ///
    /// # Panics
    /// There is no port or no folder for temporary files.
    #[must_use]
    pub fn start_with(options: Options) -> Self {
        let shared = Arc::new(Shared::new(options.history_max));
        let (authority, acceptor) = options
            .tls
            .then(|| Authority::new().expect("certificates can be made"))
            .unzip();
        let server = Server::start(Arc::clone(&shared), acceptor).expect("a port is free");
        let server = Self {
            shared,
            server,
            authority,
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        server.set_token(TOKEN, Permissions::cluster());
        server
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The same as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.authority.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.address())
    }

    /// The certificate of its authority as PEM; `None` without TLS.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_ref().map(|a| a.certificate.as_str())
    }

    /// A kubeconfig with this token.
    ///
    /// # Panics
    /// It cannot be written.
    #[must_use]
    pub fn kubeconfig(&self, token: &str) -> PathBuf {
        let authority = self.authority.as_ref();
        let file = kubeconfig(self.folder.path(), self.address(), authority, token);
        file.expect("the folder is ours")
    }

    /// A folder with what a pod finds of its service account: `token`, `ca.crt` and `namespace`.
    ///
    /// # Panics
    /// It cannot be written.
    #[must_use]
    pub fn service_account(&self, token: &str, namespace: &str) -> PathBuf {
        let authority = self.authority.as_ref();
        let folder = service_account(self.folder.path(), authority, token, namespace);
        folder.expect("the folder is ours")
    }

    /// Lets a token be known, with these permissions.
    pub fn set_token(&self, token: &str, permissions: Permissions) {
        self.shared.lock().access.set(token, permissions);
    }

    /// A token is not known any more.
    pub fn revoke_token(&self, token: &str) {
        self.shared.lock().access.remove(token);
    }

    /// Creates a pod, which is pending.
    ///
    /// # Panics
    /// A pod of that name exists.
    pub fn create(&self, template: PodTemplate) -> PodScript {
        PodScript::create(Arc::clone(&self.shared), template)
    }

    /// The number of the latest change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.shared.lock().store.version()
    }

    /// Other objects than pods have changed so many times.
    pub fn advance(&self, writes: u64) {
        self.shared.change(|store| store.advance(writes));
    }

    /// Forgets all changes so far: whoever is behind them has to list again.
    pub fn compact(&self) {
        self.shared.lock().store.compact();
    }

    /// Whether `sendInitialEvents` is known; it is at first.
    pub fn set_streaming_lists(&self, on: bool) {
        self.shared.lock().streaming_lists = on;
    }

    /// How many requests of this kind there were.
    #[must_use]
    pub fn count(&self, verb: Verb) -> u64 {
        self.shared.lock().requests.count(verb)
    }

    /// The latest requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.latest()
    }

    /// How many watches are open.
    #[must_use]
    pub fn watches(&self) -> usize {
        self.shared.watches()
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections()
    }

    /// All requests of this kind fail this way until [`ApiServer::heal`].
    pub fn fail(&self, verb: Verb, fault: Fault) {
        self.shared.lock().faults.set(verb, fault, None);
    }

    /// The next requests of this kind fail this way.
    pub fn fail_next(&self, verb: Verb, times: u32, fault: Fault) {
        self.shared.lock().faults.set(verb, fault, Some(times));
    }

    /// No request fails any more, and bytes are sent as they come. What hangs already goes on to.
    pub fn heal(&self) {
        self.shared.lock().faults = faults::Faults::default();
    }

    /// The lines of watches are sent in chunks of these sizes, which take turns, with a pause between them.
    pub fn cut_lines(&self, sizes: &[usize], pause: Duration) {
        let sizes = sizes.to_vec();
        self.shared.lock().faults.pieces = Some(Pieces { sizes, pause });
    }

    /// Whether new connections are taken and then nothing happens.
    pub fn set_silent_connections(&self, on: bool) {
        self.shared.lock().faults.silent_connections = on;
    }

    /// Does this to all watches that are open, after all changes so far were sent. It is done soon, not at once.
    pub fn disturb(&self, fault: StreamFault) {
        let version = self.version();
        // Nobody watches.
        let _ = self.shared.orders.send(Order { version, fault });
    }

    /// All connections end without a word. It is done soon, not at once.
    pub fn break_connections(&self) {
        self.shared.broken.send_replace(());
    }

    /// No connection is accepted, nor goes on; the port stays ours.
    pub fn stop(&self) {
        self.server.listen(false);
        self.break_connections();
        self.wait_until("all connections have ended", || self.connections() == 0);
    }

    /// Connections are accepted again.
    pub fn resume(&self) {
        self.server.listen(true);
    }

    /// The server ends and starts again on the same port: its pods are kept, its history is not.
    pub fn restart(&self) {
        self.stop();
        self.compact();
        self.resume();
    }

    /// Waits until so many watches are open.
    ///
    /// # Panics
    /// That takes too long.
    pub fn wait_for_watches(&self, number: usize) {
        self.wait_until(&format!("{number} watches"), || self.watches() == number);
    }

    /// Waits until there were so many requests of this kind.
    ///
    /// # Panics
    /// That takes too long.
    pub fn wait_for_requests(&self, verb: Verb, number: u64) {
        let done = || self.count(verb) >= number;
        self.wait_until(&format!("{number} times {verb}"), done);
    }

    fn wait_until(&self, what: &str, done: impl Fn() -> bool) {
        let give_up = Instant::now() + WAIT_TIME_MAX;
        while !done() {
            assert!(
                Instant::now() < give_up,
                "{what}: waited in vain, {self:?} has {} watches, {} connections, requests {:?}",
                self.watches(),
                self.connections(),
                self.requests(),
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}
