//! Making the catalog from the vault: all of it. What one volume lacks is added by [`Catalog::reconcile`].
//!
//! A volume that is known from the vault only has the locations that the vault tells of, none of them reachable,
//! `attached` unknown, and the state `deferred` with the reason `missing` ("no discovery round has looked for it yet"):
//! it is neither `ready`, since nobody knows whether it can be copied, nor `gone`, which is an alarm. The next round makes
//! it one of the two. By its locations that round knows it again: without them it would be a new volume with a new id.

use std::collections::HashSet;

use jiff::Timestamp;
use sqlx::SqliteConnection;
use stackferry_volume::manifest::Owner;
use stackferry_volume::{Fingerprint, Generation, Location, VolumeId};

use crate::baselines::{self, Baseline};
use crate::convert::{During, stamp};
use crate::error::CatalogError;
use crate::meta;
use crate::pool::{Catalog, WriteTx};
use crate::tallies;
use crate::versions::{self, VersionRow};
use crate::volumes::VolumeState;

/// A volume as the vault knows it: from `volume.json` and its newest manifest.
#[derive(Debug, Clone)]
pub struct VaultVolume {
    /// Its id.
    pub id: VolumeId,
    /// Its stem, verbatim.
    pub stem: String,
    /// Its name as a person reads it.
    pub name: String,
    /// Whose disk it is.
    pub owner: Option<Owner>,
    /// App Volumes' own id of the disk.
    pub guid: Option<String>,
    /// Which life of the volume is the current one.
    pub generation: Generation,
    /// The lengths of its files together, in bytes.
    pub size_bytes: Option<u64>,
    /// Where it was seen, each place once.
    pub places: Vec<VaultPlace>,
    /// Its versions.
    pub versions: Vec<VersionRow>,
    /// What its manifests tell of the locations they were read from. Those of versions that are damaged, of an
    /// earlier generation or not in `versions` are passed over; of several for one location the newest counts.
    pub baselines: Vec<Baseline>,
}

/// A place at which the vault knows that a volume was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultPlace {
    /// The place.
    pub location: Location,
    /// What its files looked like when they were last read there; none if no version came from there.
    pub fingerprint: Option<Fingerprint>,
}

impl Catalog {
    /// Makes the index of versions anew from the vault: every version and baseline that is known is forgotten, every
    /// one given is added. Volumes are added where they are missing, else stay as discovery saw them; attempts,
    /// credentials, leases and audit stay. One durable transaction.
    ///
    /// # Errors
    /// `Twice`, `Range`, or `Database`; then all is as it was.
    pub async fn replace_all(&self, volumes: &[VaultVolume]) -> Result<(), CatalogError> {
        let during = self.during("rebuilding the catalog", format!("{} volumes", volumes.len()));
        let mut tx = self.write(&during).await?;
        self.fill(&mut tx, &during, volumes).await?;
        tx.commit(&during).await
    }

    /// Binds the catalog to a vault and takes all that is in it into the index, unless another process did so meanwhile:
    /// then nothing is changed, and the answer is false. One durable transaction.
    ///
    /// # Errors
    /// `Twice`, `Range`, `OtherVault`, or `Database`; then all is as it was.
    pub async fn adopt_vault(&self, vault: &str, volumes: &[VaultVolume]) -> Result<bool, CatalogError> {
        let during = self.during("adopting a vault", vault);
        let mut tx = self.write(&during).await?;
        if !meta::bind(tx.conn(), &during, vault).await? {
            return Ok(false);
        }
        self.fill(&mut tx, &during, volumes).await?;
        tx.commit(&during).await?;
        Ok(true)
    }

