//! The versions of a volume, the damaged ones among them.

use jiff::Timestamp;
use stackferry_volume::content::ContentRecord;
use stackferry_volume::manifest::{ByteCounts, Owner, VerifyMethod};
use stackferry_volume::{Fingerprint, Generation, Location, Manifest, VersionId, VolumeId};

use crate::dir::Dir;
use crate::error::Chain;
use crate::record::{DamageMark, Pin, VolumeRecord, version_ids};
use crate::version::load_manifest;
use crate::{Vault, VaultError};

/// What a list needs of a manifest: all but the digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionSummary {
    /// The volume's generation that it belongs to.
    pub generation: Generation,
    /// The name as a person reads it.
    pub name: String,
    /// Whose disk it is.
    pub owner: Option<Owner>,
    /// App Volumes' own id of the disk.
    pub guid: Option<String>,
    /// Where it was read.
    pub location: Location,
    /// What the files looked like there.
    pub fingerprint: Fingerprint,
    /// How many files there are.
    pub files: usize,
    /// The bytes of all files together.
    pub logical_bytes: u64,
    /// The bytes of the run that made it.
    pub bytes: ByteCounts,
    /// The route they came by.
    pub route: String,
    /// Why it is an incident.
    pub incident: Option<String>,
    /// What its disk held when it was made.
    pub content: Option<ContentRecord>,
    /// How it was checked.
    pub verify_method: VerifyMethod,
    /// When its copy began.
    pub started: Timestamp,
    /// When its last byte was checked.
    pub ended: Timestamp,
}

impl From<&Manifest> for VersionSummary {
    fn from(manifest: &Manifest) -> Self {
        Self {
            generation: manifest.generation,
            name: manifest.name.clone(),
            owner: manifest.owner.clone(),
            guid: manifest.guid.clone(),
            location: manifest.location.clone(),
            fingerprint: manifest.fingerprint.clone(),
            files: manifest.files.len(),
            logical_bytes: manifest.logical_bytes(),
            bytes: manifest.bytes,
            route: manifest.route.clone(),
            incident: manifest.incident.clone(),
            content: manifest.content.clone(),
            verify_method: manifest.verify_method,
            started: manifest.started,
            ended: manifest.ended,
        }
    }
}

/// One version in the list of a volume's versions.
#[derive(Debug)]
pub struct VersionEntry {
    /// Its id.
    pub id: VersionId,
    /// What its manifest says, or why that can't be known.
    pub summary: Result<VersionSummary, VaultError>,
    /// Its pin.
    pub pin: Option<Pin>,
    /// Until when it is locked.
    pub locked_until: Option<Timestamp>,
    /// Its mark of damage.
    pub damaged: Option<DamageMark>,
}

impl VersionEntry {
    pub(crate) fn new(id: VersionId, summary: Result<VersionSummary, VaultError>, record: &VolumeRecord) -> Self {
        let (pin, damaged) = (record.pins.get(&id).cloned(), record.damaged.get(&id).cloned());
        Self { summary, pin, locked_until: record.locks.get(&id).copied(), damaged, id }
    }

    /// Whether it can be relied on: its manifest can be read, and it is not marked as damaged.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.summary.is_ok() && self.damaged.is_none()
    }

    /// What is wrong with it, for a person; none if it is good.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        match (&self.summary, &self.damaged) {
            (Err(error), _) => Some(Chain(error).to_string()),
            (Ok(_), Some(mark)) => Some(mark.why.clone()),
            (Ok(_), None) => None,
        }
    }
}

impl Vault {
    /// The versions of a volume, oldest first. A damaged one is listed as such.
    ///
    /// # Errors
    /// `NoVolume`; `RecordDamaged`; else the system's.
    pub fn versions(&self, volume: &VolumeId) -> Result<Vec<VersionEntry>, VaultError> {
        let (folder, record) = self.0.record(volume)?;
        let mut entries = Vec::new();
        for id in version_ids(&folder)? {
            // It was deleted since it was listed.
            let Some(summary) = summary(&folder, volume, &id)? else { continue };
            entries.push(VersionEntry::new(id, summary, &record));
        }
        Ok(entries)
    }
}

/// What a version's manifest says, or why that can't be known; none where the version is gone.
pub(crate) fn summary(
    folder: &Dir,
    volume: &VolumeId,
    id: &VersionId,
) -> Result<Option<Result<VersionSummary, VaultError>>, VaultError> {
    let name = id.to_string();
    let Some(dir) = folder.sub(&name)? else { return Ok(None) };
    match load_manifest(&dir, volume, id) {
        Ok(manifest) => Ok(Some(Ok(VersionSummary::from(&manifest)))),
        Err(_) if !dir.is_still(folder, &name)? => Ok(None),
        Err(error) => Ok(Some(Err(error))),
    }
}
