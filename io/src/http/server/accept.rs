//! Taking connections from the listeners of one thread.
use super::Shared;
use super::connection::{Arrived, Counted, serve};
use super::listen::Bound;
use super::tls::Tls;
use crate::http::access::Door;
use crate::http::error::ApiError;
use crate::status::Refused;
use hyper::StatusCode;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::spawn_local;

/// One listener of one thread.
#[derive(Debug)]
pub(super) struct Listener {
    socket: Socket,
    /// Who comes in this way may do what.
    door: Door,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener, Option<Arc<Tls>>),
    Unix(UnixListener),
}

impl Listener {
    /// Must be called within the thread's runtime. TLS is for TCP: who may use a Unix socket is said by its file.
    pub(super) fn new(bound: Bound, tls: Option<&Arc<Tls>>, door: Door) -> io::Result<Self> {
        let socket = match bound {
            Bound::Tcp(socket) => Socket::Tcp(TcpListener::from_std(socket)?, tls.cloned()),
            Bound::Unix(socket) => Socket::Unix(UnixListener::from_std(socket)?),
        };
        Ok(Self { socket, door })
    }

    async fn next(&self) -> io::Result<Arrived> {
        match &self.socket {
            Socket::Tcp(listener, tls) => {
                let (stream, _) = listener.accept().await?;
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                Ok(match tls {
                    Some(tls) => Arrived::Tls(stream, Arc::clone(tls)),
                    None => Arrived::Tcp(stream),
                })
            }
            Socket::Unix(listener) => Ok(Arrived::Unix(listener.accept().await?.0)),
        }
    }
}

/// Takes connections for ever.
pub(super) async fn accept(listener: Listener, shared: Rc<Shared>) {
    /// Between attempts while the system is out of something, say file descriptors.
    const PAUSE: Duration = Duration::from_millis(100);
    let status = &listener.door.gate.status;
    let mut failing = false;
    loop {
        match listener.next().await {
            Ok(arrived) => {
                failing = false;
                let Some(counted) = Counted::new(status, shared.connections_max) else {
                    status.add_refused(Refused::Connections);
                    refuse(&arrived);
                    continue;
                };
                let door = listener.door.clone();
                drop(spawn_local(serve(
                    arrived,
                    Rc::clone(&shared),
                    door,
                    counted,
                )));
            }
            // The client has gone already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "cannot accept connections");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Tells a client that there are too many; whatever it sent is not read.
fn refuse(arrived: &Arrived) {
    let message = "too many connections are open";
    let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message);
    // A fresh connection has room for it; if not, the client sees the connection end.
    let _ = match arrived {
        Arrived::Tcp(stream) => stream.try_write(&error.plain()),
        Arrived::Unix(stream) => stream.try_write(&error.plain()),
        // There is no telling before the handshake.
        Arrived::Tls(..) => Ok(0),
    };
}
