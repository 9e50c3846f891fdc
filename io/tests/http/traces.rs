//! Requests that are traced: what a collector is sent of them, and what whoever serves them is told.
use crate::client::{Client, Response};
use crate::collector::{Collector, hex, said};
use crate::engine::Engine;
use crate::fixture::{Blocks, Fixture, events_of, prompt};
use kvroute::config::TokenizerConfig;
use kvroute::otel::{OtelConfig, Running, Tracer};
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};

/// A node with pods `a` and `b` of model `m`, of which `b` holds eight tokens; whose tokenizer is an engine that says what it was asked.
struct World {
    // Ends before whoever it sends spans to.
    fixture: Fixture,
    _exporter: Running,
    engine: Engine,
    collector: Collector,
}

impl World {
    fn new(sample: f64) -> Self {
        let (collector, engine) = (Collector::new(), Engine::new());
        let exporter = Tracer::start(&OtelConfig {
            endpoint: Some(collector.endpoint()),
            sample,
            service: "kv-test".to_owned(),
        });
        let exporter = exporter.unwrap().unwrap();
        let fixture = Fixture::tracing(&TokenizerConfig::default(), exporter.tracer());
        for pod in ["a", "b"] {
            fixture.add(json!({"pod": pod, "model": "m", "events": events_of(pod), "endpoint": engine.endpoint()}));
        }
        fixture.store("b#0", &Blocks::of(&prompt(8)));
        Self {
            fixture,
            _exporter: exporter,
            engine,
            collector,
        }
    }

    fn post(&self, path: &str, headers: &str, body: &Value) -> Response {
        let mut client: Client = self.fixture.client();
        client.request("POST", path, headers, body.to_string().as_bytes())
    }
}

/// The names of a trace and of its sender's span, each test's own.
fn names(test: u8) -> (String, String) {
    (
        format!("{test:02x}").repeat(16),
        format!("b7ad6b71692033{test:02x}"),
    )
}

fn headers(trace: &str, span: &str, flags: &str) -> String {
    format!("traceparent: 00-{trace}-{span}-{flags}\r\ntracestate: a=1\r\ntracestate: b=2\r\n")
}

/// The one span of this name.
fn named<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    let span = found.next().unwrap_or_else(|| panic!("{name}: {spans:#?}"));
    assert!(found.next().is_none(), "{name}: {spans:#?}");
    span
}

/// One lies within the other.
fn assert_within(part: &Span, whole: &Span) {
    assert_eq!(part.parent_span_id, whole.span_id);
    assert_eq!(part.trace_state, whole.trace_state);
    assert!(whole.start_time_unix_nano <= part.start_time_unix_nano);
    assert!(part.start_time_unix_nano <= part.end_time_unix_nano);
    assert!(part.end_time_unix_nano <= whole.end_time_unix_nano);
}

const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const ERROR: i32 = 2;

#[test]
fn a_routed_request_is_told_of_and_its_trace_goes_on() {
    let world = World::new(0.0);
    let (trace, sender) = names(1);
    let asked = json!({"model": "m", "token_ids": prompt(9)});
    let response = world.post("/v1/route", &headers(&trace, &sender, "01"), &asked);
    let spans = world.collector.wait(&trace, 3);
    let request = named(&spans, "POST /v1/route");
    let id = response.header("x-kvroute-request-id").unwrap();
    assert_eq!(
        (hex(&request.parent_span_id), request.kind),
        (sender, SERVER)
    );
    assert_eq!(request.trace_state, "a=1,b=2");
    assert_eq!(
        said(request),
        json!({
            "gen_ai.request.model": "m", "kvroute.tokens": 9, "kvroute.matched_tokens": 8,
            "kvroute.request_id": id, "kvroute.target.pod": "b", "kvroute.target.rank": 0,
            "kvroute.target.matched_tokens": 8, "kvroute.reason": "prefix_match",
            "kvroute.shadow": false, "http.response.status_code": 200,
        })
    );
    assert!(request.status.is_none());
    let (lookup, choice) = (named(&spans, "lookup"), named(&spans, "choose"));
    assert_within(lookup, request);
    assert_within(choice, request);
    let expected = json!({"kvroute.tokens": 9, "kvroute.matched_tokens": 8, "kvroute.workers": 1});
    assert_eq!(said(lookup), expected);
    assert_eq!(said(choice), json!({"kvroute.candidates": 2}));
    // Whoever serves it goes on from here.
    let passed = format!("00-{trace}-{}-01", hex(&request.span_id));
    assert_eq!(response.header("traceparent"), Some(&*passed));
    assert_eq!(response.header("tracestate"), Some("a=1,b=2"));
    let told = &response.json()["headers"];
    assert_eq!(
        (&told["traceparent"], &told["tracestate"]),
        (&passed.into(), &"a=1,b=2".into())
    );
    assert!(
        world
            .collector
            .services()
            .iter()
            .all(|name| name == "kv-test")
    );
}

