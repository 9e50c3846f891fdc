//! What is logged: a level, or levels by module; pure.
use crate::limits::LOG_FILTER_BYTES_MAX;
use std::fmt;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, LevelFilter};

/// Why a filter cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadFilter {
    /// Too long.
    Long,
    /// The part that is wrong.
    Part(String),
}

impl fmt::Display for BadFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Long => write!(f, "longer than {LOG_FILTER_BYTES_MAX} bytes"),
            Self::Part(part) => write!(f, "{part:?}; {POSSIBLE}"),
        }
    }
}

/// What a part may be.
pub const POSSIBLE: &str = "error, warn, info, debug, trace, off, or MODULE=LEVEL,... are possible";

/// Reads a filter; the error names the first part that is wrong. A word that is no level is refused: it would be a module all
/// of whose lines are wanted, and nobody else's.
pub fn parse(text: &str) -> Result<EnvFilter, BadFilter> {
    if text.len() > LOG_FILTER_BYTES_MAX {
        return Err(BadFilter::Long);
    }
    let parts = text.split(',').filter(|part| !part.is_empty());
    for part in parts {
        let good = match part.contains(['=', '[']) {
            true => part.parse::<Directive>().is_ok(),
            false => part.parse::<LevelFilter>().is_ok(),
        };
        if !good {
            return Err(BadFilter::Part(part.to_owned()));
        }
    }
    // kube's client writes a line, whole answers too, for each failure; those are told of by who asks it.
    let all = format!("kube_client=off,{text}");
    // What is compared with values of spans is not an expression: it comes over HTTP, too.
    let read = EnvFilter::builder().with_regex(false).parse(all);
    read.map_err(|_| BadFilter::Part(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_that_is_wrong_is_named() {
        for good in [
            "",
            "info",
            "WARN",
            "off",
            "info,kvroute::stream=debug",
            "kvroute=trace,hyper=off,",
            "[span]=debug",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for (bad, part) in [
            ("loud", "loud"),
            ("info,kvroute=loud,warn", "kvroute=loud"),
            ("kvroute", "kvroute"),
            ("info, debug=", " debug="),
            ("in\nfo", "in\nfo"),
        ] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error, BadFilter::Part(part.to_owned()), "{bad}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
        let long = "x".repeat(LOG_FILTER_BYTES_MAX + 1);
        assert_eq!(parse(&long).unwrap_err(), BadFilter::Long);
    }
}
