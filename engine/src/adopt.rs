//! The catalog is an index of the vault: taking in what the vault holds.

use jiff::Timestamp;
use stackferry_catalog::RestoreTest;
use stackferry_catalog::VersionContent;
use stackferry_volume::content::ContentRecord;
use stackferry_volume::content::ContentState;
use std::collections::BTreeMap;

use stackferry_catalog::{Baseline, Catalog, VaultLocation, VaultVolume, VersionRow};
use stackferry_vault::{Vault, VaultError, VersionEntry, VersionSummary, VolumeRecord};
use stackferry_volume::name::decode;
use stackferry_volume::{Generation, Location, VolumeId};

use crate::blocking::blocking;
use stackferry_problem::Problem;

/// What was found in a vault.
#[derive(Debug, Default, Clone)]
pub struct Adopted {
    /// Volumes in it.
    pub volumes: usize,
    /// Versions in it.
    pub versions: usize,
    /// Versions that can't be relied on, and folders that can't be read: what, and why.
    pub damaged: Vec<(String, String)>,
}

/// Everything that a vault holds, as the catalog wants it. Reads every manifest.
///
/// # Errors
/// The vault's folder of volumes can't be read.
pub fn vault_volumes(vault: &Vault) -> Result<(Vec<VaultVolume>, Adopted), VaultError> {
    let mut found = Adopted::default();
    let mut volumes = Vec::new();
    let all = vault.volumes()?;
    for problem in all.problems {
        found.damaged.push((problem.path.display().to_string(), problem.why));
    }
    for record in all.volumes {
        let entries = match vault.versions(&record.id) {
            Ok(entries) => entries,
            Err(error) => {
                found.damaged.push((record.id.to_string(), stackferry_transfer::describe(&error)));
                continue;
            }
        };
        found.volumes += 1;
        found.versions += entries.len();
        for entry in &entries {
            if let Some(why) = entry.problem() {
                found.damaged.push((format!("{}@{}", record.id, entry.id), why));
            }
        }
        volumes.push(vault_volume(&record, &entries.iter().collect::<Vec<_>>()));
    }
    Ok((volumes, found))
}

/// One volume of a vault; none if it can't be told what it holds.
fn one_volume(vault: &Vault, volume: &VolumeId) -> Option<(Vec<VaultVolume>, Adopted)> {
    let (record, entries) = (vault.volume(volume).ok()?, vault.versions(volume).ok()?);
    let found = Adopted { volumes: 1, versions: entries.len(), damaged: Vec::new() };
    Some((vec![vault_volume(&record, &entries.iter().collect::<Vec<_>>())], found))
}

/// A volume as the catalog wants it: what the vault notes of it, and its versions.
#[must_use]
pub fn vault_volume(record: &VolumeRecord, entries: &[&VersionEntry]) -> VaultVolume {
    let newest = entries.iter().rev().find_map(|entry| entry.summary.as_ref().ok());
    let generation = record.generations.last().map_or(Generation::FIRST, |last| last.number);
    let guid = record.generations.last().and_then(|last| last.guid.clone());
    let baselines = entries.iter().filter(|entry| entry.is_good()).filter_map(|entry| {
        let summary = entry.summary.as_ref().ok()?;
        Some(Baseline {
            location: summary.location.clone(),
            fingerprint: summary.fingerprint.clone(),
            version: entry.id.clone(),
            settled: !summary.fingerprint.is_fresh(summary.started),
        })
    });
    VaultVolume {
        id: record.id.clone(),
        stem: record.stem.to_string(),
        name: newest.map_or_else(|| decode(record.stem.as_str()), |summary| summary.name.clone()),
        owner: newest.and_then(|summary| summary.owner.clone()),
        guid,
        generation,
        size_bytes: newest.map(|summary| summary.logical_bytes),
        locations: places(record, entries),
        versions: entries.iter().map(|entry| version_row(&record.id, entry)).collect(),
        baselines: baselines.collect(),
    }
}

