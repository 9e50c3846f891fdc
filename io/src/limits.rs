//! Every bound of the node, with its reason.
mod choosing;
mod fleet;
mod history;
mod hot;
mod kubernetes;
mod logging;
mod metrics;
mod otel;
mod tools;

pub use choosing::*;
pub use fleet::*;
pub use history::*;
pub use hot::*;
pub use kubernetes::*;
pub use logging::*;
pub use metrics::*;
pub use otel::*;
pub use tools::*;

use std::time::Duration;

/// Bytes that an index with a bound has at least: less is a slip of the pen (megabytes said for bytes).
pub const INDEX_BYTES_MIN: u64 = 16 << 20;

/// Between two looks of a thread whose sockets are quiet at whether the index is nearly full.
pub const TRIM_GLANCE: Duration = Duration::from_secs(1);

/// Between two workers of such a thread that forget something while it is: each goes through all of its blocks.
pub const TRIM_PAUSE: Duration = Duration::from_millis(10);

/// Bytes that an index can be bound to at most, which is more than any machine has.
pub const INDEX_BYTES_MAX: u64 = 1 << 50;

/// Bytes of one event frame. A step that stores 100,000 tokens is about 500 kB; a batch above this is
/// skipped and counted.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// Bytes of one file of a recording, decompressed: hours of traffic, and no bomb.
pub const RECORDING_BYTES_MAX: u64 = 1 << 30;

/// Time for the node to subscribe to a played engine, and to apply one of its batches; both take
/// milliseconds on an idle machine.
pub const APPLIED_TIME_MAX: Duration = Duration::from_secs(20);

/// Pause between two looks at whether a batch is applied.
pub const APPLIED_POLL_TIME: Duration = Duration::from_micros(500);

/// Lookups of which the demo remembers the latency.
pub const LATENCIES_KEPT_MAX: usize = 4_096;

/// Ranks of a fake pod: each takes two sockets and a thread.
pub const FAKE_RANKS_MAX: u32 = 64;

/// Blocks of a fake rank, at some hundred bytes each: as many as a large GPU has.
pub const FAKE_BLOCKS_MAX: u64 = 1_000_000;

/// Longest pause between two steps of the demo.
pub const DEMO_PAUSE_MAX: Duration = Duration::from_millis(150);

/// Time for the demo's threads to end after Ctrl-C; a tenth of what a person would notice as slow.
pub const DEMO_END_TIME_MAX: Duration = Duration::from_millis(300);

/// Time that the demo's own client waits for the node.
pub const CLIENT_TIME_MAX: Duration = Duration::from_secs(5);

/// Bytes of the headers that the demo's client reads.
pub const CLIENT_HEADERS_MAX: u64 = 64 << 10;

/// Bytes of an answer that the demo's client reads: thousands of workers.
pub const CLIENT_ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Nesting of a MessagePack value that is walked over. Real events nest five deep
/// (batch, events, event, extra keys of a block, one item).
pub const NESTING_MAX: u32 = 16;

/// Messages that libzmq queues per subscription before it drops the newest. Its default of 1,000 is
/// lost within one stall of a second; engines' own high-water mark is 100,000.
pub const SUBSCRIPTION_QUEUE_MAX: i32 = 100_000;

/// Batches of one worker that are applied before its thread looks at the next worker.
pub const BATCHES_PER_TURN_MAX: u32 = 64;

/// Things that the sequence machine may ask for in one turn: each batch is applied or dropped, and
/// few of them lead to anything else.
pub const ACTIONS_PER_TURN_MAX: u32 = 2 * BATCHES_PER_TURN_MAX;

/// Live batches held back while a replay runs, in bytes per worker. More becomes a gap.
pub const HELD_BACK_BYTES_MAX: usize = 32 << 20;

/// Workers to be added that wait for one IO thread.
pub const COMMANDS_MAX: usize = 4_096;

/// Time without progress, from the request of a replay to its end marker, after which it has failed.
/// Engines answer within 100 ms when idle; one that stores a huge step may take a second.
pub const REPLAY_TIME_MAX: Duration = Duration::from_secs(5);
/// Shortest such time that can be set: a replay answered in less is no exception.
pub const REPLAY_TIME_MIN: Duration = Duration::from_millis(100);

/// Data-parallel ranks of one pod.
pub const RANKS_MAX: u32 = 1_024;

/// Bytes of a name or an address in a pod's description. Kubernetes names are at most 253 bytes each.
pub const NAME_BYTES_MAX: usize = 1_024;

