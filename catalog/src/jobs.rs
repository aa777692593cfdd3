//! What is to be done: the queue that the service works on, and that commands and the API put jobs into.
//!
//! A job is claimed in one transaction that also counts what runs, so that no cap is exceeded whoever claims. It then
//! belongs to the process that claimed it. One whose process is no more is queued again: a crash loses none, and since a
//! claim is durable before the work begins, two processes never work on one job. That one volume is not copied twice at the
//! same time is the volume's lease, not the queue.

mod claim;
mod model;
mod pause;
mod read;

use jiff::Timestamp;
use serde_json::Value;
use stackferry_volume::VolumeId;

use crate::attempts::Trigger;
use crate::convert::{Row, opt_stamp, stamp};
use crate::error::CatalogError;
use crate::pool::Catalog;
use crate::process::Process;
use crate::session::DbSession;
use crate::volumes::StatusReason;

pub use claim::Claim;
pub use model::{Cancelled, Job, JobEnd, JobId, JobKind, JobState, NewJob, Priority};
pub use pause::Pause;
pub use read::JobFilter;

impl Catalog {
    /// Puts a job into the queue. An equal one that waits already is found and not doubled (copies of one volume are equal, other
    /// jobs where all that they say is): one that somebody waits for is the same job, a planned one is replaced by what somebody
    /// wants, and what is planned is not added to what runs. One durable transaction.
    ///
    /// # Errors
    /// `Database`.
    pub async fn enqueue_job(&self, job: &NewJob) -> Result<JobId, CatalogError> {
        let now = self.clock().now();
        let mut tx = self.write("queueing a job", job.kind).await?;
        let found = find_equal(&mut tx, job).await?;
        let id = match found {
            Some(found) if found.priority >= job.priority || found.is_requested => {
                if job.priority >= found.priority {
                    prefer(&mut tx, &found, job).await?;
                }
                found.id
            }
            // A number of its own: who reads the queue sees by it that the wish is newer than what is known.
            Some(found) => {
                remove(&mut tx, found.id).await?;
                let placed = NewJob { host: found.host, datastore: found.datastore, ..job.clone() };
                insert(&mut tx, &placed, now).await?
            }
            None => insert(&mut tx, job, now).await?,
        };
        tx.commit().await?;
        Ok(id)
    }

