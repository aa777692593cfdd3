//! Blocks: 1 MiB of one file, counted from 0, the unit of digests; and what is known of all blocks of a file.
//!
//! A block that holds only zeros has no digest: it is never sent and never stored, and a run of such blocks is one
//! entry. The last block of a file is as long as what is left.

mod map;

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use map::{BlockMap, BlockState, FileDigest, Run};

/// The length of a block, in bytes.
pub const BLOCK_BYTES: u64 = 1 << 20;
/// Runs of zeros of this length, aligned to it within the block, are left out on the wire, in bytes.
pub const WIRE_ZERO_BYTES: usize = 64 << 10;
/// Runs of zeros of this length, aligned to it, are left as holes when writing, in bytes.
pub const STORE_ZERO_BYTES: usize = 4 << 10;
/// The largest file that is taken on, in bytes: vSphere's own limit for a virtual disk (62 TiB).
pub const MAX_FILE_BYTES: u64 = 62 << 40;

/// A BLAKE3 digest: of a block's bytes, unless said otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is not 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no digest: 64 hexadecimal digits are expected")]
pub struct ParseDigestError(String);

impl FromStr for Digest {
    type Err = ParseDigestError;
    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let hash = blake3::Hash::from_hex(text).map_err(|_| ParseDigestError(text.chars().take(80).collect()))?;
        Ok(Self(*hash.as_bytes()))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A block's number within its file, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlockIndex(pub u64);

impl BlockIndex {
    /// The block that holds the byte at `offset`.
    #[must_use]
    pub fn at(offset: u64) -> Self {
        Self(offset / BLOCK_BYTES)
    }

    /// Where the block begins, in bytes from the file's start.
    #[must_use]
    pub fn offset(self) -> u64 {
        self.0.saturating_mul(BLOCK_BYTES)
    }

    /// How many bytes the block has in a file of `file_bytes`; 0 beyond its end.
    #[must_use]
    pub fn len_in(self, file_bytes: u64) -> usize {
        let left = file_bytes.saturating_sub(self.offset()).min(BLOCK_BYTES);
        usize::try_from(left).unwrap_or(0)
    }
}

impl fmt::Display for BlockIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of blocks of a file of `file_bytes`.
#[must_use]
pub fn blocks_in(file_bytes: u64) -> u64 {
    file_bytes.div_ceil(BLOCK_BYTES)
}

/// Whether all bytes are zero. Vectorises: 64 bytes are folded at a time, and a byte that is set ends it early.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<256>();
    chunks.iter().all(|chunk| {
        let (words, _) = chunk.as_chunks::<8>();
        words.iter().fold(0u64, |seen, word| seen | u64::from_ne_bytes(*word)) == 0
    }) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_check_sees_every_byte() {
        for len in [0usize, 1, 7, 255, 256, 257, 4096, 5000] {
            let mut bytes = vec![0u8; len];
            assert!(is_zero(&bytes));
            for at in 0..len {
                bytes[at] = 0x80;
                assert!(!is_zero(&bytes), "{at} of {len}");
                bytes[at] = 0;
            }
        }
    }
}
