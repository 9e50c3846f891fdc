//! The server's thread: listens, speaks TLS, and stops listening and begins anew when told.
use super::answer::answer;
use super::state::Shared;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread::{self, JoinHandle};
use tokio::io::{AsyncRead, AsyncWrite, copy, sink};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;
/// Commands that wait; each comes from a test that waits for it.
const COMMANDS_MAX: usize = 16;

/// What the thread is told.
#[derive(Debug)]
enum Command {
    /// Listen or do not; it is said when that is so.
    Listen(bool, std_mpsc::Sender<()>),
    Stop,
}

/// The thread. Dropping it ends all connections and the thread.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    commands: mpsc::Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts it on a port of the system's choice; without an acceptor it speaks plain HTTP.
    pub(super) fn start(shared: Arc<Shared>, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let (started, start) = std_mpsc::channel();
        let thread = thread::Builder::new()
            .name("apiserver".to_owned())
            .spawn(move || run(&shared, tls.as_ref(), received, &started))?;
        let address = start.recv().map_err(io::Error::other)??;
        Ok(Self {
            address,
            commands,
            thread: Some(thread),
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens or refuses connections; the port stays ours.
    pub(super) fn listen(&self, on: bool) {
        let (done, wait) = std_mpsc::channel();
        let sent = self.commands.try_send(Command::Listen(on, done));
        sent.expect("the server's thread takes commands");
        wait.recv().expect("the server's thread runs");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.commands.try_send(Command::Stop).is_ok()
            && let Some(thread) = self.thread.take()
        {
            // It has panicked: the test has failed already.
            let _ = thread.join();
        }
    }
}

fn run(
    shared: &Arc<Shared>,
    tls: Option<&TlsAcceptor>,
    mut commands: mpsc::Receiver<Command>,
    started: &std_mpsc::Sender<io::Result<SocketAddr>>,
) {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    runtime.block_on(async {
        let bound = reserve().and_then(|socket| Ok((socket.local_addr()?, socket)));
        let (address, _reserved) = match bound {
            Ok(bound) => bound,
            Err(error) => {
                // The starter hears of it.
                let _ = started.send(Err(error));
                return;
            }
        };
        let mut listener = Some(listen(address).expect("the port is ours"));
        let _ = started.send(Ok(address));
        loop {
            let accepted = async {
                match &listener {
                    Some(listener) => listener.accept().await,
                    None => std::future::pending().await,
                }
            };
            let command = tokio::select! {
                biased;
                command = commands.recv() => command,
                accepted = accepted => {
                    if let Ok((stream, _)) = accepted {
                        accept(shared, stream, tls.cloned());
                    }
                    continue;
                }
            };
            match command {
                Some(Command::Listen(on, done)) => {
                    listener = match listener.take() {
                        _ if !on => None,
                        None => Some(listen(address).expect("the port is ours")),
                        some => some,
                    };
                    // Whoever gave the command may have failed meanwhile.
                    let _ = done.send(());
                }
                Some(Command::Stop) | None => return,
            }
        }
    });
}

/// A socket that has a port and never listens: while it exists nobody else is given the port.
fn reserve() -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn accept(shared: &Arc<Shared>, stream: TcpStream, tls: Option<TlsAcceptor>) {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let mut broken = shared.broken.subscribe();
        let _counted = shared.count_connection();
        tokio::select! {
            _ = broken.changed() => {}
            () = connection(&shared, stream, tls) => {}
        }
    });
}

/// One connection. What goes wrong with it is the client's to notice.
async fn connection(shared: &Arc<Shared>, mut stream: TcpStream, tls: Option<TlsAcceptor>) {
    let _ = stream.set_nodelay(true);
    let silent = shared.lock().faults.silent_connections;
    if silent {
        let _ = copy(&mut stream, &mut sink()).await;
        return;
    }
    match tls {
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                requests(shared, stream).await;
            }
        }
        None => requests(shared, stream).await,
    }
}

async fn requests(shared: &Arc<Shared>, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
    let service = service_fn(|request| answer(Arc::clone(shared), request));
    let mut http = http1::Builder::new();
    // Without a timer hyper would refuse to serve with a time for heads.
    http.header_read_timeout(None);
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}
