//! The program as it is started: exit codes, precedence of the settings, signals.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// The program without the variables of whoever runs the tests.
fn kvroute() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvroute"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("KVROUTE_") || text.starts_with("AIBRIX_") {
            command.env_remove(name);
        }
    }
    command
}

/// (exit code, stdout, stderr) of a run that ends by itself.
fn run(command: &mut Command) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn write(dir: &TempDir, name: &str, text: &str) -> String {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn help_and_version_are_no_errors() {
    let (code, out, _) = run(kvroute().arg("--version"));
    assert_eq!(
        (code, out),
        (0, format!("kvroute {}\n", env!("CARGO_PKG_VERSION")))
    );
    let (code, out, _) = run(kvroute().arg("--help"));
    assert!(code == 0 && out.contains("serve"), "{out}");
    let (code, out, _) = run(kvroute().args(["serve", "--help"]));
    assert_eq!(code, 0);
    for name in [
        "listen",
        "fleet",
        "io-threads",
        "http-threads",
        "pin",
        "log",
        "config",
    ] {
        let variable = format!("KVROUTE_{}", name.replace('-', "_").to_uppercase());
        assert!(
            out.contains(&format!("--{name}")) && out.contains(&variable),
            "{name}: {out}"
        );
    }
}

#[test]
fn bad_usage_is_64_and_names_the_culprit() {
    let dir = TempDir::new().unwrap();
    let unknown = write(&dir, "unknown.yaml", "listne: x\n");
    let typed = write(&dir, "typed.yaml", "io_threads: many\n");
    let pods = write(
        &dir,
        "pods.yaml",
        "pods:\n- {pod: a, model: m, events: 'tcp://a:1', rank: 2}\n",
    );
    let collide = "pods:\n- {pod: a, model: m, events: 'tcp://a:5557'}\n\
                   - {pod: b, model: m, events: 'tcp://b:5557', replay: 'tcp://b:5558', ranks: 2}\n";
    let collide = write(&dir, "collide.yaml", collide);
    for (args, named) in [
        (vec![], vec!["Usage"]),
        (vec!["swerve"], vec!["swerve"]),
        (vec!["serve", "--frobnicate"], vec!["--frobnicate"]),
        (
            vec!["serve", "--io-threads", "x"],
            vec!["--io-threads", "io_threads"],
        ),
        (vec!["serve", "--io-threads", "0"], vec!["io_threads"]),
        (vec!["serve", "--ready-share", "2"], vec!["ready_share"]),
        (vec!["serve", "--listen", "here"], vec!["listen", "here"]),
        (vec!["serve", "--log", "kvroute=loud"], vec!["log", "loud"]),
        (
            vec!["serve", "--config", "/no/such.yaml"],
            vec!["/no/such.yaml"],
        ),
        (
            vec!["serve", "--config", &unknown],
            vec!["unknown.yaml", "listne"],
        ),
        (
            vec!["serve", "--config", &typed],
            vec!["typed.yaml", "io_threads"],
        ),
        (
            vec!["serve", "--listen", "127.0.0.1:0", "--fleet", "/no/f"],
            vec!["fleet", "/no/f"],
        ),
        (
            vec!["serve", "--listen", "127.0.0.1:0", "--fleet", &pods],
            vec!["pods.yaml", "rank"],
        ),
        (
            vec!["serve", "--listen", "127.0.0.1:0", "--fleet", &collide],
            vec!["pods[1]", "replay"],
        ),
    ] {
        let (code, _, err) = run(kvroute().args(&args));
        assert_eq!(code, 64, "{args:?}: {err}");
        for word in named {
            assert!(err.contains(word), "{word} in {args:?}: {err}");
        }
    }
    let (code, _, err) = run(kvroute().arg("serve").env("KVROUTE_HTTP_THREADS", "x"));
    assert!(code == 64 && err.contains("http_threads"), "{err}");
    let name = "AIBRIX_USE_REMOTE_TOKENIZER";
    let (code, _, err) = run(kvroute().arg("serve").env(name, "yes"));
    assert!(code == 64 && err.contains(name), "{err}");
}

#[test]
fn an_address_in_use_is_69() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, err) = run(kvroute().args(["serve", "--listen", &address]));
    assert_eq!(code, 69, "{err}");
    assert!(err.contains("listen") && err.contains(&address), "{err}");
}

