//! What the Dockerfile makes: the file itself by hadolint, what its context has, and the program in a root like the
//! image's. There is no container engine in the tests.
use crate::config::binary;
use crate::objects::{printed, run};
use kvroute_tests::gateways::{Client, find_binary};
use kvroute_tests::tidy::root;
use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

/// The user of the image.
const USER: u32 = 65_532;

/// The libraries of distroless' `cc` image, and the loader.
const LIBRARIES: &[&str] = &[
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
    "libc.so.6",
    "libm.so.6",
    "libgcc_s.so.1",
    "libstdc++.so.6",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
];

const START_TIME_MAX: Duration = Duration::from_secs(60);

/// Starts on another port each.
const ATTEMPTS_MAX: usize = 5;

fn dockerfile() -> String {
    let path = root().join("deploy/Dockerfile");
    fs::read_to_string(path).expect("it is there")
}

#[test]
fn the_dockerfile_passes_hadolint() {
    let Some(tool) = find_binary("KVROUTE_TEST_HADOLINT", "hadolint") else {
        return;
    };
    let path = root().join("deploy/Dockerfile");
    let output = run(&tool, &[path.to_str().expect("UTF-8")]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.is_empty(), "{told}");
}

/// The versions in it are those of the workspace, and its last stage is nobody's.
#[test]
fn the_dockerfile_agrees_with_the_workspace() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("it is there");
    let value = |key: &str| {
        let line = manifest.lines().find(|line| line.starts_with(key));
        let line = line.expect("the key is there");
        line.split('"').nth(1).expect("a text").to_owned()
    };
    let text = dockerfile();
    let has = |line: &str| assert!(text.lines().any(|l| l.trim() == line), "{line}");
    has(&format!("ARG RUST={}", value("rust-version")));
    has(&format!("ARG VERSION={}", value("version")));
    has(&format!("USER {USER}:{USER}"));
    let (_, last) = text.rsplit_once("\nFROM ").expect("stages");
    assert!(last.starts_with("gcr.io/distroless/cc-debian"));
    assert!(!last.contains("\nRUN "), "there is no shell");
    assert!(text.contains("--locked"));
}

/// Whether the context has a file, by the patterns of `.dockerignore`: the last one that matches decides.
fn in_context(path: &str) -> bool {
    let text = fs::read_to_string(root().join(".dockerignore")).expect("it is there");
    let patterns = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let matches = |pattern: &str| match pattern.strip_prefix("**/") {
        Some(end) => path.split('/').any(|part| match end.strip_prefix('*') {
            Some(suffix) => part.ends_with(suffix),
            None => part == end,
        }),
        None => path == pattern || path.starts_with(&format!("{pattern}/")),
    };
    patterns.fold(true, |kept, pattern| match pattern.strip_prefix('!') {
        Some(pattern) => kept || matches(pattern),
        None => kept && !matches(pattern),
    })
}

/// The context has all that cargo looks at for the program, and neither what was built nor what was committed.
#[test]
fn the_context_has_the_workspace() {
    for path in [
        "Cargo.toml",
        "Cargo.lock",
        "LICENSE",
        "io/src/main.rs",
        "io/src/http/openapi.json",
    ] {
        assert!(in_context(path) && root().join(path).exists(), "{path}");
    }
    for member in ["engine", "io", "bench", "perf", "tests"] {
        assert!(in_context(&format!("{member}/Cargo.toml")));
        assert!(in_context(&format!("{member}/src/lib.rs")));
    }
    // The recordings of the demo are in the program.
    assert!(in_context(
        "tests/traces/v0.32.0-sha256-int-bs32/core.events.jsonl.gz"
    ));
    for path in [
        "target/release/kvroute",
        "io/target/x",
        ".git/config",
        "README.md",
        "io/README.md",
    ] {
        assert!(!in_context(path), "{path}");
    }
    // Benches that the manifests name have to be there, tests that cargo finds by itself need not.
    let named = fs::read_to_string(root().join("bench/Cargo.toml")).expect("it is there");
    assert!(named.contains("[[bench]]") && in_context("bench/benches/wire.rs"));
}

