//! Baselines: for each location, the fingerprint whose content is known to equal a committed version. A volume is due
//! when a location's fingerprint is no longer its baseline's.
//!
//! A baseline never outlives what it rests on: it goes when its version is removed or found damaged, and when the
//! volume begins a new generation.

use jiff::Timestamp;
use stackferry_volume::{Baseline, Location, SiteName, VersionId, VolumeId};

use crate::convert::{Row, stamp};
use crate::error::CatalogError;
use crate::pool::Catalog;
use crate::session::DbSession;

impl Catalog {
    /// Records that each of these locations, as long as its fingerprint stays, equals its version. A location's former
    /// baseline is replaced. What rests on a damaged version, or on one of another generation than the volume's current
    /// one (it may have begun while the copy ran), is skipped. One durable transaction.
    ///
    /// # Errors
    /// `NoSuchVersion`, or `Database`.
    pub async fn set_baselines(&self, volume: &VolumeId, baselines: &[Baseline]) -> Result<(), CatalogError> {
        let mut tx = self.write("setting baselines", volume).await?;
        for baseline in baselines {
            if bears(&mut tx, volume, &baseline.version).await? {
                put(&mut tx, volume, baseline, self.clock().now()).await?;
            }
        }
        tx.commit().await
    }

    /// The baselines of a volume's locations.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn baselines(&self, volume: &VolumeId) -> Result<Vec<Baseline>, CatalogError> {
        let mut session = self.session("reading baselines", volume).await?;
        let query = sqlx::query(
            "SELECT site, datastore, path, fingerprint, version, settled FROM baselines WHERE volume = $1 \
             ORDER BY site, datastore, path",
        )
        .bind(volume.to_string());
        session
            .all(query, |row| {
                Ok(Baseline {
                    location: Location {
                        site: SiteName(row.text("site")?),
                        datastore: row.text("datastore")?,
                        path: row.text("path")?,
                    },
                    fingerprint: row.json("fingerprint")?,
                    version: row.parsed("version")?,
                    settled: row.flag("settled")?,
                })
            })
            .await
    }
}

/// Whether a baseline may rest on a version.
async fn bears(tx: &mut DbSession, volume: &VolumeId, version: &VersionId) -> Result<bool, CatalogError> {
    let query = sqlx::query(
        "SELECT n.damaged, n.generation AS own, v.generation AS current FROM versions n \
         JOIN volumes v ON v.id = n.volume WHERE n.volume = $1 AND n.version = $2",
    )
    .bind(volume.to_string())
    .bind(version.to_string());
    let read = |row: &Row<'_>| Ok(row.opt_text("damaged")?.is_none() && row.signed("own")? == row.signed("current")?);
    let found = tx.optional(query, read).await?;
    found.ok_or_else(|| CatalogError::NoSuchVersion { volume: volume.clone(), version: version.clone() })
}

pub(crate) async fn put(
    tx: &mut DbSession,
    volume: &VolumeId,
    baseline: &Baseline,
    at: Timestamp,
) -> Result<(), CatalogError> {
    let statement = sqlx::query(
        "INSERT INTO baselines (volume, site, datastore, path, fingerprint, version, settled, set_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
         ON CONFLICT (volume, site, datastore, path) DO UPDATE SET fingerprint = excluded.fingerprint, \
           version = excluded.version, settled = excluded.settled, set_at = excluded.set_at",
    )
    .bind(volume.to_string())
    .bind(&baseline.location.site.0)
    .bind(&baseline.location.datastore)
    .bind(&baseline.location.path)
    .bind(tx.json("fingerprint", &baseline.fingerprint)?)
    .bind(baseline.version.to_string())
    .bind(baseline.settled)
    .bind(stamp(at));
    tx.execute(statement).await.map(|_| ())
}

/// Forgets every baseline that rests on a version.
pub(crate) async fn forget(tx: &mut DbSession, volume: &VolumeId, version: &VersionId) -> Result<(), CatalogError> {
    let statement = sqlx::query("DELETE FROM baselines WHERE volume = $1 AND version = $2")
        .bind(volume.to_string())
        .bind(version.to_string());
    tx.execute(statement).await.map(|_| ())
}
