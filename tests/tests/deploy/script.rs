//! `deploy/enable-kv-events.sh` with the real kubectl, on Deployments in the forms that people write them in.
use crate::objects::{kubectl, list, named, parse, validate};
use crate::script_api::Api;
use kvroute_tests::gateways::find_binary;
use kvroute_tests::tidy::root;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

const NOTED: &str = "kvroute.io/enable-kv-events";

/// A Deployment as a server has it.
fn recorded(name: &str) -> Value {
    let path = root().join(format!("tests/tests/deploy/deployments/{name}.yaml"));
    let text = fs::read_to_string(path).expect("it is there");
    let mut objects = parse(&text);
    assert_eq!(objects.len(), 1);
    objects.remove(0)
}

/// The script against a server that has one Deployment.
struct World {
    api: Api,
    kubectl: PathBuf,
    home: TempDir,
}

/// How a run ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl World {
    fn new(name: &str) -> Option<Self> {
        let kubectl = kubectl()?;
        find_binary("KVROUTE_TEST_JQ", "jq")?;
        Some(Self {
            api: Api::start(recorded(name)),
            kubectl,
            home: tempfile::tempdir().expect("a temporary folder"),
        })
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let deployment = self.api.deployment();
        let name = deployment["metadata"]["name"].as_str().expect("a name");
        let mut command = Command::new(root().join("deploy/enable-kv-events.sh"));
        command.args(["-n", "models", name]).args(arguments);
        command.env("KUBECTL", &self.kubectl);
        command.env("HOME", self.home.path());
        command.env("KUBECONFIG", self.api.kubeconfig(self.home.path()));
        let output = command.stdin(Stdio::null()).output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// A run that succeeds.
    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout
    }

    fn template(&self) -> Value {
        self.api.deployment()["spec"]["template"].clone()
    }

    fn engine(&self) -> Value {
        self.template()["spec"]["containers"][0].clone()
    }
}

fn flag(events: u16, replay: u16) -> String {
    format!(
        r#"{{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:{events}","replay_endpoint":"tcp://*:{replay}","buffer_steps":100000}}"#
    )
}

/// Shown, done, done again, taken back: in each form only what has to change does, and all of it comes back.
#[track_caller]
fn round(name: &str, arguments: &[&str], check: impl Fn(&Value, &Value)) {
    let Some(world) = World::new(name) else {
        return;
    };
    let before = world.api.deployment();
    let run = |more: &[&str]| world.done(&[arguments, more].concat());
    // To look changes nothing.
    let shown = run(&[]);
    assert!(
        shown.contains("nothing was changed") && shown.contains("\n+"),
        "{shown}"
    );
    assert_eq!(
        (world.api.deployment(), world.api.writes()),
        (before.clone(), 0)
    );
    let told = run(&["--apply"]);
    assert!(
        told.contains("changed; its pods are being replaced"),
        "{told}"
    );
    assert_eq!(world.api.writes(), 1);
    validate(&[world.api.deployment()]);
    check(&world.template(), &world.engine());
    // Beside the template, only the note is new.
    let mut rest = world.api.deployment();
    let notes = rest["metadata"]["annotations"].as_object_mut();
    assert!(notes.expect("annotations").remove(NOTED).is_some());
    rest["spec"]["template"] = before["spec"]["template"].clone();
    assert_eq!(rest, before);
    // Once more.
    for more in [&[][..], &["--apply"]] {
        assert!(run(more).contains("nothing to do"));
    }
    assert_eq!(world.api.writes(), 1);
    let done = world.api.deployment();
    assert!(run(&["--undo"]).contains("nothing was changed"));
    assert_eq!(world.api.deployment(), done);
    assert!(run(&["--undo", "--apply"]).contains("taken back"));
    assert_eq!(world.api.deployment(), before);
    assert!(run(&["--undo", "--apply"]).contains("nothing to do"));
}

fn labels(template: &Value) -> &Value {
    &template["metadata"]["labels"]
}

#[test]
fn arguments_behind_a_command() {
    round("exec-form", &[], |template, engine| {
        let expected = json!([
            "--served-model-name",
            "qwen3-8b",
            "--port",
            "8000",
            "--max-model-len",
            "32768",
            "--kv-events-config",
            flag(5557, 5558)
        ]);
        assert_eq!(engine["args"], expected);
        assert_eq!(engine["command"], json!(["vllm", "serve", "Qwen/Qwen3-8B"]));
        let expected = json!({"app": "exec-form", "model.aibrix.ai/name": "qwen3-8b",
            "model.aibrix.ai/kv-events-enabled": "true"});
        assert_eq!(labels(template), &expected);
        // The ports are those that kvroute takes by itself.
        assert!(template["metadata"]["annotations"].is_null());
        assert_eq!(named(&engine["ports"], "kv-events")["containerPort"], 5557);
        assert_eq!(named(&engine["ports"], "kv-replay")["containerPort"], 5558);
        assert_eq!(list(&engine["ports"]).len(), 3);
        let other = &list(&template["spec"]["containers"])[1];
        assert_eq!(other["args"], json!(["--listen", ":9100"]));
    });
}

