//! Names whose addresses are pods, as those of a headless Service.
//!
//! The system's resolver is asked, on threads that nobody waits for: it cannot be told to stop. All it says is an error's
//! number. That there is no such name, or that it has no address, counts as an answer; that the servers are silent or fail
//! does not, and neither does anything else.
mod addresses;

use crate::config::DnsName;
use crate::fatal::ExitOnPanic;
use crate::fleet::{Described, Fleet, PodSpec, Source};
use crate::limits::{DNS_NAMES_MAX, DNS_THREADS};
use addresses::{Addresses, Answer};
use crossbeam_channel::{Receiver, Sender, bounded, select, tick};
use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType, getaddrinfo};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What is asked for the addresses of a name. May take as long as it likes.
type Resolve = Arc<dyn Fn(&str) -> Answer + Send + Sync>;

/// Follows the addresses of names. Dropping it ends it; a question that the resolver is busy with is left to itself.
#[derive(Debug)]
pub struct Names {
    /// `None` once it is to end. One place: who asks again while it is asked asks for the same.
    ask: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Names {
    /// Starts it; it asks for all names at once, and then at intervals.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(names: &[DnsName], interval: Duration, fleet: &Arc<Fleet>) -> io::Result<Self> {
        Self::with(names, interval, fleet, Arc::new(resolve))
    }

    fn with(
        names: &[DnsName],
        interval: Duration,
        fleet: &Arc<Fleet>,
        resolve: Resolve,
    ) -> io::Result<Self> {
        fleet.sources().expect(Source::Dns);
        let (questions, asked) = bounded(DNS_NAMES_MAX);
        let (answered, answers) = bounded(DNS_NAMES_MAX);
        for n in 0..names.len().min(DNS_THREADS) {
            let (asked, answered) = (asked.clone(), answered.clone());
            let resolve = Arc::clone(&resolve);
            thread::Builder::new()
                .name(format!("kvroute-dns-{n}"))
                .spawn(move || {
                    let _watch = ExitOnPanic;
                    answer(&asked, &answered, &*resolve);
                })?;
        }
        let names = names.iter().map(|name| Name::new(name.clone()));
        let follower = Follower {
            names: names.collect(),
            questions,
            fleet: Arc::clone(fleet),
        };
        let (ask, asked) = bounded(1);
        let thread = thread::Builder::new()
            .name("kvroute-dns".to_owned())
            .spawn(move || {
                let _watch = ExitOnPanic;
                run(follower, interval, &asked, &answers);
            })?;
        Ok(Self {
            ask: Some(ask),
            thread: Some(thread),
        })
    }

    /// Asks for all names soon.
    pub fn reload(&self) {
        if let Some(ask) = &self.ask {
            let _ = ask.try_send(());
        }
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.ask = None;
        if self.thread.take().is_some_and(|t| t.join().is_err()) {
            tracing::error!("the thread that follows names of pods has panicked");
        }
    }
}

/// A name and what became of the latest question.
type Answered = (usize, Answer);

/// Ends with the follower.
fn answer(
    asked: &Receiver<(usize, String)>,
    answered: &Sender<Answered>,
    resolve: &(dyn Fn(&str) -> Answer + Send + Sync),
) {
    for (at, host) in asked {
        if answered.send((at, resolve(&host))).is_err() {
            return;
        }
    }
}

fn run(
    mut follower: Follower,
    interval: Duration,
    asked: &Receiver<()>,
    answers: &Receiver<Answered>,
) {
    let ticks = tick(interval);
    follower.ask();
    loop {
        select! {
            recv(asked) -> asked => match asked {
                Ok(()) => follower.ask(),
                Err(_) => return,
            },
            recv(ticks) -> _ => follower.ask(),
            recv(answers) -> first => {
                let first = first.into_iter();
                for (at, answer) in first.chain(answers.try_iter()) {
                    follower.take(at, &answer);
                }
                follower.describe();
            }
        }
    }
}

/// All names, and the fleet that is told.
struct Follower {
    names: Vec<Name>,
    questions: Sender<(usize, String)>,
    fleet: Arc<Fleet>,
}

