//! What reading damaged versions back found. Only kept here: what it means is said by those who read versions back. It is
//! gone with the version, and when the version is found whole.

use std::collections::HashMap;

use serde_json::Value;
use stackferry_volume::{VersionId, VolumeId};

use crate::error::CatalogError;
use crate::pool::Catalog;
use crate::session::DbSession;

impl Catalog {
    /// Keeps what was found in a version, instead of what was found before. A version that has no row is skipped. One
    /// durable transaction.
    ///
    /// # Errors
    /// `Json`, or `Database`.
    pub async fn record_damage(
        &self,
        volume: &VolumeId,
        version: &VersionId,
        found: &Value,
    ) -> Result<(), CatalogError> {
        let mut tx = self.write("recording what is damaged", format!("{volume}@{version}")).await?;
        let statement = sqlx::query(
            "INSERT INTO damages (volume, version, found) \
             SELECT volume, version, $3 FROM versions WHERE volume = $1 AND version = $2 \
             ON CONFLICT (volume, version) DO UPDATE SET found = excluded.found",
        )
        .bind(volume.to_string())
        .bind(version.to_string())
        .bind(tx.json("found", found)?);
        tx.execute(statement).await?;
        tx.commit().await
    }

    /// What was found in versions of a volume.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn damages(&self, volume: &VolumeId) -> Result<HashMap<VersionId, Value>, CatalogError> {
        let mut session = self.session("reading what is damaged", volume).await?;
        let query = sqlx::query("SELECT version, found FROM damages WHERE volume = $1").bind(volume.to_string());
        let found = session.all(query, |row| Ok((row.parsed("version")?, row.json("found")?))).await?;
        Ok(found.into_iter().collect())
    }
}

/// The version was found whole.
pub(crate) async fn forget(tx: &mut DbSession, volume: &VolumeId, version: &VersionId) -> Result<(), CatalogError> {
    let statement = sqlx::query("DELETE FROM damages WHERE volume = $1 AND version = $2")
        .bind(volume.to_string())
        .bind(version.to_string());
    tx.execute(statement).await.map(|_| ())
}
