//! One full round: look, decide, copy what is due, within the caps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use stackferry_catalog::{Outcome, StatusReason, Trigger};
use stackferry_discover::{ScanProblem, Volume, VolumeLocation};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::copy;
use super::decide::{Decision, RoundOutcome, VolumeResult, decide};
use super::{cleanups, inventory};
use crate::app::App;
use crate::blocking::blocking;
use crate::operations::{CopyRequest, Watchers, copy_volume};
use stackferry_problem::progress::Reporter;
use stackferry_problem::{Code, Problem};

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
    cleanups::run(app).await?;
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
pub fn datastore(place: &VolumeLocation) -> String {
    format!("{}/{}", place.location.site, place.location.datastore)
}

/// The host that is asked for what lies at a place, for the cap per host.
pub fn host(app: &App, place: &VolumeLocation) -> String {
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
    let request = CopyRequest { if_changed: true, trigger, actor: trigger.to_string(), wait: Duration::ZERO };
    let done = copy_volume(app, &volume, request, Watchers { reporter, live: None }).await;
    let id = volume.id.clone();
    let result = |outcome, version, reason, problem, left_out| {
        Some(VolumeResult { volume: id.clone(), outcome, version, reason, problem, left_out })
    };
    match done {
        Ok(done) => {
            let outcome = match done.outcome {
                Outcome::Copied => RoundOutcome::Copied,
                Outcome::Unchanged => RoundOutcome::Unchanged,
                Outcome::Deferred => RoundOutcome::Deferred,
                _ => RoundOutcome::Failed,
            };
            result(outcome, done.version, done.reason, None, done.left_out)
        }
        Err(problem) => {
            let reason = StatusReason { code: problem.code.to_string(), text: problem.message.clone() };
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
