//! Lines on their way to whoever reads the log: nobody who logs waits for the reader, and what there is no room for is counted.
use super::line::{Style, Value};
use super::rate::Rate;
use crate::limits::{LOG_FLUSH_TIME_MAX, LOG_LOOK_PAUSE, LOG_QUEUE_BYTES_MAX, LOG_QUEUE_MAX};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Instant;
use tracing::Level;

/// What the thread is handed.
enum Item {
    Line(String),
    /// Whoever waits until all before it is written.
    Flush(Sender<()>),
}

/// What is counted. All orderings are relaxed: numbers for people, and one that bounds itself.
#[derive(Debug, Default)]
struct Counts {
    /// Bytes that wait.
    waiting: AtomicUsize,
    /// Lines that nobody was told of yet.
    lost: AtomicU64,
    /// Lines that were lost in all.
    lost_ever: AtomicU64,
}

/// The way to the thread that writes.
#[derive(Debug)]
pub(super) struct Lines {
    items: Sender<Item>,
    counts: Arc<Counts>,
}

impl Lines {
    /// Starts the thread, `kvroute-log`. It looks now and then what `rate` has left out.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(
        to: Box<dyn Write + Send>,
        style: Style,
        rate: &Arc<Rate>,
        begun: Instant,
    ) -> io::Result<Self> {
        let (items, incoming) = bounded(LOG_QUEUE_MAX);
        let counts = Arc::<Counts>::default();
        let writer = Writer {
            to,
            style,
            rate: Arc::clone(rate),
            counts: Arc::clone(&counts),
            begun,
            looked: begun,
        };
        let thread = thread::Builder::new().name("kvroute-log".to_owned());
        thread.spawn(move || writer.run(&incoming))?;
        Ok(Self { items, counts })
    }

    /// Takes a line if there is room for it. Never waits.
    pub(super) fn add(&self, line: String) {
        let bytes = line.len();
        let waiting = self.counts.waiting.fetch_add(bytes, Relaxed) + bytes;
        let fits = waiting <= LOG_QUEUE_BYTES_MAX;
        if !fits || self.items.try_send(Item::Line(line)).is_err() {
            self.counts.waiting.fetch_sub(bytes, Relaxed);
            self.counts.lost.fetch_add(1, Relaxed);
            self.counts.lost_ever.fetch_add(1, Relaxed);
        }
    }

    /// Lines that were lost.
    pub(super) fn lost(&self) -> u64 {
        self.counts.lost_ever.load(Relaxed)
    }

    /// Waits until all is written that came before, for a bounded time.
    pub(super) fn flush(&self) {
        let until = Instant::now() + LOG_FLUSH_TIME_MAX;
        let (done, written) = bounded(1);
        if self.items.send_deadline(Item::Flush(done), until).is_ok() {
            let _ = written.recv_deadline(until);
        }
    }
}

struct Writer {
    to: Box<dyn Write + Send>,
    style: Style,
    rate: Arc<Rate>,
    counts: Arc<Counts>,
    begun: Instant,
    looked: Instant,
}

impl Writer {
    fn run(mut self, items: &Receiver<Item>) {
        loop {
            match items.recv_timeout(LOG_LOOK_PAUSE) {
                Ok(Item::Line(line)) => {
                    self.counts.waiting.fetch_sub(line.len(), Relaxed);
                    self.write(&line);
                }
                Ok(Item::Flush(done)) => {
                    self.look(true);
                    let _ = self.to.flush();
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.looked.elapsed() >= LOG_LOOK_PAUSE {
                self.look(false);
            }
        }
    }

    /// Tells what was left out or lost.
    fn look(&mut self, all: bool) {
        self.looked = Instant::now();
        let rate = Arc::clone(&self.rate);
        for it in rate.left_out(super::nanoseconds(self.begun), all) {
            let message = format!("{} lines like this left out", grouped(it.lines));
            let at = format!(
                "{}:{}",
                it.of.file().unwrap_or_default(),
                it.of.line().unwrap_or_default()
            );
            let fields = [
                ("left_out", Value::Plain(&it.lines)),
                ("at", Value::Text(&at)),
            ];
            let line = self
                .style
                .note((Level::WARN, it.of.target()), &message, &fields);
            self.write(&line);
        }
        let lost = self.counts.lost.swap(0, Relaxed);
        if lost != 0 {
            let message = format!(
                "{} lines lost: the log was not read fast enough",
                grouped(lost)
            );
            let fields = [("lost", Value::Plain(&lost))];
            let line = self
                .style
                .note((Level::WARN, module_path!()), &message, &fields);
            self.write(&line);
        }
    }

    /// A line that cannot be written is lost.
    fn write(&mut self, line: &str) {
        if self.to.write_all(line.as_bytes()).is_err() {
            self.counts.lost.fetch_add(1, Relaxed);
            self.counts.lost_ever.fetch_add(1, Relaxed);
        }
    }
}

/// A number with commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.char_indices() {
        if at != 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::LogFormat;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn numbers_by_hand() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }

    /// A reader that takes nothing until it is told to.
    struct Stuck {
        go_on: mpsc::Receiver<()>,
        written: mpsc::Sender<String>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Once let go, it takes everything.
            let _ = self.go_on.recv();
            let _ = self
                .written
                .send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stops_is_not_waited_for_and_what_it_missed_is_counted_and_told() {
        let style = Style {
            format: LogFormat::Text,
            ansi: false,
        };
        let (go_on, stopped) = mpsc::channel();
        let (written, log) = mpsc::channel();
        let stuck = Stuck {
            go_on: stopped,
            written,
        };
        let rate = Arc::new(Rate::new(1));
        let lines = Lines::start(Box::new(stuck), style, &rate, Instant::now()).unwrap();
        let line = "x".repeat(1_023) + "\n";
        let room = LOG_QUEUE_BYTES_MAX / line.len();
        (0..room + 100).for_each(|_| lines.add(line.clone()));
        // One may be on its way, for which there is room again.
        let lost = lines.lost();
        assert!((99..=100).contains(&lost), "{lost}");
        // Nor is it waited for at the end.
        lines.flush();
        drop(go_on);
        let patience = Duration::from_secs(60);
        for _ in 0..room + 100 - usize::try_from(lost).unwrap() {
            assert_eq!(log.recv_timeout(patience).unwrap(), line);
        }
        let told = log.recv_timeout(patience).unwrap();
        let expected =
            format!(" {lost} lines lost: the log was not read fast enough lost={lost}\n");
        assert!(told.ends_with(&expected), "{told}");
        assert_eq!(lines.lost(), lost);
    }
}
