//! Bringing the index of one volume in line with the vault: what differs is found by whoever can read the vault; here it is
//! written down, all of it at once and only under the volume's lease.

use std::collections::BTreeMap;

use sqlx::{QueryBuilder, Sqlite};
use stackferry_volume::{Generation, VersionId, VolumeId};

use crate::baselines;
use crate::convert::Row;
use crate::error::CatalogError;
use crate::leases::LeaseGuard;
use crate::pool::Catalog;
use crate::rebuild::{VaultVolume, add_volume, usable_baselines};
use crate::session::DbSession;
use crate::tallies;
use crate::versions::{self, VersionRow};
use crate::volumes::forget_generation;
use stackferry_volume::Baseline;

/// How many volumes one statement names. `SQLite` takes 32,766 values.
const AT_ONCE: usize = 1000;

/// What the index says of a version, as far as the vault's record of the volume says it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedVersion {
    /// The version.
    pub version: VersionId,
    /// Whether it is pinned.
    pub pinned: bool,
    /// Why it is known to be damaged.
    pub damaged: Option<String>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// What the index says of a volume and its versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexedVolume {
    /// Its present generation with App Volumes' id of the disk; none if the volume is not known.
    pub generation: Option<(Generation, Option<String>)>,
    /// Its versions, oldest first.
    pub versions: Vec<IndexedVersion>,
}

/// What has to be written so that the index of one volume is in line with the vault.
#[derive(Debug, Clone)]
pub struct IndexChange {
    /// The volume: added if it is not known. Its versions have no row yet; each location's baseline is set where it rests
    /// on a newer version than the one that is known.
    pub volume: VaultVolume,
    /// Rows to rewrite. When they were last read back and opened as a disk stays, except where a mark of damage goes.
    pub rewritten: Vec<VersionRow>,
    /// Versions that the vault marks otherwise: whether each is pinned, and why it is damaged.
    pub marked: Vec<(VersionId, bool, Option<String>)>,
    /// Rows that go: deleted in the vault, or in the way of a version that is there.
    pub forgotten: Vec<VersionId>,
    /// Whether the vault's generation is the present one, and not the one that is known.
    pub renewed: bool,
}

impl Catalog {
    /// The volumes that have versions, by id.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn indexed_volumes(&self) -> Result<Vec<VolumeId>, CatalogError> {
        let mut session = self.session("reading which volumes have versions", "the catalog").await?;
        let query = sqlx::query("SELECT DISTINCT volume FROM tallies ORDER BY volume");
        session.all(query, |row| row.parsed("volume")).await
    }

    /// What the index says of these volumes, or that a row of a volume can't be read. Those that it does not know are not
    /// in it.
    ///
    /// # Errors
    /// `Database`.
    pub async fn indexed(
        &self,
        volumes: &[VolumeId],
    ) -> Result<BTreeMap<VolumeId, Result<IndexedVolume, CatalogError>>, CatalogError> {
        let mut found = BTreeMap::new();
        for some in volumes.chunks(AT_ONCE) {
            let mut tx = self.read("comparing with the vault", format!("{} volumes", volumes.len())).await?;
            let sql = "SELECT id, generation, guid FROM volumes WHERE id IN (";
            let mut known = named(sql, some, ")");
            let known = tx.all(known.build(), |row| Ok((row.parsed("id")?, generation(row))));
            for (id, generation) in known.await? {
                let volume =
                    generation.map(|generation| IndexedVolume { generation: Some(generation), versions: Vec::new() });
                found.insert(id, volume);
            }
            let sql = "SELECT volume, version, pinned, damaged, deleting FROM versions WHERE volume IN (";
            let mut versions = named(sql, some, ") ORDER BY volume, seq");
            let versions = tx.all(versions.build(), |row| Ok((row.parsed("volume")?, indexed_version(row))));
            for (id, version) in versions.await? {
                let entry = found.entry(id).or_insert_with(|| Ok(IndexedVolume::default()));
                match (version, entry.as_mut()) {
                    (Ok(version), Ok(volume)) => volume.versions.push(version),
                    (Err(error), Ok(_)) => *entry = Err(error),
                    (_, Err(_)) => {}
                }
            }
        }
        Ok(found)
    }

    /// Writes what brings the index of a volume in line with the vault. False, and nothing is written, where the lease on
    /// that volume is no longer held: somebody else may have changed the vault meanwhile. One durable transaction.
    ///
    /// # Errors
    /// `VersionExists` if another version has the number of one that is added, `NoSuchVersion`, `Range`, or `Database`.
    pub async fn reconcile(&self, lease: &LeaseGuard, change: &IndexChange) -> Result<bool, CatalogError> {
        let volume = &change.volume.id;
        let now = self.clock().now();
        let mut tx = self.write("bringing the index in line with the vault", volume).await?;
        if lease.is_lost() || !is_held(&mut tx, lease).await? {
            return Ok(false);
        }
        tallies::put_off(&mut tx).await?;
        add_volume(&mut tx, &change.volume, now).await?;
        if change.renewed {
            renew(&mut tx, &change.volume).await?;
        }
        for version in &change.forgotten {
            run(&mut tx, "DELETE FROM versions WHERE volume = $1 AND version = $2", volume, version).await?;
        }
        for version in &change.volume.versions {
            versions::insert(&mut tx, version).await?;
        }
        for row in &change.rewritten {
            versions::rewrite(&mut tx, row).await?;
        }
        for (version, pinned, damaged) in &change.marked {
            versions::remark(&mut tx, volume, version, *pinned, damaged.as_deref()).await?;
            if damaged.is_some() {
                baselines::forget(&mut tx, volume, version).await?;
            }
        }
        for row in change.rewritten.iter().filter(|row| row.damaged.is_some()) {
            baselines::forget(&mut tx, volume, &row.version).await?;
        }
        add_newer(&mut tx, &change.volume, now).await?;
        tallies::count(&mut tx, volume).await?;
        tx.commit().await?;
        Ok(true)
    }
}

