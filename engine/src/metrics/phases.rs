//! Where the time of copies goes. It is counted as it passes, whatever becomes of the copy.

use std::cell::Cell;
use std::time::Instant;

use prometheus::CounterVec;

/// A part of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Looking once more whether it may be copied, room in the vault, the last version, an interrupted copy.
    Plan,
    /// Reading, sending, checking and writing blocks; what an interrupted copy left is hashed again here.
    Transfer,
    /// Looking whether the source is still what it was.
    Check,
    /// Bringing it onto the disk, reading it back where that is wanted, and making it a version.
    Commit,
}

impl Phase {
    /// All of them, in their order.
    pub const ALL: [Phase; 4] = [Phase::Plan, Phase::Transfer, Phase::Check, Phase::Commit];

    /// Its word in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Phase::Plan => "plan",
            Phase::Transfer => "transfer",
            Phase::Check => "check",
            Phase::Commit => "commit",
        }
    }
}

/// The clock of one copy: it runs for one phase at a time, from [`Phase::Plan`] on until it is dropped.
pub struct Phases {
    seconds: CounterVec,
    now: Cell<(Phase, Instant)>,
}

impl Phases {
    pub(super) fn new(seconds: &CounterVec) -> Self {
        Self { seconds: seconds.clone(), now: Cell::new((Phase::Plan, Instant::now())) }
    }

    /// The phase before is over, and this one begins.
    pub fn enter(&self, phase: Phase) {
        let now = Instant::now();
        let (before, since) = self.now.replace((phase, now));
        if let Ok(counter) = self.seconds.get_metric_with_label_values(&[before.as_str()]) {
            counter.inc_by(now.duration_since(since).as_secs_f64());
        }
    }
}

impl Drop for Phases {
    fn drop(&mut self) {
        self.enter(self.now.get().0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::Opts;

    use super::*;

    #[test]
    fn each_moment_is_counted_for_one_phase() {
        let seconds = CounterVec::new(Opts::new("seconds", "Seconds."), &["phase"]).unwrap();
        let told = |phase: Phase| seconds.with_label_values(&[phase.as_str()]).get();
        let began = Instant::now();
        let phases = Phases::new(&seconds);
        let pass = || {
            let from = Instant::now();
            while from.elapsed() < Duration::from_millis(2) {
                std::hint::spin_loop();
            }
        };
        pass();
        phases.enter(Phase::Transfer);
        pass();
        phases.enter(Phase::Check);
        phases.enter(Phase::Transfer);
        pass();
        assert!(told(Phase::Plan) >= 0.002);
        let before = told(Phase::Transfer);
        assert!(before >= 0.002);
        drop(phases);
        assert!(told(Phase::Transfer) >= before + 0.002, "the last phase ends with the copy");
        let sum: f64 = Phase::ALL.into_iter().map(told).sum();
        assert!(sum <= began.elapsed().as_secs_f64() + 1e-6);
        assert!(told(Phase::Commit).abs() < f64::EPSILON);
    }
}