/// A running node. Killed if the test fails before it has stopped it.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        // The start goes on meanwhile, and says so.
        while !line.contains("answering") {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it has ended");
        }
        let address = line
            .split("listen=")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next());
        let address = address.unwrap_or_else(|| panic!("{line}")).to_owned();
        // So that the node never waits for a reader of its log.
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        Self { child, address }
    }

    fn get(&self, path: &str) -> String {
        self.ask("GET", path, "")
    }

    /// Until `/readyz` says this.
    fn wait(&self, what: &str) {
        let give_up = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let said = self.get("/readyz");
            if said.contains(what) {
                return;
            }
            assert!(std::time::Instant::now() < give_up, "{said}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    fn wait_ready(&self) {
        self.wait("HTTP/1.1 200 OK\r\n");
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn signal(mut self, signal: &str) -> Option<i32> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let dir = TempDir::new().unwrap();
    let fleet = |pod: &str| {
        let pods = format!("pods:\n- {{pod: {pod}, model: m, events: 'tcp://127.0.0.1:9'}}\n");
        write(&dir, &format!("{pod}.yaml"), &pods)
    };
    let (file, environment, flag) = (fleet("by-file"), fleet("by-environment"), fleet("by-flag"));
    let config = format!("fleet: {file}\nlisten: 127.0.0.1:0\n");
    let config = write(&dir, "config.yaml", &config);
    let serve = || {
        let mut command = kvroute();
        command.arg("serve").env("KVROUTE_CONFIG", &config);
        command
    };
    let pod_of = |command: &mut Command| {
        let node = Running::start(command);
        node.wait("#0");
        let workers = node.get("/v1/workers");
        let pods = workers
            .split("\"pod\":\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().to_owned());
        pods.collect::<Vec<_>>()
    };
    assert_eq!(pod_of(&mut serve()), ["by-file"]);
    assert_eq!(
        pod_of(serve().env("KVROUTE_FLEET", &environment)),
        ["by-environment"]
    );
    let all = pod_of(
        serve()
            .env("KVROUTE_FLEET", &environment)
            .args(["--fleet", &flag]),
    );
    assert_eq!(all, ["by-flag"]);
}

#[test]
fn a_node_without_configuration_takes_registrations_and_stops_when_told() {
    for signal in ["-TERM", "-INT"] {
        let mut command = kvroute();
        command.args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--http-threads",
            "2",
            "--pin",
        ]);
        let node = Running::start(&mut command);
        node.wait_ready();
        assert!(node.get("/v1/workers").ends_with("\r\n\r\n[]"));
        assert_eq!(node.signal(signal), Some(0));
    }
}

/// The JSON that a printed command posts.
fn posted(line: &str) -> &str {
    let body = line
        .split("-d '")
        .nth(1)
        .unwrap_or_else(|| panic!("{line}"));
    body.trim_end().trim_end_matches('\'')
}

