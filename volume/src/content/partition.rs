//! Partition tables: the one in the first sector (MBR), and GPT, which that one points to. Only read, and only the four
//! primary entries of an MBR: App Volumes' disks have one partition.

use std::ops::Range;

use super::disk::Disk;
use super::{ContentError, sectors};
use crate::descriptor::SECTOR_BYTES;
use crate::io::Source;

/// The most entries of a GPT that are read; the format's usual number is 128.
const MOST_ENTRIES: u32 = 128;
/// The length of one of them, in bytes; others are not read.
const ENTRY_BYTES: u32 = 128;
/// The type of the one MBR partition that stands for a GPT.
const PROTECTIVE: u8 = 0xee;
/// The type of NTFS, exFAT and Windows' other own file systems in an MBR.
const WINDOWS: u8 = 0x07;
/// `EBD0A0A2-B9E5-4433-87C0-68B6B72699C7`, as it lies on the disk: a basic data partition of Windows.
const BASIC_DATA: [u8; 16] =
    [0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7];

/// One partition.
pub(super) struct Partition {
    /// Its number, from 1.
    pub(super) number: u32,
    /// Where it lies on the disk, in bytes.
    pub(super) bytes: Range<u64>,
    /// Whether Windows keeps files in it.
    pub(super) is_windows: bool,
    /// Its type, for a person.
    pub(super) kind: String,
}

/// What stands at the start of a disk.
pub(super) enum Table {
    None,
    Partitions(Vec<Partition>),
}

/// Reads the table; `first` is the disk's first sector.
pub(super) fn read<S: Source>(disk: &Disk<S>, first: &[u8; 512]) -> Result<Table, ContentError> {
    if first.get(510..) != Some(&[0x55, 0xaa]) {
        return Ok(Table::None);
    }
    let entries = first.get(446..510).unwrap_or_default().as_chunks::<16>().0;
    let mut partitions = Vec::new();
    for (number, &[_, _, _, _, kind, _, _, _, s0, s1, s2, s3, n0, n1, n2, n3]) in (1..).zip(entries) {
        let (start, count) = (u32::from_le_bytes([s0, s1, s2, s3]), u32::from_le_bytes([n0, n1, n2, n3]));
        if kind == 0 || count == 0 {
            continue;
        }
        if kind == PROTECTIVE {
            return gpt(disk).map(Table::Partitions);
        }
        let last = u64::from(start) + u64::from(count) - 1;
        let bytes = range(disk, number, u64::from(start), last)?;
        let named = if kind == WINDOWS { "Windows".to_owned() } else { format!("a partition of type {kind:#04x}") };
        partitions.push(Partition { number, bytes, is_windows: kind == WINDOWS, kind: named });
    }
    Ok(Table::Partitions(partitions))
}

/// The bytes from the first to the last sector, if they are on the disk.
fn range<S: Source>(disk: &Disk<S>, number: u32, first: u64, last: u64) -> Result<Range<u64>, ContentError> {
    let bytes = sectors(first).zip(last.checked_add(1).and_then(sectors)).map(|(start, end)| start..end);
    bytes.filter(|bytes| first > 0 && bytes.start < bytes.end && bytes.end <= disk.bytes()).ok_or_else(|| {
        let disk = disk.bytes() / SECTOR_BYTES;
        ContentError::Table(format!(
            "partition {number} goes from sector {first} to {last}; the disk has {disk} sectors"
        ))
    })
}

/// The GPT, as UEFI's specification lays it out (chapter 5.3): a header in sector 1, entries where it says.
fn gpt<S: Source>(disk: &Disk<S>) -> Result<Vec<Partition>, ContentError> {
    let wrong = |why: &str| ContentError::Table(why.to_owned());
    let header = disk.sectors::<512>(SECTOR_BYTES)?.ok_or_else(|| wrong("the disk ends where its GPT should be"))?;
    if header.get(..8) != Some(b"EFI PART") {
        return Err(wrong("the first sector points to a GPT that is not there"));
    }
    let (entries, number, length) = (u64_at(&header, 72), u32_at(&header, 80), u32_at(&header, 84));
    if length != ENTRY_BYTES || number > 4 * MOST_ENTRIES {
        return Err(wrong("the GPT says that its entries are of another size or number than any program writes"));
    }
    let mut partitions = Vec::new();
    for at in 0..number.min(MOST_ENTRIES) {
        let offset = sectors(entries).and_then(|start| start.checked_add(u64::from(at * ENTRY_BYTES)));
        let entry = match offset {
            Some(offset) => disk.sectors::<128>(offset)?,
            None => None,
        };
        let entry = entry.ok_or_else(|| wrong("the GPT's entries lie beyond the end of the disk"))?;
        let Some(kind) = entry.first_chunk::<16>().filter(|kind| **kind != [0; 16]) else { continue };
        let bytes = range(disk, at + 1, u64_at(&entry, 32), u64_at(&entry, 40))?;
        let is_windows = *kind == BASIC_DATA;
        let named = if is_windows { "Windows" } else { "a partition of another system" };
        partitions.push(Partition { number: at + 1, bytes, is_windows, kind: named.to_owned() });
    }
    Ok(partitions)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let chunk = bytes.get(at..).and_then(<[u8]>::first_chunk).copied();
    u64::from_le_bytes(chunk.unwrap_or_default())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let chunk = bytes.get(at..).and_then(<[u8]>::first_chunk).copied();
    u32::from_le_bytes(chunk.unwrap_or_default())
}
