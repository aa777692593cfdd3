//! Files with known bytes.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use stackferry_volume::block::is_zero;
use stackferry_volume::{BlockIndex, BlockMap, BlockState, Digest};

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const KIB: u64 = 1 << 10;

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, len: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap() + 8);
    while (bytes.len() as u64) < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(usize::try_from(len).unwrap());
    bytes
}

/// Makes a file of `bytes` with noise in these ranges and holes elsewhere.
pub(crate) fn sparse(path: &Path, bytes: u64, data: &[Range<u64>]) {
    let file = File::options().write(true).create_new(true).open(path).unwrap();
    file.set_len(bytes).unwrap();
    for range in data {
        file.write_all_at(&noise(range.start + 1, range.end - range.start), range.start).unwrap();
    }
    file.sync_all().unwrap();
}

pub(crate) fn allocated(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

/// What every block of a file is, found without the code under test's walking.
pub(crate) fn blocks_of(file: &File) -> BlockMap {
    let bytes = file.metadata().unwrap().len();
    let mut map = BlockMap::new(bytes);
    for block in (0..map.blocks()).map(BlockIndex) {
        let mut content = vec![0; block.len_in(bytes)];
        file.read_exact_at(&mut content, block.offset()).unwrap();
        let state = if is_zero(&content) { BlockState::Zero } else { BlockState::Data(Digest::of(&content)) };
        map.set(block, state);
    }
    map
}
