//! Partition tables: the one in the first sector (MBR), and GPT, which that one points to. Only read, and only the four
//! primary entries of an MBR: App Volumes' disks have one partition.

use std::io;
use std::ops::Range;

use super::bytes::{u32_at, u64_at};
use super::disk::Disk;
use crate::descriptor::SECTOR_BYTES;
use crate::io::Source;

/// The maximum number of entries of a GPT that are read; the format's usual number is 128.
const MOST_ENTRIES: u32 = 128;
/// The length of one of them, in bytes; others are not read.
const ENTRY_BYTES: u32 = 128;
/// The type of the one MBR partition that stands for a GPT.
const PROTECTIVE: u8 = 0xee;
/// The type of NTFS, exFAT and Windows' other own file systems in an MBR.
const WINDOWS: u8 = 0x07;
/// `EBD0A0A2-B9E5-4433-87C0-68B6B72699C7`, as it is on the disk: a basic data partition of Windows.
const BASIC_DATA: [u8; 16] =
    [0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7];

/// Types of GPT partitions that hold no file system: Microsoft's reserved one, and that of GRUB.
const RESERVED: [[u8; 16]; 2] = [
    [0x16, 0xe3, 0xc9, 0xe3, 0x5c, 0x0b, 0xb8, 0x4d, 0x81, 0x7d, 0xf9, 0x2d, 0xf0, 0x02, 0x15, 0xae],
    [0x48, 0x61, 0x68, 0x21, 0x49, 0x64, 0x6f, 0x6e, 0x74, 0x4e, 0x65, 0x65, 0x64, 0x45, 0x46, 0x49],
];
/// The types of MBR partitions that hold a table of further ones.
const CONTAINERS: [u8; 3] = [0x05, 0x0f, 0x85];

/// Bytes of so many sectors.
const fn sectors(count: u64) -> Option<u64> {
    count.checked_mul(SECTOR_BYTES)
}

/// One partition.
pub(super) struct Partition {
    /// Its number, from 1; 0 for a whole disk.
    pub(super) number: u32,
    /// Where it is on the disk, in bytes.
    pub(super) bytes: Range<u64>,
    /// Whether it holds no file system by its type.
    pub(super) is_reserved: bool,
    /// Whether it holds further partitions.
    pub(super) is_container: bool,
    /// Its type, for a person.
    pub(super) kind: String,
}

impl Partition {
    /// A disk without a table.
    pub(super) fn whole(bytes: u64) -> Self {
        Self { number: 0, bytes: 0..bytes, is_reserved: false, is_container: false, kind: "the whole disk".to_owned() }
    }
}

/// What stands at the start of a disk.
pub(super) enum PartitionTable {
    None,
    /// It contradicts itself or the disk.
    Damaged(String),
    /// It is of a kind that is not read here.
    Unknown(String),
    Partitions(Vec<Partition>),
}

/// Reads the table; `first` is the disk's first sector.
pub(super) fn read<S: Source>(disk: &Disk<S>, first: &[u8; 512]) -> io::Result<PartitionTable> {
    if first.get(510..) != Some(&[0x55, 0xaa]) {
        return Ok(PartitionTable::None);
    }
    let entries = first.get(446..510).unwrap_or_default().as_chunks::<16>().0;
    let mut partitions = Vec::new();
    for (number, &[_, _, _, _, kind, _, _, _, s0, s1, s2, s3, n0, n1, n2, n3]) in (1..).zip(entries) {
        let (start, count) = (u32::from_le_bytes([s0, s1, s2, s3]), u32::from_le_bytes([n0, n1, n2, n3]));
        if kind == 0 || count == 0 {
            continue;
        }
        if kind == PROTECTIVE {
            return gpt(disk);
        }
        let last = u64::from(start) + u64::from(count) - 1;
        let bytes = match range(disk, number, u64::from(start), last) {
            Ok(bytes) => bytes,
            Err(why) => return Ok(PartitionTable::Damaged(why)),
        };
        let named = if kind == WINDOWS {
            "a partition of Windows".to_owned()
        } else {
            format!("a partition of type {kind:#04x}")
        };
        let is_container = CONTAINERS.contains(&kind);
        partitions.push(Partition { number, bytes, is_reserved: false, is_container, kind: named });
    }
    Ok(PartitionTable::Partitions(partitions))
}

/// The bytes from the first to the last sector, if they are on the disk.
fn range<S: Source>(disk: &Disk<S>, number: u32, first: u64, last: u64) -> Result<Range<u64>, String> {
    let bytes = sectors(first).zip(last.checked_add(1).and_then(sectors)).map(|(start, end)| start..end);
    bytes.filter(|bytes| first > 0 && bytes.start < bytes.end && bytes.end <= disk.bytes()).ok_or_else(|| {
        let disk = disk.bytes() / SECTOR_BYTES;
        format!("partition {number} goes from sector {first} to {last}; the disk has {disk} sectors")
    })
}

/// The GPT, as UEFI's specification lays it out (chapter 5.3): a header in sector 1, entries where it says.
fn gpt<S: Source>(disk: &Disk<S>) -> io::Result<PartitionTable> {
    let damaged = |why: &str| Ok(PartitionTable::Damaged(why.to_owned()));
    let Some(header) = disk.sectors::<512>(SECTOR_BYTES)? else {
        return damaged("the disk ends where its GPT should be");
    };
    if header.get(..8) != Some(b"EFI PART") {
        return damaged("the first sector points to a GPT that is not there");
    }
    let (entries, number, length) = (u64_at(&header, 72), u32_at(&header, 80), u32_at(&header, 84));
    if length != ENTRY_BYTES || number > 4 * MOST_ENTRIES {
        let why = format!("its GPT has {number} entries of {length} bytes; 128 entries of 128 bytes are usual");
        return Ok(PartitionTable::Unknown(why));
    }
    let mut partitions = Vec::new();
    for at in 0..number.min(MOST_ENTRIES) {
        let offset = sectors(entries).and_then(|start| start.checked_add(u64::from(at * ENTRY_BYTES)));
        let entry = match offset {
            Some(offset) => disk.sectors::<128>(offset)?,
            None => None,
        };
        let Some(entry) = entry else {
            return damaged("the GPT's entries lie beyond the end of the disk");
        };
        let Some(kind) = entry.first_chunk::<16>().filter(|kind| **kind != [0; 16]) else { continue };
        let bytes = match range(disk, at + 1, u64_at(&entry, 32), u64_at(&entry, 40)) {
            Ok(bytes) => bytes,
            Err(why) => return Ok(PartitionTable::Damaged(why)),
        };
        let named = if *kind == BASIC_DATA { "a partition of Windows" } else { "a partition of another system" };
        let is_reserved = RESERVED.contains(kind);
        partitions.push(Partition { number: at + 1, bytes, is_reserved, is_container: false, kind: named.to_owned() });
    }
    Ok(PartitionTable::Partitions(partitions))
}
