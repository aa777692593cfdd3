//! What is to be done with one volume: copy it, or leave it alone, and why.

use jiff::{SignedDuration, Timestamp};
use stackferry_catalog::{Priority, StatusReason, VolumeRow};
use stackferry_discover::{Due, ReasonCode, Volume, VolumeState, due};
use stackferry_volume::manifest::LeftOut;
use stackferry_volume::{VersionId, VolumeId};

use super::windows;
use crate::app::App;
use crate::kinds::config_kind;
use stackferry_problem::{Problem, shell};

/// What became of one volume in a round.
#[derive(Debug)]
pub struct VolumeResult {
    /// The volume.
    pub volume: VolumeId,
    /// What became of it.
    pub outcome: RoundOutcome,
    /// The version that was made, or that it equals.
    pub version: Option<VersionId>,
    /// Why it was deferred, can't be protected, or failed.
    pub reason: Option<StatusReason>,
    /// The failure in full.
    pub problem: Option<Problem>,
    /// Files beside the disk that the version does not hold.
    pub left_out: Vec<LeftOut>,
}

/// The words of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoundOutcome {
    /// A version was made.
    Copied,
    /// It equals a committed version, by its fingerprint or by its digests.
    Unchanged,
    /// It is postponed.
    Deferred,
    /// Its copy failed.
    Failed,
    /// It can't be copied as it is.
    Unprotectable,
}

/// What is to be done with a volume.
pub enum Decision {
    /// It is due, so urgently.
    Copy(Priority),
    /// It is left alone, and why.
    Leave(Box<VolumeResult>),
    /// It is not at its source: there is nothing to be said of it in a round.
    Forget,
}

/// Whether a volume that was found due still is, by what the catalog knows now.
pub(crate) async fn decide_again(app: &App, volume: &Volume) -> Result<Decision, Problem> {
    let row = app.catalog().volume(&volume.id).await?;
    decide(app, volume, row.as_ref()).await
}

/// Whether a volume, as discovery just saw it, is to be copied. `row` is what the catalog knows of it.
pub async fn decide(app: &App, volume: &Volume, row: Option<&VolumeRow>) -> Result<Decision, Problem> {
    let reason =
        volume.reason.as_ref().map(|reason| StatusReason { code: reason.code.to_string(), text: reason.text.clone() });
    let leave = |outcome, version| {
        let (volume, reason) = (volume.id.clone(), reason.clone());
        let left = VolumeResult { volume, outcome, version, reason, problem: None, left_out: Vec::new() };
        Ok(Decision::Leave(Box::new(left)))
    };
    match volume.state {
        VolumeState::Gone => return Ok(Decision::Forget),
        VolumeState::Deferred => return leave(RoundOutcome::Deferred, None),
        VolumeState::Unprotectable => return leave(RoundOutcome::Unprotectable, None),
        VolumeState::Ready | VolumeState::Conflict | VolumeState::Incident => {}
    }
    let Some(row) = row else { return Ok(Decision::Copy(Priority::NEVER_COPIED)) };
    let baselines = app.catalog().baselines(&volume.id).await?;
    let now = Timestamp::now();
    let max_age = app.config().schedule.of(config_kind(volume.kind)).max_age;
    let max_age = max_age.and_then(|age| SignedDuration::try_from(age.duration()).ok());
    // Every place is asked, not only the one that would be read: a change at any of them is one.
    let mut verdict = Due::No;
    for place in volume.usable() {
        let one = due(place, &baselines, row.good_versions > 0, max_age, row.last_success, now);
        if one != Due::No {
            verdict = one;
            break;
        }
    }
    match verdict {
        Due::No => leave(RoundOutcome::Unchanged, row.last_version.clone()),
        why => {
            let paused = paused(app, &volume.id).await?;
            if let Some(reason) = windows::closed(app.config(), &app.local_time(), volume.kind).or(paused) {
                let (volume, outcome) = (volume.id.clone(), RoundOutcome::Deferred);
                let left = VolumeResult {
                    volume,
                    outcome,
                    version: None,
                    reason: Some(reason),
                    problem: None,
                    left_out: Vec::new(),
                };
                return Ok(Decision::Leave(Box::new(left)));
            }
            tracing::debug!(volume = %volume.id, ?why, "it is due");
            Ok(Decision::Copy(priority(&why, max_age, row.last_success, now)))
        }
    }
}

/// What is at risk for longest goes first: one that changed too, where its last copy is too old.
fn priority(why: &Due, max_age: Option<SignedDuration>, last: Option<Timestamp>, now: Timestamp) -> Priority {
    let is_old = max_age.is_some_and(|age| last.is_none_or(|last| now.duration_since(last).abs() >= age));
    match why {
        Due::Never => Priority::NEVER_COPIED,
        Due::Overdue { .. } => Priority::OVERDUE,
        _ if is_old => Priority::OVERDUE,
        _ => Priority::CHANGED,
    }
}

/// Why a volume that is due is not copied by itself: somebody paused it, or all.
async fn paused(app: &App, volume: &VolumeId) -> Result<Option<StatusReason>, Problem> {
    let pauses = app.catalog().pauses().await?;
    let pause = pauses.into_iter().find(|pause| pause.volume.as_ref().is_none_or(|paused| paused == volume));
    Ok(pause.map(|pause| {
        let (what, again) = match pause.volume {
            None => ("copying is paused", "`stackferry resume`".to_owned()),
            Some(volume) => ("it is paused", format!("`stackferry resume {}`", shell(volume))),
        };
        let text = format!("{what}, by {} since {}; {again} goes on", pause.actor, pause.since.strftime("%F %H:%MZ"));
        StatusReason { code: ReasonCode::Paused.to_string(), text }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_old_goes_before_what_only_changed() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let day = SignedDuration::from_hours(24);
        let changed = Due::Changed { what: String::new() };
        let of = |age, hours| priority(&changed, age, Some(now - SignedDuration::from_hours(hours)), now);
        assert_eq!(of(Some(day), 23), Priority::CHANGED);
        assert_eq!(of(Some(day), 24), Priority::OVERDUE);
        assert_eq!(of(None, 9999), Priority::CHANGED, "its kind is read when it changes");
        assert_eq!(priority(&changed, Some(day), None, now), Priority::OVERDUE);
        assert_eq!(priority(&Due::Overdue { since: None }, Some(day), None, now), Priority::OVERDUE);
        assert_eq!(priority(&Due::Never, None, None, now), Priority::NEVER_COPIED);
        assert!(Priority::NEVER_COPIED > Priority::OVERDUE && Priority::OVERDUE > Priority::CHANGED);
    }
}
