//! Canaries wherever a secret may stand: none is in anything that the program prints, logs, or shows of its settings.
use crate::{kvroute, run};
use kvroute::config::{Given, Settings, SettingsFile, Standing};
use rcgen::generate_simple_self_signed;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tempfile::TempDir;

/// Seeds, other than the default.
const SEEDS: [&str; 2] = ["7654321987", "7654321988"];
/// A password, a token, and what is in a file that should hold another thing.
const WORD: &str = "canary-of-a-secret";

fn assert_hidden(what: &str, text: &str) {
    for canary in SEEDS.iter().chain(&[WORD]) {
        assert!(!text.contains(canary), "{canary} in {what}: {text}");
    }
}

struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        Self {
            folder: TempDir::new().unwrap(),
        }
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// What is given is shown as given, and a seed that is none as well, but not the seed.
#[test]
fn a_seed_is_never_shown() {
    let files = Files::new();
    let [seed, other] = SEEDS;
    let file = files.write("seed.yaml", &format!("hash_seed: {seed}\n"));
    let bad = files.write("bad.yaml", &format!("hash_seed: {seed}x\n"));
    let lists = files.write("lists.yaml", &format!("hash_seed: [{seed}]\n"));
    for args in [
        &["check-config", "--config", &file][..],
        &["check-config", "--json", "--config", &file],
        &["check-config", "--config", &file, "--hash-seed", other],
        &["check-config", "--config", &bad],
        &["check-config", "--config", &lists],
        &["check-config", "--hash-seed", "-7654321987"],
        &["check-config", "--hash-seed=7654321987x"],
        &["check-config", "--config", &file, "--replays", "0"],
        &["serve", "--config", &file, "--replays", "0"],
        &["serve", "--help"],
        &["check-config", "--help"],
        &["--help"],
    ] {
        for variable in [seed, "7654321987x"] {
            let mut command = kvroute(args);
            let (_, shown) = run(command.env("KVROUTE_HASH_SEED", variable));
            assert!(!shown.is_empty());
            assert_hidden(&format!("{args:?}"), &shown);
        }
    }
    let (code, shown) = run(&mut kvroute(&["check-config", "--config", &file]));
    let row = shown.lines().find(|line| line.starts_with("hash_seed"));
    assert_eq!(code, 0);
    assert!(row.is_some_and(|row| row.contains("set, not shown") && row.contains(&file)));
    let (_, shown) = run(&mut kvroute(&["check-config"]));
    assert!(shown.contains("1337"), "the default is no secret: {shown}");
}

#[test]
fn settings_hide_it_from_whoever_shows_them() {
    let files = Files::new();
    let file = files.write("seed.yaml", &format!("hash_seed: {}\n", SEEDS[0]));
    let own = Settings {
        hash_seed: Some(SEEDS[1].parse().unwrap()),
        ..Settings::default()
    };
    let given = Given {
        own,
        file: SettingsFile::read(file.as_ref()).unwrap(),
        ..Given::default()
    };
    let config = given.resolve().unwrap();
    assert_eq!(config.hash_seed.0.to_string(), SEEDS[1]);
    assert_hidden("Config", &format!("{config:?}"));
    assert_hidden("Given", &format!("{given:#?}"));
    assert_hidden("rows", &format!("{:?}", given.rows(&config)));
    let mut standing = Standing::new(given.clone(), config);
    assert_hidden("Standing", &format!("{standing:?}"));
    let changed = Given {
        own: Settings::default(),
        ..given
    };
    let changes = standing.take(&changed).unwrap();
    assert_eq!(changes.restart.len(), 1, "{changes:?}");
    assert_hidden("Changes", &format!("{changes:?} {}", changes.restart[0]));
}