#[test]
fn arguments_of_the_image_and_four_ranks() {
    round("args-only", &[], |template, engine| {
        let arguments = list(&engine["args"]);
        // Each rank has ports of its own: the two are kept apart.
        assert_eq!(arguments[arguments.len() - 1], flag(5557, 5657));
        let expected = json!({"app": "args-only", "model.aibrix.ai/name": "llama-8b",
            "model.aibrix.ai/kv-events-enabled": "true", "model.aibrix.ai/port": "8080"});
        assert_eq!(labels(template), &expected);
        let expected = json!({"kvroute.io/events-port": "5557", "kvroute.io/replay-port": "5657",
            "kvroute.io/ranks": "4"});
        assert_eq!(template["metadata"]["annotations"], expected);
    });
}

#[test]
fn a_command_alone_and_a_model_that_no_label_holds() {
    round("command-only", &[], |template, engine| {
        let command = list(&engine["command"]);
        assert_eq!(command[command.len() - 2], "--kv-events-config");
        assert!(engine["args"].is_null());
        assert_eq!(labels(template)["model.aibrix.ai/name"], "Qwen-Qwen3-32B");
        let model = &template["metadata"]["annotations"]["kvroute.io/model"];
        assert_eq!(model, "Qwen/Qwen3-32B");
    });
}

#[test]
fn a_script_of_one_command() {
    round("shell-args", &[], |template, engine| {
        let script = engine["args"][0].as_str().expect("a text");
        let end = format!(
            "my chat.jinja\" --kv-events-config '{}'\n",
            flag(5557, 5558)
        );
        assert!(script.ends_with(&end), "{script}");
        assert_eq!(labels(template)["model.aibrix.ai/name"], "qwen3-8b");
    });
    round(
        "shell-command",
        &["--model", "llama", "--buffer-steps", "5"],
        |_, engine| {
            let script = engine["command"][2].as_str().expect("a text");
            assert!(
                script.starts_with("exec vllm serve $MODEL --tensor-parallel-size 2 --kv-events")
            );
            assert!(script.contains("\"buffer_steps\":5}'"));
        },
    );
}

/// An engine that publishes already is only described.
#[test]
fn a_flag_that_is_there_stays() {
    round("publishes", &[], |template, engine| {
        assert_eq!(list(&engine["args"]).len(), 2);
        let expected = json!({"kvroute.io/events-port": "6000", "kvroute.io/replay-port": "6100",
            "kvroute.io/ranks": "1"});
        assert_eq!(template["metadata"]["annotations"], expected);
    });
}

#[test]
fn other_ports_take_the_place_of_the_first_ones() {
    let Some(world) = World::new("exec-form") else {
        return;
    };
    let before = world.api.deployment();
    world.done(&["--apply"]);
    let ports = ["--events-port", "6000", "--replay-port", "6001"];
    world.done(&[&ports[..], &["--apply"]].concat());
    let engine = world.engine();
    let arguments = list(&engine["args"]);
    assert_eq!(arguments[arguments.len() - 1], flag(6000, 6001));
    assert_eq!(
        arguments
            .iter()
            .filter(|a| *a == "--kv-events-config")
            .count(),
        1
    );
    assert_eq!(list(&engine["ports"]).len(), 3);
    world.done(&["--undo", "--apply"]);
    assert_eq!(world.api.deployment(), before);
}

