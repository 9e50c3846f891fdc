//! On what a figure was measured. Linux tells it in `/proc`; elsewhere it is unknown.
use std::fs::read_to_string;
use std::time::Duration;

/// The processor's name and how many of them this process may use.
#[must_use]
pub fn processor() -> String {
    let info = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then(|| value.trim().to_owned())
    });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = model.unwrap_or_else(|| "unknown processor".to_owned());
    format!("{model}, {cores} cores")
}

/// The load averages of the last 1, 5 and 15 minutes.
#[must_use]
pub fn load() -> String {
    let load = read_to_string("/proc/loadavg").unwrap_or_default();
    let averages: Vec<_> = load.split_whitespace().take(3).collect();
    averages.join(" ")
}

/// Resident bytes of this process, if the system tells.
#[must_use]
pub fn resident() -> Option<u64> {
    let status = read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1_024)
}

/// The processor time that the calling thread has had so far, if the system tells: on a machine that is shared
/// with others it says more than the time that has passed.
#[must_use]
pub fn processor_time() -> Option<Duration> {
    let stat = read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = stat.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// How often the calling thread has lost its processor so far, zero if the system does not tell: a time
/// in which it did says nothing about the code.
#[must_use]
pub fn switches() -> u64 {
    let status = read_to_string("/proc/thread-self/status").unwrap_or_default();
    let lines = status
        .lines()
        .filter_map(|line| line.split_once("ctxt_switches:"));
    lines
        .filter_map(|(_, count)| count.trim().parse::<u64>().ok())
        .sum()
}
