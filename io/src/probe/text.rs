//! What the probe reads from an engine's `/metrics`: the few series it knows, from any text; pure.
use crate::limits::RANKS_MAX;
use std::collections::BTreeMap;

/// What an engine tells of itself. Series that it does not have are unknown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineMetrics {
    /// When its process began, in seconds since 1970.
    pub start_time: Option<f64>,
    /// By the label `engine`, which is the data-parallel rank; `None` for series without.
    pub ranks: BTreeMap<Option<u32>, RankMetrics>,
    /// Lines that look like a sample, known or not: none in what is no text of metrics.
    pub samples: usize,
}

/// What one rank tells, summed over all labels but the rank.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RankMetrics {
    /// Prompt tokens that were looked up in the prefix cache.
    pub queries: Option<f64>,
    /// Prompt tokens that were found there.
    pub hits: Option<f64>,
    /// Requests that have ended, for whatever reason.
    pub ended: Option<f64>,
    /// Requests that run.
    pub running: Option<f64>,
    /// Requests that wait.
    pub waiting: Option<f64>,
    /// Tokens per block, as configured.
    pub block_size: Option<u32>,
}

/// Reads a text; lines that are not understood are passed over. O(bytes); allocates for ranks only.
#[must_use]
pub fn parse(text: &[u8]) -> EngineMetrics {
    let mut metrics = EngineMetrics::default();
    for line in text.split(|&byte| byte == b'\n') {
        if let Ok(line) = std::str::from_utf8(line) {
            metrics.read(line.trim_ascii());
        }
    }
    metrics
}

impl EngineMetrics {
    fn read(&mut self, line: &str) {
        let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let Some(end) = line.find(|c| !of_name(c)) else {
            return;
        };
        let (name, rest) = line.split_at(end);
        let begins = name.starts_with(|c: char| !c.is_ascii_digit());
        if !begins || !rest.starts_with(['{', ' ', '\t']) {
            return;
        }
        self.samples += 1;
        let field: fn(&mut RankMetrics) -> &mut Option<f64> = match name {
            "vllm:prefix_cache_queries_total" => |rank| &mut rank.queries,
            "vllm:prefix_cache_hits_total" => |rank| &mut rank.hits,
            "vllm:request_success_total" => |rank| &mut rank.ended,
            "vllm:num_requests_running" => |rank| &mut rank.running,
            "vllm:num_requests_waiting" => |rank| &mut rank.waiting,
            "process_start_time_seconds" | "vllm:cache_config_info" => {
                return self.note(name, rest);
            }
            _ => return,
        };
        if let Some((labels, value)) = sample(rest)
            && let Some(rank) = self.rank(&labels)
        {
            *field(rank).get_or_insert(0.0) += value;
        }
    }

    /// Takes what is not a count of a rank.
    fn note(&mut self, name: &str, rest: &str) {
        let Some((labels, value)) = sample(rest) else {
            return;
        };
        if name == "process_start_time_seconds" {
            self.start_time = Some(value);
        } else if let Some(rank) = self.rank(&labels) {
            rank.block_size = labels.block_size.or(rank.block_size);
        }
    }

    /// The entry of a rank, if there is room for it.
    fn rank(&mut self, labels: &Labels) -> Option<&mut RankMetrics> {
        let known = self.ranks.contains_key(&labels.engine);
        let room = self.ranks.len() < RANKS_MAX as usize;
        (known || room).then(|| self.ranks.entry(labels.engine).or_default())
    }
}

/// The labels that matter.
#[derive(Debug, Default, PartialEq)]
struct Labels {
    engine: Option<u32>,
    block_size: Option<u32>,
}

/// Labels and value of a sample, from what follows its name. A value that is no count is not taken.
fn sample(rest: &str) -> Option<(Labels, f64)> {
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Labels::default(), rest),
    };
    let value: f64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some((labels, value))
}

