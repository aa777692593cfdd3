//! A clock that jumps: seen by comparing it with the monotonic one.
//!
//! Rounds don't depend on it, but retention does: by a clock that is a month ahead it would delete what it keeps today. So once the
//! clock is ahead of what it was at the start by more than an hour, nothing is deleted until somebody has looked at it. One that
//! was put back and forth again is where it was.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

use stackferry_engine::app::App;

/// What a clock may be set by without anybody minding: what time services do in one step at a start.
const SET: SignedDuration = SignedDuration::from_mins(1);
/// Forward by more than this nothing is deleted until somebody confirms the clock.
const FREEZES: SignedDuration = SignedDuration::from_hours(1);

/// By how much the clock jumped since the start.
pub(super) struct ClockGuard {
    wall: Timestamp,
    monotonic: Instant,
    ahead: SignedDuration,
    /// Nothing may be deleted, or it was not looked yet whether it may.
    frozen: bool,
}

impl ClockGuard {
    pub(super) fn new(app: &App) -> Self {
        Self { wall: app.now(), monotonic: Instant::now(), ahead: SignedDuration::ZERO, frozen: true }
    }

    /// By how much the clock jumped since the last look; negative: back.
    fn jumped(&mut self, wall: Timestamp, monotonic: Instant) -> SignedDuration {
        let passed = monotonic.saturating_duration_since(self.monotonic);
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        let jump = wall.duration_since(self.wall).saturating_sub(passed);
        (self.wall, self.monotonic) = (wall, monotonic);
        self.ahead = self.ahead.saturating_add(jump);
        jump
    }

    /// Somebody said before this jump that the clock was right: from there on it is counted.
    fn confirmed(&mut self, jump: SignedDuration) {
        self.frozen = false;
        self.ahead = jump.max(SignedDuration::ZERO);
    }

    /// Looks whether the clock jumped, and does what has to be done about it.
    pub(super) async fn look(&mut self, app: &App) {
        let jump = self.jumped(app.now(), Instant::now());
        if self.frozen && matches!(app.jobs().prune_frozen().await, Ok(None)) {
            self.confirmed(jump);
        }
        if jump.abs() < SET && self.ahead <= FREEZES {
            return;
        }
        tracing::warn!(seconds = jump.as_secs(), "the clock jumped");
        if jump.is_negative() {
            // What was to be tried again soon would wait until the clock is where it was.
            if let Err(error) = app.catalog().end_job_delays().await {
                tracing::error!(error = %stackferry_transfer::describe(&error), "delays of jobs could not be ended");
            }
        }
        if self.ahead > FREEZES {
            let why = format!("the clock jumped forward by {} minutes", self.ahead.as_mins());
            match app.jobs().freeze_prune(&why).await {
                Ok(()) => {
                    self.ahead = SignedDuration::ZERO;
                    self.frozen = true;
                    tracing::error!(
                        hint = "look at the machine's clock, then run `stackferry prune --confirm-clock`",
                        "no version is deleted until the clock is confirmed: {why}"
                    );
                }
                Err(problem) => {
                    tracing::error!(code = %problem.code, "pruning could not be frozen: {}", problem.message)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: i64 = 3600;

    /// Looks at these seconds of the wall clock, and of the monotonic one; gives the jump in seconds.
    fn look(jumps: &mut ClockGuard, start: Instant, wall_seconds: i64, seconds: u64) -> i64 {
        let wall: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let at = wall + SignedDuration::from_secs(wall_seconds);
        jumps.jumped(at, start + Duration::from_secs(seconds)).as_secs()
    }

    fn jumps(start: Instant) -> ClockGuard {
        let wall = "2026-11-22T12:00:00Z".parse().unwrap();
        ClockGuard { wall, monotonic: start, ahead: SignedDuration::ZERO, frozen: false }
    }

    #[test]
    fn only_what_the_clock_moved_by_itself_is_a_jump() {
        let start = Instant::now();
        let mut jumps = jumps(start);
        let mut look = |wall, seconds| look(&mut jumps, start, wall, seconds);
        assert_eq!(look(7200, 7200), 0, "time passed");
        assert_eq!(look(7200 + 3700, 7300), 3600, "an hour forward");
        assert_eq!(look(7200 + 3800, 7400), 0, "seen once");
        assert_eq!(look(7500, 7500), -3600, "and back");
        assert_eq!(look(7500, 7500), 0);
        assert_eq!(jumps.ahead, SignedDuration::ZERO, "it is where it was");
    }

    #[test]
    fn a_confirmed_clock_is_counted_from_there() {
        let start = Instant::now();
        let mut jumps = jumps(start);
        jumps.frozen = true;
        assert_eq!(look(&mut jumps, start, -3 * HOUR, 0), -3 * HOUR, "put back while nothing may be deleted");
        jumps.confirmed(SignedDuration::ZERO);
        assert!(!jumps.frozen && jumps.ahead.is_zero());
        assert_eq!(look(&mut jumps, start, 0, 0), 3 * HOUR);
        assert!(jumps.ahead > FREEZES, "ahead again");
        // Between two looks it was confirmed, and jumped.
        jumps.confirmed(SignedDuration::from_secs(3 * HOUR));
        assert!(jumps.ahead > FREEZES);
        jumps.confirmed(SignedDuration::from_secs(-3 * HOUR));
        assert!(jumps.ahead.is_zero());
    }
}
