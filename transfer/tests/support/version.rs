//! Files of a version that are to be restored.

use std::path::Path;

use stackferry_transfer::restore::FileRestore;
use stackferry_volume::block::{BlockIndex, BlockMap, BlockState, Digest, is_zero};
use stackferry_volume::local::LocalSource;

pub(crate) const MIB: u64 = 1 << 20;

/// A file of a version, as the vault has it: data at the start, in the middle and at an odd end, and holes between.
pub(crate) struct Version {
    pub(crate) bytes: Vec<u8>,
    pub(crate) blocks: BlockMap,
    pub(crate) source: LocalSource,
}

impl Version {
    pub(crate) fn new(home: &Path, name: &str) -> Self {
        let mut bytes = vec![0u8; (9 << 20) + 5000];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let at = at as u64;
            if at < 3 * MIB || (5 * MIB + 4096..5 * MIB + 12_288).contains(&at) || at >= 9 * MIB + 4096 {
                // Neither all the same nor compressible.
                *byte = blake3::hash(&(at / 32).to_le_bytes()).as_bytes()[(at % 32) as usize];
            }
        }
        Self::of(home, name, bytes)
    }

    pub(crate) fn of(home: &Path, name: &str, bytes: Vec<u8>) -> Self {
        let path = home.join(name);
        std::fs::write(&path, &bytes).unwrap();
        let mut blocks = BlockMap::new(bytes.len() as u64);
        for (at, block) in bytes.chunks(1 << 20).enumerate() {
            let state = if is_zero(block) { BlockState::Zero } else { BlockState::Data(Digest::of(block)) };
            blocks.set(BlockIndex(at as u64), state);
        }
        let source = LocalSource::new(std::fs::File::open(path).unwrap()).unwrap();
        Self { bytes, blocks, source }
    }

    pub(crate) fn file<'a>(&'a self, path: &'a str) -> FileRestore<'a> {
        FileRestore {
            path,
            mtime: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            blocks: &self.blocks,
            blake3: self.blocks.file_digest().unwrap(),
            source: &self.source,
            needed: self.blocks.data_blocks().1,
        }
    }
}

pub(crate) fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).map(|entries| entries.flatten().collect()).unwrap_or_else(|_| Vec::new());
    let mut names: Vec<String> = entries.iter().map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
