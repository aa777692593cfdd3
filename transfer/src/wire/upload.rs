//! The JSON of the write subsystem, and how far its client may be ahead.

use serde::{Deserialize, Serialize};
use stackferry_volume::Digest;

use super::block::{Codec, MAX_DATA_FRAME};
use super::frame::HEADER_BYTES;

/// The most DATA frames that a client may send ahead of the server's TAKEN: those in flight, and one that waits while
/// another is written. More would only fill the server's memory.
pub const MAX_AHEAD: u64 = 8;
/// The most bytes of such frames, with a ZERO frame before each and after the last.
pub const MAX_AHEAD_BYTES: usize = 8 * (MAX_DATA_FRAME + HEADER_BYTES + 16) + HEADER_BYTES + 16 + HEADER_BYTES;
const _: () = assert!(MAX_AHEAD == 8);

/// NEW: the new file's attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRequest {
    /// The newest protocol version that the client supports.
    pub protocol: u32,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its time of last change.
    pub mtime: jiff::Timestamp,
    /// The digest of the whole file, as a manifest has it.
    pub blake3: Digest,
    /// The bytes that will be written into this folder, by this file and those that follow it.
    pub needed: u64,
}

/// READY: the file was created, under a temporary name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadReady {
    /// The protocol version used from here on.
    pub protocol: u32,
    /// The codecs that the server decodes.
    pub codecs: Vec<Codec>,
}

/// DONE: the last request is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadDone {
    /// The bytes that were written; the rest are holes.
    pub stored: u64,
}
