//! Who a span is, and whose child: W3C's `traceparent` and `tracestate`, read and written; pure.
use crate::limits::TRACE_STATE_BYTES_MAX;
use std::fmt;

/// The name of a trace; not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(pub(super) [u8; 16]);

/// The name of a span; not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId(pub(super) [u8; 8]);

impl TraceId {
    pub(super) fn random() -> Self {
        Self(u128::max(fastrand::u128(..), 1).to_le_bytes())
    }
}

impl SpanId {
    pub(super) fn random() -> Self {
        Self(u64::max(fastrand::u64(..), 1).to_le_bytes())
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The trace.
    pub trace: TraceId,
    /// The span that is the parent of what is done now.
    pub span: SpanId,
    /// Whether it is recorded.
    pub sampled: bool,
}

impl Parent {
    /// Reads the header; nothing if it is not as W3C says, and then it is as if it were not there.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let [version] = hex(text.get(..2)?)?;
        let (ids, rest) = text.get(2..)?.split_at_checked(53)?;
        let known = match version {
            0 => rest.is_empty(),
            // Later versions may say more.
            1..=254 => rest.first().is_none_or(|&byte| byte == b'-'),
            255 => false,
        };
        let dashes = [0, 33, 50].iter().all(|&at| ids[at] == b'-');
        let (trace, span): ([u8; 16], [u8; 8]) = (hex(&ids[1..33])?, hex(&ids[34..50])?);
        let [flags] = hex(&ids[51..])?;
        let named = trace != [0; 16] && span != [0; 8];
        (known && dashes && named).then_some(Self {
            trace: TraceId(trace),
            span: SpanId(span),
            sampled: flags & 1 == 1,
        })
    }
}

/// As the header has it.
impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{}-{}-{flags:02x}", self.trace, self.span)
    }
}

/// What somebody is told of the trace who does part of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    pub(super) parent: Parent,
    pub(super) state: Option<Box<str>>,
}

impl Passed {
    /// The header `traceparent`.
    #[must_use]
    pub fn traceparent(&self) -> String {
        self.parent.to_string()
    }

    /// The header `tracestate`, as it came.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

/// The values of `tracestate` as one; nothing if there are none, or others than it may have.
#[must_use]
pub fn trace_state<'v>(values: impl Iterator<Item = &'v [u8]>) -> Option<Box<str>> {
    let mut state = String::new();
    for value in values {
        let text = str::from_utf8(value).ok()?.trim();
        let clean = text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
        if !clean || state.len() + 1 + text.len() > TRACE_STATE_BYTES_MAX {
            return None;
        }
        if !state.is_empty() && !text.is_empty() {
            state.push(',');
        }
        state.push_str(text);
    }
    (!state.is_empty()).then(|| state.into())
}

/// Bytes of so many digits, which are small letters.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn what_is_read_is_written() {
        for flags in ["00", "01"] {
            let text = format!("00-{TRACE}-{SPAN}-{flags}");
            let parent = Parent::parse(text.as_bytes()).unwrap();
            assert_eq!(parent.trace.to_string(), TRACE);
            assert_eq!(parent.span.to_string(), SPAN);
            assert_eq!((parent.sampled, parent.to_string()), (flags == "01", text));
        }
    }

    #[test]
    fn other_flags_and_later_versions_are_read() {
        for (text, sampled) in [
            (format!("00-{TRACE}-{SPAN}-03"), true),
            (format!("00-{TRACE}-{SPAN}-fe"), false),
            (format!("01-{TRACE}-{SPAN}-01"), true),
            (
                format!("cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like"),
                true,
            ),
        ] {
            let parent = Parent::parse(text.as_bytes());
            assert_eq!(parent.map(|parent| parent.sampled), Some(sampled), "{text}");
        }
    }

    #[test]
    fn garbage_is_nothing() {
        let zeros = "0".repeat(32);
        for text in [
            String::new(),
            "00".to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-0"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("cc-{TRACE}-{SPAN}-01.more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-01-"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", &zeros[..16]),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{SPAN}-0x"),
            format!("00_{TRACE}_{SPAN}_01"),
            format!("00-{TRACE}-{}é-01", &SPAN[2..]),
        ] {
            assert_eq!(Parent::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn states_are_joined_and_bad_ones_left_out() {
        let state = |values: &[&str]| trace_state(values.iter().map(|value| value.as_bytes()));
        assert_eq!(state(&["a=1", " b=2 "]).as_deref(), Some("a=1,b=2"));
        assert_eq!(state(&["", "b=2"]).as_deref(), Some("b=2"));
        let long = "x".repeat(TRACE_STATE_BYTES_MAX);
        for none in [&[][..], &[""], &["a=\u{7f}"], &["a=é"], &["a=1", &long]] {
            assert_eq!(state(none), None, "{none:?}");
        }
    }
}
