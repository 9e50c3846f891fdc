//! The two text formats: what the library writes is OpenMetrics; Prometheus' own format is made of it line by line.
//!
//! They differ in the names of counters' families, in units, in the end mark and in exemplars, which only OpenMetrics has.
use std::fmt::{Result, Write};

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format, version 0.0.4.
    Classic,
    /// OpenMetrics, version 1.0.0, with exemplars.
    Open,
}

impl Format {
    /// The one that the values of an `Accept` header prefer. OpenMetrics only if it is named, and not less wanted than
    /// plain text.
    #[must_use]
    pub fn wanted<'v>(accept: impl Iterator<Item = &'v str>) -> Self {
        let (mut open, mut plain) = (0, 0);
        for item in accept.flat_map(|value| value.split(',')) {
            let mut parts = item.split(';').map(str::trim);
            let wanted = match parts.next() {
                Some(name) if name.eq_ignore_ascii_case("application/openmetrics-text") => {
                    &mut open
                }
                Some(name) if name.eq_ignore_ascii_case("text/plain") => &mut plain,
                _ => continue,
            };
            let quality = parts.find_map(|part| part.strip_prefix("q="));
            *wanted = (*wanted).max(quality.map_or(1_000, thousandths));
        }
        match open > 0 && open >= plain {
            true => Self::Open,
            false => Self::Classic,
        }
    }
}

/// A quality; nothing if it is not one.
fn thousandths(quality: &str) -> u32 {
    let quality: f64 = quality.parse().unwrap_or(0.0);
    // Saturating: NaN is 0.
    (quality.clamp(0.0, 1.0) * 1_000.0) as u32
}

/// Makes Prometheus' format of OpenMetrics without exemplars.
pub(super) fn classic(open: &str) -> std::result::Result<String, std::fmt::Error> {
    let mut text = String::with_capacity(open.len() + open.len() / 32);
    let mut help = None;
    for line in open.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next()) {
            (Some("#"), Some("HELP")) => help = Some((words.next(), words.next())),
            (Some("#"), Some("TYPE")) => {
                let family = words.next().unwrap_or_default();
                head(
                    &mut text,
                    family,
                    words.next().unwrap_or_default(),
                    help.take(),
                )?;
            }
            (Some("#"), _) => {}
            _ => writeln!(text, "{line}")?,
        }
    }
    Ok(text)
}

type Help<'h> = Option<(Option<&'h str>, Option<&'h str>)>;

fn head(text: &mut String, family: &str, kind: &str, help: Help<'_>) -> Result {
    let suffix = if kind == "counter" { "_total" } else { "" };
    if let Some((Some(of), Some(help))) = help
        && of == family
    {
        writeln!(text, "# HELP {family}{suffix} {help}")?;
    }
    writeln!(text, "# TYPE {family}{suffix} {kind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_are_for_those_who_ask_for_them() {
        let wanted = |values: &[&'static str]| Format::wanted(values.iter().copied());
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for open in [
            &[prometheus][..],
            &["application/openmetrics-text"],
            &["text/plain", "Application/OpenMetrics-Text; version=1.0.0"],
        ] {
            assert_eq!(wanted(open), Format::Open, "{open:?}");
        }
        for classic in [
            &[][..],
            &["*/*"],
            &["text/plain"],
            &["text/html, */*;q=0.8"],
            &["text/plain, application/openmetrics-text;q=0.5"],
            &["application/openmetrics-text;q=0"],
            &["application/openmetrics-text;q=x"],
        ] {
            assert_eq!(wanted(classic), Format::Classic, "{classic:?}");
        }
    }

    #[test]
    fn counters_are_named_in_full_and_units_are_not_said() {
        let open = "# HELP a_seconds Time, and more.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
            a_seconds_total{x=\"# HELP\"} 1\n# HELP b B.\n# TYPE b gauge\nb 2\n# EOF\n";
        let expected = "# HELP a_seconds_total Time, and more.\n# TYPE a_seconds_total counter\n\
            a_seconds_total{x=\"# HELP\"} 1\n# HELP b B.\n# TYPE b gauge\nb 2\n";
        assert_eq!(classic(open).expect("a string takes it"), expected);
    }
}
