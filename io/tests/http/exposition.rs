//! Strict readers of both text formats of metrics, which share nothing with the writer.
use crate::fixture::Fixture;
use std::collections::{BTreeMap, BTreeSet};

/// A series: its name, and its labels in order of their names.
pub(crate) type Series = (String, BTreeMap<String, String>);

/// Which format is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Open,
    Classic,
}

/// All that an exposition says.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    pub(crate) samples: BTreeMap<Series, f64>,
    /// Labels and value of the exemplar of a bucket.
    pub(crate) exemplars: BTreeMap<Series, (BTreeMap<String, String>, f64)>,
}

impl Exposition {
    /// Reads a whole exposition, and panics at the first thing that the format does not allow.
    pub(crate) fn read(text: &str, read: Read) -> Self {
        let body = match read {
            Read::Open => text.strip_suffix("# EOF\n").expect("the end is marked"),
            Read::Classic => text,
        };
        assert!(!body.contains("# EOF"), "once, or never");
        assert!(body.ends_with('\n'), "each line ends");
        let mut found = Self::default();
        let mut families = BTreeSet::new();
        let mut family = (String::new(), String::new());
        for line in body.lines() {
            match line.strip_prefix("# ") {
                Some(rest) => head(rest, &mut family, &mut families, read),
                None => found.sample(line, &family, read),
            }
        }
        found.check_histograms();
        found
    }

    /// The value of a series, if there is one.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.samples.get(&series(name, labels)).copied()
    }

    /// The sum of all series of this name.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        let of = self.samples.iter().filter(|((n, _), _)| n == name);
        of.map(|(_, value)| value).sum()
    }

    fn sample(&mut self, line: &str, family: &(String, String), read: Read) {
        let (plain, exemplar) = match line.split_once(" # {") {
            Some((plain, exemplar)) => (plain, Some(exemplar)),
            None => (line, None),
        };
        let (series, value) = sample(plain);
        let (name, kind) = family;
        let allowed = match kind.as_str() {
            "counter" if read == Read::Open => vec![format!("{name}_total")],
            "histogram" => ["_bucket", "_sum", "_count"]
                .map(|end| format!("{name}{end}"))
                .into(),
            _ => vec![name.clone()],
        };
        assert!(allowed.contains(&series.0), "outside of its family: {line}");
        assert!(kind == "gauge" || value >= 0.0, "{line}");
        if let Some(exemplar) = exemplar {
            assert_eq!(read, Read::Open, "{line}");
            assert!(series.0.ends_with("_bucket"), "{line}");
            let ((_, labels), value) = sample(&format!("x{{{exemplar}"));
            let runes: usize = labels
                .iter()
                .map(|(n, v)| n.len() + v.chars().count())
                .sum();
            assert!(runes <= 128, "{line}");
            let bound = bound(&series.1["le"]);
            assert!(value <= bound, "not of its bucket: {line}");
            self.exemplars.insert(series.clone(), (labels, value));
        }
        assert!(
            self.samples.insert(series, value).is_none(),
            "twice: {line}"
        );
    }

    /// Buckets grow, the last one has all, and there are a count and a sum.
    fn check_histograms(&self) {
        let mut buckets = BTreeMap::<Series, Vec<(f64, f64)>>::new();
        for ((name, labels), &value) in &self.samples {
            if let Some(name) = name.strip_suffix("_bucket") {
                let mut labels = labels.clone();
                let le = labels.remove("le").expect("a bucket has a bound");
                let of = buckets.entry((name.to_owned(), labels)).or_default();
                of.push((bound(&le), value));
            }
        }
        for ((name, labels), mut of) in buckets {
            of.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(of.windows(2).all(|two| two[0].0 < two[1].0), "{name}");
            assert!(of.windows(2).all(|two| two[0].1 <= two[1].1), "{name}");
            let last = of.last().expect("a bucket");
            assert!(last.0.is_infinite(), "{name}");
            let of = |end: &str| self.samples.get(&(format!("{name}{end}"), labels.clone()));
            assert_eq!(of("_count"), Some(&last.1), "{name}");
            assert!(of("_sum").is_some_and(|sum| *sum >= 0.0), "{name}");
        }
    }
}

