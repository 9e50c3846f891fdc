//! Processor time that the kernel counted for threads of this process.
use std::{fs, io};

/// Nanoseconds of the calling thread, and of all others together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub(crate) own: u64,
    pub(crate) others: u64,
}

/// The times so far. Threads that have ended are not counted.
pub(crate) fn times() -> io::Result<Times> {
    let mut all = 0;
    for task in fs::read_dir("/proc/self/task")? {
        // A thread may end meanwhile.
        all += fs::read_to_string(task?.path().join("schedstat")).map_or(0, |text| first(&text));
    }
    let own = first(&fs::read_to_string("/proc/thread-self/schedstat")?);
    let others = all.saturating_sub(own);
    Ok(Times { own, others })
}

/// The first of its numbers is the time on a processor.
fn first(schedstat: &str) -> u64 {
    let first = schedstat.split(' ').next();
    first.and_then(|n| n.parse().ok()).unwrap_or(0)
}
