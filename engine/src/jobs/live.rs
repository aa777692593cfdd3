//! How far a running job is: counted by its threads, asked for by whoever watches.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use stackferry_transfer::Progress;
use stackferry_volume::io::Cancel;

use super::JobProgress;

/// The speed is that of the last so many seconds: what a person calls "now".
const LATELY: Duration = Duration::from_secs(20);
/// Samples are so far apart at least, so that there are few of them however often somebody asks.
const APART: Duration = Duration::from_millis(500);

/// A job that this process works on.
pub struct Live {
    done: AtomicU64,
    expected: AtomicU64,
    since: Timestamp,
    samples: Mutex<VecDeque<(Instant, u64)>>,
    cancel: Cancel,
}

impl Live {
    pub(crate) fn new(cancel: Cancel) -> Self {
        let samples = Mutex::new(VecDeque::from([(Instant::now(), 0)]));
        Self { done: AtomicU64::new(0), expected: AtomicU64::new(0), since: Timestamp::now(), samples, cancel }
    }

    /// So many bytes are to be done.
    pub fn expect(&self, bytes: u64) {
        self.expected.store(bytes, Ordering::Relaxed);
    }

    /// Ends the job.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    pub(super) fn progress(&self) -> JobProgress {
        self.progress_at(Instant::now())
    }

    fn progress_at(&self, now: Instant) -> JobProgress {
        let (done, expected) = (self.done.load(Ordering::Relaxed), self.expected.load(Ordering::Relaxed));
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        while samples.len() > 1 && samples.front().is_some_and(|(at, _)| now.duration_since(*at) > LATELY) {
            samples.pop_front();
        }
        let rate = samples.front().map_or(0.0, |(at, before)| {
            let took = now.duration_since(*at).as_secs_f64();
            if took > 0.0 { done.saturating_sub(*before) as f64 / took } else { 0.0 }
        });
        if samples.back().is_none_or(|(at, _)| now.duration_since(*at) >= APART) {
            samples.push_back((now, done));
        }
        let left = expected.saturating_sub(done);
        let eta = (rate > 0.0 && expected > 0).then(|| Duration::try_from_secs_f64(left as f64 / rate).ok()).flatten();
        let eta_seconds = eta.map(|eta| eta.as_secs());
        JobProgress { done, expected, since: self.since, bytes_per_second: rate, eta_seconds }
    }
}

impl Progress for Live {
    fn done(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_is_that_of_the_last_seconds() {
        let live = Live::new(Cancel::default());
        let start = live.samples.lock().unwrap()[0].0;
        live.expect(1000);
        let at = |seconds| live.progress_at(start + Duration::from_secs(seconds));
        live.done(100);
        assert_eq!((at(10).bytes_per_second, at(10).eta_seconds), (10.0, Some(90)));
        for second in 11..=60 {
            live.done(2);
            at(second);
        }
        let slow = at(60);
        assert_eq!((slow.done, slow.bytes_per_second, slow.eta_seconds), (200, 2.0, Some(400)));
        assert!(live.samples.lock().unwrap().len() <= 41);
        assert_eq!(at(200).eta_seconds, None, "it does not move: nobody can tell");
    }
}
