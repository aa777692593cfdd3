//! The descriptors that were read before, so that a round over thousands of volumes reads only those that changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use stackferry_volume::descriptor::{Descriptor, DescriptorError};
use stackferry_volume::{Entry, FileStamp, Fingerprint, Location};

use crate::scan::Scan;

/// A descriptor as it was read.
#[derive(Debug, Clone)]
pub struct CachedDescriptor {
    /// The file's length when it was listed, in bytes.
    pub bytes: u64,
    /// Its time of last change then.
    pub mtime: Timestamp,
    /// When it was read.
    pub read_at: Timestamp,
    /// What it says.
    pub content: Result<Descriptor, DescriptorError>,
}

impl CachedDescriptor {
    /// Whether the file is still what was read. A time that was too young to be trusted then is no proof.
    #[must_use]
    pub fn is_of(&self, entry: &Entry) -> bool {
        let stamp = FileStamp { name: String::new(), bytes: self.bytes, mtime: self.mtime };
        self.bytes == entry.bytes
            && self.mtime == entry.mtime
            && Fingerprint::new(vec![stamp], None).is_settled(self.read_at)
    }
}

/// Descriptors by where they lie. Lives as long as the process; an empty one only costs reading.
#[derive(Debug, Default)]
pub struct DescriptorCache {
    descriptors: BTreeMap<Location, Arc<CachedDescriptor>>,
}

impl DescriptorCache {
    /// The descriptor that was read at this place, if the file is still the same.
    #[must_use]
    pub fn get(&self, location: &Location, entry: &Entry) -> Option<Arc<CachedDescriptor>> {
        self.descriptors.get(location).filter(|cached| cached.is_of(entry)).cloned()
    }

    /// Takes what a scan read, and forgets what a complete scan did not find any more.
    pub fn absorb(&mut self, scan: &Scan) {
        if scan.complete {
            self.descriptors.retain(|location, _| {
                location.site != scan.site
                    || location.datastore != scan.datastore
                    || scan.descriptors_seen.contains(&location.path)
            });
        }
        for (path, descriptor) in &scan.fresh_descriptors {
            let location = Location { site: scan.site.clone(), datastore: scan.datastore.clone(), path: path.clone() };
            self.descriptors.insert(location, Arc::clone(descriptor));
        }
    }

    /// How many descriptors it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.descriptors.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.descriptors.is_empty()
    }
}
