//! What the service is told not to begin by itself.

use jiff::Timestamp;
use stackferry_volume::VolumeId;

use crate::convert::stamp;
use crate::error::CatalogError;
use crate::pool::Catalog;

/// Everything, as a pause's subject. No volume has this id.
const ALL: &str = "*";

/// Planned copies do not begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Of which volume; none for all.
    pub volume: Option<VolumeId>,
    /// Since when.
    pub since: Timestamp,
    /// Who wanted it.
    pub actor: String,
}

impl Catalog {
    /// Planned copies, of one volume or of all, begin no more. False if that was so before. One durable transaction.
    ///
    /// # Errors
    /// `Database`.
    pub async fn pause(&self, volume: Option<&VolumeId>, actor: &str) -> Result<bool, CatalogError> {
        let subject = subject(volume);
        let during = self.during("pausing", &subject);
        let mut tx = self.write(&during).await?;
        let done = sqlx::query(
            "INSERT INTO pauses (subject, since, actor) VALUES ($1, $2, $3) ON CONFLICT (subject) DO NOTHING",
        )
        .bind(subject)
        .bind(stamp(self.clock().now()))
        .bind(actor)
        .execute(tx.conn())
        .await
        .map_err(|error| during.sql(error))?;
        tx.commit(&during).await?;
        Ok(done.rows_affected() == 1)
    }

    /// They begin again. False if they were not paused. One durable transaction.
    ///
    /// # Errors
    /// `Database`.
    pub async fn resume(&self, volume: Option<&VolumeId>) -> Result<bool, CatalogError> {
        let subject = subject(volume);
        let during = self.during("ending a pause", &subject);
        let mut tx = self.write(&during).await?;
        let done = sqlx::query("DELETE FROM pauses WHERE subject = $1")
            .bind(subject)
            .execute(tx.conn())
            .await
            .map_err(|error| during.sql(error))?;
        tx.commit(&during).await?;
        Ok(done.rows_affected() == 1)
    }

    /// What is paused; that of all is first.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn pauses(&self) -> Result<Vec<Pause>, CatalogError> {
        let during = self.during("reading what is paused", "the catalog");
        let rows = sqlx::query("SELECT * FROM pauses ORDER BY subject <> '*', subject")
            .fetch_all(self.pool())
            .await
            .map_err(|error| during.sql(error))?;
        rows.iter()
            .map(|row| {
                let row = during.row(row);
                let volume = match row.text("subject")?.as_str() {
                    ALL => None,
                    _ => Some(row.parsed("subject")?),
                };
                Ok(Pause { volume, since: row.time("since")?, actor: row.text("actor")? })
            })
            .collect()
    }
}

fn subject(volume: Option<&VolumeId>) -> String {
    volume.map_or_else(|| ALL.to_owned(), ToString::to_string)
}
