//! Listening sockets: TCP, one for each thread on the same port, and Unix, one that all threads share.
use crate::address::Address;
use crate::limits::BACKLOG_MAX;
use rustix::fs::{Mode, chmod};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A bound socket, as one thread takes it.
#[derive(Debug)]
pub(super) enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// An address that is listened at: a socket for each thread.
#[derive(Debug)]
pub(super) struct Bind {
    /// With the port that the system chose.
    pub(super) address: Address,
    pub(super) sockets: Vec<Bound>,
    /// Removes a Unix socket's file in the end.
    pub(super) file: Option<SocketFile>,
}

impl Bind {
    /// Binds for so many threads. Fails if somebody else listens there, be it another node.
    pub(super) fn new(address: &Address, threads: usize) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => tcp(*address, threads),
            Address::Unix(path) => unix(path, threads),
        }
    }
}

fn tcp(address: SocketAddr, threads: usize) -> io::Result<Bind> {
    // The port must be free: SO_REUSEPORT alone would let two nodes share it, and each would get some of the
    // other's requests.
    if address.port() != 0 {
        let probe = tcp_socket(address)?;
        // Ports of connections that are long closed are free.
        probe.set_reuse_address(true)?;
        probe.bind(&SockAddr::from(address))?;
    }
    let first = tcp_listener(address)?;
    let address = first.local_addr()?;
    let mut sockets = vec![Bound::Tcp(first)];
    for _ in 1..threads {
        sockets.push(Bound::Tcp(tcp_listener(address)?));
    }
    Ok(Bind {
        address: address.into(),
        sockets,
        file: None,
    })
}

fn tcp_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = tcp_socket(address)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG_MAX)?;
    Ok(socket.into())
}

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    Socket::new(domain, Type::STREAM, Some(Protocol::TCP))
}

/// One socket, of which each thread has a descriptor: Unix sockets know no SO_REUSEPORT. A new connection wakes
/// all threads and one of them gets it, which costs the others a system call for each connection, not for each
/// request.
fn unix(path: &Path, threads: usize) -> io::Result<Bind> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::new(path)?;
    // Before it listens, so that nobody connects who may not: its owner and group may.
    chmod(path, Mode::from_raw_mode(0o660))?;
    socket.listen(BACKLOG_MAX)?;
    let first: UnixListener = socket.into();
    let mut sockets = Vec::new();
    for _ in 1..threads {
        sockets.push(Bound::Unix(first.try_clone()?));
    }
    sockets.push(Bound::Unix(first));
    Ok(Bind {
        address: Address::Unix(path.to_owned()),
        sockets,
        file: Some(file),
    })
}

/// Removes the socket that a node left behind which was killed. Any other file, and a socket on which somebody
/// listens, is an error.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match path.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        let message = "there is a file that is not a socket";
        return Err(io::Error::new(ErrorKind::AlreadyExists, message));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(ErrorKind::AddrInUse.into()),
    }
}

/// The file of a Unix socket, removed when dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and number of the file: a node that came later may have put its own there.
    id: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            id: file_id(path)?,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if file_id(&self.path).is_ok_and(|id| id == self.id)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

fn file_id(path: &Path) -> io::Result<(u64, u64)> {
    let found = path.symlink_metadata()?;
    Ok((found.dev(), found.ino()))
}
