//! The log: what of it is wanted, as lines of text or JSON on stderr, in bounded number, memory and time.
//!
//! An event's way: the filter takes it or not (`filter`, replaced whole while the node runs), its place in the code has room
//! in its bucket or not (`rate`), it becomes one line (`line`), and a thread of its own writes that (`writer`). Whoever logs never
//! waits for whoever reads.
//!
//! Only events of `tracing` are taken. What libraries say through `log` is not: among them are tokenizers, which may repeat
//! what they work on.
mod filter;
mod line;
mod rate;
mod writer;

pub use filter::{BadFilter, POSSIBLE, parse};

use crate::limits::LOG_RATE_DEFAULT;
use crate::otel;
use line::{Style, Value};
use rate::Rate;
use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Instant;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::{EnvFilter, reload};
use writer::Lines;

/// The form of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Time, level, module, message and fields.
    #[default]
    Text,
    /// The same as one object.
    Json,
}

impl LogFormat {
    /// As the setting says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// How the log begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// What is logged.
    pub filter: String,
    /// The form of lines.
    pub format: LogFormat,
    /// Lines a second from one place in the code; 0 for any number.
    pub rate: u32,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::default(),
            rate: LOG_RATE_DEFAULT,
        }
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// What is wanted cannot be understood.
    #[error("log: {0}")]
    Filter(BadFilter),
    /// There is one already, or its thread cannot be started.
    #[error("cannot log: {0}")]
    Start(String),
}

/// The log of this process, once it has begun.
static LOG: OnceLock<Log> = OnceLock::new();
/// Lines left out by the rate.
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// The log while it is written.
pub struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    style: Style,
    rate: Arc<Rate>,
    lines: Arc<Lines>,
    wanted: Mutex<Wanted>,
}

/// What is logged, as it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What holds.
    pub now: String,
    /// What the settings say.
    pub configured: String,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

/// Logs to stderr from now on, panics too.
///
/// # Errors
/// The filter is wrong, the process has a log already, or there is no thread for it.
pub fn start(config: &LogConfig) -> Result<&'static Log, LogError> {
    let filter = parse(&config.filter).map_err(LogError::Filter)?;
    let failed = |error: &dyn fmt::Display| LogError::Start(error.to_string());
    let (begun, stderr) = (Instant::now(), std::io::stderr());
    let style = Style {
        format: config.format,
        ansi: stderr.is_terminal(),
    };
    let rate = Arc::new(Rate::new(config.rate));
    let lines = Lines::start(Box::new(stderr), style, &rate, begun);
    let lines = Arc::new(lines.map_err(|error| failed(&error))?);
    let (filter, handle) = reload::Layer::new(filter);
    let sink = Sink {
        style,
        rate: Arc::clone(&rate),
        lines: Arc::clone(&lines),
        begun,
    };
    let subscriber = Registry::default().with(filter).with(sink);
    tracing::subscriber::set_global_default(subscriber).map_err(|error| failed(&error))?;
    std::panic::set_hook(Box::new(panicked));
    Ok(LOG.get_or_init(|| Log {
        filter: handle,
        style,
        rate,
        lines,
        wanted: Mutex::new(Wanted {
            now: config.filter.clone(),
            configured: config.filter.clone(),
        }),
    }))
}

/// The log of this process, if it has begun.
pub fn log() -> Option<&'static Log> {
    LOG.get()
}

/// Waits until what was logged is written, for a bounded time: before the process ends.
pub fn flush() {
    if let Some(log) = log() {
        log.lines.flush();
    }
}

/// Lines left out because their place in the code had logged too many.
#[must_use]
pub fn suppressed() -> u64 {
    SUPPRESSED.load(Relaxed)
}

/// Lines lost because nobody read the log fast enough.
#[must_use]
pub fn lost() -> u64 {
    log().map_or(0, |log| log.lines.lost())
}

impl Log {
    /// What is logged.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        self.lock().clone()
    }

    /// The form of lines.
    #[must_use]
    pub const fn format(&self) -> LogFormat {
        self.style.format
    }

    /// Lines a second from one place; 0 for any number.
    #[must_use]
    pub fn rate(&self) -> u32 {
        self.rate.most()
    }

    /// Goes on by these settings. What was said while the node runs ([`Log::set`]) holds until the settings say something else
    /// than before.
    ///
    /// # Errors
    /// The filter is wrong; then what holds stays.
    pub fn configure(&self, filter: &str, rate: u32) -> Result<(), BadFilter> {
        self.rate.set(rate);
        let mut wanted = self.lock();
        if wanted.configured != filter {
            self.take(filter, &mut wanted)?;
            filter.clone_into(&mut wanted.configured);
        }
        Ok(())
    }

    /// Logs something else from now on; what the settings say, without `filter`.
    ///
    /// # Errors
    /// The filter is wrong; then what holds stays.
    pub fn set(&self, filter: Option<&str>) -> Result<(), BadFilter> {
        let mut wanted = self.lock();
        let configured = wanted.configured.clone();
        self.take(filter.unwrap_or(&configured), &mut wanted)
    }

    fn take(&self, filter: &str, wanted: &mut Wanted) -> Result<(), BadFilter> {
        let read = parse(filter)?;
        // It fails only if the subscriber is gone, which is the process's.
        let _ = self.filter.reload(read);
        filter.clone_into(&mut wanted.now);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where events go that are wanted.
struct Sink {
    style: Style,
    rate: Arc<Rate>,
    lines: Arc<Lines>,
    begun: Instant,
}

impl<S: Subscriber> Layer<S> for Sink {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if self.rate.pass(event.metadata(), nanoseconds(self.begun)) {
            let trace = otel::current().map(|trace| trace.to_string());
            self.lines.add(self.style.event(event, trace.as_deref()));
        } else {
            // Relaxed: a number for people.
            SUPPRESSED.fetch_add(1, Relaxed);
        }
    }
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Logs a panic, whatever is wanted: where it was, and what it says if that is fixed in the code. What was put together may repeat
/// a request.
fn panicked(panic: &PanicHookInfo<'_>) {
    let Some(log) = log() else {
        return;
    };
    let thread = thread::current();
    let at = panic.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let captured = backtrace.status() == BacktraceStatus::Captured;
    let backtrace = captured.then(|| backtrace.to_string());
    let mut fields = vec![
        ("thread", Value::Text(thread.name().unwrap_or_default())),
        ("at", Value::Text(at.as_deref().unwrap_or_default())),
        ("said", Value::Text(fixed_words(panic.payload()))),
    ];
    fields.extend(
        backtrace
            .as_deref()
            .map(|it| ("backtrace", Value::Text(it))),
    );
    let place = (Level::ERROR, module_path!());
    let line = log.style.note(place, "a thread has panicked", &fields);
    log.lines.add(line);
    // The process may end without another word. Bounded, and nobody waits for a thread that has panicked.
    log.lines.flush();
}

/// What a panic says, if it says the same whatever was worked on.
fn fixed_words(payload: &dyn Any) -> &'static str {
    let words = payload.downcast_ref::<&'static str>();
    words.copied().unwrap_or("(not shown)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;

    #[test]
    fn a_panic_that_quotes_what_it_worked_on_is_not_repeated() {
        let said = |panics: fn()| fixed_words(&*catch_unwind(panics).unwrap_err());
        assert_eq!(said(|| panic!("out of numbers")), "out of numbers");
        let quoting = || {
            let (text, end) = (String::from("\u{e9} is a prompt"), std::hint::black_box(1));
            drop(text[..end].to_owned());
        };
        assert_eq!(said(quoting), "(not shown)");
    }
}