/// A node follows the pod as its own words say, from a slow replay on, and finds the prompt that it names.
#[test]
fn a_fake_engine_is_followed_like_a_real_one() {
    let mut command = kvroute();
    let node = Running::start(command.args(["serve", "--listen", "127.0.0.1:0"]));
    let mut command = kvroute();
    command.args(["fake-engine", "--events", "tcp://127.0.0.1:0"]);
    command.args(["--replay", "tcp://127.0.0.1:0", "--rate", "20"]);
    // So large that the prompt is not evicted meanwhile.
    command.args([
        "--blocks", "1000000", "--fault", "slow=1", "--fault", "double=3",
    ]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let engine = Running {
        child,
        address: String::new(),
    };
    let mut next = |what: &str| {
        let mut lines = lines.by_ref().map(|line| line.unwrap());
        lines.find(|line| line.contains(what)).unwrap()
    };
    let pod = next("/v1/workers");
    let added = node.ask("POST", "/v1/workers", posted(&pod));
    assert!(added.starts_with("HTTP/1.1 2"), "{added}");
    let query = next("/v1/match");
    let tokens = query
        .split("token_ids\":[")
        .nth(1)
        .unwrap()
        .split(']')
        .next();
    let tokens = tokens.unwrap().split(',').count() / 16 * 16;
    let found = format!("\"matched_tokens\":{tokens}");
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let answer = node.ask("POST", "/v1/match", posted(&query));
        if answer.contains(&found) && answer.contains("\"state\":\"exact\"") {
            break;
        }
        assert!(std::time::Instant::now() < give_up, "{found}: {answer}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(engine.signal("-TERM"), Some(0));
    assert_eq!(node.signal("-TERM"), Some(0));
}

#[test]
fn a_fake_engine_ends_after_its_time_and_tells_what_it_did() {
    let mut command = kvroute();
    command.args(["fake-engine", "--events", "tcp://127.0.0.1:0"]);
    command.args(["--replay", "tcp://127.0.0.1:0", "--ranks", "2", "--json"]);
    command.args([
        "--duration",
        "3",
        "--restart-every",
        "1",
        "--dialect",
        "0.12",
    ]);
    let (code, out, err) = run(&mut command);
    assert_eq!(code, 0, "{err}");
    let last = out.lines().last().unwrap();
    let told: serde_json::Value = serde_json::from_str(last).unwrap();
    for rank in 0..2 {
        let of = &told["ranks"][rank];
        assert_eq!(of["rank"], rank, "{told}");
        assert!(of["life"].as_u64() >= Some(1), "{told}");
        assert!(
            of["batches"].as_u64() > of["last_sequence"].as_u64(),
            "{told}"
        );
    }
    for (args, named) in [
        (["--ranks", "0"], "ranks"),
        (["--ranks", "2"], "--replay"),
        (["--dialect", "0.99"], "0.99"),
        (["--rate", "0"], "--rate"),
        (["--fault", "loze=2"], "loze"),
        (["--fault", "lose"], "lose=N"),
        (["--events", "tcp://nowhere"], "tcp://nowhere"),
    ] {
        let (code, _, err) = run(kvroute().arg("fake-engine").args(args));
        assert_eq!(code, 64, "{args:?}: {err}");
        assert!(err.contains(named), "{named} in {args:?}: {err}");
    }
}

/// Also far above the usual limit of 1,024 open files.
#[test]
fn a_thousand_workers_take_few_threads() {
    let dir = TempDir::new().unwrap();
    let pods = (0..1_000).map(|n| {
        let (host, port) = (n % 250 + 1, n / 250 + 1);
        format!("- {{pod: p{n}, model: m, events: 'tcp://127.0.1.{host}:{port}', replay: 'tcp://127.0.2.{host}:{port}'}}\n")
    });
    let fleet = write(
        &dir,
        "fleet.yaml",
        &format!("pods:\n{}", pods.collect::<String>()),
    );
    let mut command = kvroute();
    command.args(["serve", "--listen", "127.0.0.1:0", "--fleet", &fleet]);
    // The thread of the start ends with it.
    command.args(["--ready-timeout", "1"]);
    let node = Running::start(&mut command);
    // Until the last of them could not be reached, so all sockets are open.
    let given_up = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while node.get("/v1/workers").matches("\"stale\"").count() < 1_000 {
        assert!(std::time::Instant::now() < given_up, "waited in vain");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let tasks = format!("/proc/{}/task", node.child.id());
    let cores = std::thread::available_parallelism().unwrap().get();
    loop {
        let threads = std::fs::read_dir(&tasks).unwrap().count();
        if threads <= cores + 8 {
            break;
        }
        let late = std::time::Instant::now() >= given_up;
        assert!(!late, "{threads} threads on {cores} cores");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn a_node_that_is_told_to_stop_leaves_a_snapshot() {
    let dir = TempDir::new().unwrap();
    let kept = dir.path().join("kept");
    let mut command = kvroute();
    command.args(["serve", "--listen", "127.0.0.1:0", "--snapshot-dir"]);
    command.arg(&kept);
    let node = Running::start(&mut command);
    assert!(!kept.join("kvroute.snapshot").exists());
    assert_eq!(node.signal("-TERM"), Some(0));
    assert!(kept.join("kvroute.snapshot").exists());
    // A folder that cannot be had is a matter of configuration.
    let file = write(&dir, "file", "");
    let (code, _, err) =
        run(kvroute().args(["serve", "--listen", "127.0.0.1:0", "--snapshot-dir", &file]));
    assert!(code == 64 && err.contains("snapshot_dir"), "{code} {err}");
}

#[cfg(feature = "local-tokenizer")]
#[test]
fn a_folder_without_a_tokenizer_is_bad_usage() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().to_str().unwrap();
    let serve = |file: &str, text: &str| {
        write(&dir, file, text);
        let local = format!("m={folder}");
        run(kvroute().args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--local-tokenizer",
            &local,
        ]))
    };
    for (file, text, expected) in [
        ("x", "", "tokenizer.json: no such file"),
        ("tokenizer.json", "{", "tokenizer.json: EOF"),
    ] {
        let (code, _, err) = serve(file, text);
        assert_eq!(code, 64, "{err}");
        for part in ["local_tokenizers: m: ", folder, expected] {
            assert!(err.contains(part), "{part} in {err}");
        }
    }
}

/// Two prompts, the second of which begins with the first.
const TRACE: &str = concat!(
    r#"{"timestamp":0,"input_length":600,"output_length":2,"hash_ids":[1,2]}"#,
    "\n",
    r#"{"timestamp":5000,"input_length":600,"output_length":2,"hash_ids":[1,2]}"#,
    "\n"
);

#[test]
fn a_trace_is_simulated_under_each_policy() {
    let dir = TempDir::new().unwrap();
    let trace = write(&dir, "trace.jsonl", TRACE);
    let (code, out, err) = run(kvroute().args(["simulate", &trace]));
    assert_eq!(
        (code, err.as_str()),
        (0, ""),
        "no progress but to a terminal"
    );
    for word in ["random", "approximate", "prefix-cache", "cost", "TTFT mean"] {
        assert!(out.contains(word), "{word}: {out}");
    }
    let svg = dir.path().join("plot.svg");
    let args = ["simulate", &trace, "--json", "--policy", "prefix-cache"];
    let (code, out, err) = run(kvroute().args(args).arg("--svg").arg(&svg));
    assert_eq!(code, 0, "{err}");
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let runs = json["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 1);
    // 37 of the second prompt's 37.5 blocks.
    assert_eq!(runs[0]["saved_tokens"], 592);
    assert_eq!(runs[0]["policy"], "prefix-cache");
    assert!(std::fs::read_to_string(svg).unwrap().starts_with("<svg"));
}

#[test]
fn a_trace_that_cannot_be_simulated_is_named() {
    let dir = TempDir::new().unwrap();
    let trace = write(&dir, "trace.jsonl", TRACE);
    let broken = write(
        &dir,
        "broken.jsonl",
        &TRACE.replace("5000,\"input_length\":600", "5000,\"input_length\":6000"),
    );
    let empty = write(&dir, "empty.jsonl", "\n");
    for (args, code, named) in [
        (vec!["/no/such.jsonl"], 69, vec!["/no/such.jsonl"]),
        (vec![&*broken], 64, vec!["broken.jsonl:2:", "hash_ids"]),
        (vec![&*empty], 64, vec!["empty.jsonl", "no requests"]),
        (
            vec![&*trace, "--policy", "best"],
            64,
            vec!["--policy", "best"],
        ),
        (vec![&*trace, "--speed", "0"], 64, vec!["--speed"]),
        (
            vec![&*trace, "--cost-decode", "1001"],
            64,
            vec!["--cost-decode"],
        ),
        (vec![&*trace, "--pods", "0"], 64, vec!["--pods"]),
        (
            vec![&*trace, "--cache-blocks", "9"],
            64,
            vec!["request 1", "--cache-blocks"],
        ),
        (
            vec![&*trace, "--limit", "1", "--svg", "/no/such/plot.svg"],
            69,
            vec!["/no/such/plot.svg"],
        ),
    ] {
        let (found, _, err) = run(kvroute().arg("simulate").args(&args));
        assert_eq!(found, code, "{args:?}: {err}");
        for word in named {
            assert!(err.contains(word), "{word} in {args:?}: {err}");
        }
    }
}
