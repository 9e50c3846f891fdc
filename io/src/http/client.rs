//! One GET, bounded in time and bytes: how engines and peers are asked.
use crate::limits::{
    PROBE_BODY_BYTES_MAX, PROBE_CONNECT_TIME_MAX, PROBE_HEAD_BYTES_MAX, PROBE_TIME_MAX,
};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Bounds of one GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetLimits {
    /// Time to find the address and to connect.
    pub connect_time: Duration,
    /// Time for the answer to begin, and for each further piece of it.
    pub idle_time: Duration,
    /// Time for everything.
    pub whole_time: Duration,
    /// Bytes of the answer's body.
    pub body_bytes: u64,
}

impl Default for GetLimits {
    fn default() -> Self {
        Self {
            connect_time: PROBE_CONNECT_TIME_MAX,
            idle_time: PROBE_TIME_MAX,
            whole_time: PROBE_TIME_MAX,
            body_bytes: PROBE_BODY_BYTES_MAX,
        }
    }
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// The host's name has no address.
    #[error("cannot be resolved: {0}")]
    Resolve(io::Error),
    /// No connection: refused, or no way there.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// Too slow, wherever it was slow.
    #[error("no answer in time")]
    Timeout,
    /// What came is not HTTP/1.1, or broke off.
    #[error("{0}")]
    Http(hyper::Error),
    /// Another status than 200. Redirections are not followed.
    #[error("status {0}")]
    Status(u16),
    /// The body is longer than the limit.
    #[error("the answer is longer than {0} bytes")]
    TooLarge(u64),
    /// What came cannot be kept.
    #[error("cannot keep the answer: {0}")]
    Keep(io::Error),
}

/// Fetches `http://{endpoint}{path}` over a connection of its own; `endpoint` is `host:port`.
///
/// Must be called within a tokio runtime with its network and clock.
pub async fn get(endpoint: &str, path: &str, limits: &GetLimits) -> Result<Vec<u8>, GetError> {
    let mut whole = Vec::new();
    let keep = |data: &[u8]| {
        whole.extend_from_slice(data);
        Ok(())
    };
    stream(endpoint, path, limits, keep).await?;
    Ok(whole)
}

/// The same piece by piece.
pub(super) async fn stream(
    endpoint: &str,
    path: &str,
    limits: &GetLimits,
    keep: impl FnMut(&[u8]) -> Result<(), GetError>,
) -> Result<(), GetError> {
    let whole = async {
        let stream = timeout(limits.connect_time, connect(endpoint)).await;
        let stream = stream.map_err(|_| GetError::Timeout)??;
        exchange(stream, endpoint, path, limits, keep).await
    };
    timeout(limits.whole_time, whole)
        .await
        .map_err(|_| GetError::Timeout)?
}

/// Connects to the first of the addresses that accepts.
async fn connect(endpoint: &str) -> Result<TcpStream, GetError> {
    let mut refused = io::Error::from(io::ErrorKind::NotFound);
    for address in resolve(endpoint).await.map_err(GetError::Resolve)? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => refused = error,
        }
    }
    Err(GetError::Connect(refused))
}

/// The system's resolver blocks, so it has a thread of the runtime's pool. One that was given up before it
/// began does not begin: a resolver that hangs is asked by so many at most as there are threads.
async fn resolve(endpoint: &str) -> io::Result<Vec<SocketAddr>> {
    struct Abandoned(JoinHandle<io::Result<Vec<SocketAddr>>>);
    impl Drop for Abandoned {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    if let Ok(address) = endpoint.parse() {
        return Ok(vec![address]);
    }
    let name = endpoint.to_owned();
    let lookup = tokio::task::spawn_blocking(move || Ok(name.to_socket_addrs()?.collect()));
    let mut lookup = Abandoned(lookup);
    (&mut lookup.0).await.map_err(io::Error::other)?
}

async fn exchange(
    stream: TcpStream,
    host: &str,
    path: &str,
    limits: &GetLimits,
    keep: impl FnMut(&[u8]) -> Result<(), GetError>,
) -> Result<(), GetError> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(PROBE_HEAD_BYTES_MAX);
    let (mut sender, connection) = builder
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(GetError::Http)?;
    let request = Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("kvroute/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::new());
    // The path is ours; a host with other bytes than a header takes leads nowhere.
    let request = request.map_err(|error| GetError::Connect(io::Error::other(error)))?;
    let answered = async {
        let response = timeout(limits.idle_time, sender.send_request(request)).await;
        let response = response.map_err(|_| GetError::Timeout)?;
        let response = response.map_err(GetError::Http)?;
        match response.status() {
            StatusCode::OK => collect(response.into_body(), limits, keep).await,
            status => Err(GetError::Status(status.as_u16())),
        }
    };
    let mut answered = pin!(answered);
    tokio::select! {
        answer = answered.as_mut() => answer,
        // What the connection had to say is said; an error of it is seen by the exchange, too.
        _ = connection => answered.await,
    }
}

async fn collect(
    mut body: Incoming,
    limits: &GetLimits,
    mut keep: impl FnMut(&[u8]) -> Result<(), GetError>,
) -> Result<(), GetError> {
    let limit = limits.body_bytes;
    if body.size_hint().lower() > limit {
        return Err(GetError::TooLarge(limit));
    }
    let mut taken = 0;
    loop {
        let frame = timeout(limits.idle_time, body.frame()).await;
        let Some(frame) = frame.map_err(|_| GetError::Timeout)? else {
            return Ok(());
        };
        let frame = frame.map_err(GetError::Http)?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        taken += data.len() as u64;
        if taken > limit {
            return Err(GetError::TooLarge(limit));
        }
        keep(data)?;
    }
}