/// The files that the loader reads for the program.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let told = printed(Path::new("ldd"), &[program.to_str().expect("UTF-8")]);
    let paths = told.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        words.find(|word| word.starts_with('/')).map(PathBuf::from)
    });
    paths.collect()
}

#[test]
fn the_image_has_the_libraries() {
    let Some(binary) = binary() else {
        return;
    };
    let libraries = libraries(&binary);
    assert!(libraries.len() >= 3);
    for library in libraries {
        let name = library
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name");
        assert!(LIBRARIES.contains(&name), "{name} is not in the image");
    }
}

/// A program that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder with the program, its libraries and nothing else; of it, only what the image leaves to volumes can be written.
fn image_root(binary: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let inside = |path: &Path| folder.path().join(path.strip_prefix("/").unwrap_or(path));
    for file in libraries(binary) {
        let to = inside(&file);
        fs::create_dir_all(to.parent().expect("a folder")).expect("ours");
        fs::copy(&file, to).expect("it can be copied");
    }
    fs::copy(binary, inside(Path::new("kvroute"))).expect("it can be copied");
    for volume in ["tmp", "var/lib/kvroute"] {
        let volume = inside(Path::new(volume));
        fs::create_dir_all(&volume).expect("ours");
        chown(&volume, Some(USER), Some(USER)).expect("we are root");
    }
    fs::set_permissions(folder.path(), Permissions::from_mode(0o555)).expect("ours");
    folder
}

/// The node in the image's root, once it is ready; none if it has ended before.
fn start(folder: &Path) -> Option<(Running, Client)> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr());
    let address: SocketAddr = free.expect("a port is free");
    let mut command = Command::new("chroot");
    command.arg(format!("--userspec={USER}:{USER}")).arg(folder);
    command.args(["/kvroute", "serve", "--listen", &address.to_string()]);
    command.args(["--snapshot-dir", "/var/lib/kvroute", "--peers"]);
    command
        .arg(address.to_string())
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/bin");
    let mut node = Running(command.spawn().expect("chroot is there"));
    let give_up = Instant::now() + START_TIME_MAX;
    let client = Client { address };
    loop {
        // Before it is asked: who answers on the port of a node that has ended is somebody else.
        if node.0.try_wait().expect("it is our child").is_some() {
            return None;
        }
        if TcpStream::connect(address).is_ok() && client.get("/readyz", "").status == 200 {
            return Some((node, client));
        }
        assert!(Instant::now() < give_up, "it is not ready");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The node starts, answers, writes its snapshot and ends, as a user without rights in a root that it cannot write, without
/// /proc, /dev, /etc or a shell.
#[test]
fn the_program_runs_with_nothing_around_it() {
    let Some(binary) = binary() else {
        return;
    };
    if printed(Path::new("id"), &["-u"]).trim() != "0" {
        let _ = writeln!(io::stderr(), "SKIPPED: only root can change the root");
        return;
    }
    let folder = image_root(&binary);
    // A port that was free may be another one's by the time that the node binds it.
    let started = (0..ATTEMPTS_MAX).find_map(|_| start(folder.path()));
    let (mut node, client) = started.expect("the node starts");
    assert_eq!(client.get("/healthz", "").status, 200);
    assert_eq!(client.get("/metrics", "").status, 200);
    let body =
        r#"{"pod": "a/b", "model": "m", "endpoint": "127.0.0.1:9", "events": "tcp://127.0.0.1:9"}"#;
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert!(client.post("/v1/workers", "", &body).status < 300);
    printed(Path::new("kill"), &["-TERM", &node.0.id().to_string()]);
    let ended = node.0.wait().expect("it is our child");
    assert_eq!(ended.code(), Some(0));
    let left = |path: &str| {
        fs::read_dir(folder.path().join(path))
            .expect("ours")
            .count()
    };
    assert_eq!(left("tmp"), 0);
    assert_eq!(left("var/lib/kvroute"), 1, "the snapshot");
    let mut top: Vec<_> = fs::read_dir(folder.path()).expect("ours").collect();
    top.retain(|entry| {
        let name = entry.as_ref().expect("a file").file_name();
        !["kvroute", "lib", "lib64", "tmp", "usr", "var"].contains(&name.to_str().unwrap_or(""))
    });
    assert!(top.is_empty(), "{top:?}");
}
