//! What each kind of job does: one match. A job runs on the `App` that it is given, whose `cancel` ends this job alone.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use stackferry_catalog::{Job, JobEnd, JobId, JobKind, JobState, StatusReason, Trigger};
use stackferry_discover::Volume;
use stackferry_vault::Damage;
use stackferry_volume::{VersionId, VolumeId};

use crate::app::App;
use crate::copy::record_failure;
use crate::finding::{KnownVersions, VersionFinding, of_damaged};
use crate::inventory::Round;
use crate::jobs::{self, CopyDetail, Live, RestoreDetail, backoff};
use crate::missing::MISSING;
use crate::operations::{CopyRequest, Watchers, copy_volume, not_at_source, restore_version, verify_versions};
use crate::prune::{PruneRequest, prune};
use crate::versions::{Verified, newest};
use crate::views::{CopyView, PruneView, VerifyView};
use crate::{checkup, find, restore};
use stackferry_problem::progress::Reporter;
use stackferry_problem::{Code, Problem};

/// What the last look at the sources found.
pub struct LatestScan {
    /// Jobs up to this one were in the queue when the look began.
    pub job: JobId,
    /// What was seen; none where the look failed.
    pub round: Option<Round>,
    /// Why it failed.
    pub failed: Option<Problem>,
}

impl LatestScan {
    /// The volume as it was seen. The list is sorted by id.
    pub fn volume(&self, id: &VolumeId) -> Option<&Volume> {
        let volumes = &self.round.as_ref()?.inventory.volumes;
        volumes.iter().find(|volume| volume.id == *id)
    }
}

/// What a job came to.
pub enum Ended {
    /// It is over.
    Over(JobEnd, Option<Problem>),
    /// It failed, and is tried again.
    Again(Problem),
    /// It was cut off, and goes on later as if it had not begun.
    Back,
}

impl Ended {
    fn failed(problem: Problem) -> Self {
        let error = StatusReason { code: problem.code.to_string(), text: problem.message.clone() };
        let result = Some(jobs::value(&stackferry_problem::ErrorView::from(&problem)));
        let end = JobEnd { state: JobState::Failed, outcome: Some("failed".to_owned()), error: Some(error), result };
        Self::Over(end, Some(problem))
    }

    fn done(outcome: &str, view: &impl Serialize) -> Self {
        Self::over(JobState::Done, outcome, None, jobs::value(view))
    }

    fn over(state: JobState, outcome: &str, error: Option<StatusReason>, result: Value) -> Self {
        Self::Over(JobEnd { state, outcome: Some(outcome.to_owned()), error, result: Some(result) }, None)
    }

    /// Whether it failed, for whatever reason but that it only has to wait for others. Damage that a check found is what
    /// the check was for.
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Over(_, Some(_)) => true,
            Self::Again(problem) => !matches!(problem.code, Code::Busy | Code::LeaseLost),
            Self::Over(_, None) | Self::Back => false,
        }
    }

    /// When a job that failed is to be tried again.
    pub fn not_before(problem: &Problem, job: &Job, now: Timestamp) -> Timestamp {
        now.checked_add(backoff::wait(problem, job.tries.saturating_add(1))).unwrap_or(Timestamp::MAX)
    }
}

/// Does a job.
pub async fn run(app: &App, job: &Job, live: &Arc<Live>, known: Option<&LatestScan>, reporter: &Reporter) -> Ended {
    let result = match job.kind {
        JobKind::Copy => run_copy(app, job, live, known, reporter).await,
        JobKind::Verify => run_verify(app, job, live, reporter).await,
        JobKind::Restore => run_restore(app, job, live, reporter).await,
        JobKind::RestoreTest => run_restore_test(app, job).await,
        JobKind::Prune => run_prune(app, job).await,
        other => Err(Problem::new(Code::Refused, format!("this program has no jobs of kind `{other}`"))
            .subject(job.id)
            .hint("a newer program put it into the queue")),
    };
    match result {
        Ok(ended) => ended,
        Err(_) if app.cancel().is_cancelled() => Ended::Back,
        // A person who waits gets the error at once; only a busy volume is waited for.
        // What is due for versions is planned anew by itself.
        Err(problem) if job.trigger == Trigger::Schedule && job.kind == JobKind::Copy => Ended::Again(problem),
        Err(problem) if matches!(problem.code, Code::Busy | Code::LeaseLost) => Ended::Again(problem),
        Err(problem) => Ended::failed(problem),
    }
}

