//! One full round: look, decide, copy what is due, within the caps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use stackferry_catalog::{Outcome, Priority, Reason, Trigger, VolumeRow};
use stackferry_discover::{Due, ReasonCode, ScanProblem, State, Volume, VolumeLocation, due};
use stackferry_volume::manifest::LeftOut;
use stackferry_volume::{VersionId, VolumeId};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::copy::{self, Wanted};
use super::windows;
use super::{debts, inventory};
use crate::app::{App, blocking, config_kind};
use crate::problem::{Code, Problem, shell};
use crate::progress::Reporter;

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
    pub reason: Option<Reason>,
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
    /// It is left alone for now.
    Deferred,
    /// Its copy failed.
    Failed,
    /// It can't be copied as it is.
    Unprotectable,
}

/// What a round came to.
#[derive(Debug)]
pub struct RoundResult {
    /// Every volume that is at its source, by id.
    pub volumes: Vec<VolumeResult>,
    /// What else a person should know.
    pub problems: Vec<ScanProblem>,
    /// Whether no datastore could be looked at.
    pub blind: bool,
    /// Whether some datastore could not be looked at in full.
    pub partial: bool,
    /// Whether it was ended before its time.
    pub interrupted: bool,
}

impl RoundResult {
    /// How many volumes came to this.
    #[must_use]
    pub fn count(&self, outcome: RoundOutcome) -> usize {
        self.volumes.iter().filter(|volume| volume.outcome == outcome).count()
    }
}

/// Does one round.
///
/// # Errors
/// What keeps all volumes from being copied: the catalog's, the vault's.
pub async fn run(app: &App, trigger: Trigger, reporter: &Reporter) -> Result<RoundResult, Problem> {
    let vault = app.vault().await?;
    for (id, volume) in app.catalog().close_interrupted_attempts().await? {
        tracing::info!(attempt = %id, %volume, "an attempt that was cut off is closed");
    }
    let sweeping = vault.clone();
    let swept = blocking(move || sweeping.sweep(Timestamp::now())).await?;
    if let Err(error) = swept {
        tracing::warn!(error = %stackferry_transfer::describe(&error), "leftovers in the vault could not be swept");
    }
    debts::pay(app).await?;
    let round = inventory::look(app).await?;
    let mut volumes = Vec::new();
    let mut waiting = Vec::new();
    let mut unchanged = Vec::new();
    for volume in round.inventory.volumes {
        let row = app.catalog().volume(&volume.id).await?;
        match decide(app, &volume, row.as_ref()).await? {
            Decision::Copy(_) => waiting.push(volume),
            Decision::Leave(result) => {
                if result.outcome == RoundOutcome::Unchanged {
                    unchanged.push(result.volume.clone());
                }
                volumes.push(*result);
            }
            Decision::Forget => {}
        }
    }
    app.catalog().confirm(&unchanged, Timestamp::now()).await?;
    let (copied, interrupted) = copy_all(app, waiting, trigger, reporter).await?;
    volumes.extend(copied);
    volumes.sort_by(|one, other| one.volume.cmp(&other.volume));
    let blind = round.reachable == 0 && round.datastores > 0;
    let partial = round.complete < round.datastores || round.systems_away > 0;
    Ok(RoundResult { volumes, problems: round.problems, blind, partial, interrupted })
}

