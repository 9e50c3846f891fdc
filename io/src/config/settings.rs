//! The settings as one source gives them: a file, the environment or flags.
use super::Seed;
use clap::Args;
use clap::builder::BoolishValueParser;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

/// Settings as one source gives them; what it does not give is left to the others.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What to log to stderr: error, warn, info, debug, trace, or by module, kvroute::http=debug [default: info]
    #[arg(long, env = "KVROUTE_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How to write it: text or json, an object a line [default: text]
    #[arg(long, env = "KVROUTE_LOG_FORMAT", value_name = "text|json")]
    pub log_format: Option<String>,
    /// Lines a second that one place in the code may log, after a burst of five times as many, 0 for any number [default: 10]
    #[arg(long, env = "KVROUTE_LOG_RATE", value_name = "N")]
    pub log_rate: Option<u32>,
    /// The collector that traces are sent to by OTLP over HTTP, http://HOST:PORT, where /v1/traces is; without it, nothing is traced
    #[arg(long, env = "KVROUTE_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// The share of requests, 0 to 1, that are traced, of those without a traceparent, which decides itself [default: 0.01]
    #[arg(long, env = "KVROUTE_OTLP_SAMPLE", value_name = "SHARE")]
    pub otlp_sample: Option<f64>,
    /// What the node is called in traces [default: kvroute]
    #[arg(long, env = "KVROUTE_OTLP_SERVICE", value_name = "NAME")]
    pub otlp_service: Option<String>,
    /// Where to listen for HTTP, once or several times: HOST:PORT or unix:/path (mode 0660) [default: 127.0.0.1:8080]
    #[arg(
        long,
        env = "KVROUTE_LISTEN",
        value_name = "ADDRESS,...",
        value_delimiter = ','
    )]
    #[serde(default, deserialize_with = "one_or_more")]
    pub listen: Option<Vec<String>>,
    /// Where alone to answer what changes the node or shows all that it holds; without it, everywhere
    #[arg(long, env = "KVROUTE_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub admin_listen: Option<String>,
    /// The certificate for TLS on all TCP listeners, PEM, with the chain; read again when it changes and on SIGHUP
    #[arg(long, env = "KVROUTE_TLS_CERT", value_name = "FILE")]
    #[serde(default, serialize_with = "as_text")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, env = "KVROUTE_TLS_KEY", value_name = "FILE")]
    #[serde(default, serialize_with = "as_text")]
    pub tls_key: Option<PathBuf>,
    /// Bearer tokens, one a line, that are needed for all but /healthz and /readyz; read again like the certificate
    #[arg(long, env = "KVROUTE_TOKEN_FILE", value_name = "FILE")]
    #[serde(default, serialize_with = "as_text")]
    pub token_file: Option<PathBuf>,
    /// Bearer tokens that are needed for what an admin listener would answer [default: those of --token-file]
    #[arg(long, env = "KVROUTE_ADMIN_TOKEN_FILE", value_name = "FILE")]
    #[serde(default, serialize_with = "as_text")]
    pub admin_token_file: Option<PathBuf>,
    /// Connections at once, over all threads; more are answered 503 [default: 16384]
    #[arg(long, env = "KVROUTE_CONNECTIONS_MAX", value_name = "N")]
    pub connections_max: Option<usize>,
    /// Bytes of a request's body; larger ones are answered 413 [default: 8388608]
    #[arg(long, env = "KVROUTE_BODY_MAX", value_name = "BYTES")]
    pub body_max: Option<usize>,
    /// Requests that each HTTP thread reads or answers at once; more are answered 429 [default: 16384]
    #[arg(long, env = "KVROUTE_REQUESTS_MAX", value_name = "N")]
    pub requests_max: Option<usize>,
    /// Seconds without a request, 5 at least, after which a connection is closed [default: 75]
    #[arg(long, env = "KVROUTE_IDLE_TIMEOUT", value_name = "SECONDS")]
    pub idle_timeout: Option<f64>,
    /// Seconds for requests in flight to finish when the node is told to stop [default: 10]
    #[arg(long, env = "KVROUTE_DRAIN", value_name = "SECONDS")]
    pub drain: Option<f64>,
    /// Seconds before that in which /readyz says 503 and connections are still accepted [default: 0]
    #[arg(long, env = "KVROUTE_DRAIN_NOTICE", value_name = "SECONDS")]
    pub drain_notice: Option<f64>,
    /// The fleet file: a YAML list of pods
    #[arg(long, env = "KVROUTE_FLEET", value_name = "FILE")]
    #[serde(default, serialize_with = "as_text")]
    pub fleet: Option<PathBuf>,
    /// Find pods in Kubernetes by their labels
    #[arg(long, env = "KVROUTE_KUBERNETES", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub kubernetes: Option<bool>,
    /// The namespaces to look in, * for all [default: the node's own]
    #[arg(
        long,
        env = "KVROUTE_KUBERNETES_NAMESPACES",
        value_name = "NAMESPACE,...",
        value_delimiter = ','
    )]
    #[serde(default, deserialize_with = "one_or_more")]
    pub kubernetes_namespaces: Option<Vec<String>>,
    /// Whose labels describe pods: aibrix or llm-d [default: aibrix]
    #[arg(long, env = "KVROUTE_KUBERNETES_PRESET", value_name = "aibrix|llm-d")]
    pub kubernetes_preset: Option<String>,
    /// A label selector that pods must match, too
    #[arg(long, env = "KVROUTE_KUBERNETES_SELECTOR", value_name = "SELECTOR")]
    pub kubernetes_selector: Option<String>,
    /// Whether requests are sent to running pods whose containers are not ready, too
    #[arg(long, env = "KVROUTE_KUBERNETES_NOT_READY", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub kubernetes_not_ready: Option<bool>,
    /// How to reach Kubernetes from outside [default: the pod's service account, else the usual files]
    #[arg(long, env = "KVROUTE_KUBECONFIG", value_name = "FILE")]
    #[serde(default, serialize_with = "as_text")]
    pub kubeconfig: Option<PathBuf>,
    /// Names whose addresses are pods of a model, as those of headless services are
    #[arg(
        long,
        env = "KVROUTE_DNS",
        value_name = "MODEL=HOST:PORT,...",
        value_delimiter = ','
    )]
    #[serde(default, deserialize_with = "one_or_more")]
    pub dns: Option<Vec<String>>,
    /// Seconds between two looks at those addresses [default: 10]
    #[arg(long, env = "KVROUTE_DNS_INTERVAL", value_name = "SECONDS")]
    pub dns_interval: Option<f64>,
    /// Threads that receive events [default: half of the cores]
    #[arg(long, env = "KVROUTE_IO_THREADS", value_name = "N")]
    pub io_threads: Option<usize>,
    /// Threads that answer HTTP requests [default: the other half]
    #[arg(long, env = "KVROUTE_HTTP_THREADS", value_name = "N")]
    pub http_threads: Option<usize>,
    /// Pin each thread that receives events to a core
    #[arg(long, env = "KVROUTE_PIN", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub pin: Option<bool>,
    /// The seed of block keys; another than 1337 makes them private to the deployment
    #[arg(long, env = "KVROUTE_HASH_SEED", value_name = "SEED")]
    pub hash_seed: Option<Seed>,
    /// The share of workers, 0 to 1, that must be synchronised for /readyz [default: 1]
    #[arg(long, env = "KVROUTE_READY_SHARE", value_name = "SHARE")]
    pub ready_share: Option<f64>,
    /// Seconds from the start, or from the first pod, after which /readyz no longer waits for workers [default: 120]
    #[arg(long, env = "KVROUTE_READY_TIMEOUT", value_name = "SECONDS")]
    pub ready_timeout: Option<f64>,
    /// Seconds from being told to stop to the end of the process, whatever is left to be done [default: 30]
    #[arg(long, env = "KVROUTE_GRACE", value_name = "SECONDS")]
    pub grace: Option<f64>,
    /// Seconds between two looks at an engine's HTTP endpoint, 0 for none [default: 5]
    #[arg(long, env = "KVROUTE_PROBE_INTERVAL", value_name = "SECONDS")]
    pub probe_interval: Option<f64>,
    /// Replays that run at once, in the whole node [default: 8]
    #[arg(long, env = "KVROUTE_REPLAYS", value_name = "N")]
    pub replays: Option<usize>,
    /// Seconds without progress after which a replay has failed [default: 5]
    #[arg(long, env = "KVROUTE_REPLAY_TIMEOUT", value_name = "SECONDS")]
    pub replay_timeout: Option<f64>,
    /// Contexts (model, adapter, block size) that the index has room for [default: 1000]
    #[arg(long, env = "KVROUTE_CONTEXTS_MAX", value_name = "N")]
    pub contexts_max: Option<usize>,
    /// Bytes that the index may take; when they are taken, what each worker stored longest ago is forgotten, and its answers
    /// may be too low [default: no bound]
    #[arg(long, env = "KVROUTE_INDEX_MAX", value_name = "BYTES")]
    pub index_max: Option<u64>,
    /// The folder of the snapshot to start from and to leave behind; none without it
    #[arg(long, env = "KVROUTE_SNAPSHOT_DIR", value_name = "DIR")]
    #[serde(default, serialize_with = "as_text")]
    pub snapshot_dir: Option<PathBuf>,
    /// Seconds between two snapshots, 0 for one at the end only [default: 60]
    #[arg(long, env = "KVROUTE_SNAPSHOT_INTERVAL", value_name = "SECONDS")]
    pub snapshot_interval: Option<f64>,
    /// Peers to fetch a snapshot from at the start: addresses, or names that stand for several
    #[arg(
        long,
        env = "KVROUTE_PEERS",
        value_name = "HOST:PORT,...",
        value_delimiter = ','
    )]
    #[serde(default, deserialize_with = "one_or_more")]
    pub peers: Option<Vec<String>>,
    /// Where texts are turned into tokens: remote, by the engines themselves, or off [default: remote]
    #[arg(long, env = "KVROUTE_TOKENIZER", value_name = "remote|off")]
    pub tokenizer: Option<String>,
    /// A server that answers /tokenize in place of the engines
    #[arg(long, env = "KVROUTE_TOKENIZER_ENDPOINT", value_name = "HOST:PORT")]
    pub tokenizer_endpoint: Option<String>,
    /// Seconds for one call of /tokenize [default: 1]
    #[arg(long, env = "KVROUTE_TOKENIZER_TIMEOUT", value_name = "SECONDS")]
    pub tokenizer_timeout: Option<f64>,
    /// Seconds for a text's tokens with all retries; after that the request is routed by load [default: 2]
    #[arg(long, env = "KVROUTE_TOKENIZER_DEADLINE", value_name = "SECONDS")]
    pub tokenizer_deadline: Option<f64>,
    /// Further calls after one that failed [default: 2]
    #[arg(long, env = "KVROUTE_TOKENIZER_RETRIES", value_name = "N")]
    pub tokenizer_retries: Option<u32>,
    /// Calls of /tokenize at once [default: 64]
    #[arg(long, env = "KVROUTE_TOKENIZER_CONCURRENCY", value_name = "N")]
    pub tokenizer_concurrency: Option<usize>,
    /// Seconds after which a second pod is asked, too, 0 for never [default: 0.25]
    #[arg(long, env = "KVROUTE_TOKENIZER_HEDGE", value_name = "SECONDS")]
    pub tokenizer_hedge: Option<f64>,
    /// Bytes of tokens that are remembered, 0 for none [default: 67108864]
    #[arg(long, env = "KVROUTE_TOKENIZER_CACHE", value_name = "BYTES")]
    pub tokenizer_cache: Option<usize>,
    /// Seconds for which they are [default: 600]
    #[arg(long, env = "KVROUTE_TOKENIZER_CACHE_TIME", value_name = "SECONDS")]
    pub tokenizer_cache_time: Option<f64>,
    /// Folders with the tokenizer.json and chat template of models, to be used once they agree with the engine
    #[arg(
        long = "local-tokenizer",
        env = "KVROUTE_LOCAL_TOKENIZERS",
        value_name = "MODEL=DIR,...",
        value_delimiter = ',',
        value_parser = model_and_folder
    )]
    #[serde(
        default,
        deserialize_with = "folders_by_model",
        serialize_with = "as_map"
    )]
    pub local_tokenizers: Option<Vec<(String, PathBuf)>>,
    /// How pods are chosen unless a request says it: prefix-cache, cost, least-request, round-robin, random [default: prefix-cache]
    #[arg(long, env = "KVROUTE_POLICY", value_name = "POLICY")]
    pub policy: Option<String>,
    /// Tokens below which a match does not count, unless a request says it [default: 0]
    #[arg(long, env = "KVROUTE_MINIMUM_MATCH", value_name = "TOKENS")]
    pub minimum_match: Option<u64>,
    /// Requests that the busiest pod may have more than the idlest before only the idlest are chosen [default: 8]
    #[arg(long, env = "KVROUTE_IMBALANCE", value_name = "REQUESTS")]
    pub imbalance: Option<u64>,
    /// Standard deviations above the mean load up to which a pod is chosen for its match [default: 1]
    #[arg(long, env = "KVROUTE_DEVIATIONS", value_name = "NUMBER")]
    pub deviations: Option<f64>,
    /// What a token to be computed counts in policy cost [default: 1]
    #[arg(long, env = "KVROUTE_COST_PREFILL", value_name = "WEIGHT")]
    pub cost_prefill: Option<f64>,
    /// What a token in use by other requests counts in policy cost [default: 0.1]
    #[arg(long, env = "KVROUTE_COST_DECODE", value_name = "WEIGHT")]
    pub cost_decode: Option<f64>,
    /// The header that names a request's session; its requests stay with one pod while that is not too busy
    #[arg(long, env = "KVROUTE_SESSION_HEADER", value_name = "NAME")]
    pub session_header: Option<String>,
    /// Seconds between two looks at an engine's load, 0 for none [default: 1]
    #[arg(long, env = "KVROUTE_LOAD_INTERVAL", value_name = "SECONDS")]
    pub load_interval: Option<f64>,
    /// Seconds after which a routed request is taken for finished [default: 60]
    #[arg(long, env = "KVROUTE_REQUEST_TIME", value_name = "SECONDS")]
    pub request_time: Option<f64>,
    /// Whether pods' events are used; without them all is learnt from decisions [default: true]
    #[arg(long, env = "KVROUTE_EVENT_SYNC", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub event_sync: Option<bool>,
    /// Seconds for which a request just routed counts as cached where it went, unless events say it, 0 for not at all [default: 5]
    #[arg(long, env = "KVROUTE_SPECULATIVE_TIME", value_name = "SECONDS")]
    pub speculative_time: Option<f64>,
    /// Seconds for which the same counts of pods that send no events [default: 1200]
    #[arg(long, env = "KVROUTE_APPROXIMATE_TIME", value_name = "SECONDS")]
    pub approximate_time: Option<f64>,
    /// Blocks that are remembered so for one worker [default: 65536]
    #[arg(long, env = "KVROUTE_APPROXIMATE_BLOCKS", value_name = "N")]
    pub approximate_blocks: Option<usize>,
    /// Choose without being obeyed: decisions are compared with where requests really went
    #[arg(long, env = "KVROUTE_SHADOW", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub shadow: Option<bool>,
    /// Latest decisions that each HTTP thread remembers [default: 8192]
    #[arg(long, env = "KVROUTE_DECISIONS", value_name = "N")]
    pub decisions: Option<usize>,
}

