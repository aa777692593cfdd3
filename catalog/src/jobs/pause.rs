//! Pauses: what the service must not start by itself.

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
        let mut tx = self.write("pausing", &subject).await?;
        let statement = sqlx::query(
            "INSERT INTO pauses (subject, since, actor) VALUES ($1, $2, $3) ON CONFLICT (subject) DO NOTHING",
        )
        .bind(subject)
        .bind(stamp(self.clock().now()))
        .bind(actor);
        let done = tx.execute(statement).await?;
        tx.commit().await?;
        Ok(done == 1)
    }

    /// They begin again. False if they were not paused. One durable transaction.
    ///
    /// # Errors
    /// `Database`.
    pub async fn resume(&self, volume: Option<&VolumeId>) -> Result<bool, CatalogError> {
        let subject = subject(volume);
        let mut tx = self.write("ending a pause", &subject).await?;
        let statement = sqlx::query("DELETE FROM pauses WHERE subject = $1").bind(subject);
        let done = tx.execute(statement).await?;
        tx.commit().await?;
        Ok(done == 1)
    }

    /// What is paused; that of all is first.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn pauses(&self) -> Result<Vec<Pause>, CatalogError> {
        let mut session = self.session("reading what is paused", "the catalog").await?;
        session
            .all(sqlx::query("SELECT * FROM pauses ORDER BY subject <> '*', subject"), |row| {
                let volume = match row.text("subject")?.as_str() {
                    ALL => None,
                    _ => Some(row.parsed("subject")?),
                };
                Ok(Pause { volume, since: row.time("since")?, actor: row.text("actor")? })
            })
            .await
    }
}

fn subject(volume: Option<&VolumeId>) -> String {
    volume.map_or_else(|| ALL.to_owned(), ToString::to_string)
}
