//! What a fake engine does wrong on purpose. Each fault has a name and, most of them, a number, so that
//! a command line can ask for it: `silent`, `slow=50`.
use std::str::FromStr;
use std::time::Duration;

/// How a replay lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Some batches have numbers that are not theirs: skipped, repeated, far ahead.
    Numbers,
    /// Some payloads are not the ones that were published.
    Bytes,
    /// Some messages have too few or too many frames, or a number of another length.
    Frames,
}

/// What goes wrong. Nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Replays are not answered.
    pub silent: bool,
    /// A pause before each message of a replay.
    pub slow: Option<Duration>,
    /// Replays stop after so many messages, without the end marker.
    pub half: Option<u64>,
    /// Replays repeat the last batch, if there is one, and never end.
    pub endless: bool,
    /// Replays say what is not so.
    pub lie: Option<Lie>,
    /// One in so many live batches is not sent; replays have it.
    pub lose: Option<u64>,
    /// One in so many live batches is sent twice.
    pub double: Option<u64>,
    /// One in so many live batches is sent after the next one.
    pub reorder: Option<u64>,
    /// One in so many live payloads is cut off.
    pub truncate: Option<u64>,
    /// One in so many live payloads is noise.
    pub garbage: Option<u64>,
    /// The ring keeps no more than so many batches.
    pub ring: Option<u64>,
    /// A new life names its blocks as the one before did.
    pub same_hashes: bool,
    /// A new life publishes so many batches more than the one before, before anybody can be connected again.
    pub overtake: Option<u64>,
    /// A new life publishes nothing for so many seconds.
    pub idle: Option<u64>,
}

impl Faults {
    /// The faults that [`Faults::add`] knows, with what their numbers mean.
    pub const HELP: &str = "silent, slow=MS, half=MESSAGES, endless, lying-numbers, lying-bytes, \
        lying-frames (of replays); lose=N, double=N, reorder=N, truncate=N, garbage=N (one in N live batches); \
        ring=BATCHES; same-hashes, overtake=BATCHES, idle=SECONDS (of restarts)";

    /// Adds a fault by its name, `NAME` or `NAME=N`.
    ///
    /// # Errors
    /// No such fault, or a number where none belongs, or none where one does.
    pub fn add(&mut self, fault: &str) -> Result<(), String> {
        let (name, number) = match fault.split_once('=') {
            Some((name, number)) => {
                let parsed = number.parse::<u64>().ok().filter(|&n| n > 0);
                let parsed =
                    parsed.ok_or_else(|| format!("{name}: {number:?} is no number above 0"))?;
                (name, Some(parsed))
            }
            None => (fault, None),
        };
        let bare = match name {
            "silent" => Some(&mut self.silent),
            "endless" => Some(&mut self.endless),
            "same-hashes" => Some(&mut self.same_hashes),
            _ => None,
        };
        if let Some(switch) = bare {
            *switch = true;
            return without(name, number);
        }
        let lie = match name {
            "lying-numbers" => Some(Lie::Numbers),
            "lying-bytes" => Some(Lie::Bytes),
            "lying-frames" => Some(Lie::Frames),
            _ => None,
        };
        if lie.is_some() {
            self.lie = lie;
            return without(name, number);
        }
        let place = match name {
            "half" => &mut self.half,
            "lose" => &mut self.lose,
            "double" => &mut self.double,
            "reorder" => &mut self.reorder,
            "truncate" => &mut self.truncate,
            "garbage" => &mut self.garbage,
            "ring" => &mut self.ring,
            "overtake" => &mut self.overtake,
            "idle" => &mut self.idle,
            "slow" => {
                self.slow = Some(Duration::from_millis(with(name, number)?));
                return Ok(());
            }
            _ => return Err(format!("{name:?} is none of: {}", Self::HELP)),
        };
        *place = Some(with(name, number)?);
        Ok(())
    }
}

impl FromStr for Faults {
    type Err = String;

    /// One fault alone.
    fn from_str(fault: &str) -> Result<Self, String> {
        let mut faults = Self::default();
        faults.add(fault).map(|()| faults)
    }
}

fn with(name: &str, number: Option<u64>) -> Result<u64, String> {
    number.ok_or_else(|| format!("{name} needs a number: {name}=N"))
}

fn without(name: &str, number: Option<u64>) -> Result<(), String> {
    match number {
        None => Ok(()),
        Some(_) => Err(format!("{name} takes no number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_added_by_name() {
        let mut faults = Faults::default();
        for fault in ["silent", "slow=50", "half=3", "lying-bytes", "lose=10"] {
            faults.add(fault).unwrap();
        }
        let expected = Faults {
            silent: true,
            slow: Some(Duration::from_millis(50)),
            half: Some(3),
            lie: Some(Lie::Bytes),
            lose: Some(10),
            ..Faults::default()
        };
        assert_eq!(faults, expected);
    }

    #[test]
    fn what_is_no_fault_is_named() {
        for (fault, named) in [
            ("sielnt", "sielnt"),
            ("silent=1", "takes no number"),
            ("lying-bytes=1", "takes no number"),
            ("lose", "needs a number"),
            ("lose=x", "\"x\""),
            ("slow=0", "\"0\""),
        ] {
            let error = fault.parse::<Faults>().unwrap_err();
            assert!(error.contains(named), "{fault}: {error}");
        }
    }
}
