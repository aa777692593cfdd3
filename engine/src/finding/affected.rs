//! Which parts of a version are damaged.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use stackferry_vault::{Damage, MAX_DAMAGE};
use stackferry_volume::manifest::FileRole;
use stackferry_volume::{BLOCK_BYTES, Manifest};

use stackferry_problem::output::size;

/// So many ranges of a file are kept: more tell nobody anything, and a disk may have thousands.
const MOST_RANGES: usize = 32;
/// So many files are kept.
const MOST_FILES: usize = 64;

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ByteRange {
    /// Where it begins, in bytes from the start of the file.
    pub offset: u64,
    /// How long it is, in bytes.
    pub length: u64,
}

/// A file that is affected, and which of its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Affected {
    /// The file's name.
    pub file: String,
    /// What it is: `descriptor`, `extent`, `sidecar`; `manifest` for the version's own record, `foreign` for one that does not
    /// belong to it.
    pub role: String,
    /// How many of its bytes are affected: whole blocks of 1 MiB, or all of it.
    pub bytes: u64,
    /// How long it should be, in bytes; none where that is not known.
    pub of: Option<u64>,
    /// Which bytes, at most 32 ranges; none where the whole file is meant and its length is not known.
    pub ranges: Vec<ByteRange>,
}

impl fmt::Display for Affected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        match (self.of, self.ranges.first()) {
            (Some(of), Some(first)) if self.bytes < of => {
                write!(f, "{} of {} from byte {}", size(self.bytes), size(of), first.offset)?;
                let more = self.ranges.len().saturating_sub(1);
                if more > 0 { write!(f, " and in {more} more places") } else { Ok(()) }
            }
            (Some(of), _) => write!(f, "all of it, {}", size(of)),
            (None, _) => write!(f, "all of it"),
        }
    }
}

/// A file with bytes of the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedExtent {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
}

/// What reading a version back found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamageFound {
    /// The files that are affected.
    pub affected: Vec<Affected>,
    /// The files that the disk's bytes are in; none where the manifest can't be read.
    pub extents: Vec<DamagedExtent>,
    /// Whether there was so much damage that reading was given up.
    pub cut: bool,
}

impl DamageFound {
    /// Sums damage up. `manifest` is none where it can't be read.
    #[must_use]
    pub fn new(damage: &[Damage], manifest: Option<&Manifest>) -> Self {
        let mut files: BTreeMap<&str, Vec<Option<u64>>> = BTreeMap::new();
        for found in damage {
            files.entry(&found.file).or_default().push(found.block);
        }
        let cut = damage.len() >= MAX_DAMAGE || files.len() > MOST_FILES;
        let affected = files.into_iter().take(MOST_FILES).map(|(file, blocks)| {
            let record = manifest.and_then(|manifest| manifest.file(file));
            let role = match record.map(|record| record.role) {
                Some(FileRole::Descriptor) => "descriptor",
                Some(FileRole::Extent) => "extent",
                Some(FileRole::Sidecar) => "sidecar",
                None if file == stackferry_volume::manifest::MANIFEST_NAME => "manifest",
                None => "foreign",
            };
            let of = record.map(|record| record.blocks.bytes());
            let mut ranges = ranges(&blocks, of);
            let bytes = ranges.iter().map(|range| range.length).sum();
            ranges.truncate(MOST_RANGES);
            Affected { file: file.to_owned(), role: role.to_owned(), bytes, of, ranges }
        });
        let extents = manifest.into_iter().flat_map(|manifest| &manifest.files);
        let extents = extents
            .filter(|record| record.role == FileRole::Extent)
            .map(|record| DamagedExtent { name: record.name.to_string(), bytes: record.blocks.bytes() });
        // Of what is left out nothing may be concluded.
        Self { affected: affected.collect(), extents: extents.collect(), cut }
    }

    pub(super) fn is_extent(&self, file: &str) -> bool {
        self.extents.iter().any(|extent| extent.name == file)
    }

    pub(super) fn whole_extents(&self) -> impl Iterator<Item = &DamagedExtent> {
        self.extents.iter().filter(|extent| !self.affected.iter().any(|one| one.file == extent.name))
    }

    /// Whether all bytes of the disk itself are right. Not known where reading was given up.
    pub(super) fn extents_are_whole(&self) -> bool {
        !self.cut && !self.extents.is_empty() && self.whole_extents().count() == self.extents.len()
    }
}

/// The bytes of these blocks in a file of so many, neighbours together; all of it where one is none.
fn ranges(blocks: &[Option<u64>], of: Option<u64>) -> Vec<ByteRange> {
    let mut blocks: Vec<u64> = match blocks.iter().copied().collect::<Option<Vec<u64>>>() {
        Some(blocks) => blocks,
        None => return of.map(|length| ByteRange { offset: 0, length }).into_iter().collect(),
    };
    blocks.sort_unstable();
    blocks.dedup();
    let mut ranges: Vec<ByteRange> = Vec::new();
    for block in blocks {
        let offset = block.saturating_mul(BLOCK_BYTES);
        let length = of.map_or(BLOCK_BYTES, |of| of.saturating_sub(offset).min(BLOCK_BYTES));
        match ranges.last_mut() {
            Some(last) if last.offset.saturating_add(last.length) == offset => {
                last.length = last.length.saturating_add(length);
            }
            _ => ranges.push(ByteRange { offset, length }),
        }
    }
    ranges
}
