//! Attempts to copy a volume: when each began, how it ended, what it cost. A volume's summary (last attempt, last
//! success, last error) is kept in the volume's row in the same transaction, so that old attempts can be forgotten.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stackferry_volume::manifest::ByteCounts;
use stackferry_volume::{Generation, VersionId, VolumeId};

use crate::convert::{Row, stamp, words};
use crate::error::CatalogError;
use crate::pool::Catalog;
use crate::process::{Liveness, Process};
use crate::session::DbSession;
use crate::versions::need_volume;
use crate::volumes::StatusReason;

words! {
    /// What an attempt came to.
    Outcome ("outcome") {
        /// A version was made.
        Copied = "copied",
        /// The source equals a committed version.
        Unchanged = "unchanged",
        /// The volume was postponed for a reason that may pass.
        Deferred = "deferred",
        /// It went wrong.
        Failed = "failed",
    }
}

words! {
    /// Why an attempt was made.
    Trigger ("trigger") {
        /// The volume was due.
        Schedule = "schedule",
        /// A person or a script ran a command.
        Command = "command",
        /// A client of the API asked.
        Api = "api",
    }
}

/// An attempt's number: it only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptId(pub i64);

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptEnd {
    /// What it came to.
    pub outcome: Outcome,
    /// The version that was made, or that the source was found equal to.
    pub version: Option<VersionId>,
    /// Why it failed or was deferred.
    pub error: Option<StatusReason>,
    /// The bytes of this run.
    pub bytes: ByteCounts,
    /// How long it took; kept to the millisecond.
    pub took: Duration,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its number.
    pub id: AttemptId,
    /// The volume.
    pub volume: VolumeId,
    /// The volume's generation when it began.
    pub generation: Generation,
    /// The route it took.
    pub route: String,
    /// Why it was made.
    pub trigger: Trigger,
    /// When it began.
    pub started: Timestamp,
    /// When it ended; none while it runs.
    pub ended: Option<Timestamp>,
    /// How it ended; none while it runs.
    pub end: Option<AttemptEnd>,
}

const INTERRUPTED: &str = "interrupted";

impl Catalog {
    /// Records that an attempt begins. The caller holds the volume's lease, so an attempt on it that is still open was
    /// left so by one that is no more: it is closed as failed (`interrupted`). One durable transaction.
    ///
    /// # Errors
    /// `NoSuchVolume`, `Process`, or `Database`.
    pub async fn start_attempt(
        &self,
        volume: &VolumeId,
        route: &str,
        trigger: Trigger,
    ) -> Result<AttemptId, CatalogError> {
        let process = Process::current()?;
        let now = self.clock().now();
        let mut tx = self.write("starting an attempt", volume).await?;
        let generation = need_volume(&mut tx, volume).await?;
        let open = sqlx::query("SELECT id FROM attempts WHERE ended IS NULL AND volume = $1").bind(volume.to_string());
        for id in tx.all(open, |row| row.signed("id")).await? {
            close(&mut tx, id, now, &interrupted()).await?;
        }
        let query = sqlx::query(
            "INSERT INTO attempts (volume, generation, route, cause, process, started) \
             VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
        )
        .bind(volume.to_string())
        .bind(i64::from(generation.0))
        .bind(route)
        .bind(trigger.as_str())
        .bind(tx.json("process", &process)?)
        .bind(stamp(now));
        let id = tx.one(query, |row| row.signed("id")).await?;
        let statement =
            sqlx::query("UPDATE volumes SET last_attempt = $2 WHERE id = $1").bind(volume.to_string()).bind(stamp(now));
        tx.execute(statement).await?;
        tx.commit().await?;
        Ok(AttemptId(id))
    }

    /// Records how an attempt ended, and brings the volume's summary up to date: a copied or unchanged one is a
    /// success and clears the last error, a failed one sets it, a deferred one changes neither. An attempt on an
    /// earlier generation does not count for the current one. One durable transaction.
    ///
    /// # Errors
    /// `AttemptNotOpen`, `Range`, or `Database`.
    pub async fn finish_attempt(&self, id: AttemptId, end: &AttemptEnd) -> Result<(), CatalogError> {
        let now = self.clock().now();
        let mut tx = self.write("finishing an attempt", id).await?;
        close(&mut tx, id.0, now, end).await?;
        tx.commit().await
    }

    /// Closes, as failed (`interrupted`), every attempt whose process is no more: to be called at start. Attempts of
    /// another boot are closed too, those of processes that can't be seen from here are left. One durable transaction.
    ///
    /// # Errors
    /// `Process`, `Row`, or `Database`.
    pub async fn close_interrupted_attempts(&self) -> Result<Vec<(AttemptId, VolumeId)>, CatalogError> {
        let here = Process::current()?;
        let now = self.clock().now();
        let mut tx = self.write("closing interrupted attempts", "the catalog").await?;
        let open = sqlx::query("SELECT id, volume, process FROM attempts WHERE ended IS NULL ORDER BY id");
        let read = |row: &Row<'_>| Ok((row.signed("id")?, row.parsed("volume")?, row.json::<Process>("process")?));
        let mut closed = Vec::new();
        for (id, volume, process) in tx.all(open, read).await? {
            if matches!(process.liveness(&here), Liveness::Dead | Liveness::OtherBoot) {
                close(&mut tx, id, now, &interrupted()).await?;
                closed.push((AttemptId(id), volume));
            }
        }
        if !closed.is_empty() {
            tx.commit().await?;
        }
        Ok(closed)
    }

