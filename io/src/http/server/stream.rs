//! One connection's bytes: over TCP, TLS or a Unix socket; watched, and with answers of ours to broken heads.
use super::tls::TlsStream;
use super::watch::Place;
use crate::http::error::ApiError;
use hyper::StatusCode;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// What it goes over.
#[derive(Debug)]
pub(super) enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream>),
}

/// A connection as hyper reads and writes it.
#[derive(Debug)]
pub(super) struct Stream {
    transport: Transport,
    place: Rc<Place>,
    /// What goes out in place of hyper's answer to a head that it could not read, and how much of it has.
    instead: Option<(Vec<u8>, usize)>,
    /// Whether it was ended because all heads together took too much memory.
    pub(super) too_much: bool,
}

impl Stream {
    pub(super) fn new(transport: Transport, place: Rc<Place>) -> Self {
        Self {
            transport,
            place,
            instead: None,
            too_much: false,
        }
    }

    /// A last answer to a client that may read it: what does not go out at once is left.
    pub(super) fn say(&mut self, answer: &[u8]) {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let transport = Pin::new(&mut self.transport);
        if transport.poll_write(&mut context, answer).is_ready() {
            let _ = Pin::new(&mut self.transport).poll_flush(&mut context);
            let _ = Pin::new(&mut self.transport).poll_shutdown(&mut context);
        }
    }

    /// Sends `instead` to its end.
    fn poll_instead(&mut self, cx: &mut Context<'_>, hypers: usize) -> Poll<io::Result<usize>> {
        while let Some((answer, sent)) = &mut self.instead
            && *sent < answer.len()
        {
            let transport = Pin::new(&mut self.transport);
            match ready!(transport.poll_write(cx, &answer[*sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => *sent += count,
            }
        }
        self.instead = None;
        Poll::Ready(Ok(hypers))
    }
}

/// hyper answers a head that it cannot read with a status alone. Ours has the body of all errors. Found by its
/// form, in one comparison for answers that are good: no error of ours is without a body.
fn ours_instead_of(bytes: &[u8]) -> Option<Vec<u8>> {
    const EMPTY: &[u8] = b"content-length: 0\r\n";
    let status = bytes.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    if status[0] != b'4' || !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    bytes.windows(EMPTY.len()).find(|part| *part == EMPTY)?;
    let status = StatusCode::from_bytes(status).ok()?;
    let (code, message) = match status {
        StatusCode::BAD_REQUEST => ("malformed_request", "this is not an HTTP/1.1 request"),
        StatusCode::URI_TOO_LONG => ("url_too_long", "path and query are too long"),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
            "head_too_large",
            "the request has too many headers, or too many bytes of them",
        ),
        _ => return None,
    };
    Some(ApiError::new(status, code, message).plain())
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.transport).poll_read(cx, buf))?;
        if this.place.received(buf.filled().len() - before) {
            return Poll::Ready(Ok(()));
        }
        let message = "too many heads of requests are arriving";
        let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message);
        this.say(&error.plain());
        this.too_much = true;
        Poll::Ready(Err(io::Error::other(message)))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.instead.is_none() {
            match ours_instead_of(bytes) {
                None => {
                    let sent = ready!(Pin::new(&mut this.transport).poll_write(cx, bytes))?;
                    this.place.sent();
                    return Poll::Ready(Ok(sent));
                }
                Some(answer) => this.instead = Some((answer, 0)),
            }
        }
        this.poll_instead(cx, bytes.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [one] = slices {
            return self.poll_write(cx, one);
        }
        let this = self.get_mut();
        let sent = ready!(Pin::new(&mut this.transport).poll_write_vectored(cx, slices))?;
        this.place.sent();
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(cx)
    }
}

/// Does the same with whichever transport it is.
macro_rules! each {
    ($self:ident, $method:ident, $($argument:expr),*) => {
        match $self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Transport::Unix(stream) => Pin::new(stream).$method($($argument),*),
            Transport::Tls(stream) => Pin::new(&mut **stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, poll_read, cx, buf)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, poll_write, cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, poll_write_vectored, cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        // rustls copies in any case: one buffer saves a record.
        !matches!(self, Self::Tls(_))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, poll_flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, poll_shutdown, cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hypers_own_answers_are_replaced() {
        let broken = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        let ours = String::from_utf8(ours_instead_of(broken).unwrap()).unwrap();
        assert!(ours.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{ours}");
        assert!(
            ours.contains(r#"{"error":{"code":"malformed_request","#),
            "{ours}"
        );
        for good in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 10\r\n\r\n",
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 4",
            b"",
        ] {
            assert_eq!(ours_instead_of(good), None);
        }
    }
}
