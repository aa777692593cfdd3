//! How the service is, for `/readyz`.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use stackferry_config::{Config, KindKey};
use stackferry_discover::ScanProblem;

/// What the parts of the service last said of themselves.
#[derive(Debug)]
pub struct Health {
    every: Mutex<Duration>,
    state: Mutex<HealthState>,
    /// When the service's loop last turned.
    beat: Mutex<Instant>,
}

#[derive(Debug)]
struct HealthState {
    vault: String,
    looked: Option<Instant>,
    failed: Option<String>,
    /// What the last round could not look at.
    not_seen: Vec<ScanProblem>,
}

impl Health {
    /// Nothing is known yet. A discovery round is due `every` so often.
    #[must_use]
    pub fn new(every: Duration) -> Self {
        let state =
            HealthState { vault: "it is not open yet".to_owned(), looked: None, failed: None, not_seen: Vec::new() };
        Self { every: Mutex::new(every), state: Mutex::new(state), beat: Mutex::new(Instant::now()) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, HealthState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rounds are due so often from now on.
    pub fn set_every(&self, every: Duration) {
        *self.every.lock().unwrap_or_else(PoisonError::into_inner) = every;
    }

    /// The service's loop turns.
    pub fn beat(&self) {
        *self.beat.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long ago the service's loop turned last.
    pub fn since_beat(&self) -> Duration {
        self.beat.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Why the vault is not open.
    #[must_use]
    pub fn vault(&self) -> String {
        self.state().vault.clone()
    }

    /// The vault can't be opened, and why.
    pub fn vault_failed(&self, why: &str) {
        self.state().vault = why.to_owned();
    }

    /// A round of discovery succeeded.
    pub fn round_succeeded(&self) {
        let mut state = self.state();
        state.looked = Some(Instant::now());
        state.failed = None;
    }

    /// What the last round found beside volumes.
    pub fn found(&self, problems: &[ScanProblem]) {
        self.state().not_seen = problems.iter().filter(|problem| problem.code.hides_volumes()).cloned().collect();
    }

    /// What the last round could not look at.
    #[must_use]
    pub fn not_seen(&self) -> Vec<ScanProblem> {
        self.state().not_seen.clone()
    }

    /// A round of discovery failed, and why.
    pub fn round_failed(&self, why: &str) {
        self.state().failed = Some(why.to_owned());
    }

    /// Whether no round has ended yet, well or badly.
    pub fn is_new(&self) -> bool {
        let state = self.state();
        state.looked.is_none() && state.failed.is_none()
    }

    /// Why discovery counts as not working; none while a round succeeded within three times its interval.
    #[must_use]
    pub fn discovery(&self) -> Option<String> {
        let every = *self.every.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state();
        let text = match state.looked {
            Some(at) if at.elapsed() <= every * 3 => return None,
            Some(at) => format!("the last round that succeeded was {} s ago", at.elapsed().as_secs()),
            None => "no round has succeeded yet".to_owned(),
        };
        Some(match &state.failed {
            Some(why) => format!("{text}: {why}"),
            None => text,
        })
    }
}

/// The time between two rounds: the shortest of all kinds.
#[must_use]
pub fn shortest_interval(config: &Config) -> Duration {
    let schedule = &config.schedule;
    let kinds = KindKey::ALL.into_iter().map(|kind| schedule.of(kind).every.duration());
    kinds.fold(schedule.every.duration(), Duration::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discovery_is_ready_for_three_rounds() {
        let health = Health::new(Duration::from_secs(60));
        health.round_failed("nothing answers");
        assert_eq!(health.discovery().unwrap(), "no round has succeeded yet: nothing answers");
        health.round_succeeded();
        assert_eq!(health.discovery(), None);
        let ago = |seconds| health.state().looked = Instant::now().checked_sub(Duration::from_secs(seconds));
        ago(179);
        assert_eq!(health.discovery(), None);
        ago(181);
        assert_eq!(health.discovery().unwrap(), "the last round that succeeded was 181 s ago");
    }
}
