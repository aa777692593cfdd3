//! The result of a scan of one datastore.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use stackferry_volume::{FileName, Kind, SiteName};

use crate::descriptor::DescriptorFile;
use crate::problem::ScanProblem;
use crate::view::is_within;
use crate::volume::VolumeLocation;

/// A volume as it was seen at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Its kind, by its folder.
    pub kind: Kind,
    /// Its stem; none where its name can't be one.
    pub stem: Option<FileName>,
    /// Its name as the folder has it, made harmless.
    pub shown_name: String,
    /// Whether it is App Volumes' own backup of a volume.
    pub is_backup: bool,
    /// The place, and all that was seen there.
    pub at: VolumeLocation,
}

/// Something in a folder that is no volume and belongs to none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherFile {
    /// Its path on the datastore, made harmless.
    pub path: String,
    /// Its length in bytes; none for a folder.
    pub bytes: Option<u64>,
    /// What it is.
    pub what: String,
}

/// What lies in the folders of a datastore beside volumes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OtherFiles {
    /// How much there is.
    pub count: u64,
    /// Each of it, by path; at most [`MAX_OTHER_FILES`].
    pub listed: Vec<OtherFile>,
}

/// What was seen of one datastore.
#[derive(Debug, Clone)]
pub struct Scan {
    /// Its site.
    pub site: SiteName,
    /// Its name.
    pub datastore: String,
    /// Its place among the configured datastores.
    pub rank: usize,
    /// Its type, as far as it is known.
    pub datastore_type: Option<String>,
    /// When it was looked at.
    pub observed: Timestamp,
    /// Whether it could be looked at, at all.
    pub reachable: bool,
    /// Whether all of it that should be looked at was looked at.
    pub complete: bool,
    /// The volumes, by path.
    pub observations: Vec<Observation>,
    /// What else is to be told.
    pub problems: Vec<ScanProblem>,
    /// What lies there beside volumes.
    pub others: OtherFiles,
    /// The folders that were to be looked through, with their sub-folders.
    pub looked_at: Vec<String>,
    /// The folders among them that could not be listed.
    pub not_listed: Vec<String>,
    /// The descriptors that were read, by path; the others were taken from the cache.
    pub fresh_descriptors: BTreeMap<String, Arc<DescriptorFile>>,
    /// The paths of all descriptors.
    pub descriptors_seen: BTreeSet<String>,
}

impl Scan {
    /// Whether a volume in this folder would have been seen, so that one that was not seen is gone.
    #[must_use]
    pub fn covers(&self, folder: &str) -> bool {
        self.reachable
            && self.looked_at.iter().any(|looked| is_within(folder, looked))
            && !self.not_listed.iter().any(|not| is_within(folder, not))
    }
}