/// What is to be done with a volume.
pub(crate) enum Decision {
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
pub(crate) async fn decide(app: &App, volume: &Volume, row: Option<&VolumeRow>) -> Result<Decision, Problem> {
    let reason =
        volume.reason.as_ref().map(|reason| Reason { code: reason.code.to_string(), text: reason.text.clone() });
    let leave = |outcome, version| {
        let (volume, reason) = (volume.id.clone(), reason.clone());
        let left = VolumeResult { volume, outcome, version, reason, problem: None, left_out: Vec::new() };
        Ok(Decision::Leave(Box::new(left)))
    };
    match volume.state {
        State::Gone => return Ok(Decision::Forget),
        State::Deferred => return leave(RoundOutcome::Deferred, None),
        State::Unprotectable => return leave(RoundOutcome::Unprotectable, None),
        State::Ready | State::Conflict | State::Incident => {}
    }
    let Some(row) = row else { return Ok(Decision::Copy(Priority::NEVER_COPIED)) };
    let baselines: Vec<_> = app
        .catalog()
        .baselines(&volume.id)
        .await?
        .into_iter()
        .map(|baseline| {
            let stackferry_catalog::Baseline { location, fingerprint, settled, .. } = baseline;
            stackferry_discover::Baseline { location, fingerprint, settled }
        })
        .collect();
    let now = Timestamp::now();
    let max_age = app.config().schedule.of(config_kind(volume.kind)).max_age;
    let max_age = max_age.and_then(|age| SignedDuration::try_from(age.duration()).ok());
    // Every place is asked, not only the one that would be read: a change at any of them is one.
    let mut verdict = Due::No;
    for place in volume.usable() {
        let one = due(volume, place, &baselines, row.good_versions > 0, max_age, row.last_success, now);
        if one != Due::No {
            verdict = one;
            break;
        }
    }
    match verdict {
        Due::No => leave(RoundOutcome::Unchanged, row.last_version.clone()),
        why => {
            let paused = paused(app, &volume.id).await?;
            if let Some(reason) = windows::closed(app, volume.kind).or(paused) {
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
async fn paused(app: &App, volume: &VolumeId) -> Result<Option<Reason>, Problem> {
    let pauses = app.catalog().pauses().await?;
    let pause = pauses.into_iter().find(|pause| pause.volume.as_ref().is_none_or(|paused| paused == volume));
    Ok(pause.map(|pause| {
        let (what, again) = match pause.volume {
            None => ("copying is paused", "`stackferry resume`".to_owned()),
            Some(volume) => ("it is paused", format!("`stackferry resume {}`", shell(volume))),
        };
        let text = format!("{what}, by {} since {}; {again} goes on", pause.actor, pause.since.strftime("%F %H:%MZ"));
        Reason { code: ReasonCode::Paused.to_string(), text }
    }))
}

/// Copies volumes side by side: `limits.transfers` at once, `limits.per_host` from one host, `limits.per_datastore` from one
/// datastore.
async fn copy_all(
    app: &App,
    waiting: Vec<Volume>,
    trigger: Trigger,
    reporter: &Reporter,
) -> Result<(Vec<VolumeResult>, bool), Problem> {
    let limits = &app.config().limits;
    let all = Arc::new(Semaphore::new(usize::try_from(limits.transfers).unwrap_or(1).max(1)));
    let per_host = usize::try_from(limits.per_host).unwrap_or(1).max(1);
    let mut hosts: BTreeMap<String, Arc<Semaphore>> = BTreeMap::new();
    let mut datastores: BTreeMap<String, Arc<Semaphore>> = BTreeMap::new();
    let per_datastore = usize::try_from(limits.per_datastore.unwrap_or(limits.transfers)).unwrap_or(1).max(1);
    let mut copies = JoinSet::new();
    for volume in waiting {
        let place = copy::first_place(app, &volume).await?;
        let host = place.map_or_else(|| "local".to_owned(), |place| host(app, place));
        let datastore = place.map(datastore).unwrap_or_default();
        // Disks that are mounted here are no host of somebody else's: only the cap of all transfers holds for them.
        let room = if host == "local" { limits.transfers } else { limits.per_host };
        let room = usize::try_from(room).unwrap_or(per_host).max(1);
        let host = Arc::clone(hosts.entry(host).or_insert_with(|| Arc::new(Semaphore::new(room))));
        let datastore = datastores.entry(datastore);
        let datastore = Arc::clone(datastore.or_insert_with(|| Arc::new(Semaphore::new(per_datastore))));
        let (app, all, reporter) = (app.clone(), Arc::clone(&all), reporter.clone());
        copies.spawn(async move {
            // A semaphore that is closed is one of a program that ends; none of these is ever closed.
            let _host = host.acquire().await;
            let _datastore = datastore.acquire().await;
            let _all = all.acquire().await;
            copy_one(&app, volume, trigger, &reporter).await
        });
    }
    let mut results = Vec::new();
    let mut interrupted = false;
    while let Some(joined) = copies.join_next().await {
        match joined {
            Ok(Some(result)) => results.push(result),
            Ok(None) => interrupted = true,
            // The panic is in the log; the others go on.
            Err(error) => return Err(Problem::internal(format!("a copy failed: {error}"))),
        }
    }
    Ok((results, interrupted))
}

/// The datastore of a place, for the cap per datastore.
pub(crate) fn datastore(place: &VolumeLocation) -> String {
    format!("{}/{}", place.location.site, place.location.datastore)
}

/// The host that is asked for what lies at a place, for the cap per host.
pub(crate) fn host(app: &App, place: &VolumeLocation) -> String {
    let datastore = app.datastore(&place.location.site, &place.location.datastore);
    match datastore.map(|datastore| &datastore.route) {
        Some(stackferry_config::Route::Endpoint(endpoint)) => endpoint.host.to_string(),
        Some(stackferry_config::Route::Ssh(ssh)) => ssh.host.to_string(),
        // Which of the hosts that mount it will be asked is not known yet: they share the cap.
        Some(stackferry_config::Route::Esxi(esxi)) => esxi.vsphere.to_string(),
        _ => "local".to_owned(),
    }
}

/// None where the round was ended before it began.
pub(crate) async fn copy_one(app: &App, volume: Volume, trigger: Trigger, reporter: &Reporter) -> Option<VolumeResult> {
    if app.cancel().is_cancelled() {
        return None;
    }
    let bytes = copy::choose_bytes(&volume);
    let task = reporter.start("copying", &volume.id.to_string(), bytes);
    let actor = trigger.to_string();
    let wanted = Wanted { if_changed: true, trigger, actor, wait: Duration::ZERO, progress: task.progress() };
    let done = copy::copy(app, &volume, wanted).await;
    let id = volume.id.clone();
    let result = |outcome, version, reason, problem, left_out| {
        Some(VolumeResult { volume: id.clone(), outcome, version, reason, problem, left_out })
    };
    match done {
        Ok(done) => {
            task.finish(done.outcome.as_str());
            let outcome = match done.outcome {
                Outcome::Copied => RoundOutcome::Copied,
                Outcome::Unchanged => RoundOutcome::Unchanged,
                Outcome::Deferred => RoundOutcome::Deferred,
                _ => RoundOutcome::Failed,
            };
            result(outcome, done.version, done.reason, None, done.left_out)
        }
        Err(problem) => {
            task.finish("failed");
            let reason = Reason { code: problem.code.to_string(), text: problem.message.clone() };
            // Another process copies it just now: that is as good as copying it.
            let outcome = match problem.code {
                Code::Busy | Code::LeaseLost => RoundOutcome::Deferred,
                Code::NotProtectable => RoundOutcome::Unprotectable,
                _ => RoundOutcome::Failed,
            };
            result(outcome, None, Some(reason), Some(problem), Vec::new())
        }
    }
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
