//! What an App Volumes disk is: names, kinds, locations, VMDK descriptors and extents, blocks, manifests,
//! and the plain, blocking traits its bytes move through.
//!
//! Nothing here knows of async, networks or databases. Everything that is read from a datastore is hostile
//! input: sizes are bounded before anything is allocated, names are checked before they become paths.

pub mod baseline;
pub mod block;
pub mod content;
pub mod descriptor;
pub mod fingerprint;
pub mod group;
pub mod holes;
pub mod ids;
pub mod io;
pub mod local;
pub mod location;
pub mod manifest;
pub mod name;
pub mod place;
pub mod reason;

pub use baseline::Baseline;
pub use block::{BLOCK_BYTES, BlockIndex, BlockMap, BlockState, Digest};
pub use fingerprint::{FileClock, FileStamp, Fingerprint, UNKNOWN_MTIME};
pub use ids::{Generation, Kind, ParseIdError, TransferId, VersionId, VolumeId};
pub use io::{Entry, EntryKind, Folder, FolderError, HoleMapSource, Sink, Source};
pub use location::{Location, SiteName};
pub use manifest::{Manifest, ManifestError};
pub use name::{FileName, NameError};
pub use reason::{Reason, ReasonCode, Unprotectable, VolumeState};
