//! Watches: each reads the store's history at its own pace, and has no queue of its own.
use super::body::{Body, Writer, break_connection};
use super::faults::{Pieces, StreamFault};
use super::list::parse_version;
use super::requests::Query;
use super::selector::Selector;
use super::state::{Order, Shared, State};
use super::status::Refusal;
use super::store::Change;
use hyper::body::Bytes;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::{Instant, sleep, sleep_until};

/// Changes that are taken from the store at once.
const BATCH: usize = 64;
/// Says in a bookmark that all pods that there were have been sent.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// The watch has ended.
struct Ended;

/// One watch.
struct Watch {
    shared: Arc<Shared>,
    selector: Selector,
    /// All changes up to here are sent.
    position: u64,
    bookmarks: bool,
    /// Bytes of the next line after which the connection breaks.
    break_at: Option<usize>,
    writer: Writer,
}

/// Begins a watch; the body is its stream.
pub(super) fn watch(
    shared: &Arc<Shared>,
    selector: Selector,
    query: &Query,
) -> Result<Body, Refusal> {
    let seconds = match query.get("timeoutSeconds").map(str::parse::<u32>) {
        None | Some(Ok(0)) => None,
        Some(Ok(seconds)) => Some(seconds),
        Some(Err(_)) => return Err(Refusal::bad_request("timeoutSeconds: it is not a number")),
    };
    let bookmarks = query.is_true("allowWatchBookmarks");
    // Before the state is read, so that nothing falls between.
    let orders = shared.orders.subscribe();
    let begin = begin(&shared.lock(), &selector, query, bookmarks)?;
    if let Some(refusal) = begin.gone {
        return Ok(gone(&refusal));
    }
    let (writer, body) = Body::pieces();
    let watch = Watch {
        shared: Arc::clone(shared),
        selector,
        position: begin.position,
        bookmarks,
        break_at: None,
        writer,
    };
    tokio::spawn(async move {
        let shared = Arc::clone(&watch.shared);
        let _counted = shared.count_watch();
        let deadline = seconds.map(|s| Instant::now() + Duration::from_secs(s.into()));
        // The end of the watch is the end of its body.
        let Ended = watch.run(begin.events, orders, deadline).await;
    });
    Ok(body)
}

/// A body that says in its only event that the version is gone.
pub(super) fn gone(refusal: &Refusal) -> Body {
    let (writer, body) = Body::pieces();
    let sent = writer.try_send(Ok(line("ERROR", refusal.object())));
    sent.expect("a new body has room");
    body
}

/// What a watch begins with.
struct Begin {
    position: u64,
    events: Vec<Bytes>,
    /// Why it cannot begin where it wants to, which only its stream says.
    gone: Option<Refusal>,
}

fn begin(
    state: &State,
    selector: &Selector,
    query: &Query,
    bookmarks: bool,
) -> Result<Begin, Refusal> {
    let invalid = |message: &str| Refusal::new(422, "Invalid", message);
    let version = query.get("resourceVersion");
    let current = state.store.version();
    let streams = query.get("sendInitialEvents");
    match (streams, query.get("resourceVersionMatch")) {
        (Some(_), _) if !state.streaming_lists => {
            return Err(invalid(
                "sendInitialEvents: Forbidden: not enabled on this server",
            ));
        }
        (Some(_), Some("NotOlderThan")) | (None, None) => {}
        (Some(_), _) => {
            return Err(invalid(
                "resourceVersionMatch: Required value: NotOlderThan",
            ));
        }
        (None, Some(_)) => {
            return Err(invalid(
                "resourceVersionMatch: Forbidden: only with sendInitialEvents",
            ));
        }
    }
    let wanted = version.map_or(Ok(0), parse_version)?;
    let all = match streams {
        Some(_) => query.is_true("sendInitialEvents"),
        None => wanted == 0,
    };
    if !all {
        let position = if wanted == 0 { current } else { wanted };
        let expired = state.store.check(position).err();
        return Ok(Begin {
            position,
            events: Vec::new(),
            gone: expired.map(|expired| Refusal::expired(position, expired)),
        });
    }
    if wanted > current {
        return Err(Refusal::too_large(wanted, current));
    }
    let pods = state.store.at(current).unwrap_or_default();
    let pods = pods.into_values().filter(|pod| selector.selects(pod));
    let mut events: Vec<_> = pods.map(|pod| line("ADDED", Value::clone(&pod))).collect();
    if streams.is_some() && bookmarks {
        events.push(bookmark(current, true));
    }
    Ok(Begin {
        position: current,
        events,
        gone: None,
    })
}

