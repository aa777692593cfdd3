//! Looks through the folders of one datastore.
//!
//! What is found is hostile input and may be huge, so entries, depth and text are bounded; what was not looked at for
//! such a reason, or because it could not be, is remembered, since nothing in it may be taken for gone.

mod explain;
mod folder;
mod judge;
mod limits;
pub(crate) mod result;
#[cfg(test)]
mod tests;
mod walk;

use jiff::Timestamp;
use stackferry_volume::FolderError;

use crate::cache::DescriptorCache;
use crate::view::{DatastoreView, FolderSpec};

pub use limits::{MAX_DEPTH, MAX_DESCRIPTOR_BYTES, MAX_ENTRIES, MAX_OTHER_FILES};
pub use result::{Observation, OtherFile, OtherFiles, Scan};

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
