//! Requests that take long are answered on other threads, where they delay nobody's lookups.
//!
//! An HTTP thread answers one request after the other, each in microseconds. A prompt of a million tokens takes
//! milliseconds, and so does a list of thousands of workers: these go through a bounded queue to threads
//! that do nothing else. Where cores are scarce the kernel lets small requests go first, as these threads are nice.
use super::body::Data;
use super::error::{ApiError, Reply};
use super::spans::Traced;
use super::state::{Call, Step, ThreadState, Told};
use super::table::Handler;
use crate::limits::{ASIDE_NICENESS, ASIDE_QUEUE_MAX};
use crate::tokenize::Ask;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use hyper::http::request::Parts;
use rustix::process::nice;
use std::io;
use std::thread::{self, JoinHandle};
use tokio::sync::oneshot;

/// A request that is answered aside.
#[derive(Debug)]
pub(super) struct Large {
    pub(super) head: Parts,
    /// Where in the path its rest begins.
    pub(super) rest: usize,
    pub(super) body: Data,
    pub(super) cut: bool,
    /// What came of the prompts that the handler wanted tokenized.
    pub(super) told: Vec<Told>,
    /// Its trace, which comes back with the answer.
    pub(super) traced: Traced,
}

/// What a request has come to.
#[derive(Debug)]
pub(super) enum Ended {
    Done(Reply),
    /// Its prompts have to be tokenized, after which it is to be answered again.
    Tokenize(Vec<Ask>, Box<Large>),
}

/// A request on its way, with what answers it.
struct Job {
    handler: Handler,
    request: Large,
    answer: oneshot::Sender<(Result<Ended, ApiError>, Traced)>,
}

/// The way to the threads; they end when the last one has been dropped and the queue is empty.
#[derive(Clone, Debug)]
pub(super) struct Aside(Sender<Job>);

/// The threads.
#[derive(Debug)]
pub(super) struct Threads(Vec<JoinHandle<()>>);

impl Aside {
    /// Starts a thread for each of these states, which it makes.
    pub(super) fn start(
        states: impl Iterator<Item = impl FnOnce() -> ThreadState + Send + 'static>,
    ) -> io::Result<(Self, Threads)> {
        let (to, from) = bounded(ASIDE_QUEUE_MAX);
        let mut running = Threads(Vec::new());
        for (n, state) in states.enumerate() {
            let from = from.clone();
            let thread = thread::Builder::new().name(format!("kvroute-aside-{n}"));
            let thread = thread.spawn(move || {
                // Without it everything works as well while there are cores enough.
                if let Err(error) = nice(ASIDE_NICENESS) {
                    tracing::debug!(%error, "a thread that answers aside is as urgent as others");
                }
                run(&from, &mut state());
            })?;
            running.0.push(thread);
        }
        Ok((Self(to), running))
    }

    /// Has a request answered. Its trace is in `traced` then.
    pub(super) async fn answer(
        &self,
        handler: Handler,
        request: Large,
        traced: &mut Traced,
    ) -> Result<Ended, ApiError> {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            handler,
            request,
            answer,
        };
        match self.0.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(job)) => {
                *traced = job.request.traced;
                let message = "too many large requests are under way; try again later";
                return Err(ApiError::overloaded(message));
            }
            Err(TrySendError::Disconnected(_)) => return Err(lost()),
        }
        let (ended, back) = answered.await.unwrap_or_else(|_| (Err(lost()), None));
        *traced = back;
        ended
    }
}

/// The thread that had it has panicked.
fn lost() -> ApiError {
    ApiError::internal(&"the request was lost")
}

fn run(jobs: &Receiver<Job>, state: &mut ThreadState) {
    for job in jobs {
        // Nobody waits for it any more.
        if job.answer.is_closed() {
            continue;
        }
        let mut request = job.request;
        state.traced = request.traced.take();
        let ended = answer(job.handler, request, state);
        let traced = state.traced.take();
        state.scratch.shrink();
        // Whoever asked may have gone meanwhile.
        drop(job.answer.send((ended, traced)));
    }
}

fn answer(handler: Handler, request: Large, state: &mut ThreadState) -> Result<Ended, ApiError> {
    let Large {
        head,
        rest,
        body,
        cut,
        told,
        ..
    } = request;
    let body = body.whole();
    let call = Call {
        uri: &head.uri,
        headers: &head.headers,
        body: &body,
        cut,
        rest: head.uri.path().get(rest..).unwrap_or_default(),
        told: &told,
    };
    Ok(match handler.call(state, &call)? {
        Step::Done(reply) => Ended::Done(reply),
        Step::Tokenize(asks) => {
            let request = Large {
                head,
                rest,
                body: body.into(),
                cut,
                told,
                traced: None,
            };
            Ended::Tokenize(asks, Box::new(request))
        }
    })
}

impl Drop for Threads {
    fn drop(&mut self) {
        for thread in self.0.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that answers aside has panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::error::Answer;
    use hyper::Request;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn nothing(_: &mut ThreadState, _: &Call<'_>) -> Result<Reply, ApiError> {
        Ok(Reply::nothing())
    }

    #[test]
    fn what_does_not_fit_into_the_queue_is_refused_at_once() {
        let (to, waiting) = bounded(1);
        let aside = Aside(to);
        let ask = || {
            let (head, ()) = Request::new(()).into_parts();
            let request = Large {
                head,
                rest: 0,
                body: Data::default(),
                cut: false,
                told: Vec::new(),
                traced: None,
            };
            let aside = aside.clone();
            async move {
                let handler = Handler::Plain(nothing);
                aside.answer(handler, request, &mut None).await
            }
        };
        let mut context = Context::from_waker(Waker::noop());
        let (mut first, mut second) = (pin!(ask()), pin!(ask()));
        assert!(first.as_mut().poll(&mut context).is_pending());
        let Poll::Ready(Err(refused)) = second.as_mut().poll(&mut context) else {
            panic!("the queue is full");
        };
        assert_eq!(Answer::from(refused).status(), 429);
        // The thread that took the first one has panicked.
        drop(waiting.recv());
        let Poll::Ready(Err(lost)) = first.as_mut().poll(&mut context) else {
            panic!("nobody has it any more");
        };
        assert_eq!(Answer::from(lost).status(), 500);
        drop(waiting);
        let Poll::Ready(Err(lost)) = pin!(ask()).poll(&mut context) else {
            panic!("nobody is there");
        };
        assert_eq!(Answer::from(lost).status(), 500);
    }
}
