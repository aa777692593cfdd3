//! Who works on which job: claiming within the caps, and taking over from processes that are no more.

use jiff::Timestamp;
use sqlx::QueryBuilder;
use stackferry_volume::Kind;

use super::{Job, JobId, JobKind, read};
use crate::convert::{Row, stamp};
use crate::error::CatalogError;
use crate::pool::Catalog;
use crate::process::{Liveness, Process};

/// Which jobs may be begun now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim<'a> {
    /// Of these kinds.
    pub kinds: &'a [JobKind],
    /// So many jobs of these kinds at once, in all processes together.
    pub most: u32,
    /// So many of them from one host.
    pub per_host: u32,
    /// So many of them from one datastore; none: no cap.
    pub per_datastore: Option<u32>,
    /// Whether jobs that the schedule brought may begin.
    pub planned: bool,
    /// Planned jobs of volumes of these kinds do not begin: their window is closed.
    pub closed: &'a [Kind],
    /// Jobs that somebody put into the queue after this one do not begin yet: what is known of the sources is older. By number
    /// and not by time: clocks jump.
    pub known: Option<JobId>,
}

impl Catalog {
    /// Claims the next job that may begin, for this process; none if none may. Caps count all that runs, whoever runs it; a
    /// volume that a job works on is left to that. One durable transaction; without a job none is written.
    ///
    /// # Errors
    /// `Process`, `Row`, or `Database`.
    pub async fn claim_job(&self, claim: &Claim<'_>) -> Result<Option<Job>, CatalogError> {
        let process = Process::current()?;
        let now = self.clock().now();
        // Looking costs no write lock: mostly there is nothing to begin.
        let mut session = self.session("claiming a job", "the catalog").await?;
        if !session.exists(query(claim, now).build()).await? {
            return Ok(None);
        }
        drop(session);
        let mut tx = self.write("claiming a job", "the catalog").await?;
        let next = tx.optional(query(claim, now).build(), |row| row.signed("id")).await?;
        let Some(id) = next else { return Ok(None) };
        let update = sqlx::query(
            "UPDATE jobs SET state = 'running', started = $2, process = $3, error_code = NULL, error_text = NULL \
             WHERE id = $1 RETURNING *",
        )
        .bind(id)
        .bind(stamp(now))
        .bind(tx.json("process", &process)?);
        let job = tx.one(update, read::job).await?;
        tx.commit().await?;
        Ok(Some(job))
    }

    /// Queues every job again whose process is certainly no more, or is out of sight and holds no lease; one that somebody
    /// wanted to end is cancelled. Returns their numbers. One durable transaction.
    ///
    /// # Errors
    /// `Process`, `Row`, or `Database`.
    pub async fn requeue_abandoned_jobs(&self) -> Result<Vec<JobId>, CatalogError> {
        let here = Process::current()?;
        let select = "SELECT id, process FROM jobs WHERE state = 'running' ORDER BY id";
        let mut session = self.session("taking jobs over", "the catalog").await?;
        let read = |row: &Row<'_>| Ok((row.signed("id")?, row.opt_text("process")?, row.opt_json("process")?));
        let running: Vec<(i64, Option<String>, Option<Process>)> = session.all(sqlx::query(select), read).await?;
        drop(session);
        if running.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.clock().now();
        let mut leases = self.leases().await?;
        leases.retain(|lease| !lease.released && now < lease.expires);
        let mut abandoned = Vec::new();
        for (id, text, process) in running {
            let is_abandoned = match process {
                None => true,
                Some(process) => match process.liveness(&here) {
                    Liveness::Dead | Liveness::OtherBoot => true,
                    Liveness::Alive => false,
                    // Of a process in another container nothing can be seen, but a service holds a lease and renews it.
                    Liveness::Unseen => !leases.iter().any(|lease| lease.process == process),
                },
            };
            if is_abandoned {
                abandoned.push((id, text));
            }
        }
        if abandoned.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.write("taking jobs over", "the catalog").await?;
        let mut ids = Vec::new();
        for (id, process) in abandoned {
            let statement = sqlx::query(
                "UPDATE jobs SET state = CASE WHEN cancel_wanted THEN 'cancelled' ELSE 'queued' END, \
                 ended = CASE WHEN cancel_wanted THEN $3 ELSE NULL END, process = NULL \
                 WHERE id = $1 AND state = 'running' AND process IS $2",
            )
            .bind(id)
            .bind(process)
            .bind(stamp(now));
            let done = tx.execute(statement).await?;
            if done == 1 {
                ids.push(JobId(id));
            }
        }
        tx.commit().await?;
        Ok(ids)
    }

