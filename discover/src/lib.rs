//! Finds App Volumes disks and says what is new, changed, gone, and whether each may be copied now, and why not.
//!
//! [`scan`](scan::scan) looks at one datastore, [`merge`](merge::merge) makes one inventory of all scans and of what was
//! known before, [`due`](due::due) tells whether a volume has to be read again. Only scanning touches a datastore, and it
//! opens descriptors only; nothing here writes, and nothing here decides when something is copied.

pub mod align;
pub mod app_volumes;
pub mod attachment;
pub mod cache;
pub mod decide;
pub mod descriptor;
pub mod due;
pub mod emptied;
pub mod locks;
pub mod merge;
pub mod problem;
pub mod scan;
pub mod snapshot;
pub mod view;
pub mod volume;

#[cfg(test)]
mod fake_folder;

pub use attachment::{Attachment, AttachmentReport};
pub use cache::DescriptorCache;
pub use decide::{CopyFacts, may_copy};
pub use due::{Due, due};
pub use merge::merge;
pub use problem::{ProblemCode, ScanProblem};
pub use scan::{Observation, OtherFile, OtherFiles, Scan, scan};
pub use snapshot::{ManagerView, Snapshot, VsphereInventory, VsphereView};
pub use stackferry_volume::reason::{Reason, ReasonCode, Unprotectable, VolumeState};
pub use view::{DatastoreView, FolderSpec};
pub use volume::{AppVolumesInfo, ContentKey, Inventory, KnownVolume, SkipReason, Volume, VolumeFile, VolumeLocation};
