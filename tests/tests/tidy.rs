//! The shape of the source: layers, walls, sizes, and the map that describes it.
//!
//! Each table below is a decision; ARCHITECTURE.md gives the reasons. A check that fails lists all that is
//! wrong, one finding a line.
use kvroute_tests::tidy::{
    Source, crate_modules, functions, lives_in, named_files, names, root, sources,
};

const LINES_PER_FILE_MAX: usize = 600;
const LINES_PER_FUNCTION_MAX: usize = 70;
/// Folders whose sources keep the sizes above.
const SIZED: &[&str] = &["engine", "io", "bench", "perf", "tests"];

/// Module of a crate, and the other modules of that crate that it may name. A module without a row may
/// not exist: whoever adds one decides where it stands.
const LAYERS: &[(&str, &[&str])] = &[
    // The engine, from the words of the field up to the index.
    ("engine/types", &[]),
    ("engine/limits", &[]),
    ("engine/sync", &[]),
    ("engine/xxh3", &["types"]),
    ("engine/hash", &["types", "xxh3"]),
    ("engine/oracle", &["types", "hash"]),
    ("engine/choose", &["types"]),
    ("engine/worker_set", &["types", "limits", "sync"]),
    ("engine/budget", &["sync"]),
    (
        "engine/tree",
        &["types", "limits", "sync", "hash", "worker_set"],
    ),
    // One unit: the index hands out writers, a writer knows its index, both know the table of contexts,
    // and `contexts` is the public face of all three.
    (
        "engine/contexts",
        &["types", "limits", "sync", "hash", "tree", "index", "writer"],
    ),
    (
        "engine/index",
        &[
            "types",
            "limits",
            "sync",
            "hash",
            "worker_set",
            "budget",
            "tree",
            "contexts",
            "writer",
        ],
    ),
    (
        "engine/writer",
        &[
            "types", "limits", "sync", "hash", "budget", "tree", "contexts", "index",
        ],
    ),
    // Upon the writer's public face only: it is one more source of events.
    (
        "engine/predict",
        &["types", "limits", "hash", "index", "writer"],
    ),
    // The node: what is pure, the flow of events, the flow of lookups, and what puts them together.
    ("io/limits", &[]),
    ("io/ids", &[]),
    ("io/address", &[]),
    ("io/status", &["limits"]),
    ("io/wire", &["limits", "status"]),
    ("io/quiet", &["limits"]),
    ("io/otel", &["limits"]),
    ("io/logging", &["limits", "otel"]),
    ("io/fatal", &["logging"]),
    ("io/files", &[]),
    (
        "io/stream",
        &["limits", "logging", "quiet", "fatal", "status", "wire"],
    ),
    ("io/snapshot", &["limits", "stream"]),
    ("io/load", &["limits"]),
    ("io/accuracy", &["limits"]),
    ("io/predict", &["limits", "fatal", "status"]),
    ("io/hot", &["limits"]),
    (
        "io/fleet",
        &[
            "limits", "accuracy", "status", "snapshot", "stream", "load", "predict",
        ],
    ),
    ("io/history", &["limits", "status", "fleet"]),
    // Below HTTP, which asks it; so it has a client of its own.
    (
        "io/tokenize",
        &["limits", "ids", "status", "otel", "fleet", "config"],
    ),
    (
        "io/metrics",
        &[
            "limits", "logging", "otel", "accuracy", "status", "load", "predict", "fleet",
            "tokenize",
        ],
    ),
    (
        "io/http",
        &[
            "limits", "logging", "otel", "ids", "address", "files", "accuracy", "status", "hot",
            "stream", "snapshot", "load", "predict", "fleet", "history", "tokenize", "metrics",
            "problems", "config",
        ],
    ),
    ("io/problems", &["status", "fleet"]),
    (
        "io/warm",
        &["limits", "status", "stream", "snapshot", "fleet", "http"],
    ),
    ("io/start", &["limits", "fatal", "fleet", "warm", "config"]),
    (
        "io/config",
        &["limits", "address", "logging", "otel", "status", "fleet"],
    ),
    (
        "io/discovery",
        &[
            "limits", "quiet", "fatal", "files", "status", "fleet", "config",
        ],
    ),
    (
        "io/probe",
        &["limits", "quiet", "status", "load", "fleet", "http"],
    ),
    (
        "io/node",
        &[
            "limits",
            "address",
            "status",
            "stream",
            "otel",
            "load",
            "predict",
            "fleet",
            "tokenize",
            "http",
            "probe",
            "discovery",
            "warm",
            "start",
            "config",
        ],
    ),
    ("io/fake", &["limits", "stream"]),
    (
        "io/simulate",
        &["limits", "fake", "load", "status", "stream", "wire"],
    ),
    ("io/trace", &["limits"]),
    // The tools: what one engine publishes, seen, kept and played again; and what a node says of itself.
    ("io/printable", &[]),
    ("io/tap", &["limits", "stream"]),
    (
        "io/inspect",
        &["limits", "printable", "stream", "wire", "tap"],
    ),
    (
        "io/capture",
        &[
            "limits",
            "printable",
            "stream",
            "wire",
            "tap",
            "inspect",
            "fake",
        ],
    ),
    ("io/client", &["limits", "address", "printable"]),
    ("io/dump", &["limits", "printable", "client"]),
    ("io/top", &["limits", "printable", "client"]),
    (
        "io/demo",
        &["limits", "config", "node", "fake", "trace", "client"],
    ),
    // Of the binary: it names the library by the crate's name, and itself only here.
    ("io/cli", &[]),
];
/// Files that are the crates' roots and name everything.
const ROOTS: &[&str] = &["engine/src/lib.rs", "io/src/lib.rs", "io/src/main.rs"];