#[test]
fn engines_that_tokenize_are_told_of_the_trace() {
    let world = World::new(0.0);
    let (trace, sender) = names(2);
    let asked =
        json!({"model": "m", "messages": [{"role": "user", "content": "1 2 3 4 5 6 7 8 9"}]});
    let path = "/v1/ext_authz/v1/chat/completions";
    let response = world.post(path, &headers(&trace, &sender, "01"), &asked);
    let spans = world.collector.wait(&trace, 4);
    let request = named(&spans, "/v1/ext_authz");
    let passed = format!("00-{trace}-{}-01", hex(&request.span_id));
    assert_eq!(response.header("traceparent"), Some(&*passed));
    assert_eq!(said(request)["kvroute.target.pod"], "b");
    let tokenize = named(&spans, "tokenize");
    assert_within(tokenize, request);
    assert_eq!(
        (tokenize.kind, said(tokenize)),
        (CLIENT, json!({"kvroute.tokens": 9}))
    );
    let heads = world.engine.heads();
    let expected = format!(
        "\r\ntraceparent: 00-{trace}-{}-01\r\n",
        hex(&tokenize.span_id)
    );
    assert!(heads[0].contains(&expected), "{expected}: {heads:?}");
    assert!(
        heads[0].contains("\r\ntracestate: a=1,b=2\r\n"),
        "{heads:?}"
    );
}

/// Answered on another thread.
#[test]
fn a_batch_has_a_lookup_for_each_prompt() {
    let world = World::new(0.0);
    let (trace, sender) = names(3);
    let one = json!({"model": "m", "token_ids": prompt(9)});
    let other = json!({"model": "m", "token_ids": prompt(4)});
    let asked = json!({"requests": [one, other]});
    let response = world.post("/v1/match:batch", &headers(&trace, &sender, "01"), &asked);
    // Only who routes has somebody to tell.
    assert_eq!(response.header("traceparent"), None);
    let spans = world.collector.wait(&trace, 3);
    let request = named(&spans, "POST /v1/match:batch");
    let lookups = spans.iter().filter(|span| span.name == "lookup");
    let matched = lookups.map(|lookup| {
        assert_within(lookup, request);
        said(lookup)["kvroute.matched_tokens"].clone()
    });
    assert_eq!(matched.collect::<Vec<_>>(), [8, 4]);
}

#[test]
fn a_refused_request_says_why_and_repeats_nothing() {
    let world = World::new(0.0);
    let (trace, sender) = names(4);
    let asked = json!({"model": "nobodys", "token_ids": prompt(9)});
    let response = world.post("/v1/match", &headers(&trace, &sender, "01"), &asked);
    assert_eq!(response.status, 404);
    let spans = world.collector.wait(&trace, 1);
    let request = named(&spans, "POST /v1/match");
    let expected = json!({"error.type": "model_not_found", "http.response.status_code": 404});
    assert_eq!(said(request), expected);
    let status = request.status.clone().unwrap();
    assert_eq!((status.code, status.message), (ERROR, String::new()));
    assert_eq!(spans.len(), 1);
}