/// Adapters known of one worker, declared or learnt from events. Engines hold some dozens at a time.
pub const ADAPTERS_PER_WORKER_MAX: usize = 1_024;

/// Bytes of a configuration or fleet file: 65,000 pods of 300 bytes are 20 MB.
pub const FILE_BYTES_MAX: u64 = 64 << 20;

/// IO or HTTP threads: more than any machine has cores.
pub const THREADS_MAX: usize = 1_024;

/// Bytes of one request body, unless it is set: a million token ids as JSON.
pub const BODY_BYTES_DEFAULT: usize = 8 << 20;

/// Bytes of one request body that can be set.
pub const BODY_BYTES_MAX: usize = BODIES_BYTES_MAX;

/// Bytes of a body that are read before other connections of the thread have a turn, some 50 us; and of one chunk of it.
pub const BODY_TURN_BYTES: usize = 256 << 10;

/// Bodies above this are answered aside, on a thread where they delay nobody: 128 KiB are some 21,000
/// token ids, about 0.1 ms, or 0.4 ms if they are written so that only a general parser reads them.
pub const LARGE_BODY_BYTES: usize = 128 << 10;

/// Requests that wait to be answered aside, of the whole node.
pub const ASIDE_QUEUE_MAX: usize = 64;

/// By how much threads that answer aside are nicer than others: a ninth of the weight.
pub const ASIDE_NICENESS: i32 = 10;

/// HTTP threads for which there is one thread that answers aside.
pub const HTTP_THREADS_PER_ASIDE: usize = 4;

/// Bytes of a body that are not counted among those below: a prompt of 4,096 tokens as JSON. With the
/// connections that there are by default these are half a gigabyte at most.
pub const SMALL_BODY_BYTES: usize = 32 << 10;

/// Bytes of all request bodies that one HTTP thread's connections hold until they are answered.
/// A body is looked up as soon as it is complete, so only slow or hostile senders come near it.
pub const BODIES_BYTES_MAX: usize = 256 << 20;

/// Bytes of a refused body that are read and thrown away, so that the sender, who reads the answer
/// only after it has sent everything, gets it. Beyond, the connection is closed.
pub const REFUSED_BODY_BYTES_MAX: u64 = 64 << 20;

/// Time for a request body to arrive whole.
pub const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// Time for a request's head to arrive, counted from its first byte. They come in one packet or two; a slow
/// network has time for a retransmission or four.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(15);

/// Time for the TLS handshake, a few round trips.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Time without a request, unless it is set: connections of a gateway's pool are kept this long. Above Envoy's and
/// nginx's usual 60 s, so that it is the gateway who ends them.
pub const IDLE_TIME_DEFAULT: Duration = Duration::from_secs(75);

/// Shortest such time that may be set: an answer that is still being made (a snapshot) may pause for
/// [`SAVE_FOR_PEER_TIME_MAX`].
pub const IDLE_TIME_MIN: Duration = Duration::from_secs(5);

const _: () = assert!(IDLE_TIME_MIN.as_millis() > SAVE_FOR_PEER_TIME_MAX.as_millis());

/// Longest such time that may be set.
pub const IDLE_TIME_MAX: Duration = Duration::from_secs(86_400);

/// Between two looks at whether a connection is overdue, so deadlines are at most two of these late.
pub const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// Time that is given to a client to read why its head was refused, while it still sends.
pub const LINGER_TIME_MAX: Duration = Duration::from_secs(2);

/// Bytes of a refused head that are read and thrown away meanwhile: a connection that is closed with bytes unread
/// is reset, and the client may lose the answer.
pub const LINGER_BYTES_MAX: usize = 1 << 20;

/// Bytes of a request's head, and of the buffer that a connection reads into.
pub const HEAD_BYTES_MAX: usize = 128 << 10;

/// Bytes of a usual head. A connection's first buffer has room for it, so that it takes no memory of its own.
pub const HEAD_BYTES_USUAL: usize = 8 << 10;

/// Bytes beyond the usual of all heads that arrive on one HTTP thread: five hundred of the largest.
pub const HEADS_BYTES_MAX: usize = 64 << 20;

/// Bytes of path and query together: some hundred candidates by name.
pub const URL_BYTES_MAX: usize = 32 << 10;

/// Connections of the node unless it is set: a gateway uses some hundred. Each takes some 12 kB.
pub const CONNECTIONS_DEFAULT: usize = 16_384;

/// Most connections that may be set: more than a machine has ports for one peer.
pub const CONNECTIONS_MAX: usize = 1 << 20;

