//! The inventory: volumes, where they lie, and what may be done with each.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stackferry_volume::descriptor::DescriptorSummary;
use stackferry_volume::manifest::{FileRole, Owner};
use stackferry_volume::{
    FileName, Fingerprint, Generation, Kind, Location, Reason, ReasonCode, Unprotectable, VolumeId, VolumeState,
};

use crate::app_volumes::{ManagedCopy, VolumeAssignment, VolumeRef};

/// One file of a volume at one location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFile {
    /// Its name.
    pub name: FileName,
    /// What it is to the volume.
    pub role: FileRole,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its time of last change.
    pub mtime: Timestamp,
    /// The bytes it takes on disk, where the file system tells.
    pub allocated: Option<u64>,
}

/// Why a location, or a volume, is not copied now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkipReason {
    /// `Deferred`, `Unprotectable` or `Gone`.
    pub state: VolumeState,
    /// The word and the sentence.
    pub reason: Reason,
    /// What to do, where something can be done.
    pub remedy: Option<String>,
}

impl SkipReason {
    /// Something that passes by itself.
    pub fn deferred(code: ReasonCode, text: impl Into<String>) -> Self {
        Self { state: VolumeState::Deferred, reason: Reason::new(code, text), remedy: None }
    }

    /// Something that was there and is no more.
    pub fn gone(text: impl Into<String>) -> Self {
        Self { state: VolumeState::Gone, reason: Reason::new(ReasonCode::Missing, text), remedy: None }
    }

    /// The same with advice.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl From<Unprotectable> for SkipReason {
    fn from(why: Unprotectable) -> Self {
        Self { state: VolumeState::Unprotectable, reason: why.reason(), remedy: why.remedy }
    }
}

/// What tells, without reading a disk, whether two locations hold the same one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContentKey {
    /// The length of its extents together, in bytes.
    pub extent_bytes: u64,
    /// The descriptor's content id.
    pub cid: String,
    /// The disk's UUID.
    pub uuid: Option<String>,
}

impl ContentKey {
    /// Whether both are taken for the same disk: equal extent size, and the content id or the UUID.
    #[must_use]
    pub fn agrees(&self, other: &ContentKey) -> bool {
        let same_uuid = self.uuid.is_some() && self.uuid == other.uuid;
        self.extent_bytes == other.extent_bytes && (self.cid == other.cid || same_uuid)
    }
}

/// One place where a volume lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeLocation {
    /// Where.
    pub location: Location,
    /// The datastore's type, as far as it is known.
    #[serde(rename = "type")]
    pub datastore_type: Option<String>,
    /// Whether the datastore can be looked at.
    pub reachable: bool,
    /// Whether the volume was seen there this time; if not, nothing below is known.
    pub seen: bool,
    /// Descriptor, extents in the disk's order, sidecars by name.
    pub files: Vec<VolumeFile>,
    /// What of the files tells a change.
    pub fingerprint: Fingerprint,
    /// Whether an equal fingerprint later on proves that nothing changed.
    pub settled: bool,
    /// Whether what an interrupted copy read of it may be used by the next; see [`stackferry_volume::FileClock::is_quiet`].
    pub quiet: bool,
    /// When it was looked at.
    pub observed: Timestamp,
    /// What its descriptor says, where it could be read.
    pub descriptor: Option<DescriptorSummary>,
    /// Why it can't be copied from here now; none if it can.
    pub skip: Option<SkipReason>,
}

impl VolumeLocation {
    /// What tells the disk here from another; none where its descriptor is invalid.
    #[must_use]
    pub fn content(&self) -> Option<ContentKey> {
        let is_object = match &self.skip {
            Some(skip) if skip.state == VolumeState::Unprotectable && skip.reason.code != ReasonCode::VsanOnly => {
                return None;
            }
            skip => skip.as_ref().is_some_and(|skip| skip.reason.code == ReasonCode::VsanOnly),
        };
        let descriptor = self.descriptor.as_ref()?;
        // An object has no extent file; its length is what the descriptor says, as a copy's file is long.
        let extents = self.files.iter().filter(|file| file.role == FileRole::Extent);
        let extent_bytes = if is_object { descriptor.logical_bytes } else { extents.map(|file| file.bytes).sum() };
        Some(ContentKey { extent_bytes, cid: descriptor.cid.clone()?, uuid: descriptor.uuid.clone() })
    }
}

