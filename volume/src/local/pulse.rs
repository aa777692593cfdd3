//! Which calls to a mounted file system have not returned.
//!
//! A mount whose server is away lets a call wait for ever, and nothing can end it: neither a signal nor a deadline. So calls
//! are counted while they last, and who waits for what they are for can see that none returns any more, and go on.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The calls to one mount that have not returned.
#[derive(Debug, Default)]
pub struct Pulse(Mutex<Calls>);

#[derive(Debug, Default)]
struct Calls {
    next: u64,
    since: BTreeMap<u64, Instant>,
}

impl Pulse {
    /// Makes a call that may not return.
    pub fn call<T>(&self, work: impl FnOnce() -> T) -> T {
        let _calling = self.begin();
        work()
    }

    fn begin(&self) -> Calling<'_> {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = calls.next;
        calls.next = number.wrapping_add(1);
        calls.since.insert(number, Instant::now());
        Calling { pulse: self, number }
    }

    /// For how long the oldest call has been waiting; none if none waits.
    #[must_use]
    pub fn waiting(&self) -> Option<Duration> {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.since.values().min().map(Instant::elapsed)
    }
}

struct Calling<'p> {
    pulse: &'p Pulse,
    number: u64,
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        self.pulse.0.lock().unwrap_or_else(PoisonError::into_inner).since.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_waits_until_it_returns_or_panics() {
        let pulse = Pulse::default();
        assert!(pulse.call(|| pulse.waiting().is_some()));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pulse.call(|| panic!("x")))).is_err());
        assert_eq!(pulse.waiting(), None);
    }
}