/// The only shipped files with `unsafe`.
const UNSAFE: &[&str] = &[
    "engine/src/sync.rs",
    "engine/src/tree/array.rs",
    "engine/src/tree/children.rs",
    "engine/src/tree/hit.rs",
    "engine/src/tree/run.rs",
    "engine/src/tree/seat.rs",
    "engine/src/tree/tail.rs",
    "io/src/ids/avx2.rs",
    "io/src/stream/context.rs",
];

/// Below a folder, a word is confined to the files and folders behind it.
const CONFINED: &[(&str, &str, &[&str])] = &[
    // One door for each foreign world.
    (
        "io/src/",
        "zmq::",
        &["io/src/stream/socket.rs", "io/src/stream/context.rs"],
    ),
    ("io/src/", "zmq_sys::", &["io/src/stream/context.rs"]),
    ("io/src/", "mio::", &["io/src/stream/"]),
    (
        "io/src/",
        "rmp::",
        &[
            "io/src/wire/",
            "io/src/fake/encode.rs",
            "io/src/capture/scrub.rs",
        ],
    ),
    (
        "io/src/",
        "hyper::",
        &[
            "io/src/http/",
            "io/src/tokenize/client.rs",
            "io/src/otel/export.rs",
            "io/src/discovery/kubernetes/client.rs",
        ],
    ),
    (
        "io/src/",
        "hyper_util::",
        &[
            "io/src/http/",
            "io/src/tokenize/client.rs",
            "io/src/otel/export.rs",
        ],
    ),
    (
        "io/src/",
        "http_body_util::",
        &[
            "io/src/http/",
            "io/src/tokenize/client.rs",
            "io/src/otel/export.rs",
        ],
    ),
    (
        "io/src/",
        "tokio::",
        &[
            "io/src/http/",
            "io/src/probe/",
            "io/src/tokenize/",
            "io/src/otel/",
            "io/src/discovery/",
        ],
    ),
    ("io/src/", "kube::", &["io/src/discovery/kubernetes/"]),
    (
        "io/src/",
        "tower::",
        &["io/src/discovery/kubernetes/client.rs"],
    ),
    (
        "io/src/",
        "prometheus_client::",
        &["io/src/metrics.rs", "io/src/metrics/"],
    ),
    ("io/src/", "socket2::", &["io/src/http/"]),
    (
        "io/src/",
        "rustls::",
        &[
            "io/src/http/server/tls.rs",
            "io/src/client/tls.rs",
            "io/src/discovery/kubernetes/client.rs",
        ],
    ),
    (
        "io/src/",
        "tokio_rustls::",
        &[
            "io/src/http/server/tls.rs",
            "io/src/client/tls.rs",
            "io/src/discovery/kubernetes/client.rs",
        ],
    ),
    (
        "io/src/",
        "ring::digest",
        &["io/src/http/tokens.rs", "io/src/tokenize/key.rs"],
    ),
    ("io/src/", "subtle::", &["io/src/http/tokens.rs"]),
    ("io/src/", "minijinja::", &["io/src/tokenize/local/"]),
    ("io/src/", "tokenizers::", &["io/src/tokenize/local/"]),
    ("io/src/", "signal_hook::", &["io/src/cli/"]),
    (
        "io/src/",
        "clap::",
        &["io/src/cli/", "io/src/config/settings.rs"],
    ),
    ("io/src/", "crossterm::", &["io/src/cli/screen.rs"]),
    ("io/src/", "quick_cache::", &["io/src/tokenize/cache.rs"]),
    ("io/src/", "opentelemetry_proto::", &["io/src/otel/"]),
    ("io/src/", "prost::", &["io/src/otel/export.rs"]),
    ("io/src/", "crossbeam_epoch", &[]),
    // What the process prints is the command line's business; the rest logs.
    ("io/src/", "println!", &["io/src/cli/"]),
    ("io/src/", "eprintln!", &["io/src/cli/"]),
    // Bytes in, values out: the decoder and the sequence machine see no world.
    ("io/src/wire/", "std::thread", &[]),
    ("io/src/wire/", "std::net", &[]),
    ("io/src/wire/", "Instant", &[]),
    ("io/src/wire/", "SystemTime", &[]),
    ("io/src/wire/", "tracing", &[]),
    ("io/src/stream/sequence/", "std::thread", &[]),
    ("io/src/stream/sequence/", "std::net", &[]),
    ("io/src/stream/sequence/", "Instant", &[]),
    ("io/src/stream/sequence/", "SystemTime", &[]),
    ("io/src/stream/sequence/", "mio", &[]),
    ("io/src/stream/sequence/", "tracing", &[]),
    ("io/src/trace/", "std::net", &[]),
    ("io/src/trace/", "std::thread", &[]),
    // The engine is pure: it has no clock, no threads, no sockets, no environment, no log.
    ("engine/src/", "std::thread", &[]),
    ("engine/src/", "std::time", &[]),
    ("engine/src/", "std::net", &[]),
    ("engine/src/", "std::fs", &[]),
    ("engine/src/", "std::env", &[]),
    ("engine/src/", "std::process", &[]),
    ("engine/src/", "tracing", &[]),
    ("engine/src/", "println!", &[]),
    ("engine/src/", "eprintln!", &[]),
    // Neither path to the index takes a lock.
    ("engine/src/", "Mutex", &[]),
    ("engine/src/", "RwLock", &[]),
];

