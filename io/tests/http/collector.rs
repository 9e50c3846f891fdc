//! A collector of spans over std's sockets: OpenTelemetry's protocol over HTTP, with nothing of the node's own in it but the messages.
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// What a collector has been sent.
#[derive(Debug, Default)]
struct Taken {
    spans: Vec<Span>,
    services: Vec<String>,
    bodies: Vec<Vec<u8>>,
}

/// The running collector.
#[derive(Debug)]
pub(crate) struct Collector {
    address: SocketAddr,
    taken: Arc<Mutex<Taken>>,
}

impl Collector {
    /// One that takes everything.
    pub(crate) fn new() -> Self {
        Self::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    }

    /// One that answers this.
    pub(crate) fn answering(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::<Mutex<Taken>>::default();
        let shared = Arc::clone(&taken);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, stream) = (Arc::clone(&shared), stream.unwrap());
                thread::spawn(move || serve(&mut BufReader::new(stream), answer, &shared));
            }
        });
        Self { address, taken }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The spans of a trace, once there are so many.
    pub(crate) fn wait(&self, trace: &str, count: usize) -> Vec<Span> {
        let give_up = Instant::now() + Duration::from_secs(60);
        loop {
            let all = self.all();
            let of = all.iter().filter(|span| hex(&span.trace_id) == trace);
            let of: Vec<_> = of.cloned().collect();
            if of.len() >= count {
                return of;
            }
            assert!(Instant::now() < give_up, "{count} of {trace}: {all:#?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// All spans so far.
    pub(crate) fn all(&self) -> Vec<Span> {
        self.taken.lock().unwrap().spans.clone()
    }

    /// What whoever sent them is called, each time.
    pub(crate) fn services(&self) -> Vec<String> {
        self.taken.lock().unwrap().services.clone()
    }

    /// Bodies as they came.
    pub(crate) fn bodies(&self) -> Vec<Vec<u8>> {
        self.taken.lock().unwrap().bodies.clone()
    }
}

fn serve(stream: &mut BufReader<TcpStream>, answer: &str, taken: &Mutex<Taken>) -> Option<()> {
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        let head = head.to_ascii_lowercase();
        assert!(
            head.contains("\r\ncontent-type: application/x-protobuf\r\n"),
            "{head}"
        );
        let (_, length) = head.split_once("content-length: ").unwrap();
        let length = length.split("\r\n").next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        let request = ExportTraceServiceRequest::decode(&*body).unwrap();
        let mut taken = taken.lock().unwrap();
        taken.bodies.push(body);
        for of in request.resource_spans {
            let resource = of.resource.unwrap_or_default();
            let name = resource
                .attributes
                .iter()
                .find(|it| it.key == "service.name");
            let name = name.and_then(|it| it.value.clone()?.value);
            if let Some(any_value::Value::StringValue(name)) = name {
                taken.services.push(name);
            }
            let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
            taken.spans.extend(spans);
        }
        drop(taken);
        stream.get_mut().write_all(answer.as_bytes()).ok()?;
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a span says.
pub(crate) fn said(span: &Span) -> Value {
    let pairs = span.attributes.iter().map(|it| {
        let value = match it.value.clone().unwrap().value.unwrap() {
            any_value::Value::StringValue(text) => json!(text),
            any_value::Value::IntValue(number) => json!(number),
            any_value::Value::BoolValue(flag) => json!(flag),
            other => panic!("{other:?}"),
        };
        (it.key.clone(), value)
    });
    pairs.collect::<serde_json::Map<_, _>>().into()
}
