//! One connection from its first byte to its last.
use super::Shared;
use super::stream::{Stream, Transport};
use super::tls::{Tls, TlsStream};
use super::watch::{Activity, Order, Place};
use crate::http::access::Door;
use crate::http::error::{Answer, ApiError};
use crate::http::routes;
use crate::limits::{HEAD_BYTES_MAX, LINGER_BYTES_MAX, LINGER_TIME_MAX};
use crate::status::{HttpStatus, Refused};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// What came in through a listener.
#[derive(Debug)]
pub(super) enum Arrived {
    Tcp(TcpStream),
    Tls(TcpStream, Arc<Tls>),
    Unix(UnixStream),
}

/// How hyper reads and writes. It keeps no time: the thread's watch does.
pub(super) fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.header_read_timeout(None)
        .max_buf_size(HEAD_BYTES_MAX)
        // Whoever has sent all and closed that direction is answered, too.
        .half_close(true);
    http
}

/// A connection's part in the node's number of them, given back when dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<HttpStatus>);

impl Counted {
    /// `None` if there are as many as may be.
    pub(super) fn new(status: &Arc<HttpStatus>, most: usize) -> Option<Self> {
        status.enter(most).then(|| Self(Arc::clone(status)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.exit();
        // Only a fault of ours ends a task so. It costs this connection alone.
        if std::thread::panicking() {
            tracing::error!("a connection's task has panicked");
        }
    }
}

/// Serves one connection to its end.
pub(super) async fn serve(arrived: Arrived, shared: Rc<Shared>, door: Door, counted: Counted) {
    let activity = match arrived {
        Arrived::Tls(..) => Activity::Handshake,
        _ => Activity::Idle,
    };
    let place = Rc::new(shared.watch.enter(activity));
    let transport = match arrived {
        Arrived::Tcp(stream) => Transport::Tcp(stream),
        Arrived::Unix(stream) => Transport::Unix(stream),
        Arrived::Tls(stream, tls) => match handshake(stream, &tls, &place).await {
            Some(stream) => Transport::Tls(Box::new(stream)),
            None => return counted.0.add_refused(Refused::Handshake),
        },
    };
    place.turn_to(Activity::Idle);
    let service = service_fn(|request| {
        let (shared, place, door) = (&shared, &place, &door);
        async move { Ok::<_, Infallible>(answer(request, shared, place, door).await) }
    });
    let stream = TokioIo::new(Stream::new(transport, Rc::clone(&place)));
    let mut connection = shared.http.serve_connection(stream, service);
    let ended = watched(&place, |order, cx| {
        let mut connection = Pin::new(&mut connection);
        if order == Order::Finish {
            connection.as_mut().graceful_shutdown();
        }
        connection.poll(cx)
    });
    let ended = ended.await;
    let stream = connection.into_parts().io.into_inner();
    match ended {
        Some(Ok(())) => {}
        None => overdue(stream, &place, &counted.0),
        Some(Err(error)) => {
            tracing::debug!(%error, "a connection ended badly");
            if stream.too_much {
                counted.0.add_refused(Refused::Heads);
            } else if error.is_parse() {
                counted.0.add_refused(Refused::Head);
                linger(stream).await;
            }
        }
    }
}

/// Does something as long as it takes, or until the connection is told to end.
async fn watched<T>(
    place: &Place,
    mut poll: impl FnMut(Order, &mut std::task::Context<'_>) -> Poll<T>,
) -> Option<T> {
    let poll = poll_fn(|cx| match place.record.take_order(cx.waker()) {
        Order::End => Poll::Ready(None),
        order => poll(order, cx).map(Some),
    });
    poll.await
}

async fn handshake(stream: TcpStream, tls: &Tls, place: &Place) -> Option<TlsStream> {
    let mut accepting = pin!(tls.accept(stream));
    // A node that stops does not wait for it.
    let shaken = watched(place, |order, cx| match order {
        Order::Finish => Poll::Ready(None),
        _ => accepting.as_mut().poll(cx).map(Some),
    });
    match shaken.await.flatten() {
        Some(Ok(stream)) => Some(stream),
        Some(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
        None => None,
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared, place: &Place, door: &Door) -> Answer {
    place.turn_to(Activity::Busy);
    let (state, held, aside) = (&shared.state, &shared.held, &shared.aside);
    let counts = &shared.status.requests;
    let mut answer = routes::respond(state, held, aside, door, counts, request).await;
    place.turn_to(Activity::Idle);
    if door.gate.status.is_leaving() {
        let headers = answer.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// Ends a connection whose time is over. An idle one ends without a word, as clients expect.
fn overdue(mut stream: Stream, place: &Place, status: &HttpStatus) {
    if place.record.activity() != Activity::Head {
        return;
    }
    status.add_refused(Refused::SlowHead);
    let message = "the head of the request took too long";
    let error = ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message);
    stream.say(&error.plain());
}

/// Reads on for a while and throws it away, so that the client gets to read why.
async fn linger(mut stream: Stream) {
    let rest = async {
        let mut scratch = [0; 4096];
        let mut left = LINGER_BYTES_MAX;
        while let Ok(count @ 1..) = stream.read(&mut scratch).await {
            left = match left.checked_sub(count) {
                Some(left) => left,
                None => return,
            };
        }
    };
    let _ = timeout(LINGER_TIME_MAX, rest).await;
}
