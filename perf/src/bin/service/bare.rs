//! The floor: a hyper server on one thread that reads a request's body and answers a constant. `/N` is answered with N
//! bytes. What arrives is counted and dropped piece by piece: nothing is copied together.
use crate::Failure;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::io::Write;
use std::path::Path;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::LocalSet;

/// Larger than any answer that it stands for.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Serves until it is killed. Says on stdout where.
pub(crate) fn run(unix: &Path) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, serve(unix))
}

async fn serve(unix: &Path) -> Result<(), Failure> {
    let tcp = TcpListener::bind("127.0.0.1:0").await?;
    let unix = UnixListener::bind(unix)?;
    println!("answering listen={}", tcp.local_addr()?);
    std::io::stdout().flush()?;
    let mut answer = vec![b' '; ANSWER_BYTES_MAX];
    answer[0] = b'{';
    let answer = Bytes::from(answer);
    loop {
        tokio::select! {
            accepted = tcp.accept() => {
                let stream = accepted?.0;
                stream.set_nodelay(true)?;
                drop(tokio::task::spawn_local(connection(stream, answer.clone())));
            }
            accepted = unix.accept() => {
                drop(tokio::task::spawn_local(connection(accepted?.0, answer.clone())));
            }
        }
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, answer: Bytes) {
    let service = service_fn(|request| respond(request, answer.clone()));
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        eprintln!("bare: {error}");
    }
}

async fn respond(
    request: Request<Incoming>,
    answer: Bytes,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let wanted = request.uri().path()[1..].parse().ok();
    let mut body = request.into_body();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame?.data_ref().map_or(0, Bytes::len);
    }
    std::hint::black_box(read);
    let bytes = wanted.filter(|&bytes: &usize| bytes <= answer.len());
    let mut response = Response::new(Full::new(answer.slice(..bytes.unwrap_or(0))));
    if bytes.is_none() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}