/// One name.
#[derive(Debug)]
struct Name {
    of: DnsName,
    addresses: Addresses,
    /// Whether the resolver has not answered the latest question yet.
    is_asked: bool,
    /// Whether the resolver has ever said what there is.
    is_known: bool,
    /// Whether it said last that there is nothing.
    is_nothing: bool,
    /// Why its addresses are not known as they are now.
    error: Option<String>,
}

impl Follower {
    /// Asks for all names that are not being asked for.
    fn ask(&mut self) {
        let mut silent = false;
        for (at, name) in self.names.iter_mut().enumerate() {
            if name.is_asked {
                silent = true;
                name.fail("the resolver has not answered yet", &self.fleet);
            } else {
                let question = (at, name.of.host.clone());
                name.is_asked = self.questions.try_send(question).is_ok();
            }
        }
        if silent {
            self.describe();
        }
    }

    fn take(&mut self, at: usize, answer: &Answer) {
        let Some(name) = self.names.get_mut(at) else {
            return;
        };
        name.is_asked = false;
        match answer {
            Ok(named) => {
                if named.is_empty() && !name.is_nothing {
                    tracing::warn!("dns: {}: there is no address", name.of.host);
                }
                name.is_nothing = named.is_empty();
                name.is_known = true;
                match name.addresses.take(named) {
                    Ok(()) => name.recover(),
                    Err(over) => name.fail(&over, &self.fleet),
                }
            }
            Err(error) => name.fail(error, &self.fleet),
        }
    }

    /// Tells the fleet what all names come to.
    fn describe(&self) {
        let pods = self.names.iter().flat_map(Name::pods).collect();
        let mut failing = self.names.iter().filter_map(|name| name.error.as_ref());
        match failing.next() {
            Some(first) => {
                let why = match failing.count() {
                    0 => first.clone(),
                    more => format!("{first}; and {more} more names"),
                };
                self.fleet.follow_in_part(Source::Dns, pods, &why);
            }
            None => match self.names.iter().find(|name| !name.is_known) {
                Some(name) => {
                    let why = format!("{}: asked for its addresses", name.of.host);
                    self.fleet.follow_in_part(Source::Dns, pods, &why);
                }
                None => self.fleet.follow(Source::Dns, pods, Vec::new()),
            },
        }
    }
}

impl Name {
    fn new(of: DnsName) -> Self {
        Self {
            of,
            addresses: Addresses::default(),
            is_asked: false,
            is_known: false,
            is_nothing: false,
            error: None,
        }
    }

    fn fail(&mut self, error: &str, fleet: &Fleet) {
        let error = format!("{}: {error}", self.of.host);
        fleet.sources().failed(Source::Dns, &error);
        if self.error.as_ref() != Some(&error) {
            tracing::warn!("dns: {error}");
        }
        self.error = Some(error);
    }

    fn recover(&mut self) {
        if self.error.take().is_some() {
            tracing::info!("dns: {}: resolved again", self.of.host);
        }
    }

    /// Each address as a pod, whose engine says itself where it publishes.
    fn pods(&self) -> impl Iterator<Item = Described> {
        self.addresses.pods().map(|(address, serving)| Described {
            spec: self.pod(address),
            serving,
        })
    }

    fn pod(&self, address: IpAddr) -> PodSpec {
        let DnsName { model, host, port } = &self.of;
        PodSpec {
            endpoint: Some(SocketAddr::new(address, *port).to_string()),
            ..PodSpec::new(format!("{host}/{address}"), model)
        }
    }
}

/// Asks the system's resolver, which knows `/etc/hosts`, search domains and whatever else it is set up with.
fn resolve(host: &str) -> Answer {
    let hints = AddrInfoHints {
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    match getaddrinfo(Some(host), None, Some(hints)) {
        Ok(found) => found
            .map(|found| Ok(found.map_err(|error| error.to_string())?.sockaddr.ip()))
            .collect(),
        Err(error) => match error.kind() {
            LookupErrorKind::NoName | LookupErrorKind::NoData => Ok(Vec::new()),
            _ => Err(io::Error::from(error).to_string()),
        },
    }
}

#[cfg(test)]
mod tests;
