//! The longest of some times, told apart from slices that the thread lost to others.
use kvroute_bench::machine;
use std::time::Duration;

/// The longest of some times.
#[derive(Debug, Default)]
pub(crate) struct Longest {
    all: Duration,
    /// Of those in which the thread kept its processor.
    undisturbed: Duration,
    /// How often the thread had lost its processor when that was last asked.
    switches: u64,
}

/// Shorter times are not worth asking whether they were disturbed.
const SHORT: Duration = Duration::from_micros(10);

impl Longest {
    pub(crate) fn refresh(&mut self) {
        self.switches = machine::switches();
    }

    pub(crate) fn add(&mut self, time: Duration) {
        self.all = self.all.max(time);
        if time > self.undisturbed {
            let before = self.switches;
            if time > SHORT {
                self.refresh();
            }
            if self.switches == before {
                self.undisturbed = time;
            }
        }
    }
}

impl std::fmt::Display for Longest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} (undisturbed {:?})", self.all, self.undisturbed)
    }
}
