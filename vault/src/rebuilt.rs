//! `volume.json` that is missing or damaged, rebuilt.
//!
//! Identity, generations and locations are in every manifest, and the sequence numbers in the versions' names: nothing that a restore
//! needs is lost with `volume.json`. Pins, locks and marks of damage are. So a record that was rebuilt says so until
//! [`Vault::restore_marks`] was called with what is known of them elsewhere; until then no version of the volume is
//! deleted.
//!
//! The damaged file is kept beside the new one as `volume.json.damaged`. A crash after it was renamed and before the new one
//! is there leaves a missing file, which is rebuilt at the next call.

use std::collections::BTreeMap;

use jiff::Timestamp;
use stackferry_volume::{Manifest, VersionId, VolumeId};

use crate::dir::Dir;
use crate::record::{
    DamageMark, FolderLocation, GenerationRecord, Pin, RECORD_NAME, VolumeRecord, VolumeSpec, read_record, version_ids,
};
use crate::version::load_manifest;
use crate::{Vault, VaultError};

/// What a damaged `volume.json` is called.
pub(crate) const DAMAGED_NAME: &str = "volume.json.damaged";

/// What is known elsewhere of a volume whose `volume.json` was lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Pinned versions.
    pub pins: BTreeMap<VersionId, Pin>,
    /// Until when versions are locked.
    pub locks: BTreeMap<VersionId, Timestamp>,
    /// Damaged versions.
    pub damaged: BTreeMap<VersionId, DamageMark>,
}

impl Vault {
    /// Restores what a rebuilt `volume.json` lacks, and writes it: from here on it counts as a whole one. Marks
    /// of versions that are not there are skipped, and the longer one of two locks counts. Returns why it had to be made
    /// anew; none if it had not, and then nothing is changed.
    ///
    /// # Errors
    /// `NoVolume`; `RecordDamaged`; else the system's.
    pub fn restore_marks(&self, volume: &VolumeId, marks: &Marks) -> Result<Option<String>, VaultError> {
        let changed = self.0.change(volume, "rebuild a volume's record", |folder, record| {
            let Some(why) = record.rebuilt.take() else { return Ok((false, None)) };
            let there = version_ids(folder)?;
            let is_there = |version: &&VersionId| there.binary_search(version).is_ok();
            for (version, pin) in marks.pins.iter().filter(|(version, _)| is_there(version)) {
                record.pins.entry(version.clone()).or_insert_with(|| pin.clone());
            }
            for (version, mark) in marks.damaged.iter().filter(|(version, _)| is_there(version)) {
                record.damaged.entry(version.clone()).or_insert_with(|| mark.clone());
            }
            for (version, until) in marks.locks.iter().filter(|(version, _)| is_there(version)) {
                let lock = record.locks.entry(version.clone()).or_insert(*until);
                *lock = (*lock).max(*until);
            }
            Ok((true, Some(why)))
        });
        changed.map(|(_, why)| why)
    }
}

impl Vault {
    /// Sees to it that the volume's next version has at least this number: later ones than the vault knows of were given to
    /// versions that it lost, as by being set back to an earlier state.
    ///
    /// # Errors
    /// `NoVolume`; `RecordDamaged`; else the system's.
    pub fn start_numbers_at(&self, volume: &VolumeId, seq: u64) -> Result<(), VaultError> {
        let changed = self.0.change(volume, "keep numbers from being given again", |_, record| {
            let is_more = record.next_seq < seq;
            record.next_seq = record.next_seq.max(seq);
            Ok((is_more, ()))
        });
        changed.map(|_| ())
    }
}

/// The record of a volume; where `volume.json` is missing or damaged, what the manifests of its versions say. None if
/// neither is there.
pub(crate) fn load_record(folder: &Dir, volume: &VolumeId) -> Result<Option<VolumeRecord>, VaultError> {
    let (why, damaged) = match read_record(folder, volume) {
        Ok(Some(record)) => return Ok(Some(record)),
        Ok(None) => (format!("{RECORD_NAME} is missing"), None),
        Err(VaultError::RecordDamaged { path, why }) => {
            (format!("{RECORD_NAME} is damaged: {why}"), Some(VaultError::RecordDamaged { path, why }))
        }
        Err(error) => return Err(error),
    };
    match (from_manifests(folder, volume, why)?, damaged) {
        (Some(record), _) => Ok(Some(record)),
        (None, Some(damaged)) => Err(damaged),
        (None, None) => Ok(None),
    }
}

/// The same for a volume that is seen at its source now: without any version to ask, what is seen of it counts.
pub(crate) fn load_or_begin(folder: &Dir, spec: &VolumeSpec) -> Result<(VolumeRecord, bool), VaultError> {
    let why = match load_record(folder, &spec.id) {
        Ok(Some(mut record)) => {
            let new = record.learn(spec)? || record.rebuilt.is_some();
            return Ok((record, new));
        }
        Ok(None) => format!("{RECORD_NAME} is missing"),
        // Versions that say nothing of this volume: they may be another's, and someone has to check.
        Err(error @ VaultError::RecordDamaged { .. }) => match version_ids(folder)?.is_empty() {
            true => error.to_string(),
            false => return Err(error),
        },
        Err(error) => return Err(error),
    };
    let ids = version_ids(folder)?;
    let mut record = VolumeRecord::new(spec, next_seq(&ids));
    record.rebuilt = (!ids.is_empty()).then_some(why);
    Ok((record, true))
}

/// Moves what can't be read out of the way, but keeps it.
pub(crate) fn keep_damaged(folder: &Dir, volume: &VolumeId) -> Result<(), VaultError> {
    match read_record(folder, volume) {
        Err(VaultError::RecordDamaged { .. }) => folder.move_over(RECORD_NAME, DAMAGED_NAME),
        _ => Ok(()),
    }
}

fn next_seq(ids: &[VersionId]) -> u64 {
    ids.last().map_or(1, |last| last.seq().saturating_add(1))
}

/// What the versions in a volume's folder say of it; none where none of them can be read.
fn from_manifests(folder: &Dir, volume: &VolumeId, why: String) -> Result<Option<VolumeRecord>, VaultError> {
    let ids = version_ids(folder)?;
    let mut record: Option<VolumeRecord> = None;
    for version in &ids {
        // It was deleted since it was listed.
        let Some(dir) = folder.sub(&version.to_string())? else { continue };
        let manifest = match load_manifest(&dir, volume, version) {
            Ok(manifest) => manifest,
            // A version that can't be read says nothing of the volume.
            Err(error) if error.is_damaged() => continue,
            Err(error) => return Err(error),
        };
        let spec = spec_of(volume, &manifest);
        match &mut record {
            None => record = Some(VolumeRecord::new(&spec, next_seq(&ids))),
            // Two manifests that contradict each other: the first counts, the version stays what it is.
            Some(record) => drop(record.learn(&spec)),
        }
    }
    Ok(record.map(|record| VolumeRecord { rebuilt: Some(why), ..record }))
}

fn spec_of(volume: &VolumeId, manifest: &Manifest) -> VolumeSpec {
    VolumeSpec {
        id: volume.clone(),
        stem: manifest.stem.clone(),
        generation: GenerationRecord {
            number: manifest.generation,
            guid: manifest.guid.clone(),
            began: manifest.started,
        },
        location: FolderLocation {
            site: manifest.location.site.clone(),
            datastore: manifest.location.datastore.clone(),
            folder: manifest.location.folder().to_owned(),
        },
    }
}
