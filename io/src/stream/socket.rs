//! ZeroMQ sockets, never blocking: the only file that knows the library.
//!
//! A received frame is handed out as libzmq holds it, without a copy. Every socket is opened without
//! lingering, so nothing waits when one is closed.
//!
//! libzmq sends to a monitor from its own IO thread, and waits there if nobody is connected: a monitor
//! that is closed while its subscriber still says something would silence the whole context. So
//! [`Subscriber`] silences itself before it closes anything.
use super::context::{Context, Kind};
use crate::limits::{
    BACKOFF_MAX, BACKOFF_MIN, FRAME_BYTES_CUT, FRAMES_MAX, SOCKETS_MAX, SUBSCRIPTION_QUEUE_MAX,
};
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use zmq::{Error, SocketEvent};

/// An operation on a socket failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{endpoint}: cannot {operation}: {source}")]
pub struct SocketError {
    /// The socket's endpoint.
    pub endpoint: String,
    /// What was tried.
    pub operation: &'static str,
    /// What libzmq says.
    pub source: Error,
}

impl SocketError {
    /// Whether the endpoint itself is at fault, not what is behind it.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(
            self.source,
            Error::EINVAL | Error::EPROTONOSUPPORT | Error::ENOCOMPATPROTO
        )
    }
}

/// Opens sockets; one for the whole node.
#[derive(Clone, Debug)]
pub struct Sockets {
    context: Arc<Context>,
    monitors: Arc<AtomicU64>,
}

