//! What is to be done, from outside: commands, the API and the console put jobs into the queue, take them back, pause it,
//! and watch. Only the running service works on them (`daemon`); what a job does is in `run`.

pub mod backoff;
mod detail;
mod live;
mod prune_freeze;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::json;
use stackferry_catalog::{AuditAction, Cancelled, Catalog, Job, JobId, JobKind, JobState, NewJob, Pause, Trigger};
use stackferry_volume::VolumeId;
use stackferry_volume::io::Cancel;
use tokio::sync::{Notify, broadcast};

use crate::audit;
use stackferry_problem::{Code, Problem};

pub use detail::{CopyDetail, RestoreDetail, copy, prune, restore, value, verify};
pub use live::Live;
pub use prune_freeze::PruneFrozen;

/// The lease that a running service holds: by it commands see that there is one.
pub const SERVICE_LEASE: &str = "service";

/// Events that a slow reader may be behind; then it is told that some were missed, and reads the list again.
const BACKLOG: usize = 1024;

/// How long a job that failed is shown, unless the same was done since.
const FAILED_SHOWN: SignedDuration = SignedDuration::from_hours(24);
/// So many jobs that failed are shown at most.
const MAX_FAILED: u32 = 20;

/// Verifications, restores and prunes that failed within a day and were not done since, newest first. Of a copy that
/// failed the volume knows.
///
/// # Errors
/// The catalog's.
pub async fn failed(catalog: &Catalog, now: Timestamp) -> Result<Vec<Job>, Problem> {
    let since = now.checked_sub(FAILED_SHOWN).unwrap_or(Timestamp::MIN);
    Ok(catalog.failed_jobs(since, MAX_FAILED).await?)
}

/// Something happened to a job. What a reader needs beside this is in the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobEvent {
    /// The job.
    pub id: JobId,
    /// What it does.
    pub kind: JobKind,
    /// To which volume.
    pub volume: Option<VolumeId>,
    /// How far it is now.
    pub state: JobState,
}

/// How far a running job is.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct JobProgress {
    /// Bytes that are done.
    pub done: u64,
    /// Bytes that there are to do; 0 where that is not known.
    pub expected: u64,
    /// When it began.
    pub since: Timestamp,
    /// How fast it is lately.
    pub bytes_per_second: f64,
    /// In how many seconds it will be done at this speed; none where that can't be told.
    pub eta_seconds: Option<u64>,
}

/// The queue. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Jobs(Arc<JobsInner>);

struct JobsInner {
    catalog: Catalog,
    live: Mutex<HashMap<JobId, Arc<Live>>>,
    events: broadcast::Sender<JobEvent>,
    wake: Notify,
}

impl Jobs {
    pub(crate) fn new(catalog: Catalog) -> Self {
        let (events, _) = broadcast::channel(BACKLOG);
        Self(Arc::new(JobsInner { catalog, live: Mutex::default(), events, wake: Notify::new() }))
    }

