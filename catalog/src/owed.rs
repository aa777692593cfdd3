//! What was changed at other systems for the time of a copy, and has to be put back there.
//!
//! 1. The debt is written, durably, before the change is made at the other system.
//! 2. The change is made; the copy runs; the change is undone.
//! 3. The debt is deleted.
//!
//! A crash after 1 leaves a debt that the next start pays: what may not have been changed is then undone for nothing,
//! which does no harm; what was changed is never forgotten.

use jiff::Timestamp;
use serde_json::Value;

use crate::convert::{During, Row, stamp, words};
use crate::error::CatalogError;
use crate::pool::Catalog;
use crate::process::{Fate, Process};

words! {
    /// What has to be put back.
    DebtKind ("debt") {
        /// A local account on a host has to be removed.
        Account = "account",
        /// A host's SSH service has to be stopped.
        SshService = "ssh_service",
        /// A writable volume has to be enabled in App Volumes.
        Writable = "writable",
    }
}

/// What has to be put back, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debt {
    /// What.
    pub what: DebtKind,
    /// At which system: its name in the configuration.
    pub system: String,
    /// What of that system: a host and an account, a host, a volume's number.
    pub subject: String,
    /// What undoing it takes beside that. Never a secret.
    pub detail: Value,
}

/// A debt that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DebtId(pub(crate) i64);

impl DebtId {
    /// Its number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0.unsigned_abs()
    }

    /// The debt of this number; none where it can't be one.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        i64::try_from(number).ok().map(Self)
    }
}

/// A debt as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebtRow {
    /// Its number.
    pub id: DebtId,
    /// What has to be put back.
    pub debt: Debt,
    /// Since when.
    pub since: Timestamp,
    /// Whether the process that made it is gone, so that nobody else will pay it: it is certainly dead, or it is out of
    /// sight (in another container) and holds no lease any more.
    pub is_abandoned: bool,
    /// Whether this process made it.
    pub is_own: bool,
}

impl Catalog {
    /// Writes a debt, before what it is for is done. One durable transaction.
    ///
    /// # Errors
    /// `Process`, or `Database`: then the change must not be made.
    pub async fn owe(&self, debt: &Debt) -> Result<DebtId, CatalogError> {
        let during = self.during("recording what has to be put back", format!("{} {}", debt.system, debt.subject));
        let process = during.json("process", &Process::current()?)?;
        let detail = during.json("detail", &debt.detail)?;
        let now = self.clock().now();
        let mut tx = self.write(&during).await?;
        let done = sqlx::query(
            "INSERT INTO owed (what, system, subject, detail, process, since) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(debt.what.as_str())
        .bind(&debt.system)
        .bind(&debt.subject)
        .bind(detail)
        .bind(process)
        .bind(stamp(now))
        .execute(tx.conn())
        .await
        .map_err(|error| during.sql(error))?;
        let id = DebtId(done.last_insert_rowid());
        tx.commit(&during).await?;
        Ok(id)
    }

    /// Deletes a debt that was paid. One durable transaction.
    ///
    /// # Errors
    /// `Database`.
    pub async fn settle(&self, id: DebtId) -> Result<(), CatalogError> {
        let during = self.during("recording what was put back", id.0.to_string());
        let mut tx = self.write(&during).await?;
        sqlx::query("DELETE FROM owed WHERE id = $1")
            .bind(id.0)
            .execute(tx.conn())
            .await
            .map_err(|error| during.sql(error))?;
        tx.commit(&during).await
    }

    /// All that has to be put back, oldest first.
    ///
    /// # Errors
    /// `Row`, `Process`, or `Database`.
    pub async fn owed(&self) -> Result<Vec<DebtRow>, CatalogError> {
        let during = self.during("reading what has to be put back", "the catalog");
        let rows = sqlx::query("SELECT * FROM owed ORDER BY id")
            .fetch_all(self.pool())
            .await
            .map_err(|error| during.sql(error))?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let here = Process::current()?;
        let mut owed =
            rows.iter().map(|row| debt(&during, row, &here)).collect::<Result<Vec<(DebtRow, Process)>, _>>()?;
        // Of a process in another container nothing can be seen, but whoever copies holds a lease and renews it.
        if owed.iter().any(|(_, process)| process.fate(&here) == Fate::Unseen) {
            let now = self.clock().now();
            let mut leases = self.leases().await?;
            leases.retain(|lease| !lease.released && now < lease.expires);
            for (row, process) in owed.iter_mut().filter(|(_, process)| process.fate(&here) == Fate::Unseen) {
                row.is_abandoned = !leases.iter().any(|lease| lease.process == *process);
            }
        }
        Ok(owed.into_iter().map(|(row, _)| row).collect())
    }
}

fn debt(during: &During, row: &Row, here: &Process) -> Result<(DebtRow, Process), CatalogError> {
    let row = during.row(row);
    let process: Process = serde_json::from_str(&row.text("process")?).map_err(|error| during.bad("process", error))?;
    let is_own = process == *here;
    // Another boot of this machine is over. That the catalog's file is used from two machines is not foreseen.
    let is_abandoned = matches!(process.fate(here), Fate::Dead | Fate::OtherBoot);
    let debt = DebtRow {
        id: DebtId(row.signed("id")?),
        debt: Debt {
            what: row.parsed("what")?,
            system: row.text("system")?,
            subject: row.text("subject")?,
            detail: serde_json::from_str(&row.text("detail")?).map_err(|error| during.bad("detail", error))?,
        },
        since: row.time("since")?,
        is_abandoned,
        is_own,
    };
    Ok((debt, process))
}
