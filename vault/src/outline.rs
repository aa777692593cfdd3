//! What can be known of volumes without reading a manifest: for whoever compares an index with the vault, often and for
//! thousands of volumes.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use stackferry_volume::manifest::MANIFEST_NAME;
use stackferry_volume::{Kind, VersionId, VolumeId};

use crate::error::Chain;
use crate::list::{VersionEntry, summary};
use crate::rebuilt::load_record;
use crate::record::{RECORD_NAME, VolumeRecord, version_ids};
use crate::volumes::VaultProblem;
use crate::{Vault, VaultError};

/// A folder that was changed less long ago than this may be changed once more without a new time: clocks of file systems
/// are coarse.
const COARSE: SignedDuration = SignedDuration::from_secs(3);

/// By what a change of a volume's folder shows: a version that was added or removed, and a new `volume.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderStamp {
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FolderStamp {
    /// Whether the same stamp, seen later, says that nothing was changed since `now`.
    #[must_use]
    pub fn is_settled(&self, now: Timestamp) -> bool {
        let latest = self.modified.max(self.changed).0;
        Timestamp::from_second(latest).is_ok_and(|latest| now.duration_since(latest) > COARSE)
    }
}

/// The folders of all volumes.
#[derive(Debug, Clone, Default)]
pub struct Stamps {
    /// Each volume's.
    pub volumes: BTreeMap<VolumeId, FolderStamp>,
    /// Kinds whose volumes could not be listed: nothing is known of them.
    pub unlisted: Vec<(Kind, VaultProblem)>,
}

/// A volume's folder.
#[derive(Debug, Clone)]
pub struct Outline {
    /// Its versions, oldest first, whatever state they are in.
    pub versions: Vec<VersionId>,
    /// Its record.
    pub record: VolumeRecord,
    /// The newest version that is not marked as damaged, where its manifest is missing.
    pub without_manifest: Option<VersionId>,
}

impl Vault {
    /// The stamps of all volumes' folders: one pass over the vault that opens no volume.
    ///
    /// # Errors
    /// `Missing` where the vault's marker or its folder of volumes is gone; else the system's.
    pub fn stamps(&self) -> Result<Stamps, VaultError> {
        self.need_marker()?;
        let mut stamps = Stamps::default();
        for kind in Kind::ALL {
            if let Err(error) = self.stamps_of(kind, &mut stamps.volumes) {
                let path = self.0.volumes.child(kind.as_str());
                stamps.unlisted.push((kind, VaultProblem { path, why: Chain(&error).to_string() }));
            }
        }
        Ok(stamps)
    }

    fn stamps_of(&self, kind: Kind, stamps: &mut BTreeMap<VolumeId, FolderStamp>) -> Result<(), VaultError> {
        let Some(dir) = self.0.volumes.sub(kind.as_str())? else { return Ok(()) };
        for item in dir.items()? {
            let Some(name) = item.name.filter(|_| item.is_folder) else { continue };
            let Some(stat) = dir.stat(name.as_str())? else { continue };
            let stamp = FolderStamp {
                inode: stat.st_ino,
                modified: (stat.st_mtime, stat.st_mtime_nsec.try_into().unwrap_or(0)),
                changed: (stat.st_ctime, stat.st_ctime_nsec.try_into().unwrap_or(0)),
            };
            stamps.insert(VolumeId::first(kind, &name), stamp);
        }
        Ok(())
    }

    /// A volume without its manifests; none if the vault has nothing of it.
    ///
    /// # Errors
    /// `RecordDamaged` where there are versions, and neither `volume.json` nor any of them says what they are; else the
    /// system's.
    pub fn outline(&self, volume: &VolumeId) -> Result<Option<Outline>, VaultError> {
        let Some(folder) = self.0.folder(volume)? else { return Ok(None) };
        let versions = version_ids(&folder)?;
        let Some(record) = load_record(&folder, volume)? else {
            if versions.is_empty() {
                return Ok(None);
            }
            let why = "it is missing, and no version's manifest can be read".to_owned();
            return Err(VaultError::RecordDamaged { path: folder.child(RECORD_NAME), why });
        };
        let newest = versions.iter().rev().find(|version| !record.damaged.contains_key(version));
        let mut without_manifest = None;
        if let Some(newest) = newest
            && folder.stat(&format!("{newest}/{MANIFEST_NAME}"))?.is_none()
        {
            without_manifest = Some(newest.clone());
        }
        Ok(Some(Outline { versions, record, without_manifest }))
    }

    /// The names of a volume's versions, oldest first, whatever state they are in; none if it has no folder.
    ///
    /// # Errors
    /// The system's.
    pub fn version_names(&self, volume: &VolumeId) -> Result<Vec<VersionId>, VaultError> {
        self.0.folder(volume)?.map_or_else(|| Ok(Vec::new()), |folder| version_ids(&folder))
    }

    /// One version as it is listed; none if it is not there.
    ///
    /// # Errors
    /// `NoVolume`; `RecordDamaged`; else the system's.
    pub fn entry(&self, volume: &VolumeId, version: &VersionId) -> Result<Option<VersionEntry>, VaultError> {
        let (folder, record) = self.0.record(volume)?;
        let summary = summary(&folder, volume, version)?;
        Ok(summary.map(|summary| VersionEntry::new(version.clone(), summary, &record)))
    }
}
