//! What documents name is there: flags, variables, keys, metrics, and the node's own words.
use crate::{blocks, documents, kvroute, prose, report, root, spans};
use kvroute::config::SettingsFile;
use kvroute::fleet::read_pods;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Flags of other programs that documents name by themselves.
const OTHERS_FLAGS: &[&str] = &[
    "--apply",
    "--chat-template",
    "--undo",
    "--bench",
    "--locked",
    "--enable-prefix-caching",
    "--enable-prompt-tokens-details",
    "--enable-kv-cache-events",
    "--exclude-tools-when-tool-choice-none",
    "--kv-events-config",
    "--enable-metrics",
    "--page-size",
];
/// Variables that the program does not read: those of the tests.
const OTHERS_VARIABLES: &str = "KVROUTE_TEST_";
/// A block of settings begins so, and one of pods.
const SETTINGS: &str = "# kvroute.yaml\n";
const FLEET: &str = "# fleet.yaml\n";
/// Blocks of the node's own words, with … for what differs.
const WORDS: &str = "text words";
/// What exposition adds to the name of a metric.
const SUFFIXES: [&str; 4] = ["_total", "_bucket", "_sum", "_count"];

/// What the help of all commands says.
fn helps() -> String {
    let help = |args: &[&str]| {
        let output = kvroute().args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let all = help(&["--help"]);
    let (_, list) = all.split_once("Commands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    let names = list
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let each = names
        .filter(|name| *name != "help")
        .map(|name| help(&[name, "--help"]));
    all.clone() + &each.collect::<String>()
}

/// The words of a text that begin so, as far as they have letters of this kind.
fn beginning(text: &str, start: &str, more: fn(char) -> bool) -> BTreeSet<String> {
    let found = text.match_indices(start).filter_map(|(at, _)| {
        let before = text[..at].chars().next_back();
        let rest = &text[at..];
        let end = rest.find(|c| !more(c)).unwrap_or(rest.len());
        let whole = before.is_none_or(|c| !more(c));
        whole.then(|| rest[..end].trim_end_matches(['-', '_', ':']).to_owned())
    });
    found.collect()
}

fn of_flag(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

fn of_variable(c: char) -> bool {
    c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'
}

/// With the colons of recorded series, which are no metrics of the node.
fn of_metric(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | ':')
}

#[test]
fn flags_are_there() {
    let known = beginning(&helps(), "--", of_flag);
    assert!(known.contains("--fleet") && known.contains("--restart-every"));
    let mut found = Vec::new();
    for (name, text) in documents() {
        for (line, span) in spans(&prose(&text)) {
            let flag = span
                .starts_with("--")
                .then(|| beginning(span, "--", of_flag));
            for flag in flag.into_iter().flatten() {
                // `--tokenizer-*` stands for several.
                let several = known.iter().any(|it| it.starts_with(&format!("{flag}-")));
                let several = several && span.contains('*');
                if !known.contains(&flag) && !OTHERS_FLAGS.contains(&&*flag) && !several {
                    found.push(format!(
                        "{name}:{line}: {flag}; of another program: see OTHERS_FLAGS"
                    ));
                }
            }
        }
    }
    report(&found);
}

#[test]
fn variables_are_there() {
    let known = beginning(&helps(), "KVROUTE_", of_variable);
    assert!(known.contains("KVROUTE_LISTEN"), "{known:?}");
    let mut found = Vec::new();
    for (name, text) in documents() {
        let named = beginning(&text, "KVROUTE_", of_variable);
        let unknown = named.difference(&known);
        let unknown = unknown.filter(|it| !it.starts_with(OTHERS_VARIABLES) && *it != "KVROUTE");
        found.extend(unknown.map(|it| format!("{name}: {it}")));
    }
    report(&found);
}

/// The source of the program, strings that go on over several lines put together.
fn source(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            source(&path, text);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let mut lines = std::fs::read_to_string(&path).unwrap();
            while let Some(at) = lines.find("\\\n") {
                let rest = lines.split_off(at);
                lines += rest[2..].trim_start();
            }
            *text += &lines.replace("\\\"", "\"");
        }
    }
}

