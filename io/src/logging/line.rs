//! An event as one line, text or JSON: whatever its values are, it stays one, and it is not longer than it may be.
use super::LogFormat;
use crate::limits::{LOG_LINE_BYTES_MAX, LOG_VALUE_BYTES_MAX};
use std::fmt::{self, Debug, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// How lines are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) format: LogFormat,
    /// Whether levels are coloured, in text.
    pub(super) ansi: bool,
}

impl Style {
    /// An event, with the trace that it belongs to.
    pub(super) fn event(self, event: &Event<'_>, trace: Option<&str>) -> String {
        let metadata = event.metadata();
        let mut line = Line::new(self, *metadata.level(), metadata.target());
        event.record(&mut line);
        line.end(trace)
    }

    /// A line that is no event's: about the log itself, or of a panic.
    pub(super) fn note(
        self,
        (level, target): (Level, &str),
        message: &str,
        fields: &[(&str, Value<'_>)],
    ) -> String {
        let mut line = Line::new(self, level, target);
        line.add("message", Value::Text(message));
        for (name, value) in fields {
            line.add(name, *value);
        }
        line.end(None)
    }
}

/// What a field has.
#[derive(Clone, Copy)]
pub(super) enum Value<'v> {
    /// As it is in both formats.
    Plain(&'v dyn fmt::Display),
    Text(&'v str),
    Other(&'v dyn Debug),
}

/// Names that a line has itself.
const OWN: [&str; 5] = ["timestamp", "level", "target", "message", "trace_id"];

struct Line {
    style: Style,
    head: String,
    message: String,
    fields: String,
    /// Bytes of values that there still is room for.
    room: usize,
}

impl Line {
    fn new(style: Style, level: Level, target: &str) -> Self {
        let (mut head, now) = (String::with_capacity(256), now());
        // Writing into a string does not fail.
        let _ = match style.format {
            LogFormat::Json => write!(
                head,
                "{{\"timestamp\":\"{now}\",\"level\":\"{level}\",\"target\":{}",
                json(target)
            ),
            LogFormat::Text => match colour(level).filter(|_| style.ansi) {
                Some(colour) => write!(head, "{now} \x1b[{colour}m{level:>5}\x1b[0m {target}:"),
                None => write!(head, "{now} {level:>5} {target}:"),
            },
        };
        Self {
            style,
            head,
            message: String::new(),
            fields: String::new(),
            room: LOG_LINE_BYTES_MAX,
        }
    }

    fn add(&mut self, name: &str, value: Value<'_>) {
        let most = self.room.min(LOG_VALUE_BYTES_MAX);
        let is_message = name == "message";
        let text = match (value, self.style.format) {
            (Value::Plain(value), _) => bounded(format_args!("{value}"), most),
            (Value::Text(text), LogFormat::Json) => bounded(format_args!("{text}"), most),
            (Value::Text(text), LogFormat::Text) if is_message => {
                bounded(format_args!("{text}"), most)
            }
            (Value::Text(text), LogFormat::Text) => bounded(format_args!("{text:?}"), most),
            (Value::Other(value), _) => bounded(format_args!("{value:?}"), most),
        };
        self.room -= text.len().min(self.room);
        if is_message {
            self.message = text;
            return;
        }
        // Raw identifiers are written with their prefix by no one.
        let name = name.strip_prefix("r#").unwrap_or(name);
        let own = if OWN.contains(&name) { "_" } else { "" };
        let _ = match (self.style.format, value) {
            (LogFormat::Json, Value::Plain(_)) => {
                write!(self.fields, ",{}:{text}", json(&format!("{name}{own}")))
            }
            (LogFormat::Json, _) => {
                let name = json(&format!("{name}{own}"));
                write!(self.fields, ",{name}:{}", json(&text))
            }
            (LogFormat::Text, _) => write!(self.fields, " {name}={}", Escaped(&text)),
        };
    }

    fn end(self, trace: Option<&str>) -> String {
        let (mut line, message) = (self.head, self.message);
        let _ = match self.style.format {
            LogFormat::Json => write!(line, ",\"message\":{}{}", json(&message), self.fields),
            LogFormat::Text if message.is_empty() => write!(line, "{}", self.fields),
            LogFormat::Text => write!(line, " {}{}", Escaped(&message), self.fields),
        };
        let _ = match (self.style.format, trace) {
            (LogFormat::Json, Some(trace)) => write!(line, ",\"trace_id\":\"{trace}\"}}"),
            (LogFormat::Json, None) => write!(line, "}}"),
            (LogFormat::Text, Some(trace)) => write!(line, " trace_id={trace}"),
            (LogFormat::Text, None) => Ok(()),
        };
        line.push('\n');
        line
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field.name(), Value::Other(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), Value::Text(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match value.is_finite() {
            true => self.add(field.name(), Value::Plain(&value)),
            false => self.add(field.name(), Value::Other(&value)),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), Value::Plain(&value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), Value::Plain(&value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), Value::Plain(&value));
    }
}

/// The time in UTC, to the millisecond, as RFC 3339 has it.
fn now() -> String {
    let mut text = String::with_capacity(32);
    let told = SystemTime.format_time(&mut Writer::new(&mut text));
    // It says microseconds.
    match (told, text.find('.')) {
        (Ok(()), Some(dot)) if text.is_char_boundary(dot + 4) => {
            text.truncate(dot + 4);
            text.push('Z');
            text
        }
        _ => text,
    }
}

const fn colour(level: Level) -> Option<u8> {
    match level {
        Level::ERROR => Some(31),
        Level::WARN => Some(33),
        Level::INFO => Some(32),
        _ => None,
    }
}

/// A text as JSON has it, in quotes.
fn json(text: &str) -> String {
    // A text has a form in JSON.
    let json = serde_json::to_string(text).unwrap_or_default();
    // JSON leaves some as they are that end a line for others.
    match json.contains(breaks) {
        false => json,
        true => json
            .chars()
            .fold(String::with_capacity(json.len() * 2), |mut json, c| {
                let _ = match breaks(c) {
                    true => write!(json, "\\u{:04x}", u32::from(c)),
                    false => json.write_char(c),
                };
                json
            }),
    }
}

/// A value's text, cut where it is too long.
fn bounded(value: fmt::Arguments<'_>, most: usize) -> String {
    struct Room {
        text: String,
        most: usize,
    }
    impl Write for Room {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = self.most - self.text.len();
            if text.len() <= room {
                self.text.push_str(text);
                return Ok(());
            }
            self.text.push_str(&text[..text.floor_char_boundary(room)]);
            // What is left of it is not made.
            Err(fmt::Error)
        }
    }
    let text = String::new();
    let mut room = Room { text, most };
    if room.write_fmt(value).is_err() {
        room.text.push('…');
    }
    room.text
}

/// What ends a line or moves a terminal's cursor. All of it is of two bytes in UTF-16.
fn breaks(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// A text without what ends a line or moves a terminal's cursor.
struct Escaped<'t>(&'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(breaks) {
            f.write_str(&rest[..at])?;
            let mut chars = rest[at..].chars();
            if let Some(c) = chars.next() {
                write!(f, "{}", c.escape_default())?;
            }
            rest = chars.as_str();
        }
        f.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value as Json;
    use std::sync::{Arc, Mutex};
    use tracing::Subscriber;
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    struct Collect(Style, Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Collect {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let line = self
                .0
                .event(event, Some("0af7651916cd43dd8448eb211c80319c"));
            self.1.lock().unwrap().push(line);
        }
    }

    fn lines(format: LogFormat, log: impl FnOnce()) -> Vec<String> {
        let style = Style {
            format,
            ansi: false,
        };
        let lines = Arc::default();
        let collect = Collect(style, Arc::clone(&lines));
        let subscriber = tracing_subscriber::registry().with(collect);
        tracing::subscriber::with_default(subscriber, log);
        std::mem::take(&mut *lines.lock().unwrap())
    }

    const EVIL: &str = "a\n2026-01-01T00:00:00.000Z ERROR kvroute: no\r\x1b[2J\u{85}\u{2028}b";

    fn evil() {
        let target = "where";
        tracing::warn!(pod = EVIL, peer = %EVIL, seen = ?EVIL, target, n = 3_u64, below = -4_i64, half = 0.5, none = f64::NAN, yes = true, "it is {EVIL}");
    }

    #[test]
    fn values_from_outside_do_not_break_lines() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let lines = lines(format, evil);
            let [line] = &lines[..] else {
                panic!("one line: {lines:?}")
            };
            let line = line.strip_suffix('\n').unwrap();
            let breaks = |c: char| c.is_control() || c == '\u{2028}';
            assert!(!line.contains(breaks), "{line:?}");
        }
    }

    #[test]
    fn text_has_time_level_target_message_and_fields() {
        let lines = lines(LogFormat::Text, || {
            tracing::info!(worker = "a#0", more = 2_u64, why = %"x y", "a socket failed");
        });
        let (time, rest) = lines[0].split_once(' ').unwrap();
        // 2026-11-23T15:43:17.123Z
        assert_eq!((time.len(), &time[19..20], &time[23..]), (24, ".", "Z"));
        let expected = " INFO kvroute::logging::line::tests: a socket failed worker=\"a#0\" more=2 why=x y trace_id=0af7651916cd43dd8448eb211c80319c\n";
        assert_eq!(rest, expected);
    }

    #[test]
    fn json_is_flat_and_has_types() {
        let lines = lines(LogFormat::Json, evil);
        let line: Json = serde_json::from_str(&lines[0]).unwrap();
        let said = |name: &str| line[name].clone();
        assert_eq!(said("timestamp").as_str().unwrap().len(), 24);
        assert_eq!(said("level"), "WARN");
        assert_eq!(said("target"), "kvroute::logging::line::tests");
        assert_eq!(said("target_"), "where");
        assert_eq!(said("message"), format!("it is {EVIL}"));
        assert_eq!((said("pod"), said("peer")), (EVIL.into(), EVIL.into()));
        assert_eq!(said("seen"), format!("{EVIL:?}"));
        assert_eq!((said("n"), said("below")), (3.into(), (-4).into()));
        assert_eq!((said("half"), said("none")), (0.5.into(), "NaN".into()));
        assert_eq!(said("yes"), true);
        assert_eq!(said("trace_id"), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(line.as_object().unwrap().len(), 14);
    }

    #[test]
    fn long_values_are_cut_and_so_are_long_lines() {
        let long = "é".repeat(LOG_LINE_BYTES_MAX);
        let log = || tracing::info!(a = %long, b = %long, c = %long, d = %long, e = %long, "m");
        let lines = lines(LogFormat::Json, log);
        let line: Json = serde_json::from_str(&lines[0]).unwrap();
        let length = |name: &str| line[name].as_str().unwrap().chars().count();
        // Two bytes each, and the mark; the message and the first three leave room for less than a value, then for none.
        assert_eq!(length("a"), LOG_VALUE_BYTES_MAX / 2 + 1);
        assert_eq!(length("e"), 1);
        assert!(lines[0].len() < LOG_LINE_BYTES_MAX + 512);
    }
}