/// Reads labels up to the closing brace, and gives what follows it.
fn labels(mut text: &str) -> Option<(Labels, &str)> {
    let mut labels = Labels::default();
    loop {
        text = text.trim_start_matches([' ', '\t', ',']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once('=')?;
        let quoted = rest.trim_start().strip_prefix('"')?;
        let end = closing_quote(quoted)?;
        let value = &quoted[..end];
        match name.trim_end() {
            "engine" => labels.engine = value.parse().ok(),
            "block_size" => labels.block_size = value.parse().ok().filter(|&size| size != 0),
            _ => {}
        }
        text = &quoted[end + 1..];
    }
}

/// Where a quoted value ends; a quote after a backslash belongs to it.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// From a real vLLM 0.32 server, shortened.
    const REAL: &str = r#"# HELP python_info Python platform information
# TYPE python_info gauge
python_info{implementation="CPython",major="3",minor="11",patchlevel="7",version="3.11.7"} 1.0
process_start_time_seconds 1.79535334798e+09
process_cpu_seconds_total 38.41
vllm:num_requests_running{engine="0",model_name="tiny"} 2.0
vllm:num_requests_waiting{engine="0",model_name="tiny"} 1.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="tiny",reason="capacity"} 7.0
vllm:prefix_cache_queries_total{engine="0",model_name="tiny"} 87577.0
vllm:prefix_cache_queries_created{engine="0",model_name="tiny"} 1.7953536369488244e+09
vllm:prefix_cache_hits_total{engine="0",model_name="tiny"} 34208.0
vllm:external_prefix_cache_queries_total{engine="0",model_name="tiny"} 5.0
# TYPE vllm:request_success_total counter
vllm:request_success_total{engine="0",finished_reason="stop",model_name="tiny"} 4.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="tiny"} 320.0
vllm:cache_config_info{_block_size_resolved="True",block_size="32",engine="0",num_gpu_blocks="120"} 1.0
"#;

    #[test]
    fn what_a_real_engine_says() {
        let metrics = parse(REAL.as_bytes());
        let rank = RankMetrics {
            queries: Some(87_577.0),
            hits: Some(34_208.0),
            ended: Some(324.0),
            running: Some(2.0),
            waiting: Some(1.0),
            block_size: Some(32),
        };
        let expected = EngineMetrics {
            start_time: Some(1_795_353_347.98),
            ranks: BTreeMap::from([(Some(0), rank)]),
            samples: 13,
        };
        assert_eq!(metrics, expected);
    }

    #[test]
    fn ranks_are_told_apart_and_other_labels_are_summed() {
        let metrics = parse(
            b"vllm:num_requests_running{model_name=\"a\",engine=\"1\"} 2\n\
              vllm:num_requests_running{engine=\"0\",model_name=\"a\"} 3\n\
              vllm:num_requests_running{model_name=\"b\" , engine = \"1\",} 5 1700000000000\n\
              vllm:num_requests_running 7\n",
        );
        let running: Vec<_> = metrics
            .ranks
            .iter()
            .map(|(&rank, metrics)| (rank, metrics.running.unwrap()))
            .collect();
        assert_eq!(running, [(None, 7.0), (Some(0), 3.0), (Some(1), 7.0)]);
    }

    #[test]
    fn quotes_and_braces_inside_of_labels_are_part_of_them() {
        let line = r#"vllm:num_requests_running{model_name="a\"},engine=\"9\" \\",engine="2"} 4"#;
        let metrics = parse(line.as_bytes());
        assert_eq!(metrics.ranks[&Some(2)].running, Some(4.0));
        assert_eq!(metrics.ranks.len(), 1);
    }

    #[test]
    fn what_is_no_count_is_unknown() {
        for line in [
            "vllm:num_requests_running{engine=\"0\"} NaN",
            "vllm:num_requests_running{engine=\"0\"} +Inf",
            "vllm:num_requests_running{engine=\"0\"} -1",
            "vllm:num_requests_running{engine=\"0\"} many",
            "vllm:num_requests_running{engine=\"0\"}",
            "vllm:num_requests_running{engine=\"0\" 3",
            "vllm:num_requests_running{engine=\"0} 3",
            "vllm:num_requests_running{engine} 3",
            "process_start_time_seconds nan",
        ] {
            let metrics = parse(line.as_bytes());
            assert_eq!(metrics.start_time, None, "{line}");
            assert!(metrics.ranks.is_empty(), "{line}: {metrics:?}");
        }
    }

    #[test]
    fn a_page_of_something_else_has_no_samples() {
        for text in [
            "",
            "<html>\n<body>x</body>",
            "{\"a\": 1}",
            "# only\n# comments",
            "404",
        ] {
            assert_eq!(parse(text.as_bytes()).samples, 0, "{text}");
        }
    }

    #[test]
    fn ranks_are_bounded() {
        let line = |rank: u32| format!("vllm:num_requests_running{{engine=\"{rank}\"}} 1\n");
        let text: String = (0..RANKS_MAX + 10).map(line).collect();
        assert_eq!(parse(text.as_bytes()).ranks.len(), RANKS_MAX as usize);
    }

    proptest! {
        #[test]
        fn no_bytes_at_all_panic(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&text);
        }

        /// Near to what is understood: pieces of it in any order.
        #[test]
        fn nor_do_pieces_of_samples(
            pieces in proptest::collection::vec(0_usize..14, 0..40)
        ) {
            const PIECES: [&str; 14] = [
                "vllm:num_requests_running", "process_start_time_seconds", "{", "}", "\"", "\\",
                "engine", "=", ",", " ", "\n", "1e999", "4294967296", "é",
            ];
            let text: String = pieces.into_iter().map(|at| PIECES[at]).collect();
            let _ = parse(text.as_bytes());
        }
    }
}
