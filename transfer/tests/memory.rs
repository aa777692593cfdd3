//! A copy's memory does not grow with the file. Alone in its process, so that nothing else is measured.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]
// Ranges of data in a file are lists of ranges, of one as of several.
#![allow(clippy::single_range_in_vec_init)]

#[path = "transfer/support/mod.rs"]
#[allow(dead_code)]
mod support;

use support::Deadline;
use support::files::{MIB, sparse};
use support::place::{BOTH, Place, context};

/// The process's memory in bytes: the most since the last reset.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
}

#[test]
fn a_copy_stays_within_its_memory_budget() {
    let _deadline = Deadline::seconds(300);
    let place = Place::new();
    let name = "apps/a-flat.vmdk";
    sparse(&place.path(name), 2048 * MIB, &[0..100 * MIB, 900 * MIB..1000 * MIB, 1900 * MIB..2000 * MIB]);
    for via in BOTH {
        // Resets the peak (proc(5), clear_refs).
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = peak();
        let sink = place.sink(&format!("{via:?}"), 2048 * MIB);
        let outcome = place.copy(via, place.file(name, &sink), &context()).unwrap();
        assert_eq!(outcome.counts.stored, 300 * MIB);
        let grown = peak().saturating_sub(before);
        // Client and server of the endpoint's route are both in this process.
        assert!(grown < 128 * MIB, "{via:?}: {} MiB", grown / MIB);
        println!("{via:?}: {} MiB", grown / MIB);
    }
}
