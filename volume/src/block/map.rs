//! What is known of all blocks of one file, and the digest of the whole that is made of theirs.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{BlockIndex, Digest, MAX_FILE_BYTES, blocks_in};

/// What is known of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockState {
    /// Nothing yet.
    Unknown,
    /// All its bytes are zero.
    Zero,
    /// Its bytes have this digest.
    Data(Digest),
}

/// Digests are held in pages of this many blocks, made where there is data: memory follows the data, not the file.
const PAGE_BLOCKS: usize = 256;
type DigestPage = [Digest; PAGE_BLOCKS];

/// What is known of every block of one file.
///
/// Memory: 2 bits a block, and 32 bytes a block in pages of 256 where there is data.
#[derive(Clone)]
pub struct BlockMap {
    bytes: u64,
    known: Bits,
    data: Bits,
    pages: Vec<Option<Box<DigestPage>>>,
}

/// A run of blocks of one state, as [`BlockMap::runs`] gives it. Data blocks come one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first block of the run.
    pub first: BlockIndex,
    /// How many blocks there are, at least 1.
    pub count: u64,
    /// What they are.
    pub state: BlockState,
}

impl BlockMap {
    /// A map of a file of `bytes`, of which nothing is known. Lengths over [`MAX_FILE_BYTES`] are cut to it; callers
    /// check before.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let bytes = bytes.min(MAX_FILE_BYTES);
        let blocks = usize::try_from(blocks_in(bytes)).unwrap_or(0);
        Self {
            bytes,
            known: Bits::new(blocks),
            data: Bits::new(blocks),
            pages: vec![None; blocks.div_ceil(PAGE_BLOCKS)],
        }
    }

    /// The file's length in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The number of blocks.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        blocks_in(self.bytes)
    }

    /// What is known of a block; `Unknown` beyond the end.
    #[must_use]
    pub fn get(&self, block: BlockIndex) -> BlockState {
        let Ok(at) = usize::try_from(block.0) else { return BlockState::Unknown };
        if !self.known.get(at) {
            return BlockState::Unknown;
        }
        if !self.data.get(at) {
            return BlockState::Zero;
        }
        let page = self.pages.get(at / PAGE_BLOCKS).and_then(Option::as_deref);
        page.and_then(|page| page.get(at % PAGE_BLOCKS)).map_or(BlockState::Unknown, |digest| BlockState::Data(*digest))
    }

    /// Records what a block is. Beyond the end nothing is recorded.
    pub fn set(&mut self, block: BlockIndex, state: BlockState) {
        let Ok(at) = usize::try_from(block.0) else { return };
        if block.0 >= self.blocks() {
            return;
        }
        self.known.set(at, state != BlockState::Unknown);
        self.data.set(at, matches!(state, BlockState::Data(_)));
        if let BlockState::Data(digest) = state
            && let Some(slot) = self.pages.get_mut(at / PAGE_BLOCKS)
            && let Some(entry) =
                slot.get_or_insert_with(|| Box::new([Digest([0; 32]); PAGE_BLOCKS])).get_mut(at % PAGE_BLOCKS)
        {
            *entry = digest;
        }
    }

    /// Records `count` blocks from `first` as zero.
    pub fn set_zero(&mut self, first: BlockIndex, count: u64) {
        for block in first.0..first.0.saturating_add(count).min(self.blocks()) {
            self.set(BlockIndex(block), BlockState::Zero);
        }
    }

    /// Whether every block is known.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.first_unknown().is_none()
    }

    /// The first block of which nothing is known.
    #[must_use]
    pub fn first_unknown(&self) -> Option<BlockIndex> {
        (0..self.blocks()).map(BlockIndex).find(|block| self.get(*block) == BlockState::Unknown)
    }

    /// The number of blocks with data, and the bytes in them.
    #[must_use]
    pub fn data_blocks(&self) -> (u64, u64) {
        let mut found = (0u64, 0u64);
        for run in self.runs() {
            if let BlockState::Data(_) = run.state {
                found.0 += 1;
                found.1 += run.first.len_in(self.bytes) as u64;
            }
        }
        found
    }

    /// All blocks in order: data blocks one by one, zero and unknown blocks in the longest runs.
    pub fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        let mut next = 0;
        std::iter::from_fn(move || {
            if next >= self.blocks() {
                return None;
            }
            let first = BlockIndex(next);
            let state = self.get(first);
            next += 1;
            if !matches!(state, BlockState::Data(_)) {
                while next < self.blocks() && self.get(BlockIndex(next)) == state {
                    next += 1;
                }
            }
            Some(Run { first, count: next - first.0, state })
        })
    }

    /// The digest of the whole file, made of the digests of its blocks.
    ///
    /// A file of at most one block has its plain BLAKE3, so that `b3sum` agrees. For a longer one it is the BLAKE3 of
    /// its length (8 bytes, little-endian) and then, for each of [`BlockMap::runs`], a byte 1 and the digest of a data
    /// block, or a byte 0 and the count of a run of zero blocks (8 bytes, little-endian). So a thin disk's digest
    /// costs what its data costs, and not what its zeros would.
    ///
    /// None while a block is unknown.
    #[must_use]
    pub fn file_digest(&self) -> Option<Digest> {
        if !self.is_complete() {
            return None;
        }
        let mut digest = FileDigest::new(self.bytes);
        for run in self.runs() {
            match run.state {
                BlockState::Data(block) => digest.data(block),
                _ => digest.zero(run.count),
            }
        }
        digest.finish()
    }
}