fn bound(le: &str) -> f64 {
    match le {
        "+Inf" => f64::INFINITY,
        le => le.parse().unwrap_or_else(|e| panic!("{e}: {le}")),
    }
}

/// Reads what stands before the samples of a family.
fn head(rest: &str, family: &mut (String, String), families: &mut BTreeSet<String>, read: Read) {
    let mut words = rest.splitn(3, ' ');
    let mut word = || words.next().unwrap_or_else(|| panic!("{rest}")).to_owned();
    let (keyword, name, value) = (word(), word(), word());
    assert!(is_name(&name), "{rest}");
    match keyword.as_str() {
        "HELP" => {
            assert!(
                families.insert(name.clone()),
                "a family in two pieces: {rest}"
            );
            assert!(!value.is_empty(), "{rest}");
            *family = (name, String::new());
        }
        "TYPE" => {
            assert!(
                ["gauge", "counter", "histogram"].contains(&value.as_str()),
                "{rest}"
            );
            assert_eq!(name, family.0, "{rest}");
            let total = name.ends_with("_total");
            assert_eq!(total, read == Read::Classic && value == "counter", "{rest}");
            family.1 = value;
        }
        "UNIT" => {
            assert_eq!((&name, read), (&family.0, Read::Open), "{rest}");
            assert!(name.ends_with(&format!("_{value}")), "{rest}");
        }
        _ => panic!("{rest}"),
    }
}

fn is_name(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(word) && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn sample(line: &str) -> (Series, f64) {
    let mut rest = line;
    let end = rest.find(['{', ' ']).unwrap_or_else(|| panic!("{line}"));
    let name = &rest[..end];
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    rest = &rest[end..];
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, quoted) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(is_name(label), "{line}");
            let (value, after) = unquote(quoted, line);
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            if let Some(after) = after.strip_prefix('}') {
                rest = after;
                break;
            }
            rest = after.strip_prefix(',').unwrap_or_else(|| panic!("{line}"));
        }
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("{line}"));
    let value: f64 = value.parse().unwrap_or_else(|e| panic!("{e}: {line}"));
    ((name.to_owned(), labels), value)
}

/// A label's value and what follows its closing quote.
fn unquote<'l>(quoted: &'l str, line: &str) -> (String, &'l str) {
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, c @ ('"' | '\\'))) => c,
                _ => panic!("an escape that is none: {line}"),
            }),
            c => value.push(c),
        }
    }
    panic!("a value without end: {line}")
}

pub(crate) fn series(name: &str, labels: &[(&str, &str)]) -> Series {
    let labels = labels.iter().map(|&(n, v)| (n.to_owned(), v.to_owned()));
    (name.to_owned(), labels.collect())
}

/// What a node says in this format, as text and read.
pub(crate) fn scrape(client: &mut crate::client::Client, read: Read) -> (String, Exposition) {
    let (accept, media) = match read {
        Read::Open => (
            "accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        Read::Classic => ("", "text/plain; version=0.0.4; charset=utf-8"),
    };
    let response = client.request("GET", "/metrics", accept, b"");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some(media));
    let text = String::from_utf8(response.body).unwrap();
    let found = Exposition::read(&text, read);
    (text, found)
}

/// The same in OpenMetrics, of a fixture. Prometheus' own format has the same samples.
pub(crate) fn scrape_both(fixture: &Fixture) -> (String, BTreeMap<Series, f64>) {
    let (_, open) = scrape(&mut fixture.client(), Read::Open);
    let (text, classic) = scrape(&mut fixture.client(), Read::Classic);
    let names = |of: &Exposition| of.samples.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&open), names(&classic));
    (text, open.samples)
}
