//! The bounds of what chooses pods: text into tokens, loads, predictions, feedback.
use super::DECISIONS_PER_THREAD;
use std::time::Duration;

/// Time for one call of an engine's `/tokenize`, unless it is set: a prompt of 100,000 tokens takes a fifth of a second.
pub const TOKENIZER_TIME_DEFAULT: Duration = Duration::from_secs(1);
/// Time for a text's tokens with all retries, unless it is set: a request waits no longer for a better place.
pub const TOKENIZER_DEADLINE_DEFAULT: Duration = Duration::from_secs(2);
/// Shortest time for a call that can be set: less than a round trip fails always.
pub const TOKENIZER_TIME_MIN: Duration = Duration::from_millis(1);
/// Longest time that can be set: clients have given up.
pub const TOKENIZER_TIME_MAX: Duration = Duration::from_mins(1);
/// Further calls after one that failed, unless it is set.
pub const TOKENIZER_RETRIES_DEFAULT: u32 = 2;
/// Most further calls that can be set: the deadline ends them before.
pub const TOKENIZER_RETRIES_MAX: u32 = 10;
/// Calls of `/tokenize` at once, unless it is set: engines tokenize on few threads.
pub const TOKENIZER_CALLS_DEFAULT: usize = 64;
/// Most calls at once that can be set, by the descriptors they take.
pub const TOKENIZER_CALLS_MAX: usize = 4_096;
/// Time after which a second pod is asked, unless it is set: several times what usual prompts take.
pub const TOKENIZER_HEDGE_DEFAULT: Duration = Duration::from_millis(250);
/// Bytes of tokens that are remembered, unless it is set: 4,000 prompts of 4,096 tokens.
pub const TOKENIZER_CACHE_BYTES_DEFAULT: usize = 64 << 20;
/// Most that can be set.
pub const TOKENIZER_CACHE_BYTES_MAX: usize = 64 << 30;
/// For how long tokens are remembered, unless it is set: bounds what nobody noticed, as a template that changed in place.
pub const TOKENIZER_CACHE_TIME_DEFAULT: Duration = Duration::from_mins(10);
/// Longest that can be set.
pub const TOKENIZER_CACHE_TIME_MAX: Duration = Duration::from_hours(24);

/// Between two looks at an engine's load, unless it is set. What this node routes meanwhile it counts itself.
pub const LOAD_INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
/// Shortest pause that can be set: engines render 50 kB for each answer.
pub const LOAD_INTERVAL_MIN: Duration = Duration::from_millis(50);
/// Longest pause that can be set.
pub const LOAD_INTERVAL_MAX: Duration = Duration::from_hours(1);
/// Intervals after which what an engine said of its load does not count any more. Generous: the node's own count goes on from
/// it, and without it is all that is known.
pub const LOAD_AGE_INTERVALS: u32 = 10;
/// The same as a time, at least: when many engines are asked, rounds take longer than the interval.
pub const LOAD_AGE_MIN: Duration = Duration::from_secs(30);
/// Times that a choice is made anew because somebody else booked its target meanwhile; then it is booked all the same. Each
/// time somebody else has succeeded.
pub const BOOKING_TRIES_MAX: usize = 8;
/// Time after which a routed request is taken for finished, unless it is set: longer than most answers take.
pub const REQUEST_TIME_DEFAULT: Duration = Duration::from_mins(1);
/// Shortest that can be set.
pub const REQUEST_TIME_MIN: Duration = Duration::from_millis(100);
/// Longest that can be set.
pub const REQUEST_TIME_MAX: Duration = Duration::from_hours(1);
/// For how long a request just routed counts as cached, unless it is set: events of a long prompt's chunks may be seconds away.
pub const SPECULATIVE_TIME_DEFAULT: Duration = Duration::from_secs(5);
/// Shortest that can be set: an event's own way takes a millisecond.
pub const SPECULATIVE_TIME_MIN: Duration = Duration::from_millis(10);
/// Longest that can be set: whoever sends no event within it sends none.
pub const SPECULATIVE_TIME_MAX: Duration = Duration::from_mins(10);
/// For how long decisions count as cached at pods without events, unless it is set: AIBrix's eviction duration.
pub const APPROXIMATE_TIME_DEFAULT: Duration = Duration::from_mins(20);
/// Longest that can be set.
pub const APPROXIMATE_TIME_MAX: Duration = Duration::from_hours(24 * 7);
/// Blocks of decisions that are remembered for one worker, unless it is set: one million tokens in blocks of 16.
pub const APPROXIMATE_BLOCKS_DEFAULT: usize = 65_536;
/// Largest weight of policy `cost`.
pub const WEIGHT_MAX: f64 = 1_000.0;
/// Latest decisions that each HTTP thread remembers, unless it is set.
pub const DECISIONS_DEFAULT: usize = DECISIONS_PER_THREAD;
/// Most that can be set, by their memory.
pub const DECISIONS_MAX: usize = 1 << 20;

