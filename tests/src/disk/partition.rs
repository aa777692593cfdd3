//! A partition table with one partition at 1 MiB, as App Volumes' disks have.

use std::ops::Range;
use std::path::Path;

use super::content::RandomStream;
use super::descriptor::SECTOR;
use super::extents::Extents;
use crate::error::LabError;

/// Where the partition begins, in bytes: Windows aligns to 1 MiB.
pub const PARTITION_START: u64 = 1 << 20;
/// NTFS (and exFAT) in a partition table.
pub const TYPE_NTFS: u8 = 7;
/// Data without a file system, for machines without `mkntfs`.
pub const TYPE_DATA: u8 = 0xda;

/// The bytes of a disk that its partition takes; empty if the disk is too small for one.
#[must_use]
pub fn partition_range(disk: u64) -> Range<u64> {
    PARTITION_START..(disk & !(SECTOR - 1)).max(PARTITION_START)
}

/// Writes the partition table, with a partition of this type.
///
/// # Errors
/// The disk can't be written.
pub fn write_table(disk: &Extents, seed: u64, kind: u8) -> Result<(), LabError> {
    let range = partition_range(disk.bytes());
    let sectors = |bytes: u64| u32::try_from(bytes / SECTOR).unwrap_or(u32::MAX).to_le_bytes();
    let mut sector = Vec::with_capacity(512);
    sector.resize(440, 0);
    sector.extend(RandomStream::new(seed, "disk signature").bytes::<4>());
    sector.extend([0, 0]);
    // Not active; CHS addresses that say "see LBA".
    sector.extend([0, 0xfe, 0xff, 0xff, kind, 0xfe, 0xff, 0xff]);
    sector.extend(sectors(range.start));
    sector.extend(sectors(range.end - range.start));
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    disk.write(&sector, 0)
}

/// Where the first NTFS partition of a disk lies, in bytes; all of it if there is a boot sector at its very start.
///
/// # Errors
/// The disk can't be read, or has no NTFS.
pub fn find_ntfs(disk: &Extents, path: &Path) -> Result<Range<u64>, LabError> {
    let bad = |why: &str| LabError::Content { path: path.to_owned(), why: why.to_owned() };
    let mut sector = [0; 512];
    disk.read(&mut sector, 0)?;
    if sector.get(3..11) == Some(b"NTFS    ") {
        return Ok(0..disk.bytes());
    }
    if sector.get(510..) != Some(&[0x55, 0xaa]) {
        return Err(bad("it has neither a partition table nor an NTFS"));
    }
    let entries = sector.get(446..510).unwrap_or_default().as_chunks::<16>().0;
    entries
        .iter()
        .find_map(|&[_, _, _, _, kind, _, _, _, s0, s1, s2, s3, n0, n1, n2, n3]| {
            let start = u64::from(u32::from_le_bytes([s0, s1, s2, s3])) * SECTOR;
            let end = start + u64::from(u32::from_le_bytes([n0, n1, n2, n3])) * SECTOR;
            (kind == TYPE_NTFS && start < end && end <= disk.bytes()).then_some(start..end)
        })
        .ok_or_else(|| bad("no partition of it is NTFS"))
}
