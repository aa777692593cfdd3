//! Pending cleanups: what was changed at other systems for the time of a copy, and has to be undone there.
//!
//! 1. The cleanup is recorded, durably, before the change is made at the other system.
//! 2. The change is made; the copy runs; the change is undone.
//! 3. The record is deleted.
//!
//! A crash after 1 leaves a record, and the next start cleans up: what may not have been changed is then undone for nothing,
//! which does no harm; what was changed is never forgotten.

use jiff::Timestamp;
use serde_json::Value;

use crate::convert::{Row, stamp, words};
use crate::error::CatalogError;
use crate::pool::Catalog;
use crate::process::{Liveness, Process};

words! {
    /// What has to be undone.
    CleanupKind ("kind of cleanup") {
        /// A local account on a host has to be removed.
        Account = "account",
        /// A host's SSH service has to be stopped.
        SshService = "ssh_service",
        /// A writable volume has to be enabled in App Volumes.
        Writable = "writable",
    }
}

/// What has to be undone, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleanup {
    /// What.
    pub what: CleanupKind,
    /// At which system: its name in the configuration.
    pub system: String,
    /// What of that system: a host and an account, a host, a volume's number.
    pub subject: String,
    /// What undoing it takes beside that. Never a secret.
    pub detail: Value,
}

/// A recorded cleanup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CleanupId(pub(crate) i64);

impl CleanupId {
    /// Its number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0.unsigned_abs()
    }

    /// The cleanup of this number; none where it can't be one.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        i64::try_from(number).ok().map(Self)
    }
}

/// A cleanup as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingCleanup {
    /// Its number.
    pub id: CleanupId,
    /// What has to be undone.
    pub cleanup: Cleanup,
    /// Since when.
    pub since: Timestamp,
    /// Whether the process that made it is gone, so that nobody else will clean up: it is certainly dead, or it is out of
    /// sight (in another container) and holds no lease any more.
    pub is_abandoned: bool,
    /// Whether this process made it.
    pub is_own: bool,
}

impl Catalog {
    /// Records a cleanup, before what it is for is done. One durable transaction.
    ///
    /// # Errors
    /// `Process`, or `Database`: then the change must not be made.
    pub async fn add_cleanup(&self, cleanup: &Cleanup) -> Result<CleanupId, CatalogError> {
        let process = Process::current()?;
        let now = self.clock().now();
        let mut tx = self.write("recording a cleanup", format!("{} {}", cleanup.system, cleanup.subject)).await?;
        let query = sqlx::query(
            "INSERT INTO owed (what, system, subject, detail, process, since) VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
        )
        .bind(cleanup.what.as_str())
        .bind(&cleanup.system)
        .bind(&cleanup.subject)
        .bind(tx.json("detail", &cleanup.detail)?)
        .bind(tx.json("process", &process)?)
        .bind(stamp(now));
        let id = tx.one(query, |row| Ok(CleanupId(row.signed("id")?))).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Deletes the record of a cleanup that was done. One durable transaction.
    ///
    /// # Errors
    /// `Database`.
    pub async fn end_cleanup(&self, id: CleanupId) -> Result<(), CatalogError> {
        let mut tx = self.write("recording a finished cleanup", id.0.to_string()).await?;
        let statement = sqlx::query("DELETE FROM owed WHERE id = $1").bind(id.0);
        tx.execute(statement).await?;
        tx.commit().await
    }

    /// All pending cleanups, oldest first.
    ///
    /// # Errors
    /// `Row`, `Process`, or `Database`.
    pub async fn pending_cleanups(&self) -> Result<Vec<PendingCleanup>, CatalogError> {
        let mut session = self.session("reading pending cleanups", "the catalog").await?;
        let here = Process::current()?;
        let mut pending = session.all(sqlx::query("SELECT * FROM owed ORDER BY id"), |row| pending(row, &here)).await?;
        drop(session);
        // Of a process in another container nothing can be seen, but whoever copies holds a lease and renews it.
        if pending.iter().any(|(_, process)| process.liveness(&here) == Liveness::Unseen) {
            let now = self.clock().now();
            let mut leases = self.leases().await?;
            leases.retain(|lease| !lease.released && now < lease.expires);
            for (row, process) in pending.iter_mut().filter(|(_, process)| process.liveness(&here) == Liveness::Unseen)
            {
                row.is_abandoned = !leases.iter().any(|lease| lease.process == *process);
            }
        }
        Ok(pending.into_iter().map(|(row, _)| row).collect())
    }
}

fn pending(row: &Row<'_>, here: &Process) -> Result<(PendingCleanup, Process), CatalogError> {
    let process: Process = row.json("process")?;
    let is_own = process == *here;
    // Another boot of this machine is over. That the catalog's file is used from two machines is not foreseen.
    let is_abandoned = matches!(process.liveness(here), Liveness::Dead | Liveness::OtherBoot);
    let pending = PendingCleanup {
        id: CleanupId(row.signed("id")?),
        cleanup: Cleanup {
            what: row.parsed("what")?,
            system: row.text("system")?,
            subject: row.text("subject")?,
            detail: row.json("detail")?,
        },
        since: row.time("since")?,
        is_abandoned,
        is_own,
    };
    Ok((pending, process))
}