    /// Ends every delay before the next try: what kept jobs from being done may have been put right. Returns how many there
    /// were. One durable transaction.
    ///
    /// # Errors
    /// `Database`.
    pub async fn end_job_delays(&self) -> Result<u64, CatalogError> {
        let mut tx = self.write("ending the delays of jobs", "the catalog").await?;
        let done = tx
            .execute(sqlx::query("UPDATE jobs SET not_before = NULL WHERE state = 'queued' AND not_before IS NOT NULL"))
            .await?;
        tx.commit().await?;
        Ok(done)
    }

    /// The jobs of this process that somebody wants to end.
    ///
    /// # Errors
    /// `Process`, or `Database`.
    pub async fn jobs_to_cancel(&self) -> Result<Vec<JobId>, CatalogError> {
        let mut session = self.session("finding jobs to cancel", "the catalog").await?;
        let process = session.json("process", &Process::current()?)?;
        let query =
            sqlx::query("SELECT id FROM jobs WHERE state = 'running' AND cancel_wanted AND process = $1 ORDER BY id");
        session.all(query.bind(process), |row| Ok(JobId(row.signed("id")?))).await
    }
}

/// The next job's row.
fn query(claim: &Claim<'_>, now: Timestamp) -> QueryBuilder<sqlx::Sqlite> {
    let mut query = QueryBuilder::new(
        "WITH busy AS (SELECT volume, host, datastore FROM jobs WHERE state = 'running' AND kind IN (",
    );
    kinds(&mut query, claim.kinds);
    query.push(")) SELECT id FROM jobs WHERE state = 'queued' AND kind IN (");
    kinds(&mut query, claim.kinds);
    query.push(") AND (SELECT COUNT(*) FROM busy) < ").push_bind(i64::from(claim.most));
    query.push(" AND (not_before IS NULL OR not_before <= ").push_bind(stamp(now)).push(")");
    query.push(" AND (host IS NULL OR host NOT IN (SELECT host FROM busy WHERE host IS NOT NULL GROUP BY host HAVING COUNT(*) >= ");
    query.push_bind(i64::from(claim.per_host)).push("))");
    if let Some(most) = claim.per_datastore {
        query.push(" AND (datastore IS NULL OR datastore NOT IN (SELECT datastore FROM busy WHERE datastore IS NOT NULL GROUP BY datastore HAVING COUNT(*) >= ");
        query.push_bind(i64::from(most)).push("))");
    }
    query.push(" AND (volume IS NULL OR volume NOT IN (SELECT volume FROM busy WHERE volume IS NOT NULL))");
    if claim.planned {
        query.push(
            // What is due for versions asks nobody for a disk.
            " AND (cause <> 'schedule' OR kind <> 'copy' OR (NOT EXISTS (SELECT 1 FROM pauses WHERE subject = '*') \
             AND (volume IS NULL OR volume NOT IN (SELECT subject FROM pauses))))",
        );
    } else {
        query.push(" AND cause <> 'schedule'");
    }
    for kind in claim.closed {
        query.push(" AND NOT (cause = 'schedule' AND volume LIKE ").push_bind(format!("{kind}/%")).push(")");
    }
    if let Some(known) = claim.known {
        query.push(" AND (cause = 'schedule' OR id <= ").push_bind(known.0).push(")");
    }
    query.push(" ORDER BY priority DESC, rank, id LIMIT 1");
    query
}

fn kinds(query: &mut QueryBuilder<sqlx::Sqlite>, kinds: &[JobKind]) {
    let mut list = query.separated(", ");
    for kind in kinds {
        list.push_bind(kind.as_str());
    }
}
