//! How far each running copy is, and when it last went on: a copy that hangs has no error, and no end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use stackferry_transfer::Progress;
use stackferry_volume::VolumeId;

/// All copies that run in this process.
#[derive(Debug, Clone, Default)]
pub(super) struct Copies(Arc<Mutex<BTreeMap<u64, Arc<RunningCopy>>>>);

/// One running copy.
#[derive(Debug)]
pub struct RunningCopy {
    /// What is copied.
    pub volume: VolumeId,
    /// The lengths of all its files, in bytes.
    pub expected: u64,
    done: AtomicU64,
    /// Unix time in milliseconds.
    moved: AtomicI64,
}

impl RunningCopy {
    /// Bytes that are done, in whatever way.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// When it last went on; at first, when it began.
    pub fn moved(&self) -> Option<Timestamp> {
        Timestamp::from_millisecond(self.moved.load(Ordering::Relaxed)).ok()
    }
}

impl Copies {
    pub(super) fn begin(&self, volume: &VolumeId, expected: u64) -> RunningGuard {
        let moved = AtomicI64::new(Timestamp::now().as_millisecond());
        let copy = Arc::new(RunningCopy { volume: volume.clone(), expected, done: AtomicU64::new(0), moved });
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = all.last_key_value().map_or(0, |(last, _)| last + 1);
        all.insert(number, Arc::clone(&copy));
        RunningGuard { copies: self.clone(), number, copy }
    }

    /// All that run now.
    pub(super) fn now(&self) -> Vec<Arc<RunningCopy>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// A copy that runs, until this is dropped.
#[derive(Debug)]
pub struct RunningGuard {
    copies: Copies,
    number: u64,
    copy: Arc<RunningCopy>,
}

impl RunningGuard {
    /// Notes how it goes, and passes it on.
    #[must_use]
    pub fn progress(&self, to: &Arc<dyn Progress>) -> Arc<dyn Progress> {
        Arc::new(Noting { copy: Arc::clone(&self.copy), to: Arc::clone(to) })
    }
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        self.copies.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

struct Noting {
    copy: Arc<RunningCopy>,
    to: Arc<dyn Progress>,
}

impl Progress for Noting {
    fn done(&self, bytes: u64) {
        self.copy.done.fetch_add(bytes, Ordering::Relaxed);
        self.copy.moved.store(Timestamp::now().as_millisecond(), Ordering::Relaxed);
        self.to.done(bytes);
    }
}

#[cfg(test)]
mod tests {
    use stackferry_transfer::NoProgress;

    use super::*;

    #[test]
    fn what_runs_is_told_until_it_ends() {
        let copies = Copies::default();
        let before = Timestamp::from_millisecond(Timestamp::now().as_millisecond()).unwrap();
        let (office, visio): (VolumeId, VolumeId) =
            ("appstack/Office".parse().unwrap(), "appstack/Visio".parse().unwrap());
        let one = copies.begin(&office, 100);
        let two = copies.begin(&visio, 200);
        let progress = one.progress(&(Arc::new(NoProgress) as Arc<dyn Progress>));
        progress.done(30);
        progress.done(12);
        let told: Vec<_> = copies.now().iter().map(|copy| (copy.volume.clone(), copy.done(), copy.expected)).collect();
        assert_eq!(told, [(office, 42, 100), (visio.clone(), 0, 200)]);
        assert!(copies.now().iter().all(|copy| copy.moved().unwrap() >= before));
        drop(one);
        assert_eq!(copies.now().iter().map(|copy| copy.volume.clone()).collect::<Vec<_>>(), [visio]);
        drop(two);
        assert!(copies.now().is_empty());
    }
}
