//! The JSON of the subsystem by which a new file is written, and how far its client may be ahead.

use serde::{Deserialize, Serialize};
use stackferry_volume::Digest;

use super::block::{Codec, MOST_DATA_FRAME};
use super::frame::HEADER_BYTES;

/// How many DATA frames a client may have sent that the server has not told to be written: what is on the way, and one
/// that waits while another is written. More would only fill the server's memory.
pub const MOST_AHEAD: u64 = 8;
/// The most bytes of such frames, with a ZERO frame before each and after the last.
pub const MOST_AHEAD_BYTES: usize = 8 * (MOST_DATA_FRAME + HEADER_BYTES + 16) + HEADER_BYTES + 16 + HEADER_BYTES;
const _: () = assert!(MOST_AHEAD == 8);

/// NEW: what the file is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct New {
    /// The newest protocol that the client speaks.
    pub protocol: u32,
    /// Its length in bytes.
    pub bytes: u64,
    /// The time of last change that it is given.
    pub mtime: jiff::Timestamp,
    /// The digest of the whole file, as a manifest has it.
    pub blake3: Digest,
    /// The bytes that will be written into this folder, by this file and those that follow it.
    pub needed: u64,
}

/// READY: the file is made, under a temporary name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The protocol that both speak from here on.
    pub protocol: u32,
    /// The codecs that the server reads.
    pub codecs: Vec<Codec>,
}

/// DONE: what was asked for last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The bytes that were written; the rest are holes.
    pub stored: u64,
}
