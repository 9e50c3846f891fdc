//! What the kernel says of a process.
use std::fs;
use std::io;

/// Memory, threads, descriptors and processor time of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) resident_mb: f64,
    pub(crate) threads: u64,
    pub(crate) descriptors: usize,
    pub(crate) cpu_seconds: f64,
}

/// As of now.
pub(crate) fn taken(process: u32) -> io::Result<Taken> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let number = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let word = line.and_then(|rest| rest.split_whitespace().next());
        word.and_then(|word| word.parse::<u64>().ok()).unwrap_or(0)
    };
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        let first = text
            .split(' ')
            .next()
            .and_then(|word| word.parse::<u64>().ok());
        nanoseconds += first.unwrap_or(0);
    }
    Ok(Taken {
        resident_mb: number("VmRSS:") as f64 / 1024.0,
        threads: number("Threads:"),
        descriptors: fs::read_dir(format!("/proc/{process}/fd"))?.count(),
        cpu_seconds: nanoseconds as f64 / 1e9,
    })
}
