//! Reading jobs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::QueryBuilder;
use stackferry_volume::VolumeId;

use super::{Job, JobId, JobKind, JobState, Priority};
use crate::convert::{Row, stamp};
use crate::error::CatalogError;
use crate::pool::Catalog;
use crate::volumes::StatusReason;

/// Which jobs are listed. An empty list of states or kinds means all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// In one of these states.
    pub states: Vec<JobState>,
    /// Of one of these kinds.
    pub kinds: Vec<JobKind>,
    /// Of this volume.
    pub volume: Option<VolumeId>,
    /// Only what somebody wants, not what the schedule brought.
    pub requested: bool,
    /// Older than this one: the last of the page before.
    pub before: Option<JobId>,
}

impl Catalog {
    /// One job; none if there is none, or it was forgotten.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn job(&self, id: JobId) -> Result<Option<Job>, CatalogError> {
        let mut session = self.session("reading a job", id).await?;
        let query = sqlx::query("SELECT * FROM jobs WHERE id = $1").bind(id.0);
        session.optional(query, job).await
    }

    /// A page of jobs, newest first, at most `limit`.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn jobs(&self, filter: &JobFilter, limit: u32) -> Result<Vec<Job>, CatalogError> {
        let mut session = self.session("listing the jobs", "the catalog").await?;
        let mut query = QueryBuilder::<sqlx::Sqlite>::new("SELECT * FROM jobs WHERE TRUE");
        if !filter.states.is_empty() {
            query.push(" AND state IN (");
            let mut list = query.separated(", ");
            filter.states.iter().for_each(|state| {
                list.push_bind(state.as_str());
            });
            query.push(")");
        }
        if !filter.kinds.is_empty() {
            query.push(" AND kind IN (");
            let mut list = query.separated(", ");
            filter.kinds.iter().for_each(|kind| {
                list.push_bind(kind.as_str());
            });
            query.push(")");
        }
        if let Some(volume) = &filter.volume {
            query.push(" AND volume = ").push_bind(volume.to_string());
        }
        if filter.requested {
            query.push(" AND cause <> 'schedule'");
        }
        if let Some(before) = filter.before {
            query.push(" AND id < ").push_bind(before.0);
        }
        query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(limit));
        session.all(query.build(), job).await
    }

    /// Jobs that failed since a moment, newest first, at most `limit`: those whose like (kind, volume) was not done since.
    /// Copies are not among them, since the volume shows how its last one ended; nor are checks that found damage.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn failed_jobs(&self, since: Timestamp, limit: u32) -> Result<Vec<Job>, CatalogError> {
        let mut session = self.session("listing the jobs that failed", "the catalog").await?;
        let query = sqlx::query(
            "SELECT * FROM jobs j WHERE j.state = 'failed' AND j.ended >= $1 AND j.kind <> 'copy' \
             AND COALESCE(j.outcome, '') NOT IN ('damaged', 'not_a_disk') \
             AND NOT EXISTS (SELECT 1 FROM jobs n WHERE n.kind = j.kind AND n.volume IS j.volume AND n.id > j.id \
             AND n.state IN ('done', 'failed')) ORDER BY j.id DESC LIMIT $2",
        )
        .bind(stamp(since))
        .bind(i64::from(limit));
        session.all(query, job).await
    }

    /// The number of the newest job; 0 where there is none.
    ///
    /// # Errors
    /// `Database`.
    pub async fn newest_job(&self) -> Result<JobId, CatalogError> {
        let mut session = self.session("reading the newest job", "the catalog").await?;
        let query = sqlx::query("SELECT COALESCE(MAX(id), 0) AS id FROM jobs");
        session.one(query, |row| Ok(JobId(row.signed("id")?))).await
    }

    /// Whether a copy waits that somebody put into the queue after this job.
    ///
    /// # Errors
    /// `Database`.
    pub async fn is_copy_requested_after(&self, known: JobId) -> Result<bool, CatalogError> {
        let mut session = self.session("finding requested copies", "the catalog").await?;
        let query = sqlx::query(
            "SELECT 1 FROM jobs WHERE state = 'queued' AND priority >= $2 AND id > $1 AND kind = 'copy' \
             AND cause <> 'schedule' LIMIT 1",
        )
        .bind(known.0)
        .bind(Priority::REQUESTED.0);
        session.exists(query).await
    }

    /// How many copies wait.
    ///
    /// # Errors
    /// `Database`.
    pub async fn queued_copies(&self) -> Result<u64, CatalogError> {
        let mut session = self.session("counting the queue", "the catalog").await?;
        let query = sqlx::query("SELECT COUNT(*) AS number FROM jobs WHERE state = 'queued' AND kind = 'copy'");
        session.one(query, |row| row.count("number")).await
    }

    /// How many jobs there are in each state that has any.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn job_counts(&self) -> Result<BTreeMap<&'static str, u64>, CatalogError> {
        let mut session = self.session("counting the jobs", "the catalog").await?;
        let query = sqlx::query("SELECT state, COUNT(*) AS number FROM jobs GROUP BY state");
        let read = |row: &Row<'_>| Ok((row.parsed::<JobState>("state")?.as_str(), row.count("number")?));
        Ok(session.all(query, read).await?.into_iter().collect())
    }
}

pub(super) fn job(row: &Row<'_>) -> Result<Job, CatalogError> {
    Ok(Job {
        id: JobId(row.signed("id")?),
        kind: row.parsed("kind")?,
        volume: row.opt_parsed("volume")?,
        version: row.opt_parsed("version")?,
        detail: row.json("detail")?,
        trigger: row.parsed("cause")?,
        actor: row.text("actor")?,
        priority: Priority(row.signed("priority")?),
        host: row.opt_text("host")?,
        datastore: row.opt_text("datastore")?,
        state: row.parsed("state")?,
        not_before: row.opt_time("not_before")?,
        tries: row.count("tries")?,
        created: row.time("created")?,
        started: row.opt_time("started")?,
        ended: row.opt_time("ended")?,
        process: row.opt_json("process")?,
        cancel_requested: row.flag("cancel_wanted")?,
        outcome: row.opt_text("outcome")?,
        error: StatusReason::read(row, "error_code", "error_text")?,
        result: row.opt_json("result")?,
    })
}