    /// Records what a round of the schedule found due: copies that are not in the queue yet are put into it, those that wait
    /// keep their place's delay, and planned copies of volumes that `decided` names and that are not due any more are taken
    /// out: without a trace if they never began, else they end as deferred (`not_due`). One that failed stays while its volume
    /// is only `postponed` for a time (by a window, by a pause), so that its delay is not forgotten. A volume that is being copied
    /// gets none. Returns how many copies are new. One durable transaction.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn plan_copies(
        &self,
        due: &[NewJob],
        decided: impl Fn(&VolumeId) -> bool + Send,
        postponed: impl Fn(&VolumeId) -> bool + Send,
    ) -> Result<u64, CatalogError> {
        let now = self.clock().now();
        let mut tx = self.write("queueing what is due", "the catalog").await?;
        let query = sqlx::query(
            "SELECT id, volume, state, cause, tries FROM jobs WHERE kind = 'copy' AND state IN ('queued', 'running')",
        );
        let rows = tx.rows(query).await?;
        let mut open = std::collections::HashMap::new();
        for row in &rows {
            let row = tx.row(row);
            let Some(volume) = row.opt_parsed::<VolumeId>("volume")? else { continue };
            let planned = row.parsed::<Trigger>("cause")? == Trigger::Schedule;
            let queued = row.parsed::<JobState>("state")? == JobState::Queued;
            if queued && planned && row.signed("tries")? > 0 && postponed(&volume) {
                continue;
            }
            let entry = open.entry(volume).or_insert((None, false));
            match (queued, planned) {
                (true, true) => entry.0 = Some(row.signed("id")?),
                _ => entry.1 = true,
            }
        }
        let mut new = 0;
        for job in due {
            match job.volume.as_ref().and_then(|volume| open.remove(volume)) {
                Some((Some(id), _)) => replan(&mut tx, id, job).await?,
                Some((None, _)) => {}
                None => {
                    insert(&mut tx, job, now).await?;
                    new += 1;
                }
            }
        }
        for (volume, (planned, _)) in open {
            if let Some(id) = planned.filter(|_| decided(&volume)) {
                let statement = sqlx::query(
                    "UPDATE jobs SET state = 'deferred', outcome = 'not_due', ended = $2, not_before = NULL \
                     WHERE id = $1 AND started IS NOT NULL",
                )
                .bind(id)
                .bind(stamp(now));
                let done = tx.execute(statement).await?;
                if done == 0 {
                    remove(&mut tx, JobId(id)).await?;
                }
            }
        }
        tx.commit().await?;
        Ok(new)
    }

    /// Records how a job ended. False if it was no longer this process's. One durable transaction.
    ///
    /// # Errors
    /// `Process`, `Json`, or `Database`.
    pub async fn finish_job(&self, id: JobId, end: &JobEnd) -> Result<bool, CatalogError> {
        let process = Process::current()?;
        let mut tx = self.write("recording how a job ended", id).await?;
        let result = end.result.as_ref().map(|result| tx.json("result", result)).transpose()?;
        let statement = sqlx::query(
            "UPDATE jobs SET state = $3, ended = $4, outcome = $5, error_code = $6, error_text = $7, result = $8, \
             not_before = NULL WHERE id = $1 AND state = 'running' AND process = $2",
        )
        .bind(id.0)
        .bind(tx.json("process", &process)?)
        .bind(end.state.as_str())
        .bind(stamp(self.clock().now()))
        .bind(&end.outcome)
        .bind(end.error.as_ref().map(|error| &error.code))
        .bind(end.error.as_ref().map(|error| &error.text))
        .bind(result);
        let done = tx.execute(statement).await?;
        tx.commit().await?;
        Ok(done == 1)
    }

    /// Puts a job of this process back into the queue: with an error as one more failed try, not to be begun before
    /// `not_before`; without one as if it had not begun. Where somebody wants it to end, it is cancelled. False if it was no
    /// longer this process's. One durable transaction.
    ///
    /// # Errors
    /// `Process`, or `Database`.
    pub async fn requeue_job(
        &self,
        id: JobId,
        error: Option<&StatusReason>,
        not_before: Option<Timestamp>,
    ) -> Result<bool, CatalogError> {
        let process = Process::current()?;
        let mut tx = self.write("requeueing a job", id).await?;
        let statement = sqlx::query(
            "UPDATE jobs SET state = CASE WHEN cancel_wanted THEN 'cancelled' ELSE 'queued' END, \
             ended = CASE WHEN cancel_wanted THEN $7 ELSE NULL END, process = NULL, \
             tries = tries + $3, not_before = $4, error_code = $5, error_text = $6 \
             WHERE id = $1 AND state = 'running' AND process = $2",
        )
        .bind(id.0)
        .bind(tx.json("process", &process)?)
        .bind(i64::from(error.is_some()))
        .bind(opt_stamp(not_before))
        .bind(error.map(|error| &error.code))
        .bind(error.map(|error| &error.text))
        .bind(stamp(self.clock().now()));
        let done = tx.execute(statement).await?;
        tx.commit().await?;
        Ok(done == 1)
    }

    /// Records where a queued copy would be read, for the caps. One durable transaction; without a change none is written.
    ///
    /// # Errors
    /// `Database`.
    pub async fn place_job(&self, id: JobId, host: Option<&str>, datastore: Option<&str>) -> Result<(), CatalogError> {
        let mut tx = self.write("recording where a job reads", id).await?;
        let statement = sqlx::query(
            "UPDATE jobs SET host = $2, datastore = $3 WHERE id = $1 AND state = 'queued' \
             AND (host IS NOT $2 OR datastore IS NOT $3)",
        )
        .bind(id.0)
        .bind(host)
        .bind(datastore);
        let done = tx.execute(statement).await?;
        match done {
            0 => Ok(()),
            _ => tx.commit().await,
        }
    }

    /// Cancels a job: at once if it waits; one that runs is asked to end by the process that runs it. None if there is no
    /// such job. One durable transaction.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn cancel_job(&self, id: JobId) -> Result<Option<Cancelled>, CatalogError> {
        let mut tx = self.write("cancelling a job", id).await?;
        let query = sqlx::query("SELECT state FROM jobs WHERE id = $1").bind(id.0);
        let Some(state) = tx.optional(query, |row| row.parsed("state")).await? else { return Ok(None) };
        let (statement, done) = match state {
            JobState::Queued => (
                "UPDATE jobs SET state = 'cancelled', cancel_wanted = TRUE, ended = $2 WHERE id = $1",
                Cancelled::AtOnce,
            ),
            JobState::Running => {
                ("UPDATE jobs SET cancel_wanted = TRUE WHERE id = $1 AND $2 IS NOT NULL", Cancelled::Requested)
            }
            ended => return Ok(Some(Cancelled::Ended(ended))),
        };
        let statement = sqlx::query(statement).bind(id.0).bind(stamp(self.clock().now()));
        tx.execute(statement).await?;
        tx.commit().await?;
        Ok(Some(done))
    }

    /// Forgets jobs that ended before `before`. Returns how many. One durable transaction.
    ///
    /// # Errors
    /// `Database`.
    pub async fn trim_jobs(&self, before: Timestamp) -> Result<u64, CatalogError> {
        let mut tx = self.write("forgetting old jobs", "the catalog").await?;
        let gone = tx.execute(sqlx::query("DELETE FROM jobs WHERE ended < $1").bind(stamp(before))).await?;
        tx.commit().await?;
        Ok(gone)
    }
}