fn generation(row: &Row<'_>) -> Result<(Generation, Option<String>), CatalogError> {
    Ok((Generation(row.small("generation")?), row.opt_text("guid")?))
}

fn indexed_version(row: &Row<'_>) -> Result<IndexedVersion, CatalogError> {
    Ok(IndexedVersion {
        version: row.parsed("version")?,
        pinned: row.flag("pinned")?,
        damaged: row.opt_text("damaged")?,
        deleting: row.opt_text("deleting")?.is_some(),
    })
}

/// A statement that names volumes.
fn named(sql: &'static str, volumes: &[VolumeId], end: &'static str) -> QueryBuilder<Sqlite> {
    let mut query: QueryBuilder<Sqlite> = QueryBuilder::new(sql);
    let mut ids = query.separated(", ");
    for id in volumes {
        ids.push_bind(id.to_string());
    }
    query.push(end);
    query
}

async fn run(
    tx: &mut DbSession,
    sql: &'static str,
    volume: &VolumeId,
    version: &VersionId,
) -> Result<(), CatalogError> {
    let query = sqlx::query(sql).bind(volume.to_string()).bind(version.to_string());
    tx.execute(query).await.map(|_| ())
}

/// One that expired and that nobody else took is held: nobody else can have worked under it.
async fn is_held(tx: &mut DbSession, lease: &LeaseGuard) -> Result<bool, CatalogError> {
    let query = sqlx::query("SELECT 1 FROM leases WHERE name = $1 AND fence = $2 AND NOT released")
        .bind(lease.name())
        .bind(tx.number("fence", lease.fence())?);
    tx.exists(query).await
}

async fn renew(tx: &mut DbSession, volume: &VaultVolume) -> Result<(), CatalogError> {
    let statement = sqlx::query("UPDATE volumes SET generation = $2, guid = COALESCE($3, guid) WHERE id = $1")
        .bind(volume.id.to_string())
        .bind(i64::from(volume.generation.0))
        .bind(&volume.guid);
    tx.execute(statement).await?;
    forget_generation(tx, &volume.id).await
}

async fn add_newer(tx: &mut DbSession, volume: &VaultVolume, at: jiff::Timestamp) -> Result<(), CatalogError> {
    for baseline in usable_baselines(volume) {
        if known_version(tx, &volume.id, baseline).await?.is_none_or(|known| known < baseline.version) {
            baselines::put(tx, &volume.id, baseline, at).await?;
        }
    }
    Ok(())
}

/// The version that a location's known baseline rests on.
async fn known_version(
    tx: &mut DbSession,
    volume: &VolumeId,
    baseline: &Baseline,
) -> Result<Option<VersionId>, CatalogError> {
    let query =
        sqlx::query("SELECT version FROM baselines WHERE volume = $1 AND site = $2 AND datastore = $3 AND path = $4")
            .bind(volume.to_string())
            .bind(&baseline.location.site.0)
            .bind(&baseline.location.datastore)
            .bind(&baseline.location.path);
    tx.optional(query, |row| row.parsed("version")).await
}
