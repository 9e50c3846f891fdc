//! Restarts and silence.
use crate::engine::HttpEngine;
use crate::rig::{Rig, until};
use serde_json::json;
use std::fmt::Write;

/// What an engine of vLLM's says, shortened; for each rank its label, the prompt tokens it looked up, and the
/// requests that ended.
fn metrics(start: f64, ranks: &[(u32, u64, u64)]) -> String {
    let mut text = format!(
        "# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.\n\
         # TYPE process_start_time_seconds gauge\n\
         process_start_time_seconds {start}\n"
    );
    for (rank, queries, ended) in ranks {
        write!(
            text,
            "vllm:num_requests_running{{engine=\"{rank}\",model_name=\"tiny\"}} 0.0\n\
             vllm:num_requests_waiting{{engine=\"{rank}\",model_name=\"tiny\"}} 0.0\n\
             vllm:prefix_cache_queries_total{{engine=\"{rank}\",model_name=\"tiny\"}} {queries}\n\
             vllm:prefix_cache_hits_total{{engine=\"{rank}\",model_name=\"tiny\"}} 0.0\n\
             vllm:request_success_total{{engine=\"{rank}\",finished_reason=\"stop\"}} {ended}\n\
             vllm:request_success_total{{engine=\"{rank}\",finished_reason=\"abort\"}} 0\n\
             vllm:cache_config_info{{block_size=\"16\",engine=\"{rank}\"}} 1.0\n"
        )
        .unwrap();
    }
    text
}

/// Waits for so many more judged probes: an answer is judged before the same engine is asked again.
fn rounds(engine: &HttpEngine, count: usize) {
    let target = engine.asked("/metrics") + count + 1;
    until("more probes", || engine.asked("/metrics") >= target);
}

#[test]
fn another_start_time_has_all_ranks_verified_once() {
    let (rig, engine, other) = (Rig::new(), HttpEngine::new(), HttpEngine::new());
    engine.set_body("/metrics", metrics(1_795_353_347.98, &[]));
    other.set_body("/metrics", metrics(1.0, &[]));
    rig.add(json!({"pod": "a", "model": "m", "endpoint": engine.endpoint(), "events": "tcp://h:10", "ranks": 2}));
    rig.add(
        json!({"pod": "b", "model": "m", "endpoint": other.endpoint(), "events": "tcp://h:20"}),
    );
    rounds(&engine, 3);
    rounds(&other, 3);
    assert_eq!(
        rig.verified(),
        [""; 0],
        "the first life that is seen is no restart"
    );
    engine.set_body("/metrics", metrics(1_795_353_347.99, &[]));
    let both = ["a#0 tcp://h:10", "a#1 tcp://h:11"];
    until("a restart is noticed", || rig.verified() == both);
    rounds(&engine, 3);
    assert_eq!(rig.verified(), both, "once");
    // Back in time is another life as well.
    engine.set_body("/metrics", metrics(1_795_353_347.98, &[]));
    until("another restart", || rig.verified().len() == 4);
    assert_eq!(rig.unheard(), [""; 0]);
}

#[test]
fn a_restart_is_noticed_across_the_time_that_nobody_answers() {
    let (rig, engine) = (Rig::new(), HttpEngine::new());
    engine.set_body("/metrics", metrics(5.0, &[]));
    rig.add(
        json!({"pod": "a", "model": "m", "endpoint": engine.endpoint(), "events": "tcp://h:10"}),
    );
    rounds(&engine, 2);
    engine.set("/metrics", crate::engine::Reply::Status(503));
    rounds(&engine, 2);
    assert_eq!(rig.verified(), [""; 0]);
    engine.set_body("/metrics", metrics(6.0, &[]));
    until("the restart", || rig.verified() == ["a#0 tcp://h:10"]);
}

/// A worker that is added after a restart has no life that could have ended.
#[test]
fn a_worker_begins_with_the_life_that_it_finds() {
    let (rig, engine) = (Rig::new(), HttpEngine::new());
    engine.set_body("/metrics", metrics(5.0, &[]));
    let pod =
        json!({"pod": "a", "model": "m", "endpoint": engine.endpoint(), "events": "tcp://h:10"});
    rig.add(pod.clone());
    rounds(&engine, 2);
    rig.fleet.remove("a", None);
    engine.set_body("/metrics", metrics(6.0, &[]));
    rig.add(pod);
    rounds(&engine, 3);
    assert_eq!(rig.verified(), [""; 0]);
}

/// Rank 1 computes 1,000 tokens for each request and nothing is heard; rank 0 does the same and is heard; the other
/// pod has two ranks and one set of counts.
#[test]
fn a_rank_that_computes_and_is_not_heard_is_told() {
    let (rig, engine, summed) = (Rig::new(), HttpEngine::new(), HttpEngine::new());
    let told = |n: u64| metrics(5.0, &[(0, 1_000 * n, n), (1, 1_000 * n, n)]);
    let set = |n: u64| {
        engine.set_body("/metrics", told(n));
        summed.set_body("/metrics", metrics(5.0, &[(0, 2_000 * n, 2 * n)]));
    };
    set(0);
    rig.add(json!({"pod": "a", "model": "m", "endpoint": engine.endpoint(), "events": "tcp://h:10", "ranks": 2}));
    rig.add(json!({"pod": "b", "model": "m", "endpoint": summed.endpoint(), "events": "tcp://h:20", "ranks": 2}));
    let heard = |rank: usize| rig.fleet.view().pod("a")[rank].status().touch();
    let mut n = 0;
    until("a rank that is not heard", || {
        heard(0);
        n += 1;
        set(n);
        // More than once, so that the others had the time to be told of.
        rig.unheard().len() >= 3
    });
    assert!(
        rig.unheard().iter().all(|name| name == "a#1 tcp://h:11"),
        "{:?}",
        rig.unheard()
    );
    rounds(&summed, 1);
    assert_eq!(rig.verified(), [""; 0]);
}

/// What is computed fits into unfinished blocks: 16 tokens a request.
#[test]
fn short_prompts_are_no_silence() {
    let (rig, engine, long) = (Rig::new(), HttpEngine::new(), HttpEngine::new());
    let set = |n: u64| {
        engine.set_body("/metrics", metrics(5.0, &[(0, 16 * n, n)]));
        long.set_body("/metrics", metrics(5.0, &[(0, 1_000 * n, n)]));
    };
    set(0);
    rig.add(
        json!({"pod": "a", "model": "m", "endpoint": engine.endpoint(), "events": "tcp://h:10"}),
    );
    rig.add(json!({"pod": "b", "model": "m", "endpoint": long.endpoint(), "events": "tcp://h:20"}));
    let mut n = 0;
    // The other pod shows that there was time to be told of.
    until("the pod with long prompts", || {
        n += 1;
        set(n);
        rig.unheard().len() >= 3
    });
    assert!(rig.unheard().iter().all(|name| name == "b#0 tcp://h:20"));
}