    async fn fill(&self, tx: &mut WriteTx, during: &During, volumes: &[VaultVolume]) -> Result<(), CatalogError> {
        let mut seen = HashSet::new();
        if let Some(volume) = volumes.iter().find(|volume| !seen.insert(&volume.id)) {
            return Err(CatalogError::Twice { operation: during.operation, subject: volume.id.to_string() });
        }
        let now = self.clock().now();
        tallies::put_off(tx.conn(), during).await?;
        // Baselines rest on versions and go with them.
        sqlx::query("DELETE FROM versions").execute(tx.conn()).await.map_err(|error| during.sql(error))?;
        for volume in volumes {
            add_volume(tx.conn(), during, volume, now).await?;
            for version in &volume.versions {
                versions::insert(tx.conn(), during, version).await?;
            }
            add_baselines(tx.conn(), during, volume, now).await?;
        }
        tallies::count_all(tx.conn(), during).await?;
        Ok(())
    }
}

pub(crate) async fn add_volume(
    conn: &mut SqliteConnection,
    during: &During,
    volume: &VaultVolume,
    at: Timestamp,
) -> Result<(), CatalogError> {
    let size = volume.size_bytes.map(|bytes| during.number("size_bytes", bytes)).transpose()?;
    let owner = volume.owner.as_ref();
    sqlx::query(
        "INSERT INTO volumes (id, kind, stem, name, owner_name, owner_sid, owner_upn, guid, generation, size_bytes, \
           state, attached, protectable, reason_code, reason_text, first_seen, deferred_since) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, NULL, TRUE, 'missing', $12, $13, $13) \
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(volume.id.to_string())
    .bind(volume.id.kind().as_str())
    .bind(&volume.stem)
    .bind(&volume.name)
    .bind(owner.map(|owner| &owner.name))
    .bind(owner.and_then(|owner| owner.sid.as_ref()))
    .bind(owner.and_then(|owner| owner.upn.as_ref()))
    .bind(&volume.guid)
    .bind(i64::from(volume.generation.0))
    .bind(size)
    .bind(VolumeState::Deferred.as_str())
    .bind("known from the vault; no discovery round has looked for it yet")
    .bind(stamp(at))
    .execute(&mut *conn)
    .await
    .map_err(|error| during.sql(error))?;
    for place in &volume.places {
        add_place(conn, during, &volume.id, place, at).await?;
    }
    Ok(())
}

/// A location that is known, of whichever volume, stays as discovery saw it.
async fn add_place(
    conn: &mut SqliteConnection,
    during: &During,
    volume: &VolumeId,
    place: &VaultPlace,
    at: Timestamp,
) -> Result<(), CatalogError> {
    let fingerprint =
        place.fingerprint.as_ref().map(|fingerprint| during.json("fingerprint", fingerprint)).transpose()?;
    sqlx::query(
        "INSERT INTO locations (site, datastore, path, volume, type, reachable, fingerprint, settled, seen_at) \
         VALUES ($1, $2, $3, $4, NULL, FALSE, $5, FALSE, $6) ON CONFLICT (site, datastore, path) DO NOTHING",
    )
    .bind(&place.location.site.0)
    .bind(&place.location.datastore)
    .bind(&place.location.path)
    .bind(volume.to_string())
    .bind(fingerprint)
    .bind(stamp(at))
    .execute(conn)
    .await
    .map_err(|error| during.sql(error))?;
    Ok(())
}

async fn add_baselines(
    conn: &mut SqliteConnection,
    during: &During,
    volume: &VaultVolume,
    at: Timestamp,
) -> Result<(), CatalogError> {
    for baseline in usable_baselines(volume) {
        baselines::put(conn, during, &volume.id, baseline, at).await?;
    }
    Ok(())
}

/// What the vault's manifests say of locations, as far as it may be relied on; of several for one location the newest last.
pub(crate) fn usable_baselines(volume: &VaultVolume) -> Vec<&Baseline> {
    let mut usable: Vec<&Baseline> = volume
        .baselines
        .iter()
        .filter(|baseline| {
            volume.versions.iter().any(|version| {
                version.version == baseline.version
                    && version.generation == volume.generation
                    && version.damaged.is_none()
            })
        })
        .collect();
    usable.sort_by(|one, two| one.version.cmp(&two.version));
    usable
}
