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
pub mod due;
pub mod emptied;
pub mod locks;
pub mod merge;
pub mod scan;
pub mod seen;
pub mod view;
pub mod volume;

#[cfg(test)]
mod double;

pub use attachment::{Attachment, Word};
pub use cache::DescriptorCache;
pub use decide::{Facts, may_copy};
pub use due::{Due, due};
pub use merge::merge;
pub use scan::{Observation, Other, Others, ProblemCode, Scan, ScanProblem, scan};
pub use seen::{ManagerView, Seen, VsphereInventory, VsphereView};
pub use stackferry_volume::reason::{Reason, ReasonCode, Unprotectable, VolumeState};
pub use view::{DatastoreView, FolderSpec};
pub use volume::{AppVolumesInfo, ContentKey, Held, Inventory, KnownVolume, Volume, VolumeFile, VolumeLocation};
