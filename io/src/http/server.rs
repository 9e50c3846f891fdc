//! The HTTP threads: each a single-threaded runtime with a listener of its own on the same port.
//!
//! The kernel spreads connections over the listeners (SO_REUSEPORT); a connection stays on its
//! thread. Nothing is shared between the threads but the fleet's view and the index.
use super::aside::{self, Aside};
use super::body::Held;
use super::route::{Router, Seats};
use super::routes;
use super::state::ThreadState;
use crate::fleet::Fleet;
use crate::limits::{
    BACKLOG_MAX, CONNECTIONS_PER_THREAD_MAX, HEAD_BYTES_MAX, HEAD_TIME_MAX, HTTP_THREADS_PER_ASIDE,
    STOP_TIME_MAX, THREADS_MAX,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::{self, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet, LocalSet};

/// How the server runs.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// Where it listens; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Number of threads, taken as 1 to [`THREADS_MAX`].
    pub threads: usize,
    /// The share of the workers that must have left `replaying` for `/readyz` to say so, 0 to 1.
    pub ready_share: f64,
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    local_addr: SocketAddr,
    stopping: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
    /// Joined last: they end when the threads above have.
    _aside: aside::Threads,
}

impl Server {
    /// Binds, and starts the threads. Fails if the address is in use, even by another node.
    pub fn start(config: &ServerConfig, fleet: &Arc<Fleet>) -> io::Result<Self> {
        let first = listen(config.listen)?;
        let local_addr = first.local_addr()?;
        let mut listeners = vec![first];
        for _ in 1..config.threads.min(THREADS_MAX) {
            listeners.push(bind(local_addr)?);
        }
        let (stopping, stop) = watch::channel(false);
        let (fleet_aside, share) = (Arc::clone(fleet), config.ready_share);
        let aside_threads = listeners.len().div_ceil(HTTP_THREADS_PER_ASIDE);
        let seats = Seats::new(listeners.len() + aside_threads);
        let seats_aside = seats.clone();
        let (aside, answering_aside) = Aside::start(aside_threads, move || {
            let router = Router::new(seats_aside.take());
            ThreadState::new(Arc::clone(&fleet_aside), share, router)
        })?;
        let mut server = Self {
            local_addr,
            stopping,
            threads: Vec::new(),
            _aside: answering_aside,
        };
        for (n, listener) in listeners.into_iter().enumerate() {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let listener = {
                let _entered = runtime.enter();
                TcpListener::from_std(listener)?
            };
            let (fleet, stop) = (Arc::clone(fleet), stop.clone());
            let aside = aside.clone();
            let router = Router::new(seats.take());
            let thread = thread::Builder::new()
                .name(format!("kvroute-http-{n}"))
                .spawn(move || {
                    run(
                        &runtime,
                        listener,
                        ThreadState::new(fleet, share, router),
                        aside,
                        stop,
                    )
                })?;
            server.threads.push(thread);
        }
        Ok(server)
    }

    /// Where it listens, with the port that the system chose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Accepts no more connections, ends idle ones, lets requests in flight finish for up to
    /// [`STOP_TIME_MAX`], and joins the threads.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.send_replace(true);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("an HTTP thread has panicked");
            }
        }
    }
}

/// The first listener. The port must be free: SO_REUSEPORT alone would let two nodes share it, and
/// each would get some of the other's requests.
fn listen(address: SocketAddr) -> io::Result<net::TcpListener> {
    if address.port() != 0 {
        let probe = socket(address)?;
        // Ports of connections that are long closed are free.
        probe.set_reuse_address(true)?;
        probe.bind(&SockAddr::from(address))?;
    }
    bind(address)
}

fn bind(address: SocketAddr) -> io::Result<net::TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG_MAX)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )
}

/// What a thread's connections share.
#[derive(Debug)]
struct Shared {
    state: RefCell<ThreadState>,
    held: Held,
    aside: Aside,
}

/// One thread, from its start to the end of its last connection.
fn run(
    runtime: &Runtime,
    listener: TcpListener,
    state: ThreadState,
    aside: Aside,
    stop: watch::Receiver<bool>,
) {
    let shared = Rc::new(Shared {
        state: RefCell::new(state),
        held: Held::default(),
        aside,
    });
    LocalSet::new().block_on(runtime, accept(listener, &shared, stop));
}

/// Accepts until told to stop, then waits for the connections.
async fn accept(listener: TcpListener, shared: &Rc<Shared>, stop: watch::Receiver<bool>) {
    /// Between attempts while the system is out of something, say file descriptors.
    const PAUSE: Duration = Duration::from_millis(100);
    let mut connections = JoinSet::new();
    let mut stopped = pin!(stopped(stop.clone()));
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stopped => break,
            Some(ended) = connections.join_next() => {
                report(&ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if connections.len() >= CONNECTIONS_PER_THREAD_MAX => refuse(&stream),
            Ok((stream, _)) => {
                failing = false;
                let _ = connections.spawn_local(serve(stream, Rc::clone(shared), stop.clone()));
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "cannot accept connections");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    let ended = async {
        while let Some(ended) = connections.join_next().await {
            report(&ended);
        }
    };
    if tokio::time::timeout(STOP_TIME_MAX, ended).await.is_err() {
        tracing::warn!("some requests were not finished in time");
    }
}

/// A connection's task ends badly only by a fault of ours, which costs that connection alone.
fn report(ended: &Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task has failed");
    }
}

/// Ready once the server is told to stop, or has gone.
async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stopping| *stopping).await;
}

/// Tells a client that there are too many; whatever it sent is not read.
fn refuse(stream: &TcpStream) {
    let body =
        r#"{"error":{"code":"overloaded","field":null,"message":"too many connections are open"}}"#;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    // A fresh connection has room for it; if not, the client sees the connection end.
    let _ = stream.try_write(answer.as_bytes());
}

/// Serves one connection to its end.
async fn serve(stream: TcpStream, shared: Rc<Shared>, stop: watch::Receiver<bool>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let service = service_fn(|request| {
        let shared = Rc::clone(&shared);
        async move {
            Ok::<_, Infallible>(
                routes::respond(&shared.state, &shared.held, &shared.aside, request).await,
            )
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}
