//! Waiting for a condition, and tests that end.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Ends the whole test program when what is tested does not end by itself.
pub(crate) struct Deadline(#[allow(dead_code, reason = "its drop is what counts")] Sender<()>);

impl Deadline {
    pub(crate) fn seconds(seconds: u64) -> Self {
        let (alive, dropped) = channel();
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        std::thread::spawn(move || {
            if dropped.recv_timeout(Duration::from_secs(seconds)) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{test} did not end within {seconds} s");
                std::process::exit(101);
            }
        });
        Self(alive)
    }
}

/// Waits until something is so, and fails after 20 s.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        // Not a fixed wait: the condition decides.
        let (_keep, nothing) = channel::<()>();
        let _ = nothing.recv_timeout(Duration::from_millis(10));
    }
}
