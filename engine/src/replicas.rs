//! Replicas that look alike and are not: two locations of one volume may agree in names, lengths, times and content id
//! while their bytes differ. Each location is read once; what was read rests on a version, and versions have digests.

use std::collections::{BTreeMap, BTreeSet};

use stackferry_catalog::Baseline;
use stackferry_discover::{Inventory, Reason, ReasonCode, Volume, VolumeState};
use stackferry_vault::{Vault, VaultError};
use stackferry_volume::manifest::FileRole;
use stackferry_volume::{Digest, VersionId, VolumeId};

use crate::app::App;
use crate::blocking::blocking;
use stackferry_problem::Problem;

const REMEDY: &str = "Restore both versions and find out which one is right, then let App Volumes replicate from its \
                      location, or delete the other copy there. Both are protected meanwhile.";

/// Shows volumes as conflicts whose locations were found to hold different disks.
///
/// # Errors
/// The catalog's. Versions that can't be read prove nothing, and are reported by others.
pub(super) async fn flag(app: &App, inventory: &mut Inventory) -> Result<(), Problem> {
    let is_replicated = |volume: &&mut Volume| volume.state == VolumeState::Ready && volume.usable().nth(1).is_some();
    for volume in inventory.volumes.iter_mut().filter(is_replicated) {
        let current = current(volume, app.catalog().baselines(&volume.id).await?);
        if current.iter().all(|one| current.first().is_some_and(|first| first.version == one.version)) {
            continue;
        }
        let vault = match app.vault().await {
            Ok(vault) => vault,
            Err(problem) => {
                tracing::warn!(error = problem.message, "the locations of volumes could not be compared");
                return Ok(());
            }
        };
        let (id, versions) = (volume.id.clone(), current.iter().map(|one| one.version.clone()).collect());
        let disks = match blocking(move || disks(&vault, &id, versions)).await? {
            Ok(disks) => disks,
            Err(error) => {
                let error = stackferry_transfer::describe(&error);
                tracing::warn!(volume = %volume.id, error, "the versions of its locations could not be compared");
                continue;
            }
        };
        match difference(&current, &disks) {
            Some(text) => {
                volume.state = VolumeState::Conflict;
                volume.reason = Some(Reason::new(ReasonCode::Conflict, text));
                volume.remedy = Some(REMEDY.to_owned());
            }
            // The same disk was copied more than once: nothing has to be compared in the next round.
            None => app.catalog().set_baselines(&volume.id, &newest(current)).await?,
        }
    }
    Ok(())
}

/// What is known of the locations that are still as they were when they were read.
fn current(volume: &Volume, baselines: Vec<Baseline>) -> Vec<Baseline> {
    let is_current = |baseline: &Baseline| {
        let mut usable = volume.usable();
        usable.any(|place| place.location == baseline.location && place.fingerprint == baseline.fingerprint)
    };
    baselines.into_iter().filter(is_current).collect()
}

/// The digests of each version's extents. Descriptors and sidecars may differ from replica to replica.
fn disks(
    vault: &Vault,
    volume: &VolumeId,
    versions: BTreeSet<VersionId>,
) -> Result<BTreeMap<VersionId, Vec<Digest>>, VaultError> {
    let disk = |version: VersionId| {
        let opened = vault.version(volume, &version)?;
        let extents = opened.manifest().files.iter().filter(|file| file.role == FileRole::Extent);
        Ok((version, extents.map(|file| file.blake3).collect()))
    };
    versions.into_iter().map(disk).collect()
}

/// Which locations hold different disks, in a sentence; none if all hold the same.
fn difference(current: &[Baseline], disks: &BTreeMap<VersionId, Vec<Digest>>) -> Option<String> {
    let first = disks.values().next();
    if disks.values().all(|disk| Some(disk) == first) {
        return None;
    }
    let sides: Vec<String> =
        current.iter().map(|one| format!("{} holds version {}", one.location, one.version)).collect();
    Some(format!("its locations hold different disks: {}", sides.join("; ")))
}

/// The same baselines, all resting on the newest of their versions.
fn newest(mut baselines: Vec<Baseline>) -> Vec<Baseline> {
    if let Some(newest) = baselines.iter().map(|one| one.version.clone()).max() {
        baselines.iter_mut().for_each(|one| one.version = newest.clone());
    }
    baselines
}