/// What the vault and the catalog know of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownVolume {
    /// Its id, fixed for ever.
    pub id: VolumeId,
    /// Its kind.
    pub kind: Kind,
    /// Its stem.
    pub stem: FileName,
    /// Which life of it this is.
    pub generation: Generation,
    /// App Volumes' own id of the disk.
    pub guid: Option<String>,
    /// Where it was last seen.
    pub locations: Vec<Location>,
    /// What told its disk from another when it was last seen.
    pub content: Option<ContentKey>,
    /// Whether it was found to be gone. It stays so until it is seen: nobody who is silent brings it back.
    pub is_gone: bool,
}

/// One volume of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its id.
    pub id: VolumeId,
    /// Its kind.
    pub kind: Kind,
    /// Its stem, verbatim; where that can't be a name, the id's.
    pub stem: FileName,
    /// Which life of it this is.
    pub generation: Generation,
    /// Its name, as a person reads it.
    pub name: String,
    /// Whose disk it is, where its name tells.
    pub owner: Option<Owner>,
    /// App Volumes' own id of the disk.
    pub guid: Option<String>,
    /// Where it lies, in the order of the configured datastores.
    pub locations: Vec<VolumeLocation>,
    /// The disk's length as a machine sees it, in bytes.
    pub size_bytes: Option<u64>,
    /// Whether a machine or a user has it attached; a folder does not tell.
    pub attached: Option<bool>,
    /// What may be done with it now.
    pub state: VolumeState,
    /// Whether it can be copied, now or when what holds it is over.
    pub protectable: bool,
    /// Why it is not simply ready.
    pub reason: Option<Reason>,
    /// What to do about it.
    pub remedy: Option<String>,
    /// What App Volumes knows of it.
    pub app_volumes: Option<AppVolumesInfo>,
}

/// What App Volumes knows of a volume, and an import does not bring back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppVolumesInfo {
    /// The manager's name in the configuration.
    pub manager: String,
    /// Which volume of that manager it is.
    pub at: VolumeRef,
    /// Its state in the manager's word.
    pub status: String,
    /// The package's version text.
    pub version: Option<String>,
    /// The lifecycle stage's name.
    pub stage: Option<String>,
    /// Whether it carries the `CURRENT` marker.
    pub current: Option<bool>,
    /// To whom it is assigned.
    pub assignments: Vec<VolumeAssignment>,
    /// Changes when App Volumes makes a new version of the disk.
    pub revision: String,
}

impl AppVolumesInfo {
    pub(crate) fn of(managed: &ManagedCopy<'_>) -> Self {
        let volume = managed.volume;
        Self {
            manager: managed.manager.to_owned(),
            at: volume.at,
            status: volume.status.word.clone(),
            version: volume.version.clone(),
            stage: volume.stage.clone(),
            current: volume.current,
            assignments: volume.assignments.clone(),
            revision: volume.revision.clone(),
        }
    }
}

impl Volume {
    /// The locations that it can be copied from now.
    pub fn usable(&self) -> impl Iterator<Item = &VolumeLocation> {
        self.locations.iter().filter(|location| location.seen && location.skip.is_none())
    }

    /// What is to be remembered of it until next time.
    #[must_use]
    pub fn to_known(&self) -> KnownVolume {
        KnownVolume {
            id: self.id.clone(),
            kind: self.kind,
            stem: self.stem.clone(),
            generation: self.generation,
            guid: self.guid.clone(),
            locations: self.locations.iter().map(|location| location.location.clone()).collect(),
            content: self.locations.iter().find_map(VolumeLocation::content),
            is_gone: self.state == VolumeState::Gone,
        }
    }
}

/// All volumes, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The volumes.
    pub volumes: Vec<Volume>,
}
