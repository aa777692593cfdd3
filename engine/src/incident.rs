//! Incidents: a read-only disk whose content changed while App Volumes tells of no new version of it, and any disk that
//! lost its file system since its last version. Encryption by an intruder looks like that, and a failing array does.
//!
//! Nothing is refused: the changed disk is kept as a version of its own, flagged, and the versions before it stay.

use std::collections::HashMap;

use stackferry_discover::{AppVolumesInfo, Inventory, Reason, ReasonCode, Volume, VolumeState};
use stackferry_vault::{Vault, VersionSummary};
use stackferry_volume::content::ContentRecord;
use stackferry_volume::manifest::{AppVolumesRecord, FileRecord, FileRole};
use stackferry_volume::{Manifest, VersionId, VolumeId};

use super::content;
use crate::app::App;
use stackferry_problem::Problem;

const REMEDY: &str = "Find out who or what changed it. Nothing of it is pruned meanwhile: restore the last version from \
                      before if nobody meant it. The incident ends with a version that is as it should be.";

/// What App Volumes tells of a volume, as the manifest keeps it.
#[must_use]
pub(super) fn record(info: &AppVolumesInfo) -> AppVolumesRecord {
    let assignment = |one: &stackferry_discover::app_volumes::VolumeAssignment| match &one.mount_prefix {
        Some(prefix) if !prefix.is_empty() => format!("{} {} (machines {prefix}…)", one.entity_type, one.entity),
        _ => format!("{} {}", one.entity_type, one.entity),
    };
    AppVolumesRecord {
        stage: info.stage.clone(),
        current: info.current,
        assignments: info.assignments.iter().map(assignment).collect(),
        manager: Some(info.manager.clone()),
        version: info.version.clone(),
        revision: Some(info.revision.clone()),
    }
}

/// Why what was just copied is an incident; none if it is not.
///
/// # Errors
/// The vault's.
pub(super) fn found(
    vault: &Vault,
    volume: &Volume,
    files: &[FileRecord],
    content: Option<&ContentRecord>,
) -> Result<Option<String>, Problem> {
    let info = volume.app_volumes.as_ref().filter(|_| volume.kind.is_replicated());
    let content = content.filter(|content| content.can_be_lost());
    if info.is_none() && content.is_none() {
        return Ok(None);
    }
    let entries = vault.versions(&volume.id)?;
    // What is itself an incident is no measure: the changed disk, copied once more, is the same incident, and one that is as it
    // was before ends it.
    let last = entries.iter().rev().filter(|entry| entry.is_good()).find(|entry| {
        let told = |summary: &VersionSummary| summary.generation == volume.generation && summary.incident.is_none();
        entry.summary.as_ref().is_ok_and(told)
    });
    let Some(last) = last else { return Ok(None) };
    let last = match vault.version(&volume.id, &last.id) {
        Ok(version) => version,
        Err(error) if error.is_not_found() || error.is_damaged() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let manifest = last.manifest();
    // A version that an earlier program made says nothing of its content.
    let before = || manifest.content.clone().map_or_else(|| content::of(&last).ok(), Some);
    if let Some(lost) = content.and_then(|content| content.lost_since(&before()?)) {
        return Ok(Some(format!("{lost} (compared with version {})", manifest.version)));
    }
    let Some(info) = info else { return Ok(None) };
    Ok(differs(manifest, info, files).then(|| {
        format!(
            "its content is not that of version {}, while App Volumes Manager {} tells of no new version",
            manifest.version, info.manager
        )
    }))
}

/// Whether a disk differs from the last version, and App Volumes did not tell of it. A version from before App Volumes
/// was asked says nothing; sidecars and the descriptor may change by a mere mount.
fn differs(last: &Manifest, info: &AppVolumesInfo, files: &[FileRecord]) -> bool {
    let revision = last.app_volumes.as_ref().and_then(|record| record.revision.as_ref());
    if revision != Some(&info.revision) {
        return false;
    }
    let extents = |files: &[FileRecord]| {
        let extents = files.iter().filter(|file| file.role == FileRole::Extent);
        extents.map(|file| (file.name.clone(), file.blake3)).collect::<Vec<_>>()
    };
    extents(&last.files) != extents(files)
}

/// Shows an incident at once: the next round may be long in coming.
///
/// # Errors
/// The catalog's.
pub(super) async fn mark(app: &App, volume: &Volume, version: &VersionId, why: &str) -> Result<(), Problem> {
    // A conflict is shown before an incident, as a round does.
    if volume.state != VolumeState::Conflict {
        app.catalog().mark_incident(&volume.id, &format!("version {version}: {why}"), REMEDY).await?;
    }
    Ok(())
}

/// Shows the incidents that stand.
///
/// # Errors
/// The catalog's.
pub(super) async fn flag(app: &App, inventory: &mut Inventory) -> Result<(), Problem> {
    let standing = app.catalog().incidents().await?;
    let standing: HashMap<&VolumeId, _> = standing.iter().map(|row| (&row.volume, row)).collect();
    if standing.is_empty() {
        return Ok(());
    }
    for volume in inventory.volumes.iter_mut().filter(|volume| volume.state == VolumeState::Ready) {
        let Some(row) = standing.get(&volume.id) else { continue };
        let why = row.incident.as_deref().unwrap_or_default();
        volume.state = VolumeState::Incident;
        volume.reason = Some(Reason::new(ReasonCode::Incident, format!("version {}: {why}", row.version)));
        volume.remedy = Some(REMEDY.to_owned());
    }
    Ok(())
}