fn needs_volume(job: &Job) -> Result<&VolumeId, Problem> {
    job.volume.as_ref().ok_or_else(|| Problem::internal(format!("job {} names no volume", job.id)))
}

/// A version as commands name it.
fn target(volume: &VolumeId, version: Option<&VersionId>) -> String {
    version.map_or_else(|| volume.to_string(), |version| format!("{volume}@{version}"))
}

async fn run_copy(
    app: &App,
    job: &Job,
    live: &Arc<Live>,
    known: Option<&LatestScan>,
    reporter: &Reporter,
) -> Result<Ended, Problem> {
    let id = needs_volume(job)?;
    let wanted: CopyDetail = serde_json::from_value(job.detail.clone()).unwrap_or_default();
    let is_planned = job.trigger == Trigger::Schedule;
    if !is_planned {
        // What kept us from looking, or keeps us from looking at this volume's datastore, is what a person has to know.
        if let Some(problem) = known.and_then(|known| known.failed.clone()) {
            record_failure(app, id, job.trigger, &problem).await;
            return Err(problem);
        }
        if let Some(round) = known.and_then(|known| known.round.as_ref()) {
            find::looked_for(app, round, &id.to_string()).await?;
        }
    }
    let Some(volume) = known.and_then(|known| known.volume(id)) else {
        let row = app.catalog().volume(id).await?;
        let reason = row.and_then(|row| row.reason).unwrap_or_else(not_at_source);
        return Ok(deferred(&CopyView::deferred(id, reason)));
    };
    let if_changed = is_planned || wanted.if_changed;
    let actor = if is_planned { job.trigger.to_string() } else { job.actor.clone() };
    let request = CopyRequest { if_changed, trigger: job.trigger, actor, wait: Duration::ZERO };
    let done = copy_volume(app, volume, request, Watchers { reporter, live: Some(live) }).await;
    let view = CopyView::of(id, &done?);
    Ok(match view.reason {
        Some(_) => deferred(&view),
        None => Ended::done(view.outcome.as_str(), &view),
    })
}

fn deferred(view: &CopyView) -> Ended {
    Ended::over(JobState::Deferred, "deferred", view.reason.clone(), jobs::value(view))
}

/// The length of what is read back: of one version, of all of a volume, or 0 where that is not known.
async fn length(app: &App, job: &Job) -> Result<u64, Problem> {
    let Some(volume) = &job.volume else { return Ok(0) };
    let versions = app.catalog().versions(volume).await?;
    let wanted = versions.iter().filter(|row| job.version.as_ref().is_none_or(|version| *version == row.version));
    Ok(wanted.map(|row| row.bytes).sum())
}