/// Prompts that wait for the tokenizer's thread, which takes them at once.
pub const TOKENIZER_QUEUE_MAX: usize = 1_024;

/// Different prompts that are being tokenized or wait for it, and equal ones that wait for one of them.
pub const TOKENIZER_ASKS_MAX: usize = 4_096;

/// Bytes of all prompts as text that are being tokenized or wait for it.
pub const TOKENIZER_BYTES_MAX: usize = 256 << 20;

/// Bytes of an engine's answer to `/tokenize`: two million ids of seven digits.
pub const TOKENIZER_ANSWER_BYTES_MAX: usize = 16 << 20;

/// Bytes of an engine's answer that is no list of tokens: an error's message, a version.
pub const TOKENIZER_WORDS_BYTES_MAX: usize = 64 << 10;

/// Tokens of one prompt. The longest contexts have some ten million, and most one.
pub const TOKENIZED_TOKENS_MAX: usize = 2 << 20;

/// Time to connect to an engine for `/tokenize`. Within a cluster it takes milliseconds.
pub const TOKENIZER_CONNECT_TIME_MAX: Duration = Duration::from_millis(500);

/// Time without a call after which a connection to an engine is closed. Engines close theirs after 5 s.
pub const TOKENIZER_IDLE_TIME_MAX: Duration = Duration::from_secs(4);

/// Idle connections to one engine that are kept.
pub const TOKENIZER_IDLE_MAX: usize = 16;

/// Threads that resolve names for the tokenizer.
pub const TOKENIZER_RESOLVERS: usize = 2;

/// After this time an engine is asked for its version again, with the next prompt that it gets.
pub const VERSION_TIME_MAX: Duration = Duration::from_secs(30);

/// Pause between two questions for an engine's version, whatever became of the first.
pub const VERSION_PAUSE: Duration = Duration::from_secs(1);

/// Endpoints that are remembered beyond those of the fleet before the others are forgotten.
pub const ENDPOINTS_SPARE: usize = 256;

/// Failures in a row after which an endpoint gets a pause.
pub const BREAKER_FAILURES: u32 = 5;

/// First such pause, doubled with each trial that fails.
pub const BREAKER_PAUSE_MIN: Duration = Duration::from_secs(1);

/// Longest such pause.
pub const BREAKER_PAUSE_MAX: Duration = Duration::from_secs(30);

/// First pause before a call that failed is made again, doubled each time; half of it is chance.
pub const RETRY_PAUSE_MIN: Duration = Duration::from_millis(20);

/// Longest such pause: a client is waiting.
pub const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Decisions that wait to be learnt from: what a thousand clients may send while the thread is away.
pub const PREDICT_QUEUE_MAX: usize = 4_096;
/// Bytes of prompts among them.
pub const PREDICT_QUEUED_BYTES_MAX: usize = 32 << 20;
/// Decisions that are learnt from in one go; then come the deadlines.
pub const PREDICT_BATCH: usize = 64;
/// Bytes of one prompt that are learnt from: 262,144 tokens. Of a longer one the beginning counts.
pub const PREDICT_PROMPT_BYTES_MAX: usize = 1 << 20;
/// After a decision, the thread that learns looks for further ones at this pace instead of waiting to be woken, which
/// would cost those who answer a system call for each decision.
pub const PREDICT_PAUSE: Duration = Duration::from_micros(500);
/// For so long after the last decision.
pub const PREDICT_LINGER: Duration = Duration::from_millis(20);
/// Between two looks for restarted engines. Lookups notice those themselves; this only frees memory.
pub const PREDICT_SWEEP: Duration = Duration::from_secs(1);
/// After which a worker that nothing is expected of any more gives its second number back.
pub const PREDICT_IDLE: Duration = Duration::from_mins(1);
/// Blocks that are taken out at once when their time is up; then come the decisions that wait.
pub const PREDICT_EXPIRE_MAX: usize = 4_096;
/// Numbers of the index that are left to workers yet to come: what is expected takes one for each worker.
pub const PREDICT_NUMBERS_RESERVED: usize = 4_096;
/// Tokens of a block where neither the pod's description nor another pod of its model says it: the engines' default on
/// GPUs. It matters to the node's own bookkeeping only.
pub const BLOCK_SIZE_APPROXIMATE: u32 = 16;