/// Where a volume was seen, by the vault's own note and by the manifests of all versions that can be read: there the
/// next round knows it again. The fingerprint is that of the newest version from that place.
fn places(record: &VolumeRecord, entries: &[&VersionEntry]) -> Vec<VaultLocation> {
    let noted = record.locations.iter().map(|place| {
        let file = format!("{}.vmdk", record.stem);
        let path = if place.folder.is_empty() { file } else { format!("{}/{file}", place.folder) };
        let location = Location { site: place.site.clone(), datastore: place.datastore.clone(), path };
        VaultLocation { location, fingerprint: None }
    });
    let read = entries.iter().filter_map(|entry| entry.summary.as_ref().ok()).map(|summary| VaultLocation {
        location: summary.location.clone(),
        fingerprint: Some(summary.fingerprint.clone()),
    });
    let mut places: BTreeMap<Location, VaultLocation> = BTreeMap::new();
    for place in noted.chain(read) {
        places.insert(place.location.clone(), place);
    }
    places.into_values().collect()
}

/// A version as the catalog wants it; of one whose manifest can't be read, what its name tells.
#[must_use]
pub fn version_row(volume: &VolumeId, entry: &VersionEntry) -> VersionRow {
    let summary: Option<&VersionSummary> = entry.summary.as_ref().ok();
    let created = summary.map_or(entry.id.created().unwrap_or_default(), |summary| summary.ended);
    let (content, restore_test) = at_first(summary.and_then(|summary| summary.content.as_ref()), created);
    VersionRow {
        volume: volume.clone(),
        version: entry.id.clone(),
        generation: summary.map_or(Generation::FIRST, |summary| summary.generation),
        created,
        bytes: summary.map_or(0, |summary| summary.logical_bytes),
        stored: summary.map_or(0, |summary| summary.bytes.stored),
        verified: entry.is_good(),
        verify_method: summary
            .map_or(stackferry_volume::manifest::VerifyMethod::Arrival, |summary| summary.verify_method),
        pinned: entry.pin.is_some(),
        damaged: entry.problem(),
        last_verified: None,
        route: summary.map_or_else(String::new, |summary| summary.route.clone()),
        incident: summary.and_then(|summary| summary.incident.clone()),
        content,
        restore_test,
        deleting: None,
    }
}

/// Takes a vault that an empty catalog does not know into it, and binds the two. Of a vault that has the volume `only`
/// nothing else is read.
pub(crate) async fn adopt(catalog: &Catalog, vault: &Vault, only: Option<&str>) -> Result<(), Problem> {
    let (reading, only) = (vault.clone(), only.and_then(|only| only.parse::<VolumeId>().ok()));
    let (volumes, found) = blocking(move || match only.and_then(|only| one_volume(&reading, &only)) {
        Some(one) => Ok(one),
        None => vault_volumes(&reading),
    })
    .await??;
    // Another process may have done so meanwhile, and have committed versions since.
    if !catalog.adopt_vault(&vault.id().to_string(), &volumes).await? {
        return Ok(());
    }
    if found.volumes > 0 {
        tracing::info!(vault = %vault.id(), volumes = found.volumes, versions = found.versions, "a vault that the catalog did not know is adopted");
    }
    for (subject, why) in &found.damaged {
        tracing::warn!(subject, why, "damage in the vault");
    }
    Ok(())
}

/// What the catalog keeps of a version's content from its making: damage counts as a failed restore test at once.
pub(crate) fn at_first(
    content: Option<&ContentRecord>,
    at: Timestamp,
) -> (Option<VersionContent>, Option<RestoreTest>) {
    let kept = content.map(|content| VersionContent { state: content.state, text: content.text.clone() });
    let damaged = content.filter(|content| content.state == ContentState::Damaged);
    (kept, damaged.map(|content| tested(at, Ok(content.clone()))))
}

/// What inspecting a version came to. Only damage fails it: what is not recognised or not inspected is recorded as such.
pub(crate) fn tested(at: Timestamp, found: Result<ContentRecord, String>) -> RestoreTest {
    match found {
        Ok(content) => RestoreTest {
            at,
            ok: content.state != ContentState::Damaged,
            found: content.text,
            content: Some(content.state),
        },
        Err(why) => RestoreTest { at, ok: false, found: why, content: None },
    }
}
