//! The bandwidth limit: one for all transfers of a process, so that one may use what others leave.
//!
//! A transfer counts the bytes it has moved, and learns how long to wait before it moves more. Nothing is refused: each
//! transfer waits for its own bytes and those that were counted before them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use stackferry_volume::io::Cancel;

/// What may be moved at once after a pause, in time: short enough not to show as a burst, longer than a block of 1 MiB
/// takes on a link of 1 Gbit/s.
const BURST: Duration = Duration::from_millis(100);
/// How often a waiting transfer checks whether it was cancelled or the limit changed.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The rate that stands for no limit: no link is so fast.
const UNLIMITED: u64 = u64::MAX;

/// A limit of bytes per second, which may be changed while transfers run.
#[derive(Debug)]
pub struct Throttle {
    rate: AtomicU64,
    /// When everything counted so far has passed.
    free: Mutex<Instant>,
    /// Never notified: waiting for it with a timeout is how a thread sleeps.
    never: Condvar,
}

impl Throttle {
    /// A limit of so many bytes per second, at least 1.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Self {
        let rate = AtomicU64::new(bytes_per_second.max(1));
        Self { rate, free: Mutex::new(Instant::now()), never: Condvar::new() }
    }

    /// No limit for now.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(UNLIMITED)
    }

    /// The limit in bytes per second; 2^64 - 1 without one.
    #[must_use]
    pub fn rate(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }

    /// Changes the limit; none for no limit. Waiting transfers continue at once under the new limit: what was counted under
    /// the old one and has not passed yet is dropped.
    pub fn set_rate(&self, bytes_per_second: Option<u64>) {
        let rate = bytes_per_second.unwrap_or(UNLIMITED).max(1);
        if self.rate.swap(rate, Ordering::Relaxed) != rate {
            *self.free.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }

    /// Counts bytes that were moved, and returns how long to wait before moving more.
    #[must_use]
    pub fn count(&self, bytes: u64) -> Duration {
        self.count_at(bytes, Instant::now())
    }

    fn count_at(&self, bytes: u64, now: Instant) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate());
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        // Bandwidth not used in a pause is lost but for the burst.
        let from = now.checked_sub(BURST).map_or(*free, |earliest| earliest.max(*free));
        *free = from.checked_add(takes).unwrap_or(from);
        free.saturating_duration_since(now)
    }

    /// Counts bytes that were moved, and blocks this thread. Returns early when cancelled.
    pub fn acquire(&self, bytes: u64, cancel: &Cancel) {
        let rate = self.rate();
        let waits = self.count(bytes);
        let began = Instant::now();
        let lock = Mutex::new(());
        let mut guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        while let left = waits.saturating_sub(began.elapsed())
            && !left.is_zero()
            && !cancel.is_cancelled()
            && rate == self.rate()
        {
            let waited = self.never.wait_timeout(guard, left.min(POLL_INTERVAL));
            guard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Counts bytes that were moved, and waits. Returns early when cancelled. Returns how long it waited.
    pub async fn acquire_async(&self, bytes: u64, ended: &dyn Fn() -> bool) -> Duration {
        let began = Instant::now();
        let rate = self.rate();
        let waits = self.count(bytes);
        while let left = waits.saturating_sub(began.elapsed())
            && !left.is_zero()
            && !ended()
            && rate == self.rate()
        {
            tokio::time::sleep(left.min(POLL_INTERVAL)).await;
        }
        began.elapsed()
    }

    /// The memory for a connection's receive window: no more than what passes in a few seconds, since data waiting in the
    /// window delays the peer's keepalives behind it.
    #[must_use]
    pub fn bound(&self, memory: u64) -> u64 {
        // A window is a quarter of the memory: two seconds' worth.
        memory.min(self.rate().saturating_mul(8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_all_transfers_pass_at_the_rate() {
        let throttle = Throttle::new(1 << 20);
        let start = Instant::now() + Duration::from_secs(60);
        let burst = throttle.count_at(1 << 20, start);
        assert_eq!(burst, Duration::from_millis(900), "after a pause a little passes at once");
        assert_eq!(throttle.count_at(1 << 20, start), Duration::from_millis(1900), "the second waits for the first");
        let later = start + Duration::from_secs(10);
        assert_eq!(
            throttle.count_at(1 << 20, later),
            Duration::from_millis(900),
            "a pause saves up nothing but the burst"
        );
        assert_eq!(throttle.count_at(0, later), Duration::from_millis(900));
    }

    #[test]
    fn huge_counts_do_not_panic() {
        let throttle = Throttle::new(0);
        assert_eq!(throttle.rate(), 1);
        let now = Instant::now();
        let _ = throttle.count_at(u64::MAX, now);
        let _ = throttle.count_at(u64::MAX, now);
        assert_eq!(Throttle::new(1 << 20).bound(96 << 20), 8 << 20);
        assert_eq!(Throttle::new(u64::MAX).bound(96 << 20), 96 << 20);
    }

    #[test]
    fn a_waiting_thread_stops_when_cancelled() {
        let throttle = Throttle::new(1);
        let cancel = Cancel::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| throttle.acquire(1 << 30, &cancel));
            cancel.cancel();
            waiting.join().unwrap();
        });
        let began = Instant::now();
        Throttle::new(10_000_000).acquire(2_000_000, &Cancel::default());
        assert!(began.elapsed() >= Duration::from_millis(100), "200 ms less the burst: {:?}", began.elapsed());
    }

    #[test]
    fn a_new_limit_releases_waiting_transfers() {
        let throttle = Throttle::new(1);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| throttle.acquire(1 << 30, &Cancel::default()));
            let deadline = Instant::now() + Duration::from_secs(10);
            while *throttle.free.lock().unwrap() < Instant::now() + Duration::from_secs(1) {
                assert!(Instant::now() < deadline, "no thread waits");
                std::thread::yield_now();
            }
            throttle.set_rate(None);
            waiting.join().unwrap();
        });
        assert!(throttle.count(1 << 40).is_zero(), "what the old limit held back is dropped");
        throttle.set_rate(Some(1 << 20));
        assert_eq!(throttle.rate(), 1 << 20);
        assert!(throttle.count(2 << 20) >= Duration::from_secs(1));
        throttle.set_rate(Some(1 << 20));
        assert!(throttle.count(0) >= Duration::from_secs(1), "setting the same limit drops nothing");
    }

    #[tokio::test]
    async fn a_waiting_task_stops_when_cancelled() {
        let throttle = Throttle::new(1);
        assert!(throttle.acquire_async(1 << 30, &|| true).await < Duration::from_secs(60));
        assert!(Throttle::new(10_000_000).acquire_async(2_000_000, &|| false).await >= Duration::from_millis(100));
    }
}
