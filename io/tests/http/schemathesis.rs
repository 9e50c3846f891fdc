//! The node against schemathesis, which makes requests of its own from the description: right ones, wrong ones, and
//! those at the bounds.
use crate::fixture::{Blocks, Fixture, prompt};
use crate::openapi::{self, PENDING};
use kvroute_engine::types::Tier;
use serde_json::json;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Names the program; without it the test is skipped, but not where everything has to pass.
const PROGRAM: &str = "KVROUTE_SCHEMATHESIS";

/// Requests per operation at most: all runs take the same ones.
const EXAMPLES: &str = "25";

fn program() -> Option<String> {
    let program = std::env::var(PROGRAM).ok().filter(|name| !name.is_empty());
    if program.is_none() {
        let strict = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!strict, "{PROGRAM} must name schemathesis");
        // Past the runner, which keeps what tests that pass print.
        let said = format!("\nschemathesis is NOT RUN: {PROGRAM} does not name it\n");
        std::io::stderr().write_all(said.as_bytes()).unwrap();
    }
    program
}

/// Two pods with blocks, one of them with two ranks, an adapter and blocks in all tiers.
fn fixture() -> Fixture {
    let fixture = Fixture::with(2, 1.0);
    fixture.add(json!({
        "pod": "a", "model": "m", "events": "tcp://a:5557", "endpoint": "a:8000", "ranks": 2,
        "lora": ["fr"],
    }));
    fixture.add_pod("b");
    let prompt = prompt(32);
    for (worker, tier, after, end) in [
        ("a#0", Tier::Gpu, 0, 8),
        ("a#0", Tier::Cpu, 2, 16),
        ("a#0", Tier::Disk, 4, 32),
        ("a#1", Tier::Gpu, 0, 4),
        ("b#0", Tier::Gpu, 0, 32),
    ] {
        let blocks = Blocks {
            tier,
            after,
            ..Blocks::of(&prompt[..end])
        };
        fixture.store(worker, &blocks);
    }
    let adapted = Blocks {
        adapter: Some("fr"),
        chain: 1,
        ..Blocks::of(&prompt)
    };
    fixture.store("a#0", &adapted);
    fixture
}

#[test]
fn schemathesis_finds_nothing() {
    let Some(program) = program() else {
        return;
    };
    let fixture = fixture();
    for path in PENDING {
        let (status, code, _) = fixture.client().get(path).refusal();
        assert_eq!(
            (status, code.as_str()),
            (404, "not_found"),
            "{path} is served"
        );
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http");
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://{}/openapi.json", fixture.server.local_addr());
    let mut command = Command::new(program);
    command.current_dir(&folder).env("NO_COLOR", "1");
    command.env("PYTHONPATH", &sources);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
        .arg("--config-file")
        .arg(sources.join("schemathesis.toml"));
    command.args(["run", &url, "--seed", "1", "--continue-on-failure"]);
    command.args(["--max-examples", EXAMPLES]);
    // It fails if the node hangs, not if the machine is busy.
    command.args(["--request-timeout", "60", "--max-response-time", "60"]);
    if !PENDING.is_empty() {
        let pending = format!("^({})(/|$)", PENDING.join("|"));
        command.args(["--exclude-path-regex", &pending]);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{said}\n{failed}",
        output.status
    );
    // All but the one that it was told of the others by.
    let tested = format!("Tested: {}", openapi::operations() - 1);
    assert!(said.contains(&tested), "not {tested}: {said}");
    // The node has come through it. Whether the pods have is up to what was asked.
    fixture.add_pod("after");
    fixture.store("after#0", &Blocks::of(&prompt(4)));
    let asked = json!({"model": "m", "token_ids": prompt(4), "candidates": ["after"]});
    let answer = fixture.client().post("/v1/match", &asked).json();
    assert_eq!(answer["candidates"][0]["matched_tokens"], 4);
}
