//! Bodies of answers: whole, or as they come.
use hyper::body::{Body as HyperBody, Bytes, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// Pieces of one answer that wait for the client to read; whoever writes waits then, too.
const PIECES_MAX: usize = 16;

/// Time for the bytes before a break to go out. Where it is too short, the break comes earlier.
const FLUSH_TIME: Duration = Duration::from_millis(20);

/// Takes the pieces of a body; an error among them breaks the connection.
pub(super) type Writer = mpsc::Sender<io::Result<Bytes>>;

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Body {
    /// Its length is said before.
    Whole(Option<Bytes>),
    /// In chunks.
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
}

impl Body {
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()))
    }

    pub(super) fn pieces() -> (Writer, Self) {
        let (writer, reader) = mpsc::channel(PIECES_MAX);
        (writer, Self::Pieces(reader))
    }
}

/// Breaks the connection that a body goes out on, after what was written to it.
pub(super) async fn break_connection(writer: &Writer) {
    // While the body has nothing more, what it had is sent.
    sleep(FLUSH_TIME).await;
    let broken = io::Error::new(io::ErrorKind::ConnectionReset, "broken on purpose");
    // Without a client there is nothing to break.
    let _ = writer.send(Err(broken)).await;
}

impl HyperBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Pieces(pieces) => {
                let piece = pieces.poll_recv(context);
                piece.map(|piece| piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Pieces(_) => SizeHint::default(),
        }
    }
}