const _: () = assert!(PREDICT_PROMPT_BYTES_MAX <= PREDICT_QUEUED_BYTES_MAX);
/// Latest comparisons of a worker's predictions with what its engine delivered that are judged together.
pub const FEEDBACK_WINDOW: usize = 32;
/// Blocks that an engine may deliver less than predicted without a doubt: one evicted between decision and prefill, one computed anyway.
pub const FEEDBACK_TOLERANCE_BLOCKS: u64 = 2;
/// What a delivery that is too short and that nothing excuses counts.
pub const SHORTAGE_WEIGHT: u32 = 4;
/// What one counts that evictions may explain, or that is nothing at all: engines say 0 for requests that want the
/// probabilities of their prompt, whatever is cached.
pub const EXCUSED_WEIGHT: u32 = 1;
/// What the window must come to for a worker to be distrusted: a quarter of it without excuse, or all of it.
pub const DISTRUST_WEIGHT: u32 = FEEDBACK_WINDOW as u32;
/// Pause before a worker that is distrusted for the second time is had anew: its engine answers a replay in the thread that publishes.
pub const RESYNC_PAUSE_MIN: Duration = Duration::from_mins(1);
/// Longest such pause.
pub const RESYNC_PAUSE_MAX: Duration = Duration::from_hours(1);
/// Time after which earlier distrust is forgotten.
pub const RESYNC_FORGET: Duration = Duration::from_hours(4);
/// Bytes of the name of a target that a caller says: a pod's name with its namespace, or an address.
pub const TARGET_BYTES_MAX: usize = 1_024;
/// Time between two lines of the log that sum up what shadow decisions came to.
pub const SHADOW_LOG_INTERVAL: Duration = Duration::from_mins(1);
/// Bytes of a `tokenizer.json`. Vocabularies of 260,000 tokens are 35 MB.
pub const LOCAL_TOKENIZER_BYTES_MAX: u64 = 128 << 20;

/// Bytes of a model's other files: a configuration that names thousands of special tokens is 1 MB, templates are some kB.
pub const LOCAL_CONFIG_BYTES_MAX: u64 = 16 << 20;

/// Bytes of a prompt that is tokenized locally: a million tokens of usual text. Engines are asked for longer ones.
pub const LOCAL_TEXT_BYTES_MAX: usize = 4 << 20;

/// Steps and bytes that a chat template may take. A conversation of 1,000 messages takes 100,000; this many take less than a second.
pub const TEMPLATE_FUEL_MAX: u64 = 20_000_000;

/// Nesting of macros in a chat template; each level takes some kB of stack.
pub const TEMPLATE_NESTING_MAX: usize = 64;

/// Of the answers of a local tokenizer, one in so many is compared with an engine's: its load stays a hundredth of what it was.
pub const LOCAL_SAMPLE_EVERY: u64 = 128;

/// Shapes of bodies of one model that are remembered as compared; further ones are compared by chance only.
pub const LOCAL_SHAPES_MAX: usize = 4_096;

/// Pause between two looks at which engines there are, when nothing is to be compared.
pub const LOCAL_LOOK_TIME: Duration = Duration::from_millis(500);

/// Time until engines that could not be compared with are asked again.
pub const LOCAL_RETRY_TIME: Duration = Duration::from_secs(10);

/// Threads that tokenize locally. Each makes a million tokens a second and more: no node routes as many prompts.
pub const LOCAL_THREADS: usize = 2;

/// Prompts that wait for them; with more an engine is asked.
pub const LOCAL_QUEUE_MAX: usize = 128;

/// Answers that wait to be compared; with more they are not.
pub const LOCAL_COMPARISONS_MAX: usize = 32;

/// Stack of a thread that tokenizes locally: templates nest, and so do the bodies' tools.
pub const LOCAL_STACK_BYTES: usize = 8 << 20;