    /// Puts a job into the queue. A copy of a volume that waits already is found, and not doubled.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn enqueue(&self, job: NewJob) -> Result<JobId, Problem> {
        let id = self.0.catalog.enqueue_job(&job).await?;
        if job.trigger != Trigger::Schedule {
            let detail = json!({ "job": id, "kind": job.kind, "version": job.version, "wanted": job.detail });
            audit::record(&self.0.catalog, AuditAction::JobRequested, &job.actor, &named(job.volume.as_ref()), &detail)
                .await;
        }
        self.tell(JobEvent { id, kind: job.kind, volume: job.volume, state: JobState::Queued });
        self.0.wake.notify_one();
        Ok(id)
    }

    /// Takes a job back. One that runs ends within a second or two; what it copied so far is kept.
    ///
    /// # Errors
    /// `no_such_job`; the catalog's.
    pub async fn cancel(&self, id: JobId, actor: &str) -> Result<Cancelled, Problem> {
        let cancelled = self.0.catalog.cancel_job(id).await?;
        let job = self.0.catalog.job(id).await?;
        let (Some(cancelled), Some(job)) = (cancelled, job) else { return Err(no_such_job(id)) };
        if !matches!(cancelled, Cancelled::Ended(_)) {
            let subject = job.volume.as_ref().map_or_else(|| "all".to_owned(), ToString::to_string);
            let detail = json!({ "job": id, "kind": job.kind, "state": job.state });
            self.0.catalog.audit(AuditAction::JobCancelled, actor, &subject, &detail).await?;
            self.tell(JobEvent { id, kind: job.kind, volume: job.volume, state: job.state });
            self.0.wake.notify_one();
        }
        Ok(cancelled)
    }

    /// Planned copies, of one volume or of all, begin no more. Those that run go on, and what a person asks for is done.
    /// False if that was so before.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn pause(&self, volume: Option<&VolumeId>, actor: &str) -> Result<bool, Problem> {
        let done = self.0.catalog.pause(volume, actor).await?;
        if done {
            self.0.catalog.audit(AuditAction::Paused, actor, &named(volume), &json!({})).await?;
        }
        Ok(done)
    }

    /// They begin again. False if they were not paused.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn resume(&self, volume: Option<&VolumeId>, actor: &str) -> Result<bool, Problem> {
        let done = self.0.catalog.resume(volume).await?;
        if done {
            self.0.catalog.audit(AuditAction::Resumed, actor, &named(volume), &json!({})).await?;
            self.0.wake.notify_one();
        }
        Ok(done)
    }

    /// Whether planned copies of all volumes are paused.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn is_paused(&self) -> Result<bool, Problem> {
        Ok(self.pauses().await?.first().is_some_and(|pause| pause.volume.is_none()))
    }

    /// What is paused; that of all is first.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn pauses(&self) -> Result<Vec<Pause>, Problem> {
        Ok(self.0.catalog.pauses().await?)
    }

    /// How far a job is that this process works on; none for any other.
    #[must_use]
    pub fn progress(&self, id: JobId) -> Option<JobProgress> {
        let live = self.live().get(&id).cloned();
        live.map(|live| live.progress())
    }

    /// Waits until the queue may have changed by this process.
    pub async fn woken(&self) {
        self.0.wake.notified().await;
    }

    /// From now on, what happens to jobs. A reader that falls far behind is told so.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<JobEvent> {
        self.0.events.subscribe()
    }

    /// This process begins to work on a job that it claimed; its progress is told until what is given back is dropped.
    #[must_use]
    pub fn begin(&self, job: &Job, cancel: Cancel) -> Begun {
        let live = Arc::new(Live::new(cancel));
        self.live().insert(job.id, Arc::clone(&live));
        self.tell_of(job, JobState::Running);
        Begun { jobs: self.clone(), id: job.id, live }
    }

    /// Tells whoever watches how far a job is now.
    pub fn tell_of(&self, job: &Job, state: JobState) {
        self.tell(JobEvent { id: job.id, kind: job.kind, volume: job.volume.clone(), state });
    }

    fn live(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, Arc<Live>>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody may listen: then nothing is told.
    fn tell(&self, event: JobEvent) {
        let _ = self.0.events.send(event);
    }
}

/// A job that this process works on.
pub struct Begun {
    jobs: Jobs,
    id: JobId,
    live: Arc<Live>,
}

impl Begun {
    /// Is told how it goes.
    #[must_use]
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.jobs.live().remove(&self.id);
    }
}

fn named(volume: Option<&VolumeId>) -> String {
    volume.map_or_else(|| "all".to_owned(), ToString::to_string)
}

/// There is no job of this number, or it was forgotten.
#[must_use]
pub fn no_such_job(id: JobId) -> Problem {
    Problem::new(Code::NoSuchJob, format!("there is no job {id}"))
        .subject(id)
        .hint("`stackferry jobs --all` lists them; jobs that ended are forgotten after 30 days")
}
