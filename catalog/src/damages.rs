//! What reading damaged versions back found. Only kept here: what it means is said by those who read versions back. It is
//! gone with the version, and when the version is found whole.

use std::collections::HashMap;

use serde_json::Value;
use sqlx::SqliteConnection;
use stackferry_volume::{VersionId, VolumeId};

use crate::convert::During;
use crate::error::CatalogError;
use crate::pool::Catalog;

impl Catalog {
    /// Keeps what was found in a version, instead of what was found before. A version that has no row is passed over. One
    /// durable transaction.
    ///
    /// # Errors
    /// `Json`, or `Database`.
    pub async fn keep_damage(&self, volume: &VolumeId, version: &VersionId, found: &Value) -> Result<(), CatalogError> {
        let during = self.during("keeping what is damaged", format!("{volume}@{version}"));
        let text = during.json("found", found)?;
        let mut tx = self.write(&during).await?;
        sqlx::query(
            "INSERT INTO damages (volume, version, found) \
             SELECT volume, version, $3 FROM versions WHERE volume = $1 AND version = $2 \
             ON CONFLICT (volume, version) DO UPDATE SET found = excluded.found",
        )
        .bind(volume.to_string())
        .bind(version.to_string())
        .bind(text)
        .execute(tx.conn())
        .await
        .map_err(|error| during.sql(error))?;
        tx.commit(&during).await
    }

    /// What was found in versions of a volume.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn damages(&self, volume: &VolumeId) -> Result<HashMap<VersionId, Value>, CatalogError> {
        let during = self.during("reading what is damaged", volume);
        let rows = sqlx::query("SELECT version, found FROM damages WHERE volume = $1")
            .bind(volume.to_string())
            .fetch_all(self.pool())
            .await
            .map_err(|error| during.sql(error))?;
        rows.iter()
            .map(|row| {
                let row = during.row(row);
                Ok((row.parsed("version")?, row.json("found")?))
            })
            .collect()
    }
}

/// The version was found whole.
pub(crate) async fn forget(
    conn: &mut SqliteConnection,
    during: &During,
    volume: &VolumeId,
    version: &VersionId,
) -> Result<(), CatalogError> {
    sqlx::query("DELETE FROM damages WHERE volume = $1 AND version = $2")
        .bind(volume.to_string())
        .bind(version.to_string())
        .execute(conn)
        .await
        .map_err(|error| during.sql(error))?;
    Ok(())
}