/// A setting: what it is called, and what it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// In the file.
    pub name: String,
    /// On the command line, with its dashes.
    pub flag: String,
    /// In the environment.
    pub variable: String,
    /// What it is, for people.
    pub help: String,
    /// The form of its values, for people.
    pub form: String,
}

/// All settings, in the order of the command line's help.
#[must_use]
pub fn keys() -> &'static [Key] {
    static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
        let command = Settings::augment_args(clap::Command::new("kvroute"));
        command.get_arguments().map(key).collect()
    });
    &KEYS
}

fn key(arg: &clap::Arg) -> Key {
    let words = |name: &clap::builder::Str| name.to_string();
    let form = arg.get_value_names().and_then(|names| names.first());
    Key {
        name: arg.get_id().to_string(),
        flag: format!("--{}", arg.get_long().unwrap_or_default()),
        variable: arg
            .get_env()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
        form: form
            .map(words)
            .map_or_else(String::new, |name| in_words(&name)),
    }
}

/// What a value's name in the help stands for.
fn in_words(name: &str) -> String {
    let text = match name {
        "SECONDS" => "a number of seconds",
        "N" | "TOKENS" | "REQUESTS" | "BYTES" | "SEED" => "a whole number, 0 or more,",
        "SHARE" | "WEIGHT" | "NUMBER" => "a number",
        "BOOL" => "true or false",
        "FILE" | "DIR" => "a path",
        "MODEL=DIR,..." => "MODEL=DIR,..., in the file a map of models to folders,",
        _ => return format!("{name}, as text,"),
    };
    text.to_owned()
}

