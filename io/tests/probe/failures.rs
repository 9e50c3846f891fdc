//! Engines that do not answer as they should: each counted by its reason, none in the way of the others.
use crate::engine::{HttpEngine, Reply};
use crate::rig::{Rig, limits, until};
use kvroute::fleet::ProbeFailure;
use kvroute::http::GetLimits;
use kvroute::limits::PROBES_MAX;
use serde_json::json;
use std::net::TcpListener;
use std::time::Duration;

/// Asks an engine that answers so, until it has failed twice; gives all reasons.
fn reasons(reply: Reply, limits: GetLimits) -> Vec<ProbeFailure> {
    let engine = HttpEngine::new();
    engine.set("/metrics", reply);
    let rig = Rig::with(limits);
    rig.add(
        json!({"pod": "a", "model": "m", "endpoint": engine.endpoint(), "events": "tcp://h:1"}),
    );
    let total = || rig.fleet.probes().failures().map(|(_, n)| n).sum::<u64>();
    until("two failures", || total() >= 2);
    // The bound, and what the system keeps between the two.
    assert!(
        engine.taken() < 32 << 20,
        "{} bytes were taken",
        engine.taken()
    );
    rig.failed()
}

/// Bounds of time that run out.
fn hasty() -> GetLimits {
    GetLimits {
        whole_time: Duration::from_millis(200),
        ..limits()
    }
}

#[test]
fn each_failure_has_its_reason() {
    let bytes = |text: &str| Reply::Bytes(text.into());
    let long = "process_start_time_seconds 1\n".repeat(3_000);
    for (reply, why) in [
        (Reply::Status(404), ProbeFailure::Status),
        (Reply::Status(302), ProbeFailure::Status),
        (Reply::Status(503), ProbeFailure::Status),
        (bytes("SSH-2.0-OpenSSH_9.6\r\n"), ProbeFailure::Http),
        (bytes(""), ProbeFailure::Http),
        (
            bytes("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nprocess"),
            ProbeFailure::Http,
        ),
        (Reply::Body(String::new()), ProbeFailure::Content),
        (
            Reply::Body("<html>Hello</html>\n".into()),
            ProbeFailure::Content,
        ),
        (Reply::Body(long), ProbeFailure::TooLarge),
        (
            Reply::Endless("HTTP/1.1 200 OK\r\n\r\n", "process_start_time_seconds 1\n"),
            ProbeFailure::TooLarge,
        ),
        (
            Reply::Endless("HTTP/1.1 200 OK\r\nx: ", "yyyyyyyy"),
            ProbeFailure::Http,
        ),
        (
            Reply::Endless("HTTP/1.1 200 OK\r\n", "x: y\r\n"),
            ProbeFailure::Http,
        ),
    ] {
        let text = format!("{reply:.60?}");
        assert_eq!(reasons(reply, limits()), [why], "{text}");
    }
    assert_eq!(reasons(Reply::Silence, hasty()), [ProbeFailure::Timeout]);
    let begun = bytes("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n");
    assert_eq!(reasons(begun, limits()), [ProbeFailure::Http]);
}

#[test]
fn nobody_there_is_counted_and_asked_again() {
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = free.local_addr().unwrap().to_string();
    drop(free);
    let rig = Rig::new();
    rig.add(json!({"pod": "a", "model": "m", "endpoint": endpoint, "events": "tcp://h:1"}));
    rig.add(json!({"pod": "b", "model": "m", "endpoint": "no-such-host.invalid:80", "events": "tcp://h:2"}));
    until("refused", || rig.failures(ProbeFailure::Connect) >= 3);
    until("not resolved", || {
        rig.failures(ProbeFailure::Resolve) + rig.failures(ProbeFailure::Timeout) >= 1
    });
}

/// More engines that hang than are asked at once, and one that answers. The bounds of time run out for those
/// that hang only.
#[test]
fn engines_that_hang_are_not_waited_for_by_the_others() {
    let hanging = HttpEngine::new();
    hanging.set("/metrics", Reply::Silence);
    let good = HttpEngine::new();
    good.set_body("/metrics", "process_start_time_seconds 1\n");
    let rig = Rig::with(GetLimits {
        whole_time: Duration::from_millis(500),
        ..limits()
    });
    for n in 0..100 {
        rig.add(json!({"pod": format!("h{n}"), "model": "m", "endpoint": hanging.endpoint(), "events": format!("tcp://h:{}", n + 1)}));
    }
    rig.add(
        json!({"pod": "good", "model": "m", "endpoint": good.endpoint(), "events": "tcp://g:1"}),
    );
    until("as many that hang as are asked at once", || {
        rig.failures(ProbeFailure::Timeout) >= PROBES_MAX as u64
    });
    let before = good.asked("/metrics");
    until("answers between those that hang", || {
        good.asked("/metrics") >= before + 3
    });
}

/// As many as may be asked at once hang for an hour: nobody else is asked, and dropping the probe does not wait
/// for them.
#[test]
fn so_many_are_asked_at_once_and_not_waited_for_at_the_end() {
    let hanging = HttpEngine::new();
    hanging.set("/metrics", Reply::Silence);
    let rig = Rig::with(GetLimits {
        connect_time: Duration::from_secs(3_600),
        whole_time: Duration::from_secs(3_600),
        ..limits()
    });
    for n in 0..PROBES_MAX + 10 {
        let events = format!("tcp://h:{}", n + 1);
        rig.add(json!({"pod": format!("h{n}"), "model": "m", "endpoint": hanging.endpoint(), "events": events}));
    }
    until("all of them hang", || {
        hanging.asked("/metrics") >= PROBES_MAX
    });
    // Long enough for one more to be asked if it were to be.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(hanging.asked("/metrics"), PROBES_MAX);
    drop(rig);
}

#[test]
fn pods_without_an_endpoint_are_left_alone() {
    let rig = Rig::new();
    let good = HttpEngine::new();
    good.set_body("/metrics", "process_start_time_seconds 1\n");
    rig.add(json!({"pod": "a", "model": "m", "events": "tcp://h:1"}));
    rig.add(json!({"pod": "b", "model": "m", "endpoint": good.endpoint(), "events": "tcp://h:2"}));
    until("some probes", || good.asked("/metrics") >= 3);
    assert_eq!(rig.failed(), []);
}