/// A received frame.
#[derive(Debug)]
pub struct Frame(zmq::Message);

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Frame {
    /// Its bytes, where libzmq put them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// One message: its frames, used again and again.
#[derive(Debug, Default)]
pub struct Message {
    frames: Vec<Frame>,
    /// Frames that came, of which at most [`FRAMES_MAX`] are kept.
    count: usize,
}

impl Message {
    /// The frames kept; fewer than came if there were more than [`FRAMES_MAX`].
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Whether more than [`FRAMES_MAX`] frames came.
    #[must_use]
    pub fn is_too_long(&self) -> bool {
        self.count > self.frames.len()
    }

    /// Takes the last frame kept.
    pub fn take_last(&mut self) -> Option<Frame> {
        self.frames.pop()
    }
}

/// A socket that never blocks.
pub struct Socket {
    socket: zmq::Socket,
    endpoint: String,
    /// Dropped after the socket.
    context: Arc<Context>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// A subscription, and the monitor of its connection.
#[derive(Debug)]
pub struct Subscriber {
    socket: Socket,
    monitor: Monitor,
    /// A name that nobody connects to.
    nobody: String,
}

impl Subscriber {
    /// What is subscribed to comes out here.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Tells of the connection.
    #[must_use]
    pub fn monitor(&self) -> &Monitor {
        &self.monitor
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // Monitoring of no events, in place of the monitoring so far: also if it fails, none are
        // sent any more, and one that is being sent is waited for.
        if let Err(error) = self.socket.socket.monitor(&self.nobody, 0) {
            tracing::debug!(%error, "a monitor is stopped without a successor");
        }
    }
}

impl Sockets {
    /// With so many threads of libzmq's own that move bytes.
    pub fn new(threads: usize) -> Result<Self, SocketError> {
        let threads = i32::try_from(threads.max(1)).unwrap_or(i32::MAX);
        let context = Context::new(threads, SOCKETS_MAX);
        Ok(Self {
            context: Arc::new(context.map_err(|source| error("libzmq", "make a context", source))?),
            monitors: Arc::default(),
        })
    }

    /// A subscriber to everything, that reconnects for ever.
    pub fn subscriber(&self, endpoint: &str) -> Result<Subscriber, SocketError> {
        let socket = self.open(Kind::Sub, endpoint)?;
        let fail = |operation| move |source| error(endpoint, operation, source);
        socket
            .socket
            .set_rcvhwm(SUBSCRIPTION_QUEUE_MAX)
            .map_err(fail("set the queue"))?;
        socket
            .socket
            .set_subscribe(b"")
            .map_err(fail("subscribe"))?;
        let monitor = self.monitor(&socket)?;
        let subscriber = Subscriber {
            socket,
            monitor,
            nobody: self.name(),
        };
        subscriber
            .socket
            .socket
            .connect(endpoint)
            .map_err(fail("connect"))?;
        Ok(subscriber)
    }

    /// A requester of replays. One that is given up is dropped, so it never reconnects for long.
    pub fn requester(&self, endpoint: &str) -> Result<Socket, SocketError> {
        let socket = self.open(Kind::Dealer, endpoint)?;
        let fail = |operation| move |source| error(endpoint, operation, source);
        socket
            .socket
            .set_rcvhwm(SUBSCRIPTION_QUEUE_MAX)
            .map_err(fail("set the queue"))?;
        socket.socket.connect(endpoint).map_err(fail("connect"))?;
        Ok(socket)
    }

    /// A publisher that is told of its subscriptions, for fake engines.
    pub fn publisher(&self, endpoint: &str) -> Result<Socket, SocketError> {
        let socket = self.open(Kind::XPub, endpoint)?;
        let fail = |operation| move |source| error(endpoint, operation, source);
        socket
            .socket
            .set_sndhwm(SUBSCRIPTION_QUEUE_MAX)
            .map_err(fail("set the queue"))?;
        socket
            .socket
            .set_xpub_verbose(true)
            .map_err(fail("ask for all subscriptions"))?;
        socket.bind(endpoint)
    }

    /// A replier, for fake engines: messages begin with the asker's identity.
    pub fn replier(&self, endpoint: &str) -> Result<Socket, SocketError> {
        let socket = self.open(Kind::Router, endpoint)?;
        let queue = socket.socket.set_sndhwm(SUBSCRIPTION_QUEUE_MAX);
        queue.map_err(|source| error(endpoint, "set the queue", source))?;
        socket.bind(endpoint)
    }

    fn open(&self, kind: Kind, endpoint: &str) -> Result<Socket, SocketError> {
        if endpoint.contains('\0') {
            return Err(error(endpoint, "use the endpoint", Error::EINVAL));
        }
        let socket = self
            .context
            .socket(kind)
            .map_err(|source| error(endpoint, "open a socket", source))?;
        configure(&socket).map_err(|source| error(endpoint, "configure the socket", source))?;
        Ok(Socket {
            socket,
            endpoint: endpoint.to_owned(),
            context: Arc::clone(&self.context),
        })
    }

    /// A name for a monitor's endpoint, used once.
    fn name(&self) -> String {
        let number = self.monitors.fetch_add(1, Relaxed);
        format!("inproc://kvroute-monitor-{number}")
    }

    fn monitor(&self, of: &Socket) -> Result<Monitor, SocketError> {
        let fail = |source| error(&of.endpoint, "monitor the connection", source);
        let name = self.name();
        let events = SocketEvent::HANDSHAKE_SUCCEEDED as i32 | SocketEvent::DISCONNECTED as i32;
        of.socket.monitor(&name, events).map_err(fail)?;
        let socket = of.context.socket(Kind::Pair).map_err(fail)?;
        configure(&socket).map_err(fail)?;
        socket.connect(&name).map_err(fail)?;
        Ok(Monitor(Socket {
            socket,
            endpoint: of.endpoint.clone(),
            context: Arc::clone(&of.context),
        }))
    }
}

/// The same for all sockets: nothing lingers, nothing is larger than a frame may be, dead links are
/// noticed.
fn configure(socket: &zmq::Socket) -> Result<(), Error> {
    let ms = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    socket.set_linger(0)?;
    socket.set_ipv6(true)?;
    socket.set_maxmsgsize(i64::try_from(FRAME_BYTES_CUT).unwrap_or(i64::MAX))?;
    socket.set_reconnect_ivl(ms(BACKOFF_MIN))?;
    socket.set_reconnect_ivl_max(ms(BACKOFF_MAX))?;
    socket.set_tcp_keepalive(1)?;
    socket.set_tcp_keepalive_idle(30)?;
    socket.set_tcp_keepalive_intvl(10)?;
    socket.set_tcp_keepalive_cnt(3)
}

fn error(endpoint: &str, operation: &'static str, source: Error) -> SocketError {
    let endpoint = endpoint.to_owned();
    SocketError {
        endpoint,
        operation,
        source,
    }
}

impl Socket {
    /// The descriptor to wait on: edge-triggered, and a hint only. After it fires, and after every
    /// other operation on the socket, receive until there is nothing.
    pub fn descriptor(&self) -> Result<RawFd, SocketError> {
        self.socket
            .get_fd()
            .map_err(|source| error(&self.endpoint, "get the descriptor", source))
    }

    /// The system refuses to wait on its descriptor.
    #[must_use]
    pub fn cannot_wait(&self, why: &std::io::Error) -> SocketError {
        let number = why.raw_os_error().unwrap_or_default();
        error(
            &self.endpoint,
            "wait on the socket",
            Error::from_raw(number),
        )
    }

    /// The endpoint that it is bound to, with the port that the system chose.
    pub fn bound_to(&self) -> Result<String, SocketError> {
        match self.socket.get_last_endpoint() {
            Ok(Ok(endpoint)) => Ok(endpoint),
            Ok(Err(_)) => Err(error(&self.endpoint, "get the endpoint", Error::EINVAL)),
            Err(source) => Err(error(&self.endpoint, "get the endpoint", source)),
        }
    }

    /// Receives one message; `false` if there is none.
    pub fn receive(&self, into: &mut Message) -> Result<bool, SocketError> {
        into.frames.clear();
        into.count = 0;
        loop {
            let mut frame = zmq::Message::new();
            match self.socket.recv(&mut frame, zmq::DONTWAIT) {
                Ok(()) => {}
                Err(Error::EAGAIN) => return Ok(false),
                Err(Error::EINTR) => continue,
                Err(source) => return Err(error(&self.endpoint, "receive", source)),
            }
            let more = frame.get_more();
            into.count += 1;
            if into.frames.len() < FRAMES_MAX {
                into.frames.push(Frame(frame));
            }
            if !more {
                return Ok(true);
            }
        }
    }

    /// Sends one message; `false` if there is no room for it.
    pub fn send(&self, frames: &[&[u8]]) -> Result<bool, SocketError> {
        loop {
            match self.socket.send_multipart(frames, zmq::DONTWAIT) {
                Ok(()) => return Ok(true),
                Err(Error::EAGAIN) => return Ok(false),
                Err(Error::EINTR) => {}
                Err(source) => return Err(error(&self.endpoint, "send", source)),
            }
        }
    }

    /// Waits until there is a message, for at most `time`.
    pub fn wait(&self, time: Duration) -> Result<bool, SocketError> {
        let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        match self.socket.poll(zmq::POLLIN, ms) {
            Ok(ready) => Ok(ready > 0),
            Err(Error::EINTR) => Ok(false),
            Err(source) => Err(error(&self.endpoint, "wait", source)),
        }
    }

    fn bind(self, endpoint: &str) -> Result<Self, SocketError> {
        match self.socket.bind(endpoint) {
            Ok(()) => Ok(self),
            Err(source) => Err(error(endpoint, "bind", source)),
        }
    }
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It is there, and the subscription is on its way.
    Up,
    /// It is gone.
    Down,
}

/// Tells when a subscriber's connection comes and goes.
#[derive(Debug)]
pub struct Monitor(Socket);

impl Monitor {
    /// The descriptor to wait on, see [`Socket::descriptor`].
    pub fn descriptor(&self) -> Result<RawFd, SocketError> {
        self.0.descriptor()
    }

    /// Appends all that happened since.
    pub fn read(
        &self,
        message: &mut Message,
        into: &mut VecDeque<Link>,
    ) -> Result<(), SocketError> {
        while self.0.receive(message)? {
            let event = message
                .frames()
                .first()
                .and_then(|frame| frame.bytes().first_chunk());
            match event.map(|&event| SocketEvent::from_raw(native(event))) {
                Some(SocketEvent::HANDSHAKE_SUCCEEDED) => into.push_back(Link::Up),
                Some(SocketEvent::DISCONNECTED) => into.push_back(Link::Down),
                _ => {}
            }
        }
        Ok(())
    }
}

#[expect(
    clippy::host_endian_bytes,
    reason = "libzmq writes its own events in host order"
)]
fn native(event: [u8; 2]) -> u16 {
    u16::from_ne_bytes(event)
}