async fn run_verify(app: &App, job: &Job, live: &Arc<Live>, reporter: &Reporter) -> Result<Ended, Problem> {
    let bytes = length(app, job).await?;
    let what = job.volume.as_ref().map(|volume| target(volume, job.version.as_ref()));
    let watchers = Watchers { reporter, live: Some(live) };
    let verified = match (job.trigger, &job.volume, &job.version) {
        (Trigger::Schedule, Some(volume), Some(version)) => {
            let task = reporter.start("verifying", what.as_deref().unwrap_or_default(), bytes);
            let progress = watchers.progress(task.progress(), bytes);
            let damage = checkup::read_back(app, volume, version, &progress).await;
            task.finish(if damage.is_ok() { "verified" } else { "failed" });
            damage.map(|damage| Verified {
                versions: vec![(volume.clone(), version.clone(), damage)],
                ..Verified::default()
            })
        }
        _ => verify_versions(app, what.as_deref(), &job.actor, bytes, watchers).await,
    };
    let mut verified = verified?;
    if verified.findings.is_empty() {
        verified.findings = of_damaged(app, &verified.versions).await?;
    }
    for finding in &verified.findings {
        let own = |one: &&(VolumeId, VersionId, Vec<Damage>)| one.0 == finding.volume && one.1 == finding.version;
        let first = verified.versions.iter().find(own).and_then(|(.., damage)| damage.first());
        let first = first.map_or_else(|| MISSING.to_owned(), ToString::to_string);
        finding.log(&format!("a version is damaged: {first}"));
    }
    let view = VerifyView::from(verified);
    let text = match (view.damaged.first(), view.unreadable.first()) {
        (Some(first), _) => format!("{}@{}: {}: {}", first.volume, first.version, first.file, first.why),
        (None, Some(first)) => format!("{}: {}", first.path, first.why),
        (None, None) => return Ok(Ended::done("ok", &view)),
    };
    let error = StatusReason { code: Code::Damaged.to_string(), text };
    Ok(Ended::over(JobState::Failed, "damaged", Some(error), jobs::value(&view)))
}

async fn run_restore(app: &App, job: &Job, live: &Arc<Live>, reporter: &Reporter) -> Result<Ended, Problem> {
    let volume = needs_volume(job)?;
    // The same version from here on, whatever is copied meanwhile.
    let version = match &job.version {
        Some(version) => version.clone(),
        None => newest(app, volume).await?,
    };
    let text = target(volume, Some(&version));
    let bytes = length(app, &Job { version: Some(version), ..job.clone() }).await?;
    let wanted: RestoreDetail = serde_json::from_value(job.detail.clone())
        .map_err(|error| Problem::internal(format!("job {} can't be understood: {error}", job.id)))?;
    let to = restore::destination(app, &wanted.to, wanted.overwrite)?;
    if job.trigger == Trigger::Api && !restore::is_open_to_api(app.config(), &to) {
        return Err(Problem::new(Code::Forbidden, format!("the API may no longer restore to {to}"))
            .subject(&to)
            .hint("look at [restore] of the configuration, or restore with the command line"));
    }
    let watchers = Watchers { reporter, live: Some(live) };
    let view = restore_version(app, &text, &to, wanted.overwrite, &job.actor, bytes, watchers).await?;
    Ok(Ended::done("restored", &view))
}

async fn run_restore_test(app: &App, job: &Job) -> Result<Ended, Problem> {
    let volume = needs_volume(job)?;
    let version = match &job.version {
        Some(version) => version.clone(),
        None => newest(app, volume).await?,
    };
    let test = checkup::restore_test(app, volume, &version).await?;
    let mut result = json!({ "volume": volume, "version": version, "ok": test.ok, "found": test.found });
    if test.ok {
        return Ok(Ended::done("ok", &result));
    }
    let what = format!("a version can't be used as a disk: {}", test.found);
    match KnownVersions::of(app, volume).await?.finding(&version) {
        Some(finding) => {
            let found = VersionFinding { volume: volume.clone(), version: version.clone(), finding };
            found.log(&what);
            if let Some(result) = result.as_object_mut() {
                result.insert("finding".to_owned(), jobs::value(&found.finding));
            }
        }
        None => tracing::error!(version = target(volume, Some(&version)), "{what}"),
    }
    let error = StatusReason { code: Code::Damaged.to_string(), text: test.found };
    Ok(Ended::over(JobState::Failed, "not_a_disk", Some(error), result))
}

async fn run_prune(app: &App, job: &Job) -> Result<Ended, Problem> {
    let what = PruneRequest { volume: job.volume.as_ref(), dry_run: false, actor: &job.actor };
    let pruned = prune(app, what).await?;
    Ok(Ended::done("pruned", &PruneView::new(pruned, false)))
}
