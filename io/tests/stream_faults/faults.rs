//! The kinds of faults, and the table of what became of the workers that met them.
use kvroute::fake::chance::Chance;
use kvroute::status::Trust;
use std::collections::BTreeMap;
use std::fmt;

macro_rules! kinds {
    ($($name:ident = $label:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Kind { $($name,)* }

        impl Kind {
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

kinds! {
    Loss = "live batch lost",
    Double = "live batch doubled",
    Reorder = "live batches reordered",
    Truncate = "live payload truncated",
    Garbage = "live payload garbage",
    Framing = "live message of wrong frames",
    Disconnect = "event connection lost",
    Restart = "restart, new hashes",
    RestartSame = "restart, same hashes",
    RestartIdle = "restart, idle afterwards",
    RestartOvertaking = "restart, overtaking",
    RestartProxied = "restart behind a proxy",
    Unencodable = "batch that cannot be encoded",
    Silent = "replay silent",
    Slow = "replay slow",
    Half = "replay stops half way",
    Endless = "replay endless",
    LyingNumbers = "replay lies: numbers",
    LyingBytes = "replay lies: bytes",
    LyingFrames = "replay lies: frames",
    SocketFails = "replay socket fails",
    Rotated = "ring rotated",
    NoReplay = "no replay socket",
    Queued = "replay waits for its turn",
    Verify = "told to verify",
    Unheard = "told that nothing is heard",
    Distrust = "told that it does not deliver",
    Stall = "thread stalls",
    NodeRestart = "node restarts cold",
    NodeRestartWarm = "node restarts from a snapshot",
    Overflow = "held back beyond its bound",
}

/// How the live link treats messages, each a number of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LiveMode {
    pub(crate) loss: u64,
    pub(crate) double: u64,
    pub(crate) reorder: u64,
    pub(crate) truncate: u64,
    pub(crate) garbage: u64,
    pub(crate) framing: u64,
    /// Microseconds on the way, at most.
    pub(crate) latency: u64,
}

impl LiveMode {
    pub(crate) fn calm() -> Self {
        Self {
            latency: 500,
            ..Self::default()
        }
    }

    /// Half of the time calm; else one or two things go wrong, rarely or often.
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        let mut mode = Self::calm();
        if chance.per_mille(500) {
            return mode;
        }
        for _ in 0..chance.between(1, 2) {
            let often = [20, 150, 600][chance.place(3)];
            match chance.below(7) {
                0 | 1 => mode.loss = often,
                2 => mode.double = often,
                3 => mode.reorder = often,
                4 => mode.truncate = often / 4,
                5 => mode.garbage = often / 4,
                _ => mode.framing = often / 4,
            }
        }
        mode.latency = [100, 5_000, 400_000][chance.place(3)];
        mode
    }
}

/// How often what happened, and how it ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) seeds: u64,
    pub(crate) batches: u64,
    pub(crate) checks: u64,
    /// Checks in which the worker was exact.
    pub(crate) exact: u64,
    /// Checks in which it was exact and had been given everything.
    pub(crate) strict: u64,
    injected: BTreeMap<Kind, u64>,
    /// By fault and final state: workers.
    outcomes: BTreeMap<(Kind, &'static str), u64>,
    workers: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(crate) fn inject(&mut self, counts: &BTreeMap<Kind, u64>, ended: Trust) {
        *self.workers.entry(ended.as_str()).or_default() += 1;
        for (&kind, &count) in counts {
            *self.injected.entry(kind).or_default() += count;
            *self.outcomes.entry((kind, ended.as_str())).or_default() += 1;
        }
    }

    /// How often a fault was injected.
    pub(crate) fn injected(&self, kind: Kind) -> u64 {
        self.injected.get(&kind).copied().unwrap_or(0)
    }

    /// Workers that ended in a state.
    pub(crate) fn ended(&self, trust: Trust) -> u64 {
        self.workers.get(trust.as_str()).copied().unwrap_or(0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workers: u64 = self.workers.values().sum();
        writeln!(
            out,
            "{} seeds, {workers} workers, {} batches; {} checks, {} of an exact worker, {} of one given everything",
            self.seeds, self.batches, self.checks, self.exact, self.strict
        )?;
        writeln!(
            out,
            "{:<30} {:>9} {:>8} {:>8} {:>8}",
            "fault", "injected", "workers", "exact", "partial"
        )?;
        for &kind in Kind::ALL {
            let ended = |trust: Trust| {
                let found = self.outcomes.get(&(kind, trust.as_str()));
                found.copied().unwrap_or(0)
            };
            let (exact, partial) = (ended(Trust::Exact), ended(Trust::Partial));
            let of_kind = self.outcomes.iter().filter(|((of, _), _)| *of == kind);
            let all: u64 = of_kind.map(|(_, count)| count).sum();
            writeln!(
                out,
                "{:<30} {:>9} {all:>8} {exact:>8} {partial:>8}",
                kind.as_str(),
                self.injected(kind)
            )?;
        }
        write!(
            out,
            "{:<30} {:>9} {workers:>8} {:>8} {:>8}",
            "all",
            "",
            self.ended(Trust::Exact),
            self.ended(Trust::Partial)
        )
    }
}