/// What the first gives, else what the second does, key by key.
macro_rules! first_given {
    ($one:ident, $other:ident; $($key:ident),* $(,)?) => {
        Settings { $($key: $one.$key.or($other.$key),)* }
    };
}

impl Settings {
    /// These settings; where they say nothing, those.
    #[must_use]
    pub fn or(self, those: Self) -> Self {
        first_given! { self, those;
                log, log_format, log_rate, otlp_endpoint, otlp_sample, otlp_service, listen,
                admin_listen, tls_cert, tls_key, token_file, admin_token_file, connections_max,
                body_max, requests_max, idle_timeout, drain, drain_notice, fleet, kubernetes,
                kubernetes_namespaces, kubernetes_preset, kubernetes_selector,
                kubernetes_not_ready, kubeconfig, dns, dns_interval, io_threads, http_threads,
                pin, hash_seed, ready_share, ready_timeout, grace, probe_interval, replays,
                replay_timeout, contexts_max, index_max, snapshot_dir, snapshot_interval,
                peers, tokenizer, tokenizer_endpoint, tokenizer_timeout, tokenizer_deadline,
                tokenizer_retries, tokenizer_concurrency, tokenizer_hedge, tokenizer_cache,
                tokenizer_cache_time, local_tokenizers, policy, minimum_match, imbalance,
                deviations, cost_prefill, cost_decode, session_header, load_interval,
                request_time, event_sync, speculative_time, approximate_time,
                approximate_blocks, shadow, decisions,
        }
    }
}

