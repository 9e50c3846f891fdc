//! What the probe reads from an engine's `/metrics`: the few series it knows, from any text; pure.
use crate::limits::RANKS_MAX;
use std::collections::BTreeMap;

/// What an engine tells of itself. Series that it does not have are unknown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineMetrics {
    /// When its process began, in seconds since 1970.
    pub start_time: Option<f64>,
    /// By the label `engine` (vLLM) or `dp_rank` (SGLang), which is the data-parallel rank; `None` for series without.
    pub ranks: BTreeMap<Option<u32>, RankMetrics>,
    /// Lines that look like a sample, known or not: none in what is no text of metrics.
    pub samples: usize,
}

/// What one rank tells. vLLM's series are summed over all labels but the rank. SGLang's are the largest: each of a
/// rank's processes (`tp_rank`) may tell of the whole.
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
    /// Share of the cache that requests use, 0 to 1.
    pub usage: Option<f64>,
    /// Tokens that the cache has room for.
    pub room: Option<f64>,
    /// Tokens per block, as configured.
    pub block_size: Option<u32>,
}

/// Reads a text; lines that are not understood are passed over. O(bytes); allocates for ranks only.
///
/// Of several hundred lines a dozen matter, so names are compared as bytes, and only what stands behind a known one is read.
#[must_use]
pub fn parse(text: &[u8]) -> EngineMetrics {
    let mut metrics = EngineMetrics::default();
    let mut rest = text;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        metrics.read(rest[..end].trim_ascii_start());
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    metrics
}

/// How the samples of a series become one number.
type Join = fn(f64, f64) -> f64;
/// Where it goes.
type Field = fn(&mut RankMetrics) -> &mut Option<f64>;

const SUM: Join = |one, other| one + other;
const MOST: Join = f64::max;

/// The series that are numbers of a rank.
fn known(name: &[u8]) -> Option<(Field, Join)> {
    let known: (Field, Join) = match name {
        b"vllm:prefix_cache_queries_total" => (|rank| &mut rank.queries, SUM),
        b"vllm:prefix_cache_hits_total" => (|rank| &mut rank.hits, SUM),
        b"vllm:request_success_total" => (|rank| &mut rank.ended, SUM),
        b"vllm:num_requests_running" => (|rank| &mut rank.running, SUM),
        b"vllm:num_requests_waiting" => (|rank| &mut rank.waiting, SUM),
        // From 0.9.2, and up to 0.11: some say both.
        b"vllm:kv_cache_usage_perc" | b"vllm:gpu_cache_usage_perc" => {
            (|rank| &mut rank.usage, MOST)
        }
        b"sglang:num_running_reqs" => (|rank| &mut rank.running, MOST),
        b"sglang:num_queue_reqs" => (|rank| &mut rank.waiting, MOST),
        b"sglang:token_usage" => (|rank| &mut rank.usage, MOST),
        b"sglang:max_total_num_tokens" => (|rank| &mut rank.room, MOST),
        _ => return None,
    };
    Some(known)
}

impl EngineMetrics {
    fn read(&mut self, line: &[u8]) {
        let Some(end) = memchr::memchr3(b'{', b' ', b'\t', line) else {
            return;
        };
        let (name, rest) = line.split_at(end);
        let of_name = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b':');
        let begins = name.first().is_some_and(|c| !c.is_ascii_digit());
        if !begins || !name.iter().all(of_name) {
            return;
        }
        self.samples += 1;
        let noted = matches!(
            name,
            b"process_start_time_seconds" | b"vllm:cache_config_info"
        );
        let known = known(name);
        if !noted && known.is_none() {
            return;
        }
        let sample = std::str::from_utf8(rest).ok().and_then(sample);
        let Some((labels, value)) = sample else {
            return;
        };
        match known {
            None => self.note(name, &labels, value),
            Some((field, join)) => {
                if let Some(rank) = self.rank(&labels) {
                    let field = field(rank);
                    *field = Some(field.map_or(value, |other| join(other, value)));
                }
            }
        }
    }

    /// Takes what is not a number of a rank.
    fn note(&mut self, name: &[u8], labels: &Labels, value: f64) {
        if name == b"process_start_time_seconds" {
            self.start_time = Some(value);
        } else if let Some(rank) = self.rank(labels) {
            rank.block_size = labels.block_size.or(rank.block_size);
            let room = labels.block_size.zip(labels.blocks);
            let room = room.map(|(size, blocks)| f64::from(size) * f64::from(blocks));
            rank.room = room.or(rank.room);
        }
    }

    /// The entry of a rank, if there is room for it.
    fn rank(&mut self, labels: &Labels) -> Option<&mut RankMetrics> {
        let known = self.ranks.contains_key(&labels.rank);
        let room = self.ranks.len() < RANKS_MAX as usize;
        (known || room).then(|| self.ranks.entry(labels.rank).or_default())
    }
}

/// The labels that matter.
#[derive(Debug, Default, PartialEq)]
struct Labels {
    rank: Option<u32>,
    block_size: Option<u32>,
    blocks: Option<u32>,
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
            "engine" | "dp_rank" => labels.rank = value.parse().ok().or(labels.rank),
            "block_size" => labels.block_size = value.parse().ok().filter(|&size| size != 0),
            "num_gpu_blocks" => labels.blocks = value.parse().ok(),
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
vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.25
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
            usage: Some(0.25),
            // 120 blocks of 32.
            room: Some(3_840.0),
            block_size: Some(32),
        };
        let expected = EngineMetrics {
            start_time: Some(1_795_353_347.98),
            ranks: BTreeMap::from([(Some(0), rank)]),
            samples: 14,
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

    /// As documented by SGLang, with data-parallel ranks of two processes each.
    #[test]
    fn sglang_has_names_of_its_own() {
        let metrics = parse(
            b"# TYPE sglang:num_running_reqs gauge\n\
              sglang:num_running_reqs{dp_rank=\"0\",model_name=\"m\",tp_rank=\"0\"} 4.0\n\
              sglang:num_running_reqs{dp_rank=\"0\",model_name=\"m\",tp_rank=\"1\"} 4.0\n\
              sglang:num_running_reqs{dp_rank=\"1\",model_name=\"m\",tp_rank=\"2\"} 1.0\n\
              sglang:num_queue_reqs{dp_rank=\"0\",model_name=\"m\",tp_rank=\"0\"} 2.0\n\
              sglang:token_usage{dp_rank=\"0\",model_name=\"m\",tp_rank=\"0\"} 0.5\n\
              sglang:max_total_num_tokens{dp_rank=\"0\",model_name=\"m\",tp_rank=\"0\"} 8192.0\n\
              sglang:num_used_tokens{dp_rank=\"0\",model_name=\"m\",tp_rank=\"0\"} 4096.0\n",
        );
        let first = RankMetrics {
            running: Some(4.0),
            waiting: Some(2.0),
            usage: Some(0.5),
            room: Some(8_192.0),
            ..RankMetrics::default()
        };
        let second = RankMetrics {
            running: Some(1.0),
            ..RankMetrics::default()
        };
        let expected = BTreeMap::from([(Some(0), first), (Some(1), second)]);
        assert_eq!(metrics.ranks, expected);
    }

    #[test]
    fn usage_by_both_names_is_told_once() {
        let metrics = parse(
            b"vllm:gpu_cache_usage_perc{engine=\"0\"} 0.75\nvllm:kv_cache_usage_perc{engine=\"0\"} 0.75\n",
        );
        assert_eq!(metrics.ranks[&Some(0)].usage, Some(0.75));
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