/// Requests that one HTTP thread reads or answers at once, unless it is set: one for each connection. Lookups are
/// answered as soon as they are read, so only slow senders are many, and what they send has bounds of its own.
pub const REQUESTS_DEFAULT: usize = CONNECTIONS_DEFAULT;

/// Places to listen at.
pub const LISTENERS_MAX: usize = 16;

/// Bearer tokens in one file. Each request is compared with all.
pub const TOKENS_MAX: usize = 1_024;

/// Bytes of a file of bearer tokens.
pub const TOKEN_FILE_BYTES_MAX: u64 = 1 << 20;

/// Bytes of a certificate's or a key's file: long chains have 20 kB.
pub const TLS_FILE_BYTES_MAX: u64 = 1 << 20;

/// Between two looks at whether certificates and tokens have changed.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(3);

/// Connections that the kernel holds until they are accepted.
pub const BACKLOG_MAX: i32 = 1_024;

/// Time for requests in flight to finish when the node stops, unless it is set; Kubernetes kills after 30 s.
pub const DRAIN_TIME_DEFAULT: Duration = Duration::from_secs(10);

/// Longest such time that may be set, and longest notice before it.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(3_600);

/// Candidates listed in one answer if the request names no `limit` and no candidates.
pub const CANDIDATES_DEFAULT: usize = 16;

/// Candidates that a request may name, and that one answer may list: about 1 MB of JSON.
pub const CANDIDATES_MAX: usize = 4_096;

/// Bytes that a thread keeps for reading the next body, twice: prompts of a quarter of a million tokens.
pub const SCRATCH_BYTES_MAX: usize = 1 << 20;

/// Requests of one batch: what a gateway collects in a few milliseconds. They are answered in one go, at some
/// microseconds each.
pub const BATCH_REQUESTS_MAX: usize = 256;

/// Candidates that the answers of one batch may list together: about 16 MB of JSON.
pub const BATCH_CANDIDATES_MAX: usize = 16 * CANDIDATES_MAX;

/// Latest decisions that each thread that answers remembers, to be explained and fed back on: feedback comes when an
/// engine has finished, and at a hundred requests a second this is more than a minute. With
/// [`DECISION_CANDIDATES_MAX`] candidates each they take 61 MB a thread, with 16 candidates 10 MB.
pub const DECISIONS_PER_THREAD: usize = 8_192;

/// Candidates that a remembered decision tells of, at 56 bytes each; of more, the best are kept and the rest is
/// counted.
pub const DECISION_CANDIDATES_MAX: usize = 128;

/// Bytes of one block's entry in `extra_keys` as JSON: some hundred multimodal items in one block.
pub const EXTRA_ENTRY_BYTES_MAX: usize = 64 << 10;

/// Bytes of what is repeated from a request in an error's message.
pub const ERROR_BYTES_MAX: usize = 400;

const _: () = assert!(BODIES_BYTES_MAX >= BODY_BYTES_DEFAULT);
const _: () = assert!(LARGE_BODY_BYTES <= BODY_TURN_BYTES);
const _: () = assert!(URL_BYTES_MAX < HEAD_BYTES_MAX);
const _: () = assert!(HEADS_BYTES_MAX >= HEAD_BYTES_MAX);
const _: () = assert!(CANDIDATES_DEFAULT <= CANDIDATES_MAX);
const _: () = assert!(DECISIONS_PER_THREAD.is_power_of_two());

/// Checksums kept per worker, to tell a duplicate from a restart. 2 kB; only the overlap of a replay
/// needs the last one, the others catch a restart that is hidden behind a proxy.
pub const RECENT_BATCHES_MAX: usize = 256;

/// Bytes of a frame at which libzmq cuts the connection. Above [`FRAME_BYTES_MAX`], so that a frame a
/// little too large is counted and skipped without losing the connection.
pub const FRAME_BYTES_CUT: usize = 2 * FRAME_BYTES_MAX;

/// Frames of one message that are kept; the longest that means anything has four.
pub const FRAMES_MAX: usize = 8;

/// First pause before a lost connection is tried again, and before a failed replay is asked again.
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Longest such pause.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Blocks that a worker's dump writes in one slice, before its thread's other workers have their turn: about
/// 0.2 ms.
pub const BLOCKS_PER_SLICE: usize = 4_096;

/// Blocks of a snapshot that are loaded in one slice: below 0.5 ms.
pub const BLOCKS_PER_LOAD: usize = 1_024;

/// A dump that takes longer keeps events waiting so long that answers say so.
pub const DUMP_TIME_SHORT: Duration = Duration::from_millis(50);

/// Bytes of one worker that are read from a snapshot at once.
pub const LOAD_BYTES: usize = 256 << 10;

