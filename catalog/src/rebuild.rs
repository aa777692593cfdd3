//! Making the catalog from the vault: all of it. What one volume lacks is added by [`Catalog::reconcile`].
//!
//! A volume that is known from the vault only has the locations that the vault knows, none of them reachable,
//! `attached` unknown, and the state `deferred` with the reason `missing` ("no discovery round has seen it yet"):
//! it is neither `ready`, since nobody knows whether it can be copied, nor `gone`, which is an alarm. The next round makes
//! it one of the two. By its locations that round knows it again: without them it would be a new volume with a new id.

use std::collections::HashSet;

use jiff::Timestamp;
use stackferry_volume::manifest::Owner;
use stackferry_volume::{Fingerprint, Generation, Location, VolumeId};

use crate::baselines;
use crate::error::CatalogError;
use crate::meta;
use crate::pool::Catalog;
use crate::session::DbSession;
use crate::tallies;
use crate::versions::{self, VersionRow};
use crate::volumes::{self, ObservedBy, ObservedLocation, ObservedVolume, StatusReason};
use stackferry_volume::Baseline;
use stackferry_volume::VolumeState;

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
    /// Its current generation.
    pub generation: Generation,
    /// The lengths of its files together, in bytes.
    pub size_bytes: Option<u64>,
    /// Where it was seen, each place once.
    pub locations: Vec<VaultLocation>,
    /// Its versions.
    pub versions: Vec<VersionRow>,
    /// What its manifests say of the locations they were read from. Those of versions that are damaged, of an
    /// earlier generation or not in `versions` are skipped; of several for one location the newest counts.
    pub baselines: Vec<Baseline>,
}

/// A place at which the vault knows that a volume was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultLocation {
    /// The place.
    pub location: Location,
    /// What its files looked like when they were last read there; none if no version came from there.
    pub fingerprint: Option<Fingerprint>,
}

impl Catalog {
    /// Rebuilds the index of versions from the vault: every version and baseline that is known is forgotten, every
    /// one given is added. Volumes are added where they are missing, else stay as discovery saw them; attempts,
    /// credentials, leases and audit stay. One durable transaction.
    ///
    /// # Errors
    /// `Twice`, `Range`, or `Database`; then all is as it was.
    pub async fn replace_all(&self, volumes: &[VaultVolume]) -> Result<(), CatalogError> {
        let mut tx = self.write("rebuilding the catalog", format!("{} volumes", volumes.len())).await?;
        self.fill(&mut tx, volumes).await?;
        tx.commit().await
    }

    /// Binds the catalog to a vault and takes all that is in it into the index, unless another process did so meanwhile:
    /// then nothing is changed, and the answer is false. One durable transaction.
    ///
    /// # Errors
    /// `Twice`, `Range`, `OtherVault`, or `Database`; then all is as it was.
    pub async fn adopt_vault(&self, vault: &str, volumes: &[VaultVolume]) -> Result<bool, CatalogError> {
        let mut tx = self.write("adopting a vault", vault).await?;
        if !meta::bind(&mut tx, vault).await? {
            return Ok(false);
        }
        self.fill(&mut tx, volumes).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn fill(&self, tx: &mut DbSession, volumes: &[VaultVolume]) -> Result<(), CatalogError> {
        let mut seen = HashSet::new();
        if let Some(volume) = volumes.iter().find(|volume| !seen.insert(&volume.id)) {
            return Err(CatalogError::Twice { operation: tx.name, subject: volume.id.to_string() });
        }
        let now = self.clock().now();
        tallies::put_off(tx).await?;
        // Baselines rest on versions and go with them.
        tx.execute(sqlx::query("DELETE FROM versions")).await?;
        for volume in volumes {
            add_volume(tx, volume, now).await?;
            for version in &volume.versions {
                versions::insert(tx, version).await?;
            }
            add_baselines(tx, volume, now).await?;
        }
        tallies::count_all(tx).await?;
        Ok(())
    }
}

/// Adds a volume, and those of its locations that are not known.
pub(crate) async fn add_volume(tx: &mut DbSession, volume: &VaultVolume, at: Timestamp) -> Result<(), CatalogError> {
    let locations = volume.locations.iter().map(|place| ObservedLocation {
        location: place.location.clone(),
        datastore_type: None,
        reachable: false,
        fingerprint: place.fingerprint.clone(),
        settled: false,
    });
    let observed = ObservedVolume {
        id: volume.id.clone(),
        stem: volume.stem.clone(),
        name: volume.name.clone(),
        owner: volume.owner.clone(),
        guid: volume.guid.clone(),
        generation: volume.generation,
        size_bytes: volume.size_bytes,
        state: VolumeState::Deferred,
        attached: None,
        protectable: true,
        reason: Some(StatusReason {
            code: "missing".to_owned(),
            text: "known from the vault; no discovery round has seen it yet".to_owned(),
        }),
        remedy: None,
        locations: locations.collect(),
    };
    volumes::upsert(tx, &observed, &ObservedBy::Vault, at).await
}

async fn add_baselines(tx: &mut DbSession, volume: &VaultVolume, at: Timestamp) -> Result<(), CatalogError> {
    for baseline in usable_baselines(volume) {
        baselines::put(tx, &volume.id, baseline, at).await?;
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