/// The digest of a whole file of which the blocks come in order: that of [`BlockMap::file_digest`], without keeping them.
#[derive(Debug, Clone)]
pub struct FileDigest {
    bytes: u64,
    /// The blocks that came.
    came: u64,
    /// Of these, the zero blocks since the last data block.
    zeros: u64,
    last: Option<Digest>,
    hasher: blake3::Hasher,
}

impl FileDigest {
    /// Of a file of `bytes`, of which nothing came yet.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&bytes.to_le_bytes());
        Self { bytes, came: 0, zeros: 0, last: None, hasher }
    }

    /// The blocks that came.
    #[must_use]
    pub fn came(&self) -> u64 {
        self.came
    }

    /// The blocks that are still to come.
    #[must_use]
    pub fn due(&self) -> u64 {
        blocks_in(self.bytes).saturating_sub(self.came)
    }

    /// The next `count` blocks are zero.
    pub fn zero(&mut self, count: u64) {
        self.zeros = self.zeros.saturating_add(count);
        self.came = self.came.saturating_add(count);
    }

    /// The next block has data of this digest.
    pub fn data(&mut self, block: Digest) {
        self.end_zeros();
        self.hasher.update(&[1]).update(block.as_bytes());
        self.last = Some(block);
        self.came = self.came.saturating_add(1);
    }

    fn end_zeros(&mut self) {
        if self.zeros > 0 {
            self.hasher.update(&[0]).update(&self.zeros.to_le_bytes());
            self.zeros = 0;
        }
    }

    /// The digest, once every block came, and no more than those.
    #[must_use]
    pub fn finish(&mut self) -> Option<Digest> {
        if self.came != blocks_in(self.bytes) {
            return None;
        }
        if self.came <= 1 {
            return Some(self.last.unwrap_or_else(|| Digest::of(&vec![0; BlockIndex(0).len_in(self.bytes)])));
        }
        self.end_zeros();
        Some(Digest(*self.hasher.finalize().as_bytes()))
    }
}

impl PartialEq for BlockMap {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes && self.runs().eq(other.runs())
    }
}

impl Eq for BlockMap {}

impl fmt::Debug for BlockMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (data, _) = self.data_blocks();
        f.debug_struct("BlockMap").field("bytes", &self.bytes).field("data_blocks", &data).finish_non_exhaustive()
    }
}

/// As it is in a manifest: the length, and the blocks as texts: 64 hexadecimal digits for a data block, `z<count>`
/// for zero blocks, `u<count>` for unknown ones.
#[derive(Serialize, Deserialize)]
struct Stored {
    bytes: u64,
    runs: Vec<String>,
}

impl Serialize for BlockMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let runs = self.runs().map(|run| match run.state {
            BlockState::Data(digest) => digest.to_string(),
            BlockState::Zero => format!("z{}", run.count),
            BlockState::Unknown => format!("u{}", run.count),
        });
        Stored { bytes: self.bytes, runs: runs.collect() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for BlockMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        if stored.bytes > MAX_FILE_BYTES {
            return Err(D::Error::custom("a file longer than 62 TiB"));
        }
        let mut map = BlockMap::new(stored.bytes);
        let mut next = 0u64;
        for run in &stored.runs {
            let (state, count) = if let Some(count) = run.strip_prefix('z') {
                (BlockState::Zero, count.parse().map_err(D::Error::custom)?)
            } else if let Some(count) = run.strip_prefix('u') {
                (BlockState::Unknown, count.parse().map_err(D::Error::custom)?)
            } else {
                (BlockState::Data(run.parse().map_err(D::Error::custom)?), 1u64)
            };
            if count == 0 || count > map.blocks().saturating_sub(next) {
                return Err(D::Error::custom(format!("a run of {count} blocks at block {next} of {}", map.blocks())));
            }
            if state != BlockState::Unknown {
                for block in next..next + count {
                    map.set(BlockIndex(block), state);
                }
            }
            next += count;
        }
        if next != map.blocks() {
            return Err(D::Error::custom(format!("{next} blocks described of {}", map.blocks())));
        }
        Ok(map)
    }
}

