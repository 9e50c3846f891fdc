//! How long an engine's steps take, and how much its cache holds: numbers with their sources.
//!
//! | `a100` | value | where from |
//! |---|---|---|
//! | model | Llama 3 8B, bfloat16: 8.03e9 parameters, 32 layers, 4,096 wide, 8 heads of 128 for keys and values | its published configuration |
//! | matrix products | 2 FLOP a parameter and token at 0.6 of 312 TFLOP/s: 85.8 us a token | A100 data sheet; 0.6 is an assumption |
//! | weights | 16.06 GB a step at 0.8 of 2,039 GB/s: 9.85 ms | the same; 0.8 is an assumption |
//! | attention | 4 x 32 x 4,096 FLOP a token and token before it, at the rate above: 2.8 ns | arithmetic |
//! | keys and values | 131,072 bytes a token, read once a step for each running request: 80 ns a token | arithmetic; vLLM issue 10517 logs 3.81 GiB as 1,952 blocks of 16, which is the same |
//! | overhead | 1.5 ms a step | an assumption |
//! | cache | 444,000 tokens | 0.9 of 79.15 GiB less 14.99 (weights) and 2.0 (activations and other), as logged there |
//! | step | 2,048 tokens, 256 requests | vLLM's defaults for a server on an A100 |
//!
//! So a prompt of 12,000 tokens takes 1.24 s alone (9,700 tokens a second), one token 11.4 ms plus 1 ms for each 12,500 tokens
//! of context in the batch.
//!
//! | `mocker` | value | where from |
//! |---|---|---|
//! | prefill | 16.50 ms + 15.18 us a token + 0.421 ns a squared token | the curve of NVIDIA Dynamo's simulated engine, the mocker |
//! | decode | 5.74 + 54.01 u - 25.74 u^2 ms, u = share of the cache in use | the same |
//! | cache | 1,048,576 tokens | its default, 16,384 blocks of 64 |
//! | step | 8,192 tokens, 256 requests | its defaults |
//!
//! A prompt of 12,000 tokens takes 0.26 s. Its curve is for a prompt at once; a chunk is charged the difference of
//! the squares at its end and its beginning.

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hardware {
    /// Llama 3 8B on one A100 with 80 GB, from data sheets.
    A100,
    /// The curve of Dynamo's simulated engine.
    Mocker,
}

/// What one step computes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepWork {
    /// Tokens computed.
    pub tokens: u64,
    /// Of these, tokens of prompts.
    pub prefill: u64,
    /// Sum over the prompts' tokens of the tokens before each.
    pub prefill_context: f64,
    /// Tokens whose keys and values are read by requests that generate.
    pub decode_context: u64,
    /// Share of the cache's blocks in use, 0 to 1.
    pub usage: f64,
}

impl Hardware {
    /// All.
    pub const ALL: [Self; 2] = [Self::A100, Self::Mocker];

    /// Its name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A100 => "a100",
            Self::Mocker => "mocker",
        }
    }

    /// What it is, in a few words.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::A100 => "Llama 3 8B, one A100 80 GB a pod",
            Self::Mocker => "the curve of Dynamo's mocker",
        }
    }

    /// Tokens that its cache holds.
    #[must_use]
    pub const fn cache_tokens(self) -> u32 {
        match self {
            Self::A100 => 444_000,
            Self::Mocker => 1_048_576,
        }
    }

    /// Tokens computed in one step at most.
    #[must_use]
    pub const fn step_tokens(self) -> u32 {
        match self {
            Self::A100 => 2_048,
            Self::Mocker => 8_192,
        }
    }

    /// Requests that run at once at most.
    #[must_use]
    pub const fn step_requests(self) -> usize {
        256
    }

    /// How long a step takes, in microseconds, at least one.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "tokens and microseconds of one step are far below 2^53"
    )]
    pub fn step_us(self, work: &StepWork) -> u64 {
        let (tokens, prefill) = (work.tokens as f64, work.prefill as f64);
        let us = match self {
            Self::A100 => {
                let products = (tokens * 85.8).max(9_850.0);
                let attention = work.prefill_context * 0.002_8;
                let reading = work.decode_context as f64 * 0.080;
                1_500.0 + products + attention + reading
            }
            Self::Mocker => {
                let prompts = if work.prefill == 0 {
                    0.0
                } else {
                    // Sum of the tokens before each: half the difference of the squares.
                    let squares = 2.0 * work.prefill_context + prefill;
                    16_501.42 + 15.183_44 * prefill + 0.000_420_998_9 * squares
                };
                let decode = if work.tokens == work.prefill {
                    0.0
                } else {
                    let used = work.usage;
                    5_740.0 + 54_010.0 * used - 25_740.0 * used * used
                };
                prompts + decode
            }
        };
        (us.round() as u64).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A prompt alone, in chunks of what a step takes.
    fn alone(hardware: Hardware, prompt: u32) -> u64 {
        let mut done = 0;
        let mut us = 0;
        while done < prompt {
            let n = hardware.step_tokens().min(prompt - done);
            let context = f64::from(n) * f64::from(done) + f64::from(n) * f64::from(n - 1) / 2.0;
            us += hardware.step_us(&StepWork {
                tokens: n.into(),
                prefill: n.into(),
                prefill_context: context,
                ..StepWork::default()
            });
            done += n;
        }
        us
    }

    /// By hand from the tables above.
    #[test]
    fn steps_take_as_long_as_the_tables_say() {
        // Six steps of 1.5 ms; 12,000 tokens at 85.8 us; 12,000 x 11,999 / 2 pairs at 2.8 ns.
        let expected = 6.0 * 1_500.0 + 12_000.0 * 85.8 + 71_994_000.0 * 0.002_8;
        assert!((alone(Hardware::A100, 12_000) as f64 - expected).abs() < 10.0);
        // Two steps of 16.5 ms instead of one; else the curve at 12,000 tokens.
        let curve = 2.0 * 16_501.42 + 15.183_44 * 12_000.0 + 0.420_998_9e-3 * 144_000_000.0;
        assert!((alone(Hardware::Mocker, 12_000) as f64 - curve).abs() < 10.0);
        // One token with nothing before it, then 30 requests of 10,000 tokens each.
        let one = StepWork {
            tokens: 1,
            decode_context: 0,
            ..StepWork::default()
        };
        assert_eq!(Hardware::A100.step_us(&one), 11_350);
        assert_eq!(Hardware::Mocker.step_us(&one), 5_740);
        let many = StepWork {
            tokens: 30,
            decode_context: 300_000,
            usage: 0.5,
            ..StepWork::default()
        };
        assert_eq!(Hardware::A100.step_us(&many), 11_350 + 24_000);
        assert_eq!(Hardware::Mocker.step_us(&many), 5_740 + 27_005 - 6_435);
    }
}