/// Words that are nowhere.
const FORBIDDEN: &[&str] = &["todo!", "unimplemented!", "dbg!"];

/// The document that names every shipped source file.
const MAP: &str = "ARCHITECTURE.md";
const MAPPED: &[&str] = &["engine/src/", "io/src/"];

fn all(folders: &[&str]) -> Vec<Source> {
    let root = root();
    let read = |folder: &&str| sources(&root, folder).expect("the sources are there");
    folders.iter().flat_map(read).collect()
}

fn report(what: &str, found: &[String]) {
    assert!(
        found.is_empty(),
        "{what}, {} findings:\n{}\n",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn files_and_functions_are_small() {
    let sources = all(SIZED);
    assert!(
        sources.len() > 20,
        "the sources are not where they are looked for"
    );
    report(
        "too long",
        &sources.iter().flat_map(too_long).collect::<Vec<_>>(),
    );
}

#[test]
fn layers_are_kept() {
    let sources = all(MAPPED);
    let found: Vec<_> = sources.iter().flat_map(|s| layering(s, &sources)).collect();
    report("outside its layer", &found);
}

#[test]
fn walls_are_kept() {
    let found: Vec<_> = all(MAPPED).iter().flat_map(walls).collect();
    report("outside its walls", &found);
}

#[test]
fn nothing_is_left_undone() {
    let found: Vec<_> = all(SIZED).iter().flat_map(unfinished).collect();
    report("unfinished", &found);
}

#[test]
fn the_map_is_true() {
    let text = std::fs::read_to_string(root().join(MAP)).unwrap_or_default();
    let files: Vec<String> = all(MAPPED).into_iter().map(|source| source.name).collect();
    report(MAP, &map(&text, &files));
}

fn too_long(source: &Source) -> Vec<String> {
    let name = &source.name;
    let lines = source.text.lines().count();
    let file = (lines > LINES_PER_FILE_MAX)
        .then(|| format!("{name}: {lines} lines, {LINES_PER_FILE_MAX} allowed"));
    let long = functions(&source.code)
        .into_iter()
        .filter(|f| f.lines > LINES_PER_FUNCTION_MAX);
    let long = long.map(|f| {
        let (line, function, lines) = (f.line, f.name, f.lines);
        format!("{name}:{line}: fn {function} has {lines} lines, {LINES_PER_FUNCTION_MAX} allowed")
    });
    file.into_iter().chain(long).collect()
}

/// A file's place: `io/stream` and how many modules deep it is. `None` for a crate's root.
fn place(name: &str) -> Option<(String, usize)> {
    let (krate, path) = name.split_once("/src/")?;
    let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
    let module = path.split('/').next()?;
    (!ROOTS.contains(&name)).then(|| (format!("{krate}/{module}"), path.split('/').count()))
}

fn layering(source: &Source, all: &[Source]) -> Vec<String> {
    let Some((module, depth)) = place(&source.name) else {
        return Vec::new();
    };
    let Some((_, allowed)) = LAYERS.iter().find(|(row, _)| *row == module) else {
        return vec![format!(
            "{}: {module} has no row in LAYERS (tests/tests/tidy.rs)",
            source.name
        )];
    };
    let (krate, own) = module.split_once('/').unwrap_or_default();
    let modules: Vec<String> = all
        .iter()
        .filter_map(|s| {
            place(&s.name)?
                .0
                .strip_prefix(&format!("{krate}/"))
                .map(str::to_owned)
        })
        .collect();
    crate_modules(&source.shipped, depth, &modules)
        .into_iter()
        .filter(|used| used != own && !allowed.contains(&used.as_str()))
        .map(|used| format!("{}: {own} may not name {used}", source.name))
        .collect()
}

fn walls(source: &Source) -> Vec<String> {
    let name = source.name.as_str();
    let mut found = Vec::new();
    if names(&source.code, "unsafe") && !lives_in(name, UNSAFE) {
        found.push(format!("{name}: unsafe"));
    }
    for (below, word, homes) in CONFINED {
        if name.starts_with(below) && names(&source.shipped, word) && !lives_in(name, homes) {
            found.push(format!("{name}: {word} (only in {homes:?})"));
        }
    }
    found
}

fn unfinished(source: &Source) -> Vec<String> {
    let found = FORBIDDEN.iter().filter(|word| names(&source.code, word));
    found
        .map(|word| format!("{}: {word}", source.name))
        .collect()
}

fn map(text: &str, files: &[String]) -> Vec<String> {
    let named = named_files(text, MAPPED);
    let gone = named.iter().filter(|name| !files.contains(name));
    let missing = files.iter().filter(|file| !named.contains(file));
    gone.map(|name| format!("{name}: named, but not there"))
        .chain(missing.map(|file| format!("{file}: there, but not named")))
        .collect()
}

/// The checks can fail: each is shown something bad.
mod bad {
    use super::*;

    fn io(file: &str, text: &str) -> Source {
        Source::new(&format!("io/src/{file}"), text)
    }

    #[test]
    fn long_files_and_functions_are_found() {
        let long = io("a.rs", &"// x\n".repeat(LINES_PER_FILE_MAX + 1));
        assert_eq!(too_long(&long).len(), 1);
        let function = |lines: usize| {
            let body = "    x();\n".repeat(lines - 2);
            too_long(&io("a.rs", &format!("fn f() {{\n{body}}}")))
        };
        assert_eq!(function(LINES_PER_FUNCTION_MAX + 1).len(), 1);
        assert_eq!(function(LINES_PER_FUNCTION_MAX), [""; 0]);
    }

    #[test]
    fn a_name_from_a_higher_layer_is_found() {
        let value = |text| io("wire/value.rs", text);
        let others = [value(""), io("http/mod.rs", ""), io("limits.rs", "")];
        let found = layering(&value("use crate::{http::X, limits};"), &others);
        assert_eq!(found, ["io/src/wire/value.rs: wire may not name http"]);
        let tested = value("#[cfg(test)]\nmod tests { use crate::http::X; }");
        assert_eq!(layering(&tested, &others), [""; 0]);
        assert_eq!(layering(&io("stranger/mod.rs", ""), &others).len(), 1);
    }

    #[test]
    fn a_breach_of_a_wall_is_found() {
        assert_eq!(
            walls(&io("http/mod.rs", "fn f() { unsafe { g() } }")).len(),
            1
        );
        assert_eq!(
            walls(&io("http/mod.rs", "use zmq::Socket; // unsafe")).len(),
            1
        );
        assert_eq!(walls(&io("stream/socket.rs", "use zmq::Socket;")), [""; 0]);
        assert_eq!(
            walls(&Source::new(
                "engine/src/hash.rs",
                "use std::time::Instant;"
            ))
            .len(),
            1
        );
    }

    #[test]
    fn unfinished_work_is_found() {
        assert_eq!(
            unfinished(&io("a.rs", "fn f() { todo!() }")),
            ["io/src/a.rs: todo!"]
        );
        assert_eq!(
            unfinished(&io("a.rs", "// todo!()\nfn f() { x(\"dbg!\") }")),
            [""; 0]
        );
    }

    #[test]
    fn a_false_map_is_found() {
        let files = ["io/src/a.rs".to_owned(), "io/src/b.rs".to_owned()];
        let found = map("`io/src/a.rs` and `io/src/gone.rs`", &files);
        let expected = [
            "io/src/gone.rs: named, but not there",
            "io/src/b.rs: there, but not named",
        ];
        assert_eq!(found, expected);
    }
}
