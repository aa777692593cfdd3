//! The descriptors that were read before, so that a round over thousands of volumes reads only those that changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use stackferry_volume::descriptor::{Descriptor, DescriptorError};
use stackferry_volume::{Entry, FileName, FileStamp, Fingerprint, Location, SiteName};

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
    /// The bytes that were read, where they say something; to be kept beyond this process.
    pub head: Vec<u8>,
}

impl CachedDescriptor {
    /// A descriptor as it was read, of a file so long and so old.
    #[must_use]
    pub fn new(head: Vec<u8>, bytes: u64, mtime: Timestamp, read_at: Timestamp, name: &FileName) -> Self {
        let content = Descriptor::parse_head(&head, bytes, name);
        // What can't be believed is read again by the next process: it may be being written just now.
        let head = if content.is_ok() { head } else { Vec::new() };
        Self { bytes, mtime, read_at, content, head }
    }

    /// Whether an equal file later on is this one; see [`Fingerprint::is_fresh`].
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let stamp = FileStamp { name: String::new(), bytes: self.bytes, mtime: self.mtime };
        !Fingerprint::new(vec![stamp], None).is_fresh(self.read_at)
    }

    /// Whether the file is still what was read. A time that was too young to be trusted then is no proof.
    #[must_use]
    pub fn is_of(&self, entry: &Entry) -> bool {
        self.bytes == entry.bytes && self.mtime == entry.mtime && self.is_settled()
    }
}

/// Descriptors by where they lie. Lives as long as the process; an empty one only costs reading.
#[derive(Debug, Default, Clone)]
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

    /// Takes a descriptor that an earlier process read, and could trust.
    pub fn load(&mut self, location: Location, bytes: u64, mtime: Timestamp, head: Vec<u8>) {
        if let Ok(name) = FileName::new(location.file()) {
            let descriptor = CachedDescriptor::new(head, bytes, mtime, Timestamp::MAX, &name);
            self.descriptors.insert(location, Arc::new(descriptor));
        }
    }

    /// The descriptors of a datastore that may be kept beyond this process, by path.
    pub fn lasting<'a>(
        &'a self,
        site: &'a SiteName,
        datastore: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a CachedDescriptor)> {
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
