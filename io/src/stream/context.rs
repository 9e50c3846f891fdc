//! The one libzmq context of the node: all sockets, few threads.
//!
//! libzmq allows 1,023 sockets in a context unless it is told otherwise before the first one, and the `zmq`
//! crate cannot tell it. (A further context for every 300 workers was tried: two threads each.) So the
//! context is made here with libzmq's own functions, and sockets are handed to the crate.
use std::ffi::c_int;
use std::ptr::NonNull;
use zmq::Error;

/// The kinds of sockets in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Receives what is published.
    Sub,
    /// Publishes, and is told of subscriptions.
    XPub,
    /// Asks for replays.
    Dealer,
    /// Answers them.
    Router,
    /// Monitors another socket.
    Pair,
}

/// A context. Dropping it waits until its sockets are closed, so every socket keeps it.
#[derive(Debug)]
pub(super) struct Context(NonNull<std::ffi::c_void>);

// SAFETY: libzmq's contexts may be used by any number of threads at once.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// A context for so many sockets, with so many threads that move bytes (and one that closes sockets).
    pub(super) fn new(threads: c_int, sockets: c_int) -> Result<Self, Error> {
        // SAFETY: no preconditions.
        let raw = unsafe { zmq_sys::zmq_ctx_new() };
        let context = Self(NonNull::new(raw).ok_or_else(last_error)?);
        context.set(zmq_sys::ZMQ_IO_THREADS, threads)?;
        context.set(zmq_sys::ZMQ_MAX_SOCKETS, sockets)?;
        Ok(context)
    }

    /// A new socket. Its user keeps the context as long.
    pub(super) fn socket(&self, kind: Kind) -> Result<zmq::Socket, Error> {
        // SAFETY: the context lives.
        let raw = unsafe { zmq_sys::zmq_socket(self.0.as_ptr(), kind.number()) };
        let raw = NonNull::new(raw).ok_or_else(last_error)?;
        // SAFETY: made just now, and used by nobody else.
        Ok(unsafe { zmq::Socket::from_raw(raw.as_ptr()) })
    }

    fn set(&self, option: u32, value: c_int) -> Result<(), Error> {
        // SAFETY: the context lives.
        match unsafe { zmq_sys::zmq_ctx_set(self.0.as_ptr(), option as c_int, value) } {
            0 => Ok(()),
            _ => Err(last_error()),
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        loop {
            // SAFETY: no socket is left, and nobody uses the context after this.
            let ended = unsafe { zmq_sys::zmq_ctx_term(self.0.as_ptr()) };
            if ended == 0 || last_error() != Error::EINTR {
                return;
            }
        }
    }
}

fn last_error() -> Error {
    // SAFETY: no preconditions.
    Error::from_raw(unsafe { zmq_sys::zmq_errno() })
}

impl Kind {
    const fn number(self) -> c_int {
        let number = match self {
            Self::Sub => zmq_sys::ZMQ_SUB,
            Self::XPub => zmq_sys::ZMQ_XPUB,
            Self::Dealer => zmq_sys::ZMQ_DEALER,
            Self::Router => zmq_sys::ZMQ_ROUTER,
            Self::Pair => zmq_sys::ZMQ_PAIR,
        };
        number as c_int
    }
}
