//! The bounds of the fleet's sources, and of the node's start and end.
use std::time::Duration;

/// Pods that one source may describe: as many as the index has workers.
pub const PODS_PER_SOURCE_MAX: usize = 65_536;
/// Refused pods that are told by name, of each source.
pub const REFUSED_PODS_SHOWN: usize = 100;
/// Pods that are entered in one go: each go copies the fleet's view, and the next one follows after [`ENTER_PAUSE`], so a
/// start connects to 1,000 engines a second.
pub const ENTERED_AT_ONCE: usize = 50;
/// Between two such goes, and as much again by chance.
pub const ENTER_PAUSE: Duration = Duration::from_millis(35);
/// Between two looks at what sources describe: a look goes over all pods, 50 ms for 65,000.
pub const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// Between two attempts to enter pods for which there was no room.
pub const ENTER_AGAIN: Duration = Duration::from_secs(1);
/// Between two looks at a name's addresses, unless it is set.
pub const DNS_INTERVAL_DEFAULT: Duration = Duration::from_secs(10);
/// Shortest pause that can be set: names are cached for as long by most resolvers.
pub const DNS_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Longest pause that can be set: later than this a new pod is of no use.
pub const DNS_INTERVAL_MAX: Duration = Duration::from_secs(3_600);
/// Names whose addresses are pods.
pub const DNS_NAMES_MAX: usize = 256;
/// Namespaces that are watched one by one; with more, all of them are to be watched.
pub const NAMESPACES_MAX: usize = 64;
/// Time from the start, or from the first pod, after which the node is ready even if workers are still replaying, unless
/// it is set: several times what a replay of a whole ring takes.
pub const READY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(120);
/// Longest such time that can be set.
pub const READY_TIMEOUT_MAX: Duration = Duration::from_secs(3_600);
/// Time from being told to stop to the end of the process, unless it is set: what Kubernetes gives.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(30);
/// Shortest such time that can be set.
pub const GRACE_MIN: Duration = Duration::from_secs(1);
/// Longest such time that can be set.
pub const GRACE_MAX: Duration = Duration::from_secs(7_200);
/// What is kept of that time, so that the process has ended by itself before it is killed: a tenth, and this at most.
pub const GRACE_MARGIN_MAX: Duration = Duration::from_secs(1);
/// What requests in flight leave of it to the last snapshot and to threads that end: a fifth, and this at most. A snapshot of 2.5 million
/// entries takes a third of a second.
pub const GRACE_RESERVE_MAX: Duration = Duration::from_secs(5);
/// Between two looks at whether the node is ready, while it starts; and at whether it is to stop, meanwhile.
pub const START_GLANCE: Duration = Duration::from_millis(20);
/// Time for the name of a peer to be resolved, and for a peer to say whether it is ready: all are asked at once, and
/// whoever does not answer is not asked for a snapshot.
pub const PEER_GLANCE_TIME_MAX: Duration = Duration::from_secs(2);
/// Bytes in which it says so.
pub const PEER_GLANCE_BYTES_MAX: u64 = 64 << 10;
/// Between two looks at the fleet file. It is read once two looks in a row find the same new version, so that one that is
/// being written is not taken for a whole one.
pub const FLEET_FILE_INTERVAL: Duration = Duration::from_secs(1);
/// Addresses of one name that are pods: a message of DNS has room for no more.
pub const DNS_ADDRESSES_MAX: usize = 4_096;
/// Answers in a row without an address until its pod goes. One answer may be partial, or come while the pod is not ready;
/// an address that is given again to another engine is noticed by the numbers of its batches.
pub const DNS_ABSENT_MAX: u32 = 3;
/// Threads that ask the system's resolver for names' addresses: it may take half a minute for one whose server is silent.
pub const DNS_THREADS: usize = 4;
/// Within which several signals to stop are one.
pub const SIGNALS_TOGETHER: Duration = Duration::from_millis(20);