impl Watch {
    async fn run(
        mut self,
        begin: Vec<Bytes>,
        mut orders: tokio::sync::broadcast::Receiver<Order>,
        deadline: Option<Instant>,
    ) -> Ended {
        for event in begin {
            if self.send(&event).await.is_err() {
                return Ended;
            }
        }
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.borrow_and_update();
            // Read first: an order from before one of these changes is in the channel by now.
            let present = self.shared.lock().store.version();
            loop {
                let done = match orders.try_recv() {
                    Ok(order) => self.obey(order).await,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Lagged(_) | TryRecvError::Closed) => Err(Ended),
                };
                if done.is_err() {
                    return Ended;
                }
            }
            if self.send_changes(present).await.is_err() {
                return Ended;
            }
            let over = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            let order = tokio::select! {
                biased;
                () = self.writer.closed() => return Ended,
                order = orders.recv() => order,
                // The sender is in `shared`, which this watch keeps.
                _ = changed.changed() => continue,
                () = over => return Ended,
            };
            let done = match order {
                Ok(order) => self.obey(order).await,
                Err(_) => Err(Ended),
            };
            if done.is_err() {
                return Ended;
            }
        }
    }

    /// Sends the changes up to a version.
    async fn send_changes(&mut self, last: u64) -> Result<(), Ended> {
        loop {
            let found = self.shared.lock().store.since(self.position, BATCH);
            let changes = match found {
                Ok(changes) => changes,
                Err(expired) => {
                    let refusal = Refusal::expired(self.position, expired);
                    self.send(&line("ERROR", refusal.object())).await?;
                    return Err(Ended);
                }
            };
            if changes.first().is_none_or(|change| change.version > last) {
                return Ok(());
            }
            for change in changes.iter().take_while(|change| change.version <= last) {
                if let Some(event) = event(change, &self.selector) {
                    self.send(&event).await?;
                }
                self.position = change.version;
            }
        }
    }

    async fn obey(&mut self, order: Order) -> Result<(), Ended> {
        self.send_changes(order.version).await?;
        match order.fault {
            StreamFault::Close => return Err(Ended),
            StreamFault::Break => {
                self.break_at = Some(20);
                let half = line("MODIFIED", bookmark_object(self.position));
                self.send(&half).await?;
            }
            StreamFault::BreakAtNext(bytes) => self.break_at = Some(bytes),
            StreamFault::Expire => {
                let expired = super::store::Expired {
                    oldest: order.version,
                };
                let refusal = Refusal::expired(self.position, expired);
                self.send(&line("ERROR", refusal.object())).await?;
                return Err(Ended);
            }
            StreamFault::Garbage => self.send(b"{\"type\":\"MOD\xff\xfe?\n").await?,
            StreamFault::Bookmark if self.bookmarks => {
                self.position = self.position.max(order.version);
                self.send(&bookmark(self.position, false)).await?;
            }
            StreamFault::Bookmark => {}
            StreamFault::Silence => {
                self.writer.closed().await;
                return Err(Ended);
            }
        }
        Ok(())
    }

    /// Sends one line, in the pieces and up to the place that the faults want.
    async fn send(&mut self, line: &[u8]) -> Result<(), Ended> {
        let whole = Pieces {
            sizes: Vec::new(),
            pause: Duration::ZERO,
        };
        let pieces = self.shared.lock().faults.pieces.clone().unwrap_or(whole);
        let end = self.break_at.map_or(line.len(), |at| at.min(line.len()));
        for (number, piece) in pieces.cut(&line[..end]).into_iter().enumerate() {
            if number > 0 && !pieces.pause.is_zero() {
                sleep(pieces.pause).await;
            }
            self.put(Ok(Bytes::copy_from_slice(piece))).await?;
        }
        if self.break_at.is_some() {
            break_connection(&self.writer).await;
            return Err(Ended);
        }
        Ok(())
    }

    async fn put(&self, piece: io::Result<Bytes>) -> Result<(), Ended> {
        self.writer.send(piece).await.map_err(|_| Ended)
    }
}

/// What a change is to whoever sees only selected pods.
fn event(change: &Change, selector: &Selector) -> Option<Bytes> {
    let seen = |pod: &&Arc<Value>| selector.selects(pod);
    let before = change.before.as_ref().filter(seen);
    let after = change.after.as_ref().filter(seen);
    let (kind, pod) = match (before, after) {
        (None, None) => return None,
        (None, Some(pod)) => ("ADDED", Value::clone(pod)),
        (Some(_), Some(pod)) => ("MODIFIED", Value::clone(pod)),
        // Deleted or not selected any more: what was seen last, with the number of this change.
        (Some(pod), None) => {
            let mut pod = Value::clone(pod);
            pod["metadata"]["resourceVersion"] = json!(change.version.to_string());
            ("DELETED", pod)
        }
    };
    Some(line(kind, pod))
}

fn line(kind: &str, object: Value) -> Bytes {
    let mut line = json!({"type": kind, "object": object}).to_string();
    line.push('\n');
    line.into()
}

fn bookmark(version: u64, initial_events_end: bool) -> Bytes {
    let mut object = bookmark_object(version);
    if initial_events_end {
        object["metadata"]["annotations"] = json!({INITIAL_EVENTS_END: "true"});
    }
    line("BOOKMARK", object)
}

/// As a real server writes a pod of which only the version is set.
fn bookmark_object(version: u64) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"resourceVersion": version.to_string(), "creationTimestamp": null},
        "spec": {"containers": null}, "status": {},
    })
}