/// Names and passwords in addresses, which are refused; what files have that are not what they should be.
#[test]
fn passwords_and_contents_are_not_repeated() {
    let files = Files::new();
    let word = files.write("word", &format!("{WORD}\n"));
    let list = files.write("list", &format!("- {WORD}\n"));
    let pasted = format!("-----BEGIN PRIVATE KEY-----\n{WORD}\n");
    let in_file = format!("tls_cert: c\ntls_key: |\n  BEGIN\n  {WORD}\n");
    let in_file = files.write("pasted.yaml", &in_file);
    let at = format!("http://me:{WORD}@host:80");
    let pod = format!("m={WORD}@host:80");
    for args in [
        &["--config", &*word][..],
        &["--config", &list],
        &["--config", &in_file],
        &["--fleet", &word],
        &["--fleet", &list],
        &["--tls-cert", &word, "--tls-key", &word],
        &["--tls-cert", &word, &format!("--tls-key={pasted}")],
        &[&format!("--token-file={pasted}")],
        &["--listen", &at],
        &["--admin-listen", &at],
        &["--tokenizer-endpoint", &at],
        &["--peers", &at],
        &["--dns", &pod],
        &["--policy", &at],
    ] {
        for command in ["check-config", "serve"] {
            let (code, shown) = run(kvroute(&[command]).args(args));
            assert_eq!(code, 64, "{args:?}: {shown}");
            assert_hidden(&format!("{command} {args:?}"), &shown);
        }
    }
    // Of what Kubernetes' own client says of a file, too.
    let user = format!("users:\n- name: me\n  user:\n    token: {WORD}\n    password: [\n");
    for text in [WORD, &user, &format!("clusters: {WORD}\n")] {
        let file = files.write("kubeconfig", text);
        let args = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--kubernetes",
            "--kubeconfig",
        ];
        let (code, shown) = run(kvroute(&args).arg(&file));
        assert!(code == 64 && shown.contains("kubeconfig"), "{code} {shown}");
        assert_hidden("kubeconfig", &shown);
    }
    for name in ["AIBRIX_REMOTE_TOKENIZER_ENDPOINT", "KVROUTE_PEERS"] {
        let (code, shown) = run(kvroute(&["check-config"]).env(name, &at));
        assert!(code == 64 && shown.contains(name), "{shown}");
        assert_hidden(name, &shown);
    }
}

/// A server that takes what it is asked and breaks off; hands out what came.
fn deaf_server() -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, heard) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut bytes = [0; 4_096];
            let length = stream.read(&mut bytes).unwrap_or(0);
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if sender.send(text).is_err() {
                return;
            }
        }
    });
    (port, heard)
}

fn kubeconfig(files: &Files, port: u16) -> String {
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters:\n- name: k\n  cluster: {{server: 'http://127.0.0.1:{port}'}}\n\
         users:\n- name: u\n  user: {{token: {WORD}}}\n\
         contexts:\n- name: c\n  context: {{cluster: k, user: u}}\n"
    );
    files.write("kubeconfig", &text)
}

/// A node with all kinds of secrets, told to log everything, asked, told to read all again, and stopped.
#[test]
fn nothing_of_it_is_logged() {
    let files = Files::new();
    let cert = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = cert.signing_key.serialize_pem();
    let (cert, tokens) = (
        files.write("cert", &cert.cert.pem()),
        files.write("tokens", &format!("{WORD}\n")),
    );
    let secret = key.lines().nth(1).unwrap().to_owned();
    let key = files.write("key", &key);
    let (port, heard) = deaf_server();
    let kubeconfig = kubeconfig(&files, port);
    let config = |seed: &str| {
        let text = format!(
            "kubernetes: true\nkubeconfig: {kubeconfig}\nlisten: [127.0.0.1:0, 'unix:{0}/socket']\nlog: trace\nhash_seed: {seed}\ntls_cert: {cert}\ntls_key: {key}\n\
             token_file: {tokens}\nadmin_token_file: {tokens}\nsnapshot_dir: {0}/kept\n",
            files.folder.path().display()
        );
        files.write("kvroute.yaml", &text)
    };
    let file = config(SEEDS[0]);
    let mut command = kvroute(&["serve", "--config", &file]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut log = String::new();
    let mut until = |what: &str| {
        let mut line = String::new();
        while !line.contains(what) {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "{what}: {log}");
            log.push_str(&line);
        }
        line
    };
    let answering = until("answering");
    let port = answering.split("listen=127.0.0.1:").nth(1).unwrap();
    let port = port.split(',').next().unwrap();
    // No TLS: refused, which is logged.
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    let _ = write!(
        stream,
        "GET / HTTP/1.1\r\nauthorization: Bearer {WORD}\r\n\r\n"
    );
    let _ = stream.read_to_end(&mut Vec::new());
    let asked = heard.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(asked.contains(WORD), "the token is in use: {asked}");
    let signal = |name: &str| {
        let pid = child.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &pid])
                .status()
                .unwrap()
                .success()
        );
    };
    config(SEEDS[1]);
    signal("-HUP");
    assert!(until("need a restart").contains("hash_seed"));
    files.write("kvroute.yaml", &format!("hash_seed: x{}\n", SEEDS[1]));
    signal("-HUP");
    assert!(until("cannot be used").contains("hash_seed"));
    signal("-TERM");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    log.push_str(&rest);
    assert_hidden("the log", &log);
    assert!(!log.contains(&secret), "{log}");
}