#[test]
fn whoever_decided_not_to_record_is_obeyed() {
    let world = World::new(1.0);
    let ((trace, sender), (fence, _)) = (names(5), names(6));
    let asked = json!({"model": "m", "token_ids": prompt(9)});
    let given = headers(&trace, &sender, "00");
    let response = world.post("/v1/route", &given, &asked);
    // As it came.
    let passed = format!("00-{trace}-{sender}-00");
    assert_eq!(response.header("traceparent"), Some(&*passed));
    assert_eq!(response.header("tracestate"), Some("a=1,b=2"));
    let text = json!({"model": "m", "prompt": "1 2 3 4"});
    world.post("/v1/match", &given, &text);
    assert!(world.engine.heads()[0].contains(&passed));
    // What comes later is there, and this is not.
    world.post("/v1/match", &headers(&fence, &sender, "01"), &asked);
    world.collector.wait(&fence, 2);
    assert!(
        world
            .collector
            .all()
            .iter()
            .all(|span| hex(&span.trace_id) == fence)
    );
}

#[test]
fn without_a_parent_chance_decides() {
    let (never, always) = (World::new(0.0), World::new(1.0));
    let (fence, sender) = names(7);
    let asked = json!({"model": "m", "token_ids": prompt(9)});
    for _ in 0..20 {
        let response = never.post("/v1/route", "", &asked);
        assert_eq!(response.header("traceparent"), None);
        assert_eq!(response.json()["headers"].get("traceparent"), None);
    }
    never.post("/v1/match", &headers(&fence, &sender, "01"), &asked);
    never.collector.wait(&fence, 2);
    assert_eq!(never.collector.all().len(), 2);
    let response = always.post("/v1/route", "tracestate: a=1\r\n", &asked);
    let passed = response.header("traceparent").unwrap();
    let trace = passed.split('-').nth(1).unwrap();
    let spans = always.collector.wait(trace, 3);
    let request = named(&spans, "POST /v1/route");
    assert_eq!(passed, format!("00-{trace}-{}-01", hex(&request.span_id)));
    assert!(request.parent_span_id.is_empty() && request.trace_state.is_empty());
}

#[test]
fn garbage_is_as_if_it_were_not_there() {
    let world = World::new(1.0);
    let (trace, sender) = names(8);
    let asked = json!({"model": "m", "token_ids": prompt(9)});
    let good = headers(&trace, &sender, "01");
    for bad in [
        format!("traceparent: 00-{trace}-{sender}\r\n"),
        format!("traceparent: ff-{trace}-{sender}-01\r\ntracestate: a=1\r\n"),
        "traceparent: \r\n".to_owned(),
        // Which of the two?
        format!("{good}{good}"),
    ] {
        let response = world.post("/v1/route", &bad, &asked);
        let passed = response.header("traceparent").unwrap();
        let own = passed.split('-').nth(1).unwrap();
        assert_ne!(own, trace, "{bad}");
        assert_eq!(response.header("tracestate"), None);
        let spans = world.collector.wait(own, 3);
        assert!(named(&spans, "POST /v1/route").parent_span_id.is_empty());
    }
}

#[test]
fn without_a_collector_nothing_is_looked_at() {
    assert!(Tracer::start(&OtelConfig::default()).unwrap().is_none());
    let fixture = Fixture::new();
    fixture.add(json!({"pod": "a", "model": "m", "events": events_of("a"), "endpoint": "h:1"}));
    let (trace, sender) = names(9);
    let asked = json!({"model": "m", "token_ids": prompt(9)}).to_string();
    let given = headers(&trace, &sender, "01");
    let mut client = fixture.client();
    let response = client.request("POST", "/v1/route", &given, asked.as_bytes());
    assert_eq!(
        (response.status, response.header("traceparent")),
        (200, None)
    );
}
