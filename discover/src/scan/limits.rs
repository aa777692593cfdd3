//! The limits of a scan.

/// The most entries of one datastore that are read: App Volumes' largest sites have some ten thousand files.
pub const MAX_ENTRIES: usize = 200_000;
/// How deep a scan descends below a configured folder. App Volumes itself creates one level, on vSAN.
pub const MAX_DEPTH: usize = 4;
/// The most bytes of descriptors that one scan keeps. A real one has less than 1 KiB: this is enough for 60,000.
pub const MAX_DESCRIPTOR_BYTES: usize = 64 << 20;
/// The most other files that a scan lists. It counts all of them.
pub const MAX_OTHER_FILES: usize = 10_000;