    /// The last attempts on a volume, newest first, at most `limit`.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn attempts(&self, volume: &VolumeId, limit: u32) -> Result<Vec<Attempt>, CatalogError> {
        let mut session = self.session("reading the attempts", volume).await?;
        let query = sqlx::query("SELECT * FROM attempts WHERE volume = $1 ORDER BY id DESC LIMIT $2")
            .bind(volume.to_string())
            .bind(i64::from(limit));
        session.all(query, attempt).await
    }

    /// The attempts that have not ended, oldest first.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn open_attempts(&self) -> Result<Vec<Attempt>, CatalogError> {
        let mut session = self.session("reading the open attempts", "the catalog").await?;
        session.all(sqlx::query("SELECT * FROM attempts WHERE ended IS NULL ORDER BY id"), attempt).await
    }
}

fn interrupted() -> AttemptEnd {
    let error =
        StatusReason { code: INTERRUPTED.into(), text: "the process that made it ended before it was done".into() };
    AttemptEnd {
        outcome: Outcome::Failed,
        version: None,
        error: Some(error),
        bytes: ByteCounts::default(),
        took: Duration::ZERO,
    }
}

async fn close(tx: &mut DbSession, id: i64, now: Timestamp, end: &AttemptEnd) -> Result<(), CatalogError> {
    let millis = u64::try_from(end.took.as_millis()).unwrap_or(u64::MAX);
    let query = sqlx::query(
        "UPDATE attempts SET ended = $2, outcome = $3, version = $4, error_code = $5, error_text = $6, \
           logical_bytes = $7, read_bytes = $8, zero_bytes = $9, wire_bytes = $10, stored_bytes = $11, millis = $12 \
         WHERE id = $1 AND ended IS NULL RETURNING volume, generation",
    )
    .bind(id)
    .bind(stamp(now))
    .bind(end.outcome.as_str())
    .bind(end.version.as_ref().map(ToString::to_string))
    .bind(end.error.as_ref().map(|error| &error.code))
    .bind(end.error.as_ref().map(|error| &error.text))
    .bind(tx.number("logical bytes", end.bytes.logical)?)
    .bind(tx.number("read bytes", end.bytes.read)?)
    .bind(tx.number("zero bytes", end.bytes.zero)?)
    .bind(tx.number("wire bytes", end.bytes.wire)?)
    .bind(tx.number("stored bytes", end.bytes.stored)?)
    .bind(tx.number("milliseconds", millis)?);
    let ended = tx.optional(query, |row| Ok((row.text("volume")?, row.signed("generation")?))).await?;
    let (volume, generation) = ended.ok_or(CatalogError::AttemptNotOpen(id))?;
    let summary = match end.outcome {
        Outcome::Copied | Outcome::Unchanged => sqlx::query(
            "UPDATE volumes SET last_success = $3, last_error_code = NULL, last_error_text = NULL \
             WHERE id = $1 AND generation = $2",
        )
        .bind(volume)
        .bind(generation)
        .bind(stamp(now)),
        Outcome::Failed => {
            let error = end.error.as_ref();
            sqlx::query(
                "UPDATE volumes SET last_error_code = $3, last_error_text = $4 WHERE id = $1 AND generation = $2",
            )
            .bind(volume)
            .bind(generation)
            .bind(error.map_or("unknown", |error| error.code.as_str()).to_owned())
            .bind(error.map(|error| error.text.clone()).unwrap_or_default())
        }
        Outcome::Deferred => return Ok(()),
    };
    tx.execute(summary).await.map(|_| ())
}

fn attempt(row: &Row<'_>) -> Result<Attempt, CatalogError> {
    let count = |column| Ok::<_, CatalogError>(row.opt_count(column)?.unwrap_or(0));
    let ended = row.opt_time("ended")?;
    let end = match row.opt_parsed("outcome")? {
        None => None,
        Some(outcome) => Some(AttemptEnd {
            outcome,
            version: row.opt_parsed("version")?,
            error: StatusReason::read(row, "error_code", "error_text")?,
            bytes: ByteCounts {
                logical: count("logical_bytes")?,
                read: count("read_bytes")?,
                zero: count("zero_bytes")?,
                wire: count("wire_bytes")?,
                stored: count("stored_bytes")?,
            },
            took: Duration::from_millis(count("millis")?),
        }),
    };
    Ok(Attempt {
        id: AttemptId(row.signed("id")?),
        volume: row.parsed("volume")?,
        generation: Generation(row.small("generation")?),
        route: row.text("route")?,
        trigger: row.parsed("cause")?,
        started: row.time("started")?,
        ended,
        end,
    })
}
