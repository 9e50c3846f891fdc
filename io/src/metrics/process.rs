//! Metrics of the build and of the process. Where there is no `/proc` there are none of the latter.
use super::gauge;
use prometheus_client::encoding::DescriptorEncoder;
use std::fmt::Result;

/// Which version runs.
pub(super) fn build(encoder: &mut DescriptorEncoder<'_>) -> Result {
    let help = "1, labelled with the version that runs.";
    let mut metric = gauge(encoder, "kvroute_build_info", help, None)?;
    let labels = [("version", env!("CARGO_PKG_VERSION"))];
    metric.encode_family(&labels)?.encode_gauge(&1_u64)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn process(_: &mut DescriptorEncoder<'_>) -> Result {
    Ok(())
}

/// What the system counts of it. O(open descriptors).
#[cfg(target_os = "linux")]
pub(super) fn process(encoder: &mut DescriptorEncoder<'_>) -> Result {
    use super::counter;
    use procfs::process::Process;
    use prometheus_client::encoding::NoLabelSet;
    use prometheus_client::registry::Unit;

    let Ok(own) = Process::myself() else {
        return Ok(());
    };
    if let Ok(stat) = own.stat() {
        let ticks = procfs::ticks_per_second() as f64;
        let help = "Processor time of the process, in user and system mode.";
        let seconds = (stat.utime + stat.stime) as f64 / ticks;
        let mut metric = counter(encoder, "process_cpu_seconds", help)?;
        metric.encode_counter::<NoLabelSet, f64, f64>(&seconds, None)?;
        let help = "Resident memory of the process.";
        let bytes = stat.rss.saturating_mul(procfs::page_size());
        gauge(encoder, "process_resident_memory", help, Some(&Unit::Bytes))?
            .encode_gauge(&bytes)?;
        let help = "Threads of the process.";
        let threads = u64::try_from(stat.num_threads).unwrap_or(0);
        gauge(encoder, "process_threads", help, None)?.encode_gauge(&threads)?;
        if let Ok(boot) = procfs::boot_time_secs() {
            let help = "When the process was started, in seconds since 1970.";
            let started = boot as f64 + stat.starttime as f64 / ticks;
            gauge(encoder, "process_start_time", help, Some(&Unit::Seconds))?
                .encode_gauge(&started)?;
        }
    }
    let (open, most) = count_descriptors(&own);
    if let Some(open) = open {
        let help = "Open file descriptors.";
        gauge(encoder, "process_open_fds", help, None)?.encode_gauge(&open)?;
    }
    if let Some(most) = most {
        let help = "File descriptors that may be open.";
        gauge(encoder, "process_max_fds", help, None)?.encode_gauge(&most)?;
    }
    Ok(())
}

/// Open file descriptors, and how many may be open, as far as the system says it.
#[cfg(target_os = "linux")]
fn count_descriptors(own: &procfs::process::Process) -> (Option<u64>, Option<u64>) {
    use procfs::process::LimitValue;

    let most = match own.limits() {
        Ok(limits) => match limits.max_open_files.soft_limit {
            LimitValue::Value(most) => Some(most),
            LimitValue::Unlimited => None,
        },
        Err(_) => None,
    };
    (own.fd_count().ok().map(|open| open as u64), most)
}

/// Open file descriptors, and how many may be open; none where there is no `/proc`, or no bound. O(open descriptors).
#[must_use]
pub fn descriptors() -> Option<(u64, u64)> {
    #[cfg(target_os = "linux")]
    {
        let own = procfs::process::Process::myself().ok()?;
        let (open, most) = count_descriptors(&own);
        open.zip(most)
    }
    #[cfg(not(target_os = "linux"))]
    None
}
