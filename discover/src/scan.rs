//! Looks through the folders of one datastore.
//!
//! What is found is hostile input and may be huge, so entries, depth and text are bounded; what was not looked at for
//! such a reason, or because it could not be, is remembered, since nothing in it may be taken for gone.

mod judge;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use stackferry_volume::reason::shown;
use stackferry_volume::{FileName, FolderError, Kind, SiteName};

use crate::cache::{CachedDescriptor, DescriptorCache};
use crate::view::{DatastoreView, FolderSpec, is_within};
use crate::volume::VolumeLocation;

/// The most entries of one datastore that are looked at: App Volumes' largest sites have some ten thousand files.
pub const MAX_ENTRIES: usize = 200_000;
/// How deep below a configured folder is looked. App Volumes itself makes one level, on vSAN.
pub const MAX_DEPTH: usize = 4;
/// The most bytes of descriptors that one scan holds. A real one has less than 1 KiB: this is enough for 60,000.
pub const MAX_DESCRIPTOR_BYTES: usize = 64 << 20;

/// The most of what is no volume that a scan lists. All of it is counted.
pub const MAX_OTHERS: usize = 10_000;

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

/// What kind of thing a problem of a scan is. The words are part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProblemCode {
    /// A datastore, or a system, can't be asked.
    Unreachable,
    /// A folder, or something in it, could not be looked at.
    NotListed,
    /// None of a datastore's folders is there.
    NothingThere,
    /// A datastore that held volumes is empty.
    Emptied,
    /// A file beside a volume is not copied with it.
    LeftOut,
    /// A lock that no host renews.
    OldLock,
    /// Something else that a person should know.
    Notice,
}

impl ProblemCode {
    /// The word used in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::NotListed => "not_listed",
            Self::NothingThere => "nothing_there",
            Self::Emptied => "emptied",
            Self::LeftOut => "left_out",
            Self::OldLock => "old_lock",
            Self::Notice => "notice",
        }
    }

    /// Whether something may lie where it says that was not seen.
    #[must_use]
    pub fn is_blind(self) -> bool {
        matches!(self, Self::Unreachable | Self::NotListed | Self::NothingThere | Self::Emptied)
    }
}

/// Something that a person should know of a datastore, beside its volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanProblem {
    /// What kind of thing it is.
    pub code: ProblemCode,
    /// What it is about: a datastore, a folder or a file, as vSphere writes it.
    pub subject: String,
    /// What is wrong.
    pub text: String,
    /// What to do.
    pub hint: String,
}

/// Something in a folder that is no volume and belongs to none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// Its path on the datastore, made harmless.
    pub path: String,
    /// Its length in bytes; none for a folder.
    pub bytes: Option<u64>,
    /// What it is.
    pub what: String,
}

/// What lies in the folders of a datastore beside volumes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Others {
    /// How much there is.
    pub count: u64,
    /// Each of it, by path; at most [`MAX_OTHERS`].
    pub listed: Vec<Other>,
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
    pub others: Others,
    /// The folders that were to be looked through, with their sub-folders.
    pub looked_at: Vec<String>,
    /// The folders among them that could not be listed.
    pub not_listed: Vec<String>,
    /// The descriptors that were read, by path; the others were taken from the cache.
    pub fresh_descriptors: BTreeMap<String, Arc<CachedDescriptor>>,
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

/// Looks through one datastore. Never fails: what could not be looked at is in the result.
#[must_use]
pub fn scan(view: &DatastoreView, cache: &DescriptorCache, now: Timestamp) -> Scan {
    let mut specs = if view.folders.is_empty() { FolderSpec::defaults() } else { view.folders.clone() };
    specs.sort_by(|one, two| one.path.cmp(&two.path));
    specs.dedup_by(|later, earlier| later.path == earlier.path);
    let mut walk = walk::Walk::new(view, &specs, cache, now);
    let mut present = 0usize;
    let mut failed = false;
    for spec in &specs {
        match walk.folder(spec) {
            Ok(true) => present += 1,
            Ok(false) => {}
            Err(error @ FolderError::Unreachable { .. }) => return walk.unreachable(&error),
            Err(error) => {
                failed = true;
                walk.not_listed(&spec.path, &error);
            }
        }
    }
    if present == 0 && !failed {
        return walk.nothing_there();
    }
    walk.finish()
}

/// A path on a datastore as vSphere writes it.
fn subject(datastore: &str, path: &str) -> String {
    if path.is_empty() { format!("[{datastore}]") } else { format!("[{datastore}] {}", shown(path)) }
}

/// What a person can do about a folder that can't be looked at.
fn hint(error: &FolderError) -> &'static str {
    match error {
        FolderError::NotFound { .. } => "If it was just deleted, there is nothing to do.",
        FolderError::Denied { .. } => {
            "Give the account that reads this datastore the right to list and read the folder."
        }
        FolderError::Refused { .. } => "Put a real folder in its place, or take it out of `folders`.",
        FolderError::TooMany { .. } => "Name the sub-folders to look through in `folders`.",
        FolderError::Unreachable { .. } => {
            "See that the datastore is mounted and its host is up, then run `stackferry check`."
        }
        _ => "See whether the datastore is healthy; the next round tries again.",
    }
}

/// An error without the path that it is about, which is told beside it, and with its cause.
fn why(error: &FolderError) -> String {
    match error {
        FolderError::NotFound { .. } => "no such file or folder".to_owned(),
        FolderError::Denied { .. } => "permission denied".to_owned(),
        FolderError::Refused { why, .. } => (*why).to_owned(),
        FolderError::TooMany { most, .. } => format!("more than {most} entries"),
        FolderError::Unreachable { why, .. } => format!("the datastore can't be reached: {why}"),
        FolderError::Io { source, .. } => format!("reading failed: {source}"),
        other => other.to_string(),
    }
}
