//! A descriptor file as a scan read it.

use jiff::Timestamp;
use stackferry_volume::descriptor::{Descriptor, DescriptorError};
use stackferry_volume::{Entry, FileName, FileStamp, Fingerprint};

/// A descriptor as it was read.
#[derive(Debug, Clone)]
pub struct DescriptorFile {
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

impl DescriptorFile {
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
