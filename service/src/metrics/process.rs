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

#[cfg(test)]
mod tests {
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