/// What somebody else has changed since is neither taken back nor lost.
#[test]
fn taking_back_leaves_what_others_did() {
    let Some(world) = World::new("exec-form") else {
        return;
    };
    world.done(&["--apply"]);
    world.api.change(|deployment| {
        deployment["spec"]["replicas"] = json!(7);
        let template = &mut deployment["spec"]["template"];
        template["metadata"]["labels"]["model.aibrix.ai/name"] = json!("renamed");
        let arguments = template["spec"]["containers"][0]["args"].as_array_mut();
        arguments.expect("a list").push(json!("--enforce-eager"));
    });
    world.done(&["--undo", "--apply"]);
    let engine = world.engine();
    let arguments = list(&engine["args"]);
    assert_eq!(arguments[arguments.len() - 1], "--enforce-eager");
    assert!(!arguments.iter().any(|a| a == "--kv-events-config"));
    assert_eq!(labels(&world.template())["model.aibrix.ai/name"], "renamed");
    assert_eq!(world.api.deployment()["spec"]["replicas"], 7);
    // The flag itself in other words: nothing is guessed.
    world.done(&["--apply"]);
    world.api.change(|deployment| {
        let engine = &mut deployment["spec"]["template"]["spec"]["containers"][0];
        let arguments = engine["args"].as_array_mut().expect("a list");
        arguments.pop();
        arguments.push(json!("{}"));
    });
    let ended = world.run(&["--undo", "--apply"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("the arguments were changed since"),
        "{ended:?}"
    );
}

/// `kubectl apply` of a manifest that does not know of the flag puts its own arguments in place of the changed ones, and leaves
/// annotations and labels: the flag is set again, and what is left is taken back.
#[test]
fn a_manifest_applied_since_has_taken_the_flag_out() {
    for name in ["exec-form", "command-only", "shell-args", "shell-command"] {
        let Some(world) = World::new(name) else {
            return;
        };
        let before = world.api.deployment();
        let applied = || {
            let mut engine = before["spec"]["template"]["spec"]["containers"][0].clone();
            let own = list(&engine["args"]).iter().chain(list(&engine["command"]));
            let mut own = own.filter_map(Value::as_str);
            assert!(own.all(|word| !word.contains("--kv-events")));
            world.api.change(|deployment| {
                let now = &mut deployment["spec"]["template"]["spec"]["containers"][0];
                engine["ports"] = now["ports"].clone();
                *now = engine;
            });
        };
        let model = ["--model", "llama"];
        world.done(&[&model[..], &["--apply"]].concat());
        let done = world.api.deployment();
        applied();
        assert_ne!(world.api.deployment(), done, "{name}");
        world.done(&[&model[..], &["--apply"]].concat());
        assert_eq!(world.api.deployment(), done, "{name}");
        applied();
        let told = world.done(&["--undo", "--apply"]);
        assert!(told.contains("taken back"), "{name}: {told}");
        assert_eq!(world.api.deployment(), before, "{name}");
    }
}

/// A script that has the flag in other words: nothing is guessed.
#[test]
fn a_flag_that_was_changed_in_a_script_is_not_taken_out() {
    let Some(world) = World::new("shell-args") else {
        return;
    };
    world.done(&["--apply"]);
    world.api.change(|deployment| {
        let script = &mut deployment["spec"]["template"]["spec"]["containers"][0]["args"][0];
        let changed = script.as_str().expect("a text").replace("5557", "6557");
        *script = json!(changed);
    });
    let changed = world.api.deployment();
    for arguments in [&["--undo", "--apply"][..], &["--apply"]] {
        let ended = world.run(arguments);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(
            ended.stderr.contains("the script was changed since"),
            "{ended:?}"
        );
    }
    assert_eq!(world.api.deployment(), changed);
}

/// The command that is told to wait with is of the same namespace.
#[test]
fn what_to_wait_with_is_told_in_full() {
    let Some(world) = World::new("exec-form") else {
        return;
    };
    let told = world.done(&["--apply"]);
    let command = "--namespace models rollout status deployment/exec-form\n";
    assert!(told.ends_with(command), "{told}");
}

#[test]
fn a_change_in_between_is_not_overwritten() {
    let Some(world) = World::new("exec-form") else {
        return;
    };
    world.api.contend();
    let ended = world.run(&["--apply"]);
    assert_ne!(ended.code, Some(0));
    assert!(ended.stderr.contains("Conflict"), "{}", ended.stderr);
    assert_eq!(world.api.writes(), 0);
    let touched = world.api.deployment()["metadata"]["labels"]["touched"].clone();
    assert_eq!(touched, "true");
}

#[test]
fn what_cannot_be_changed_safely_is_refused() {
    let refused = [
        ("no-replay", "no replay_endpoint"),
        ("pipeline", "more than one plain command"),
        ("loop", "more than one plain command"),
        ("file", "a shell runs a file"),
        ("image-only", "neither command nor args"),
        ("two", "say --container, one of prefill, decode"),
        ("sglang", "deploy/samples/sglang.yaml"),
        ("no-prefix-caching", "without prefix caching"),
        ("several-nodes", "in several pods"),
        ("one-string", "an argument holds several options"),
        ("taken", "port 5558 is another container's"),
        ("no-model", "say --model"),
        ("other", "no container names vLLM"),
    ];
    for (name, word) in refused {
        let Some(world) = World::new(&format!("refused-{name}")) else {
            return;
        };
        let before = world.api.deployment();
        let ended = world.run(&["--apply"]);
        assert_eq!(ended.code, Some(1), "{name}: {ended:?}");
        let told = format!("{name}: refused: ");
        assert!(
            ended.stderr.starts_with(&told) && ended.stderr.contains(word),
            "{ended:?}"
        );
        assert_eq!((world.api.deployment(), world.api.writes()), (before, 0));
    }
    // What was missing can be said.
    let Some(world) = World::new("refused-two") else {
        return;
    };
    world.done(&["--container", "prefill", "--apply"]);
    assert_eq!(list(&world.engine()["args"]).len(), 4);
}

#[test]
fn bad_usage_ends_with_64() {
    let Some(world) = World::new("exec-form") else {
        return;
    };
    for arguments in [
        &["--aply"][..],
        &["other"],
        &["--events-port", "70000"],
        &["--buffer-steps", "-1"],
        &["--model"],
    ] {
        let ended = world.run(arguments);
        assert_eq!(ended.code, Some(64), "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains("usage:"));
    }
}

#[test]
fn the_scripts_pass_shellcheck() {
    let Some(tool) = find_binary("KVROUTE_TEST_SHELLCHECK", "shellcheck") else {
        return;
    };
    let path = root().join("deploy/enable-kv-events.sh");
    let output = Command::new(tool).arg(path).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
}