/// A job that is open.
struct Queued {
    id: JobId,
    priority: Priority,
    is_requested: bool,
    /// It is a copy that makes a version whether or not the source changed.
    makes_version: bool,
    host: Option<String>,
    datastore: Option<String>,
}

/// The job in the queue that does what this one would. For what is planned one that runs counts, too: it does it just now.
async fn find_equal(tx: &mut DbSession, job: &NewJob) -> Result<Option<Queued>, CatalogError> {
    let query = sqlx::query(
        "SELECT * FROM jobs WHERE kind = $1 AND volume IS $2 AND (state = 'queued' OR ($5 AND state = 'running')) \
         AND (kind = 'copy' OR (version IS $3 AND detail = $4)) ORDER BY state LIMIT 1",
    )
    .bind(job.kind.as_str())
    .bind(job.volume.as_ref().map(ToString::to_string))
    .bind(job.version.as_ref().map(ToString::to_string))
    .bind(tx.json("detail", &job.detail)?)
    .bind(job.trigger == Trigger::Schedule);
    let queued = |row: &Row<'_>| {
        let is_running = row.parsed::<JobState>("state")? == JobState::Running;
        let detail: Option<Value> = row.opt_json("detail")?;
        let is_unconditional = detail.is_some_and(|detail| detail.get("if_changed") == Some(&Value::Bool(false)));
        Ok(Queued {
            id: JobId(row.signed("id")?),
            // Nothing changes what runs.
            priority: if is_running { Priority(i64::MAX) } else { Priority(row.signed("priority")?) },
            is_requested: row.parsed::<Trigger>("cause")? != Trigger::Schedule,
            makes_version: job.kind == JobKind::Copy && is_unconditional,
            host: row.opt_text("host")?,
            datastore: row.opt_text("datastore")?,
        })
    };
    tx.optional(query, queued).await
}

/// What waits becomes what the last one asks for. What a person requested waits for no delay.
async fn prefer(tx: &mut DbSession, found: &Queued, job: &NewJob) -> Result<(), CatalogError> {
    let statement = sqlx::query(
        "UPDATE jobs SET detail = CASE WHEN $7 THEN detail ELSE $3 END, cause = $4, actor = $5, priority = $2, \
         not_before = CASE WHEN $2 >= $6 THEN NULL ELSE not_before END WHERE id = $1",
    )
    .bind(found.id.0)
    .bind(job.priority.0)
    .bind(tx.json("detail", &job.detail)?)
    .bind(job.trigger.as_str())
    .bind(&job.actor)
    .bind(Priority::REQUESTED.0)
    // Who requested a version in any case gets one, whatever is requested after them.
    .bind(found.is_requested && found.makes_version);
    tx.execute(statement).await.map(|_| ())
}

async fn remove(tx: &mut DbSession, id: JobId) -> Result<(), CatalogError> {
    tx.execute(sqlx::query("DELETE FROM jobs WHERE id = $1").bind(id.0)).await.map(|_| ())
}

/// A later round sees the volume again: at another place, longer unread.
async fn replan(tx: &mut DbSession, id: i64, job: &NewJob) -> Result<(), CatalogError> {
    let statement =
        sqlx::query("UPDATE jobs SET priority = $2, rank = $3, host = $4, datastore = $5, detail = $6 WHERE id = $1")
            .bind(id)
            .bind(job.priority.0)
            .bind(rank(job))
            .bind(&job.host)
            .bind(&job.datastore)
            .bind(tx.json("detail", &job.detail)?);
    tx.execute(statement).await.map(|_| ())
}

async fn insert(tx: &mut DbSession, job: &NewJob, now: Timestamp) -> Result<JobId, CatalogError> {
    let query = sqlx::query(
        "INSERT INTO jobs (kind, volume, version, detail, cause, actor, priority, rank, host, datastore, state, tries, \
         created, cancel_wanted) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'queued', 0, $11, FALSE) RETURNING id",
    )
    .bind(job.kind.as_str())
    .bind(job.volume.as_ref().map(ToString::to_string))
    .bind(job.version.as_ref().map(ToString::to_string))
    .bind(tx.json("detail", &job.detail)?)
    .bind(job.trigger.as_str())
    .bind(&job.actor)
    .bind(job.priority.0)
    .bind(rank(job))
    .bind(&job.host)
    .bind(&job.datastore)
    .bind(stamp(now));
    tx.one(query, |row| Ok(JobId(row.signed("id")?))).await
}

/// Texts sort as times do; a volume that was never tried is first.
fn rank(job: &NewJob) -> String {
    opt_stamp(job.last_attempt).unwrap_or_default()
}
