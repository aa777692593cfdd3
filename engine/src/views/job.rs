//! The queue: what `jobs`, `cancel`, `pause` and `resume` print.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use stackferry_catalog::{Cancelled, Job, JobId, JobKind, JobState, Pause, StatusReason, Trigger};
use stackferry_problem::output::{Grid, Side, Style, View, none, or_none};
use stackferry_volume::{VersionId, VolumeId};

use crate::jobs::JobProgress;

/// Why a job failed or was deferred, or why its last try failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct JobErrorView {
    /// The stable word.
    pub code: String,
    /// What happened and why.
    pub message: String,
}

impl From<StatusReason> for JobErrorView {
    fn from(error: StatusReason) -> Self {
        Self { code: error.code, message: error.text }
    }
}

/// One job.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct JobView {
    /// Its number.
    #[schema(value_type = i64)]
    pub id: JobId,
    /// What it does.
    #[schema(value_type = String)]
    pub kind: JobKind,
    /// To which volume; none for all.
    #[schema(value_type = Option<String>)]
    pub volume: Option<VolumeId>,
    /// To which version.
    #[schema(value_type = Option<String>)]
    pub version: Option<VersionId>,
    /// How far it is.
    #[schema(value_type = String)]
    pub state: JobState,
    /// Who or what wants it.
    #[schema(value_type = String)]
    pub cause: Trigger,
    /// The name of who wants it.
    pub actor: String,
    /// How it is wanted, in the words of its kind: `if_changed`, or `to` and `overwrite`.
    #[schema(value_type = Object)]
    pub detail: Value,
    /// When it was put into the queue.
    pub created: Timestamp,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// When it is tried again, where it waits for that.
    pub not_before: Option<Timestamp>,
    /// How often it was tried and failed.
    pub tries: u64,
    /// Whether somebody wants it to end.
    pub cancel_wanted: bool,
    /// What it came to, in the words of its kind.
    pub outcome: Option<String>,
    /// Why it failed or was deferred.
    pub error: Option<JobErrorView>,
    /// How far it is in bytes, where this process works on it.
    pub progress: Option<JobProgress>,
    /// What it answered: the same object that the command of its kind prints.
    #[schema(value_type = Option<Object>)]
    pub result: Option<Value>,
}

impl JobView {
    /// A job as it stands.
    #[must_use]
    pub fn new(job: Job, progress: Option<JobProgress>) -> Self {
        Self {
            id: job.id,
            kind: job.kind,
            volume: job.volume,
            version: job.version,
            state: job.state,
            cause: job.trigger,
            actor: job.actor,
            detail: job.detail,
            created: job.created,
            started: job.started,
            ended: job.ended,
            not_before: job.not_before,
            tries: job.tries,
            cancel_wanted: job.cancel_requested,
            outcome: job.outcome,
            error: job.error.map(JobErrorView::from),
            progress,
            result: job.result,
        }
    }
}

/// What `jobs` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct JobsView(pub Vec<JobView>);

impl View for JobsView {
    fn table(&self, style: &Style) -> String {
        let mut grid = Grid::new(&[
            ("JOB", Side::Right),
            ("KIND", Side::Left),
            ("VOLUME", Side::Left),
            ("STATE", Side::Left),
            ("CAUSE", Side::Left),
            ("SINCE", Side::Left),
            ("TRIES", Side::Right),
            ("WHY", Side::Left),
        ]);
        for job in &self.0 {
            let again = job.not_before.map(|at| format!("tried again {}", style.time(at)));
            let error = job.error.as_ref().map(|error| error.message.clone());
            let why: Vec<String> = [again, error].into_iter().flatten().collect();
            grid.row([
                job.id.to_string(),
                job.kind.to_string(),
                or_none(job.volume.as_ref()),
                job.state.to_string(),
                job.cause.to_string(),
                style.time(job.ended.or(job.started).unwrap_or(job.created)),
                job.tries.to_string(),
                if why.is_empty() { none() } else { why.join(": ") },
            ]);
        }
        grid.finish()
    }
}

/// What `cancel` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct CancelView {
    /// The job.
    #[schema(value_type = i64)]
    pub id: JobId,
    /// How far it was: `queued` (it will not be done), `running` (it is asked to end), or how it had ended before.
    #[schema(value_type = String)]
    pub was: JobState,
}

impl CancelView {
    /// What taking it back did.
    #[must_use]
    pub fn new(id: JobId, cancelled: Cancelled) -> Self {
        let was = match cancelled {
            Cancelled::AtOnce => JobState::Queued,
            Cancelled::Requested => JobState::Running,
            Cancelled::Ended(state) => state,
        };
        Self { id, was }
    }
}

impl View for CancelView {
    fn table(&self, _style: &Style) -> String {
        match self.was {
            JobState::Queued => format!("job {} is cancelled\n", self.id),
            JobState::Running => format!("job {} is asked to end; what it copied so far is kept\n", self.id),
            ended => format!("job {} had ended: {ended}\n", self.id),
        }
    }
}

/// Something that is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PausedView {
    /// Which volume; none for all.
    #[schema(value_type = Option<String>)]
    pub volume: Option<VolumeId>,
    /// Since when.
    pub since: Timestamp,
    /// Who wanted it.
    pub actor: String,
}

/// What `pause` and `resume` print: what is paused now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PausesView {
    /// Whether planned copies of all volumes are.
    pub paused: bool,
    /// All that is.
    pub pauses: Vec<PausedView>,
}

impl PausesView {
    /// What is paused now.
    #[must_use]
    pub fn new(pauses: Vec<Pause>) -> Self {
        let paused = pauses.iter().any(|pause| pause.volume.is_none());
        let view = |pause: Pause| PausedView { volume: pause.volume, since: pause.since, actor: pause.actor };
        Self { paused, pauses: pauses.into_iter().map(view).collect() }
    }
}

impl View for PausesView {
    fn table(&self, style: &Style) -> String {
        if self.pauses.is_empty() {
            return "nothing is paused\n".to_owned();
        }
        let mut grid = Grid::new(&[("PAUSED", Side::Left), ("SINCE", Side::Left), ("BY", Side::Left)]);
        for pause in &self.pauses {
            let what = pause.volume.as_ref().map_or_else(|| "everything".to_owned(), ToString::to_string);
            grid.row([what, style.time(pause.since), pause.actor.clone()]);
        }
        grid.finish()
    }
}

/// What `prune --confirm-clock` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClockView {
    /// Whether deleting had been frozen.
    pub was_frozen: bool,
    /// The time that was confirmed.
    pub now: Timestamp,
}

impl View for ClockView {
    fn table(&self, style: &Style) -> String {
        let now = style.time(self.now);
        match self.was_frozen {
            true => format!("the clock is confirmed, it is {now}: retention deletes again\n"),
            false => format!("nothing was frozen; it is {now}\n"),
        }
    }
}