const _: () = assert!(LOAD_BYTES > kvroute_engine::DUMP_RECORD_MAX);

/// Threads that resolve the names of hosts. A name server that does not answer takes seconds for each name; with two,
/// one such name does not stop all others.
pub const RESOLVER_THREADS: usize = 2;

/// Addresses of one name that are tried in turn.
pub const ADDRESSES_MAX: usize = 16;

/// Names that wait to be resolved: a worker asks for one thing at a time.
pub const RESOLVER_QUEUE_MAX: usize = 65_536;

/// Time without a connection after which a name is resolved again: the host may have moved.
pub const RESOLVE_AGAIN_TIME: Duration = Duration::from_secs(5);

/// Bytes of what a snapshot says about one worker beside its blocks: 1,024 adapters of 1,024 bytes, in JSON.
pub const ABOUT_BYTES_MAX: usize = 8 << 20;

/// Bytes of a snapshot: 100 million entries are about 2 GB.
pub const SNAPSHOT_BYTES_MAX: u64 = 16 << 30;

/// Bytes of a snapshot that are read at once.
pub const SNAPSHOT_BUFFER_BYTES: usize = 256 << 10;

/// Time for an IO thread to save a worker: slices of half a millisecond for 10 million blocks, and then some.
pub const SAVE_TIME_MAX: Duration = Duration::from_secs(30);

/// Time for a peer to begin its snapshot, and to go on sending it.
pub const PEER_TIME_MAX: Duration = Duration::from_secs(5);

/// Time for an IO thread to save a worker for a peer, who waits no longer than [`PEER_TIME_MAX`].
pub const SAVE_FOR_PEER_TIME_MAX: Duration = Duration::from_secs(4);

/// Time for a peer to send all of its snapshot.
pub const PEER_WHOLE_TIME_MAX: Duration = Duration::from_secs(60);

/// Time in which peers are asked at the start; after it no further one is.
pub const PEERS_TIME_MAX: Duration = Duration::from_secs(20);

const _: () = assert!(SAVE_FOR_PEER_TIME_MAX.as_millis() < PEER_TIME_MAX.as_millis());

/// Bytes of a dump as JSON that are made at once, which takes some tenths of a millisecond: lookups on the same thread wait for
/// it. Above, by one run of blocks at most.
pub const DUMP_PIECE_BYTES: usize = 64 << 10;

/// Addresses of peers that are asked.
pub const PEERS_MAX: usize = 64;

/// Sockets of the node: a subscriber, its monitor and libzmq's end of that for each of 65,000 workers, and one for
/// each replay that runs.
pub const SOCKETS_MAX: i32 = 3 * 65_000 + 4 * REPLAYS_MAX as i32;

/// Replays that the node runs at once unless it is told otherwise: each may stall an engine for the time it
/// takes, and a node that starts asks all of them.
pub const REPLAYS_DEFAULT: usize = 8;

/// Time without any answer after which a replay does not count among those that run: nobody works on it. Engines
/// begin to answer within 100 ms when idle.
pub const PERMIT_IDLE_TIME_MAX: Duration = Duration::from_millis(500);

/// Most replays that may be set to run at once: engines are spared by less, not by more.
pub const REPLAYS_MAX: usize = 1_024;

/// Between two snapshots unless it is set: what a crash loses has to be replayed.
pub const SNAPSHOT_INTERVAL_DEFAULT: Duration = Duration::from_secs(60);

/// Shortest such pause: large snapshots take a second.
pub const SNAPSHOT_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Longest such pause.
pub const SNAPSHOT_INTERVAL_MAX: Duration = Duration::from_secs(86_400);

/// Replays of one worker that come at once; a restart that is noticed by its overlap takes two.
pub const COOL_DOWN_FREE: u32 = 3;

/// First pause between two replays of a worker after those.
pub const COOL_DOWN_MIN: Duration = Duration::from_millis(250);

/// Longest such pause: an engine that loses batches all the time is asked twice a minute.
pub const COOL_DOWN_MAX: Duration = Duration::from_secs(30);

/// A worker without a replay for so long is asked at once again.
pub const COOL_DOWN_FORGET: Duration = Duration::from_secs(60);

/// A connection that is younger was made to the engine as it is now, when a probe says that it may be another one:
/// above the longest pause between two probes, which is six intervals. Connections rarely outlive an engine, and only
/// behind a proxy.
pub const CONNECTION_RECENT: Duration = Duration::from_secs(600);

/// Ends of a worker's replays that lead to another one within one turn of its thread.
pub const ASKS_PER_TURN_MAX: u32 = 8;

