//! What the system tells of this process.

/// Resident memory in bytes, where `/proc` tells it.
pub(super) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Open file descriptors, where `/proc` tells them. The one that the looking takes is not counted.
pub(super) fn open_fds() -> Option<u64> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(open).ok()?.checked_sub(1)
}

/// How many file descriptors may be open; none where there is no limit.
pub(super) fn max_fds() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// Processor time taken so far, in seconds, where `/proc` tells it.
pub(super) fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // proc_pid_stat(5): the name in brackets may hold anything; utime and stime are the 12th and 13th after it, in ticks.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    #[test]
    fn time_passes() {
        let before = super::cpu_seconds().unwrap();
        let began = std::time::Instant::now();
        let mut number = 1_u64;
        while super::cpu_seconds().unwrap() < before + 0.05 {
            assert!(began.elapsed().as_secs() < 60);
            number = std::hint::black_box(number.wrapping_mul(3));
        }
        assert!(super::max_fds().is_none_or(|most| most >= super::open_fds().unwrap()));
    }

    #[test]
    fn the_system_tells() {
        assert!(super::resident_bytes().unwrap() > 1 << 20);
        let before = super::open_fds().unwrap();
        assert!(before >= 3);
        // Tests run beside each other in one process: many files, so that others' do not matter.
        let files: Vec<_> = (0..200).map(|_| std::fs::File::open("/proc/self/status").unwrap()).collect();
        assert!(super::open_fds().unwrap() >= before + 100);
        drop(files);
    }
}
