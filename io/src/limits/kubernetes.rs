//! The bounds of what is asked of Kubernetes.
use std::time::Duration;

/// Pods of one page of a list: what Kubernetes' own clients ask for.
pub const LIST_PAGE: u32 = 500;
/// Bytes of one page, or of one event of a watch. etcd keeps 1.5 MB an object; pods have 5 to 30 kB.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Time for a connection to be made to the API server.
pub const SERVER_CONNECT_TIME: Duration = Duration::from_secs(10);
/// Time for one page of a list, or the head of a watch, to arrive whole.
pub const SERVER_ANSWER_TIME: Duration = Duration::from_secs(30);
/// Shortest time that a watch is asked to last; up to as much again by chance, so that watches do not end together. A server
/// that is gone without a word is noticed at its end.
pub const WATCH_TIME: Duration = Duration::from_secs(60);
/// Watches in a row that fail before all pods are listed again: by then half a minute has gone.
pub const WATCH_FAILURES_MAX: u32 = 8;
/// Longer than asked for that a watch may last, for the way.
pub const WATCH_GRACE: Duration = Duration::from_secs(5);
/// A watch that ends earlier than this, and brought nothing, has failed.
pub const WATCH_TIME_MIN: Duration = Duration::from_secs(1);
/// Between a failure and the next attempt: the first time up to this, by chance, then twice as long each time.
pub const SERVER_RETRY_MIN: Duration = Duration::from_millis(200);
/// Longest such pause. Kubernetes' own clients wait as long.
pub const SERVER_RETRY_MAX: Duration = Duration::from_secs(30);
/// After so long without a failure the next one is the first one again.
pub const SERVER_RETRY_RESET: Duration = Duration::from_secs(60);
/// Between two times that the fleet is told what was found: a rollout changes hundreds of pods at once.
pub const TELL_PAUSE: Duration = Duration::from_millis(50);
/// Time that the configuration to reach Kubernetes may take: it may run a program that gets a token.
pub const SERVER_CONFIG_TIME: Duration = Duration::from_secs(10);
/// Time that the thread has to end. It waits for nothing but a program that gets a token.
pub const WATCH_STOP_TIME: Duration = Duration::from_secs(2);
