//! Kubernetes' own client against the server: what it takes for a Kubernetes API server is one, as far as it asks.
//!
//! kubectl is found by `KVROUTE_TEST_KUBECTL` and by its name.
use kvroute_tests::apiserver::{ApiServer, Permissions, PodTemplate, StreamFault, TOKEN};
use kvroute_tests::gateways::find_binary;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

fn kubectl() -> Option<PathBuf> {
    find_binary("KVROUTE_TEST_KUBECTL", "kubectl")
}

/// kubectl as the bearer of a token; its caches are in a folder of its own.
fn command(binary: &Path, server: &ApiServer, token: &str, home: &Path) -> Command {
    let mut command = Command::new(binary);
    command.env("HOME", home).env_remove("KUBECONFIG");
    command.arg("--kubeconfig").arg(server.kubeconfig(token));
    command.arg("--request-timeout=60s").stdin(Stdio::null());
    command
}

fn run(binary: &Path, server: &ApiServer, token: &str, arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut command = command(binary, server, token, home.path());
    command.args(arguments).output().expect("it runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn kubectl_gets_pods_by_labels() {
    let Some(kubectl) = kubectl() else {
        return;
    };
    let server = ApiServer::start();
    for (namespace, name, model) in [("a", "one", "m"), ("a", "two", "k"), ("b", "three", "m")] {
        let pod = server.create(PodTemplate::new(namespace, name).label("model", model));
        pod.start("10.0.0.1");
    }
    let get = |arguments: &[&str]| {
        let output = run(&kubectl, &server, TOKEN, arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let list = get(&["get", "pods", "-A", "-l", "model in (m)", "-o", "json"]);
    let name = |at: usize| list["items"][at]["metadata"]["name"].clone();
    assert_eq!((name(0), name(1)), ("one".into(), "three".into()));
    assert_eq!(name(2), Value::Null);
    // In pages of one pod it has all of them, too.
    let list = get(&["get", "pods", "-A", "--chunk-size=1", "-o", "json"]);
    assert_eq!(list["items"].as_array().map(Vec::len), Some(3));
    let pod = get(&["get", "pod", "two", "-n", "a", "-o", "json"]);
    assert_eq!(pod["status"]["podIP"], "10.0.0.1");
    let output = run(&kubectl, &server, TOKEN, &["get", "pod", "none", "-n", "a"]);
    let expected = "Error from server (NotFound): pods \"none\" not found";
    assert_eq!(stderr(&output).trim(), expected);
}

/// A kubectl that watches, and is ended with the test.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn kubectl_watches_pods() {
    let Some(kubectl) = kubectl() else {
        return;
    };
    let server = ApiServer::start();
    let pod = server.create(PodTemplate::new("a", "one").label("model", "m"));
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut command = command(&kubectl, &server, TOKEN, home.path());
    let path = "jsonpath={.metadata.name} {.status.phase} {.status.podIP}{\"\\n\"}";
    command.args(["get", "pods", "-n", "a", "-l", "model=m", "-w", "-o", path]);
    command.arg("--output-watch-events=false");
    let child = command.stdout(Stdio::piped()).spawn().expect("it runs");
    let mut watching = Watching(child);
    let stdout = watching.0.stdout.take().expect("a pipe");
    let mut lines = BufReader::new(stdout).lines();
    let mut next = || lines.next().expect("there is more").expect("a line");
    assert_eq!(next().trim_end(), "one Pending");
    server.wait_for_watches(1);
    pod.start("10.0.0.1").change_ip("10.0.0.2");
    server.disturb(StreamFault::Bookmark);
    // Scheduled, running, ready.
    for line in [
        "one Pending",
        "one Running 10.0.0.1",
        "one Running 10.0.0.1",
    ] {
        assert_eq!(next().trim_end(), line);
    }
    assert_eq!(next(), "one Running 10.0.0.2");
    server.cut_lines(&[1, 7], std::time::Duration::ZERO);
    pod.relabel("model", Some("k"));
    assert_eq!(next(), "one Running 10.0.0.2");
    pod.relabel("model", Some("m"));
    assert_eq!(next(), "one Running 10.0.0.2");
    pod.evict();
    assert_eq!(next(), "one Failed 10.0.0.2");
}

#[test]
fn kubectl_is_refused() {
    let Some(kubectl) = kubectl() else {
        return;
    };
    let server = ApiServer::start();
    let output = run(&kubectl, &server, "wrong", &["get", "pods"]);
    assert!(!output.status.success());
    let said = stderr(&output);
    assert!(
        said.contains("Unauthorized") || said.contains("must be logged in"),
        "{said}"
    );
    server.set_token("of-a", Permissions::namespaces(&["a"]));
    let output = run(&kubectl, &server, "of-a", &["get", "pods", "-A"]);
    assert!(stderr(&output).contains("Error from server (Forbidden): pods is forbidden"));
    let output = run(&kubectl, &server, "of-a", &["get", "pods", "-n", "a"]);
    assert_eq!(stderr(&output).trim(), "No resources found in a namespace.");
    // Another authority's server is not believed.
    let other = ApiServer::start();
    let file = server.kubeconfig(TOKEN);
    let text = std::fs::read_to_string(&file).expect("it was just written");
    let text = text.replace(&server.url(), &other.url());
    std::fs::write(&file, text).expect("the folder is the server's");
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(&kubectl);
    command
        .env("HOME", home.path())
        .arg("--kubeconfig")
        .arg(&file);
    let output = command.args(["get", "pods"]).output().expect("it runs");
    assert!(stderr(&output).contains("certificate signed by unknown authority"));
    assert!(other.requests().is_empty());
}