#[derive(Clone, PartialEq, Eq)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }
    fn get(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }
    fn set(&mut self, at: usize, on: bool) {
        if let Some(word) = self.0.get_mut(at / 64) {
            let bit = 1u64 << (at % 64);
            if on { *word |= bit } else { *word &= !bit }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::BLOCK_BYTES;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_in_order_give_the_digest_of_the_map() {
        let data = |byte: u8| BlockState::Data(Digest::of(&[byte]));
        let zero = BlockState::Zero;
        for (bytes, blocks) in [
            (0, vec![]),
            (5, vec![zero]),
            (5, vec![data(1)]),
            (4 * BLOCK_BYTES, vec![zero, zero, data(1), zero]),
            (3 * BLOCK_BYTES + 1, vec![data(1), zero, data(2), data(2)]),
        ] {
            let (mut map, mut digest) = (BlockMap::new(bytes), FileDigest::new(bytes));
            for (at, state) in blocks.iter().enumerate() {
                assert_eq!((digest.finish(), digest.due()), (None, (blocks.len() - at) as u64));
                map.set(BlockIndex(at as u64), *state);
                match state {
                    BlockState::Data(block) => digest.data(*block),
                    _ => digest.zero(1),
                }
            }
            assert!(map.file_digest().is_some());
            assert_eq!(digest.finish(), map.file_digest(), "{blocks:?}");
            digest.zero(1);
            assert_eq!(digest.finish(), None, "one too many");
        }
    }

    #[test]
    fn a_file_of_one_block_has_its_plain_digest() {
        let mut map = BlockMap::new(5);
        assert_eq!(map.file_digest(), None);
        map.set(BlockIndex(0), BlockState::Data(Digest::of(b"hello")));
        assert_eq!(map.file_digest(), Some(Digest::of(b"hello")));
        map.set(BlockIndex(0), BlockState::Zero);
        assert_eq!(map.file_digest(), Some(Digest::of(&[0; 5])));
        assert_eq!(BlockMap::new(0).file_digest(), Some(Digest::of(b"")));
    }

    #[test]
    fn the_digest_depends_on_length_place_and_content() {
        let make = |bytes: u64, data: &[(u64, u8)]| {
            let mut map = BlockMap::new(bytes);
            map.set_zero(BlockIndex(0), map.blocks());
            for (at, content) in data {
                map.set(BlockIndex(*at), BlockState::Data(Digest::of(&[*content])));
            }
            map.file_digest().unwrap()
        };
        let some = make(10 * BLOCK_BYTES, &[(3, 1)]);
        for other in [
            make(10 * BLOCK_BYTES, &[(4, 1)]),
            make(10 * BLOCK_BYTES, &[(3, 2)]),
            make(10 * BLOCK_BYTES - 1, &[(3, 1)]),
        ] {
            assert_ne!(some, other);
        }
    }

    #[test]
    fn a_map_that_does_not_fit_its_file_is_refused() {
        for text in [
            r#"{"bytes":1,"runs":[]}"#,
            r#"{"bytes":1,"runs":["z2"]}"#,
            r#"{"bytes":1,"runs":["z0","z1"]}"#,
            r#"{"bytes":1,"runs":["z18446744073709551615"]}"#,
            r#"{"bytes":18446744073709551615,"runs":["z1"]}"#,
            r#"{"bytes":1,"runs":["abc"]}"#,
        ] {
            assert!(serde_json::from_str::<BlockMap>(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn maps_are_read_as_they_are_written(bytes in 0u64..700 * BLOCK_BYTES, set in prop::collection::vec((0u64..700, any::<Option<u8>>()), 0..40)) {
            let mut map = BlockMap::new(bytes);
            let mut model = std::collections::BTreeMap::new();
            for (at, content) in set {
                let state = content.map_or(BlockState::Zero, |byte| BlockState::Data(Digest::of(&[byte])));
                map.set(BlockIndex(at), state);
                if at < map.blocks() { model.insert(at, state); }
            }
            for at in 0..map.blocks() {
                prop_assert_eq!(map.get(BlockIndex(at)), *model.get(&at).unwrap_or(&BlockState::Unknown));
            }
            let text = serde_json::to_string(&map).unwrap();
            prop_assert_eq!(&serde_json::from_str::<BlockMap>(&text).unwrap(), &map);
            prop_assert_eq!(map.runs().map(|run| run.count).sum::<u64>(), map.blocks());
            prop_assert_eq!(map.is_complete(), model.len() as u64 == map.blocks());
        }
    }
}