/// Commands that an IO thread obeys before it looks at its sockets again.
pub const COMMANDS_PER_TURN_MAX: usize = 64;

/// Readiness events taken from the kernel at once.
pub const READINESS_EVENTS_MAX: usize = 1_024;

/// Time from the request of a replay to its end marker, whatever progress it makes: a full ring of
/// large batches takes seconds, an answer without end must not hold live batches back for ever.
pub const REPLAY_WHOLE_TIME_MAX: Duration = Duration::from_secs(60);

/// Runs that a cleared worker leaves in one slice, before its thread's other workers have their turn: at 1 to
/// 3 us each in a worker of a million blocks, below 0.5 ms.
pub const RUNS_PER_SLICE: usize = 128;

/// Pause between two probes of one engine over HTTP. A restart is noticed within it.
pub const PROBE_INTERVAL_DEFAULT: Duration = Duration::from_secs(5);

/// Shortest such pause: engines have better things to do.
pub const PROBE_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Longest such pause: what the probe is for would come too late.
pub const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// Engines that are probed at the same time: bounds descriptors and the memory of half-read answers.
pub const PROBES_MAX: usize = 32;

/// Time to find an engine's address and to connect to it. Within a cluster it takes milliseconds.
pub const PROBE_CONNECT_TIME_MAX: Duration = Duration::from_secs(1);

/// Time for one probe's request as a whole. Engines answer on the thread that serves requests, and may
/// be slow when they are busy.
pub const PROBE_TIME_MAX: Duration = Duration::from_secs(4);

/// Bytes of an engine's answer to a probe: `/metrics` has about 60 kB for each rank, and few ranks share a
/// server. With [`PROBES_MAX`], at most 256 MiB are held.
pub const PROBE_BODY_BYTES_MAX: u64 = 8 << 20;

/// Bytes of the head of an engine's answer to a probe.
pub const PROBE_HEAD_BYTES_MAX: usize = 64 << 10;

/// Intervals between two probes of an engine that does not answer, at most.
pub const PROBE_BACKOFF_MAX: u32 = 6;

/// Probes of one engine between two questions for its event sources, unless it may have restarted.
pub const PROBES_PER_SOURCES: u32 = 12;

/// Shortest time over which silence is judged: events and metrics of one step come a second apart at worst.
pub const SILENCE_TIME_MIN: Duration = Duration::from_secs(10);

/// Tokens of a block if neither an event nor the engine says them. More than blocks have in practice, so that silence
/// is not seen where there is none.
pub const BLOCK_SIZE_ASSUMED: u32 = 1_024;

/// Lines that one cause may write into the log in one [`LINES_PERIOD`], in the whole node; the rest is counted.
pub const LINES_PER_CAUSE_MAX: u64 = 20;

/// See above.
pub const LINES_PERIOD: Duration = Duration::from_secs(10);

/// Lines that the probe logs in a minute, whatever happens to the fleet; the rest is counted.
pub const PROBE_LINES_PER_MINUTE_MAX: u64 = 30;

const _: () = assert!(PROBE_CONNECT_TIME_MAX.as_millis() < PROBE_TIME_MAX.as_millis());

/// Bytes of one line of a trace: a prompt of ten million tokens has 20,000 ids.
pub const TRACE_LINE_BYTES_MAX: usize = 1 << 20;

/// Requests of one trace that are simulated: a day at ten a second. Each takes some 300 bytes.
pub const TRACE_REQUESTS_MAX: usize = 1_000_000;

/// Tokens of one prompt or answer of a trace.
pub const TRACE_TOKENS_MAX: u64 = 4 << 20;

/// Highest id of a block in a trace: what tells ids from made-up seeds has room above.
pub const TRACE_ID_MAX: u64 = 1 << 53;

/// Latest time in a trace, in milliseconds: a month.
pub const TRACE_TIME_MAX_MS: u64 = 31 * 86_400_000;

/// Virtual time after which a simulation is given up, in microseconds: twice the longest trace.
pub const SIMULATION_TIME_MAX_US: u64 = 2 * TRACE_TIME_MAX_MS * 1_000;

/// Pods of a simulated fleet. Each choice looks at all.
pub const SIMULATED_PODS_MAX: usize = 1_024;

/// Blocks of one simulated cache, at some 50 bytes each with its share of the index.
pub const SIMULATED_BLOCKS_MAX: u32 = 16 << 20;

/// Threads of a simulation: one for each way to choose is all that can be used.
pub const SIMULATION_THREADS_MAX: usize = 16;
