//! The descriptors that were read before, so that a round over thousands of volumes reads only those that changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use stackferry_volume::{Entry, FileName, Location, SiteName};

use crate::descriptor::DescriptorFile;
use crate::scan::result::Scan;

/// Descriptors by where they lie. Lives as long as the process; an empty one only costs reading.
#[derive(Debug, Default, Clone)]
pub struct DescriptorCache {
    descriptors: BTreeMap<Location, Arc<DescriptorFile>>,
}

impl DescriptorCache {
    /// The descriptor that was read at this place, if the file is still the same.
    #[must_use]
    pub fn get(&self, location: &Location, entry: &Entry) -> Option<Arc<DescriptorFile>> {
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

    /// Takes a descriptor that an earlier process read, and could trust.
    pub fn load(&mut self, location: Location, bytes: u64, mtime: Timestamp, head: Vec<u8>) {
        if let Ok(name) = FileName::new(location.file()) {
            let descriptor = DescriptorFile::new(head, bytes, mtime, Timestamp::MAX, &name);
            self.descriptors.insert(location, Arc::new(descriptor));
        }
    }

    /// The descriptors of a datastore that may be kept beyond this process, by path.
    pub fn lasting<'a>(
        &'a self,
        site: &'a SiteName,
        datastore: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a DescriptorFile)> {
        self.descriptors
            .iter()
            .filter(move |(at, cached)| {
                at.site == *site && at.datastore == datastore && !cached.head.is_empty() && cached.is_settled()
            })
            .map(|(at, cached)| (at.path.as_str(), &**cached))
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
