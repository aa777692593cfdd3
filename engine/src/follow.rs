//! A command that has the running service do its work, and waits for what comes of it.

use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use stackferry_catalog::{Cancelled, CatalogError, Job, JobFilter, JobId, JobKind, JobState, LeaseBusy, NewJob};
use stackferry_volume::VolumeId;

use crate::app::App;
use crate::jobs::SERVICE_LEASE;
use stackferry_problem::{ErrorView, Problem};

/// How often the job's row is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How often it is looked whether the service is still there, and who works on the volume.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// Has the running service do a job, and waits until it ended. None where there is no service, or where it went away before it
/// began: then the job is not in the queue, and the caller does the work in its own process. `wait` is how long to wait while somebody
/// else works on the volume.
///
/// # Errors
/// `busy`; `interrupted`; the catalog's.
pub async fn by_service(app: &App, job: NewJob, wait: Duration) -> Result<Option<Job>, Problem> {
    let catalog = app.catalog();
    if catalog.lease_holder(SERVICE_LEASE).await?.is_none() {
        return Ok(None);
    }
    let volume = job.volume.clone();
    let id = app.jobs().enqueue(job).await?;
    tracing::info!(job = %id, "the running service does it");
    let (began, mut looked) = (Instant::now(), Instant::now());
    loop {
        tokio::time::sleep(LOOK).await;
        if app.cancel().is_cancelled() {
            catalog.cancel_job(id).await?;
            return Err(Problem::interrupted("the job"));
        }
        let Some(job) = catalog.job(id).await? else {
            return Err(Problem::internal(format!("job {id} went away while it was waited for")));
        };
        if job.state.is_ended() {
            return Ok(Some(job));
        }
        if looked.elapsed() < LOOK_AROUND {
            continue;
        }
        looked = Instant::now();
        if catalog.lease_holder(SERVICE_LEASE).await?.is_none() {
            catalog.requeue_abandoned_jobs().await?;
            if catalog.cancel_job(id).await? == Some(Cancelled::AtOnce) {
                return Ok(None);
            }
        }
        if job.state == JobState::Queued
            && began.elapsed() >= wait
            && let Some(volume) = &volume
            && let Some(busy) = somebody_works_on(app, volume, id).await?
        {
            catalog.cancel_job(id).await?;
            return Err(CatalogError::from(busy).into());
        }
    }
}

/// Who works on the volume: another job, or a process without one.
async fn somebody_works_on(app: &App, volume: &VolumeId, own: JobId) -> Result<Option<LeaseBusy>, Problem> {
    let name = format!("volume/{volume}");
    let holder = app.catalog().lease_holder(&name).await?;
    let filter = JobFilter {
        states: vec![JobState::Running],
        kinds: vec![JobKind::Copy],
        volume: Some(volume.clone()),
        ..JobFilter::default()
    };
    let running = app.catalog().jobs(&filter, 2).await?.into_iter().any(|job| job.id != own);
    Ok(holder.filter(|lease| running || lease.holder != crate::about::PROGRAM).map(|lease| LeaseBusy {
        name,
        holder: lease.holder,
        host: lease.process.host,
        pid: lease.process.pid,
        since: lease.since,
        expires: lease.expires,
    }))
}

/// What a job answered, as its kind's answer; why it failed, as the error that it is.
///
/// # Errors
/// The job's own; `interrupted` where somebody took it back.
pub fn answer<T: DeserializeOwned>(job: Job) -> Result<T, Problem> {
    let unreadable = || Problem::internal(format!("what job {} answered can't be understood", job.id));
    match job.state {
        JobState::Cancelled => Err(Problem::interrupted(&format!("job {}", job.id))),
        JobState::Failed => {
            let told = job.result.clone().and_then(|result| serde_json::from_value::<ErrorView>(result).ok());
            Err(told.map_or_else(unreadable, Problem::from))
        }
        _ => job.result.clone().and_then(|result| serde_json::from_value(result).ok()).ok_or_else(unreadable),
    }
}
