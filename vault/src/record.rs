//! What the vault knows of one volume beside its versions: `volume.json`.
//!
//! It holds what no version can hold, since versions never change: pins, locks, marks of damage, and the next sequence
//! number, so that a number is never given twice even if the newest version was deleted.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stackferry_volume::{FileName, Generation, Kind, SiteName, VersionId, VolumeId};

use crate::VaultError;
use crate::dir::Dir;

/// Its file name.
pub(crate) const RECORD_NAME: &str = "volume.json";
/// The newest format that is written, and the newest that is read.
pub(crate) const RECORD_FORMAT: u32 = 1;
/// The longest one that is read, in bytes: some 100,000 pins and marks.
pub(crate) const MAX_RECORD_BYTES: u64 = 16 << 20;
/// The maximum number of places that are remembered of one volume. It rarely moves.
const MAX_LOCATIONS: usize = 64;

/// One generation of the volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRecord {
    /// Its number.
    pub number: Generation,
    /// App Volumes' own id of the disk in this generation.
    pub guid: Option<String>,
    /// When it was first seen.
    pub began: Timestamp,
}

/// Where the volume was seen. With an empty catalog its id is found again by this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderLocation {
    /// The site.
    pub site: SiteName,
    /// The datastore's name.
    pub datastore: String,
    /// The folder on it.
    pub folder: String,
}

/// Why a version is kept whatever retention says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// What the person who pinned it wrote.
    pub note: String,
    /// When.
    pub at: Timestamp,
}

/// Why a version is not to be relied on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamageMark {
    /// What was found.
    pub why: String,
    /// When.
    pub at: Timestamp,
}

/// What a volume is when it is first seen, or seen again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Its id.
    pub id: VolumeId,
    /// Its stem, verbatim.
    pub stem: FileName,
    /// Its generation.
    pub generation: GenerationRecord,
    /// Where it is.
    pub location: FolderLocation,
}

/// What the vault knows of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    pub(crate) format: u32,
    /// Its id.
    pub id: VolumeId,
    /// Its kind.
    pub kind: Kind,
    /// Its stem, verbatim.
    pub stem: FileName,
    /// Its generations, oldest first.
    pub generations: Vec<GenerationRecord>,
    /// Where it was seen, first place first.
    #[serde(rename = "places")]
    pub locations: Vec<FolderLocation>,
    /// The sequence number that the next version gets.
    pub next_seq: u64,
    /// Versions that are kept until unpinned.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pins: BTreeMap<VersionId, Pin>,
    /// Versions that are kept until then.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub locks: BTreeMap<VersionId, Timestamp>,
    /// Versions that were found damaged.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub damaged: BTreeMap<VersionId, DamageMark>,
    /// Why it was rebuilt from the versions, as long as pins, locks and marks are not restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuilt: Option<String>,
}

impl VolumeRecord {
    /// A volume that the vault did not know.
    pub(crate) fn new(spec: &VolumeSpec, next_seq: u64) -> Self {
        Self {
            format: RECORD_FORMAT,
            id: spec.id.clone(),
            kind: spec.id.kind(),
            stem: spec.stem.clone(),
            generations: vec![spec.generation.clone()],
            locations: vec![spec.location.clone()],
            next_seq,
            pins: BTreeMap::new(),
            locks: BTreeMap::new(),
            damaged: BTreeMap::new(),
            rebuilt: None,
        }
    }

    /// Takes in what is seen of it now; whether that is new.
    pub(crate) fn learn(&mut self, spec: &VolumeSpec) -> Result<bool, VaultError> {
        let conflict = |why: String| Err(VaultError::Conflict { volume: self.id.clone(), why });
        if self.stem != spec.stem {
            return conflict(format!("its stem is {}, not {}", self.stem, spec.stem));
        }
        let mut new = false;
        let number = spec.generation.number;
        match self.generations.iter_mut().find(|known| known.number == number) {
            None => {
                self.generations.push(spec.generation.clone());
                self.generations.sort_by_key(|known| known.number);
                new = true;
            }
            Some(known) => match (&known.guid, &spec.generation.guid) {
                (Some(old), Some(other)) if old != other => {
                    let why = format!("generation {number} has the GUID {old}, not {other}");
                    return Err(VaultError::Conflict { volume: self.id.clone(), why });
                }
                (None, Some(guid)) => {
                    known.guid = Some(guid.clone());
                    new = true;
                }
                _ => {}
            },
        }
        if !self.locations.contains(&spec.location) && self.locations.len() < MAX_LOCATIONS {
            self.locations.push(spec.location.clone());
            new = true;
        }
        Ok(new)
    }

    /// Whether it had this generation.
    #[must_use]
    pub fn knows(&self, generation: Generation) -> bool {
        self.generations.iter().any(|known| known.number == generation)
    }

    pub(crate) fn to_bytes(&self, path: &Path) -> Result<Vec<u8>, VaultError> {
        crate::seal::to_bytes(self, path)
    }

    pub(crate) fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, VaultError> {
        let record: Self = crate::seal::from_bytes(bytes, RECORD_FORMAT, path)?;
        if record.kind != record.id.kind() {
            let why = format!("it says that {} is of kind {}", record.id, record.kind);
            return Err(VaultError::RecordDamaged { path: path.to_owned(), why });
        }
        Ok(record)
    }
}

/// The record of a volume in its folder; none where that was never written.
pub(crate) fn read_record(folder: &Dir, volume: &VolumeId) -> Result<Option<VolumeRecord>, VaultError> {
    let path = folder.child(RECORD_NAME);
    let Some(bytes) = folder.read(RECORD_NAME, MAX_RECORD_BYTES)? else { return Ok(None) };
    let record = VolumeRecord::from_bytes(&bytes, &path)?;
    if record.id != *volume {
        return Err(VaultError::RecordDamaged { path, why: format!("it is of {}", record.id) });
    }
    Ok(Some(record))
}

/// The versions in a volume's folder, oldest first, whatever state they are in.
pub(crate) fn version_ids(folder: &Dir) -> Result<Vec<VersionId>, VaultError> {
    let items = folder.items()?;
    let mut ids: Vec<VersionId> =
        items.iter().filter(|item| item.is_folder).filter_map(|item| item.shown.parse().ok()).collect();
    ids.sort();
    Ok(ids)
}