/// A list, or one value in place of a list of one.
fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        None,
        One(String),
        More(Vec<String>),
    }
    Ok(match Given::deserialize(from)? {
        Given::None => None,
        // As flags and variables have it.
        Given::One(one) => Some(one.split(',').map(str::to_owned).collect()),
        Given::More(more) => Some(more),
    })
}

/// A model's folder, as a flag gives it.
fn model_and_folder(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((model, folder)) if !model.is_empty() && !folder.is_empty() => {
            Ok((model.to_owned(), folder.into()))
        }
        _ => Err("expected MODEL=DIR".to_owned()),
    }
}

/// The same in a file: a map.
fn folders_by_model<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Vec<(String, PathBuf)>>, D::Error> {
    let folders = Option::<BTreeMap<String, PathBuf>>::deserialize(from)?;
    Ok(folders.map(|folders| folders.into_iter().collect()))
}

fn as_map<S: Serializer>(
    folders: &Option<Vec<(String, PathBuf)>>,
    to: S,
) -> Result<S::Ok, S::Error> {
    let folders = folders.as_ref();
    folders
        .map(|folders| {
            let folders = folders.iter();
            folders.map(|(model, folder)| (model, folder.to_string_lossy()))
        })
        .map(BTreeMap::from_iter)
        .serialize(to)
}

/// A path that can be shown whatever its bytes are.
fn as_text<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
    let path = path.as_ref();
    path.map(|path| path.to_string_lossy()).serialize(to)
}