fn sources() -> String {
    let mut text = String::new();
    for folder in ["engine/src", "io/src"] {
        source(&root().join(folder), &mut text);
    }
    text
}

/// A node that ends with its test.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The names of all metrics, as a node without pods says them: it tells the type of those without series, too.
fn scraped() -> BTreeSet<String> {
    let folder = tempfile::TempDir::new().unwrap();
    let socket = folder.path().join("s");
    let listen = format!("unix:{}", socket.display());
    let mut command = kvroute();
    command
        .args(["serve", "--listen", &listen])
        .stderr(Stdio::null());
    let _node = Node(command.spawn().unwrap());
    let give_up = Instant::now() + Duration::from_secs(60);
    let mut stream = loop {
        match UnixStream::connect(&socket) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < give_up, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let request = "GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let types = answer
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let names = types.filter_map(|line| line.split(' ').next());
    names.map(str::to_owned).collect()
}

#[test]
fn metrics_are_there() {
    let known = scraped();
    assert!(known.contains("kvroute_workers"), "{known:?}");
    let mut found = Vec::new();
    for (name, text) in documents() {
        let named = ["kvroute_", "aibrix_"].map(|start| beginning(&text, start, of_metric));
        for metric in named.into_iter().flatten() {
            let mut bare = metric.as_str();
            while let Some(cut) = SUFFIXES.iter().find_map(|suffix| bare.strip_suffix(suffix))
                && !known.contains(bare)
            {
                bare = cut;
            }
            if !known.contains(bare) && !bare.contains(':') && bare != "kvroute_engine" {
                found.push(format!("{name}: {metric}"));
            }
        }
    }
    report(&found);
}

#[test]
fn words_are_those_of_the_node() {
    let sources = sources();
    let (mut found, mut seen) = (Vec::new(), 0);
    for (name, text) in documents() {
        for (info, first, block) in blocks(&text) {
            for (at, line) in block.lines().enumerate().filter(|_| info == WORDS) {
                seen += 1;
                let parts = line.split('…').map(str::trim).filter(|part| part.len() > 3);
                let gone: Vec<_> = parts.filter(|part| !sources.contains(part)).collect();
                if !gone.is_empty() {
                    found.push(format!("{name}:{}: {gone:?}", first + at + 1));
                }
            }
        }
    }
    assert!(seen > 10, "{seen} lines");
    report(&found);
}

#[test]
fn files_of_settings_and_pods_can_be_used() {
    let folder = tempfile::TempDir::new().unwrap();
    let (mut found, mut seen) = (Vec::new(), 0);
    for (name, text) in documents() {
        for (_, first, block) in blocks(&text) {
            let wrong = if block.starts_with(SETTINGS) {
                let file = folder.path().join("kvroute.yaml");
                std::fs::write(&file, &block).unwrap();
                let settings = SettingsFile::read(&file).and_then(|file| file.settings.resolve());
                settings.err().map(|error| error.to_string())
            } else if block.starts_with(FLEET) {
                let file = folder.path().join("fleet.yaml");
                std::fs::write(&file, &block).unwrap();
                read_pods(&file).err().map(|error| error.to_string())
            } else {
                continue;
            };
            seen += 1;
            found.extend(wrong.map(|wrong| format!("{name}:{first}: {wrong}")));
        }
    }
    assert!(seen > 2, "{seen} files");
    report(&found);
}

#[test]
fn words_are_cut_where_they_end() {
    let text = "`--a-b=c` x--no kvroute_x_total{y} KVROUTE_A_B. worker:kvroute_y";
    assert_eq!(beginning(text, "--", of_flag), ["--a-b".to_owned()].into());
    assert_eq!(
        beginning(text, "kvroute_", of_metric),
        ["kvroute_x_total".to_owned()].into()
    );
    assert_eq!(
        beginning(text, "KVROUTE_", of_variable),
        ["KVROUTE_A_B".to_owned()].into()
    );
}
