//! What one App Volumes Manager says, in one shape for 2.x and 4.x. Plain data: nothing here was judged yet.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stackferry_volume::manifest::Owner;
use stackferry_volume::{Kind, SiteName};

use crate::problem::ScanProblem;

/// All that one App Volumes Manager told at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The manager's name in the configuration.
    pub manager: String,
    /// Its site.
    pub site: SiteName,
    /// Its version as it tells it (`2.17.0`, `4.15.0.687`).
    pub version: String,
    /// When it was asked.
    pub observed: Timestamp,
    /// Whether all lists were read to their end: only then is what is not in them not known to the manager.
    pub complete: bool,
    /// Its volumes, by family and number.
    pub volumes: Vec<ManagedVolume>,
    /// The datastores that it knows.
    pub datastores: Vec<ManagedDatastore>,
    /// Its storage groups.
    pub groups: Vec<StorageGroup>,
    /// The folders that it keeps volumes in by default, each with the kind of what lies there.
    pub folders: Vec<(String, Kind)>,
    /// What a person should know beside the volumes.
    pub problems: Vec<ScanProblem>,
}

/// Which of the manager's lists a volume is in: numbers are unique only within one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeFamily {
    /// `cv_api/appstacks`.
    AppStack,
    /// `app_volumes/app_packages`.
    Package,
    /// `…/writables`.
    Writable,
}

/// A volume's name within its manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VolumeRef {
    /// The list.
    pub family: VolumeFamily,
    /// The number in it.
    pub id: u64,
}

/// A volume as its manager knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedVolume {
    /// Its name within the manager.
    pub at: VolumeRef,
    /// `Appstack`, `Package` or `Writable`.
    pub kind: Kind,
    /// Its name as a person reads it, without markup.
    pub name: String,
    /// The disk's id, without braces, in lower case; none where the manager gives none.
    pub guid: Option<String>,
    /// What the manager says of its state.
    pub status: Status,
    /// Whether it is attached to a machine or a user now.
    pub attached: Option<bool>,
    /// The manager's own word for that, where it gives one.
    pub attached_word: Option<String>,
    /// To what, where it is told.
    pub attached_to: Option<String>,
    /// Whose it is (writables).
    pub owner: Option<Owner>,
    /// What the owner is: `User`, `Computer`, `Group` (writables).
    pub owner_type: Option<String>,
    /// The application that the package belongs to.
    pub product: Option<String>,
    /// Every place where its file lies.
    pub places: Vec<ManagedLocation>,
    /// The size that the manager tells, in MiB: of the file, and stale until the next mount.
    pub size_mib: Option<u64>,
    /// The package's version text.
    pub version: Option<String>,
    /// The lifecycle stage's name (`Published`).
    pub stage: Option<String>,
    /// Whether the package carries its application's `CURRENT` marker.
    pub current: Option<bool>,
    /// To whom it is assigned.
    pub assignments: Vec<VolumeAssignment>,
    /// Text that changes when App Volumes itself makes a new version of the disk (capture, update): from
    /// `capture_version`, `provision_completed_at`, `snapvol_version_id` and their like. Mount counts and times are no part of it.
    pub revision: String,
}

/// What the manager says of a volume's state; the words as they came are kept for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// `status` in lower case: enabled, disabled, provisioning, creating, unprovisioned, canceled, reserved, failed, orphaned,
    /// legacy, unreachable, missing, or a word not known.
    pub word: String,
    /// `busy`.
    pub busy: bool,
    /// `state` where it tells of something going on (`Moving`).
    pub doing: Option<String>,
    /// It is being made.
    pub provisioning: bool,
    /// `delete_status` is set.
    pub deleting: bool,
}

/// Where one copy of a volume lies, as the manager knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManagedLocation {
    /// The datastore's name, without brackets.
    pub datastore: String,
    /// The folder on it, verbatim.
    pub folder: String,
    /// The file's name, verbatim.
    pub file: String,
    /// Whether the manager reaches it.
    pub reachable: Option<bool>,
    /// Whether the manager misses it.
    pub missing: Option<bool>,
    /// The vCenter or host that the manager reaches it by.
    pub machine_manager: Option<String>,
}

/// A volume as its manager knows it at one place.
#[derive(Debug, Clone, Copy)]
pub struct ManagedCopy<'a> {
    /// The manager's name.
    pub manager: &'a str,
    /// The volume.
    pub volume: &'a ManagedVolume,
    /// The place.
    pub place: &'a ManagedLocation,
}

/// A datastore as the manager knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedDatastore {
    /// Its name.
    pub name: String,
    /// `VMFS`, `NFS41`, …, where it is told.
    pub kind: Option<String>,
    /// Whether volumes are attached from it (`attachable`); where not, it only holds replicas.
    pub attachable: Option<bool>,
    /// Whether the manager reaches it.
    pub accessible: Option<bool>,
}

/// A storage group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageGroup {
    /// Its name.
    pub name: String,
    /// It takes in every volume that it finds on a member.
    pub auto_import: bool,
    /// It copies AppStacks and packages from each member to all.
    pub auto_replicate: bool,
    /// The datastores in it.
    pub members: Vec<String>,
}

/// To whom a volume is assigned, since an import does not bring that back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VolumeAssignment {
    /// `User`, `Group`, `Computer`, `OrgUnit`.
    pub entity_type: String,
    /// The distinguished name, else the name as it is shown.
    pub entity: String,
    /// Only on machines whose name begins so.
    pub mount_prefix: Option<String>,
}
