//! An NTFS: its boot sector, the first records of its master file table, its label, its root folder.

use std::io::{BufReader, Read, Seek};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ntfs::structured_values::NtfsIndexRoot;
use ntfs::{KnownNtfsFileRecordNumber, Ntfs, NtfsAttributeType, NtfsError};

use super::disk::Disk;
use super::{ContentError, FileSystem, MOST_ENTRIES};
use crate::io::Source;

/// The most that is read of one NTFS, in bytes: a root folder of a thousand entries takes a hundredth of it.
const BUDGET: u64 = 64 << 20;
/// The largest record that any Windows makes, in bytes, with room to spare: 4 KiB are usual.
const MOST_RECORD: u32 = 64 << 10;
/// How much is read at a time, in bytes: a record of the table and what lies beside it.
const READ: usize = 4 << 10;
/// The records that every NTFS begins with, as Microsoft's documentation numbers them: the table itself to `$Extend`.
const OWN_RECORDS: u64 = KnownNtfsFileRecordNumber::Extend as u64 + 1;

/// Reads the file system in these bytes of a disk.
pub(super) fn read<S: Source>(disk: &Disk<S>, bytes: Range<u64>, number: u32) -> Result<FileSystem, ContentError> {
    let wrong = |why: String| ContentError::FileSystem { number, why: format!("its NTFS can't be read: {why}") };
    let size = bytes.end - bytes.start;
    let mut part = BufReader::with_capacity(READ, disk.part(bytes, BUDGET));
    // The library may not foresee everything that somebody writes to his disk; a panic of its is a finding, not our end.
    let found = catch_unwind(AssertUnwindSafe(|| look(&mut part, size)));
    match found {
        Ok(Ok(system)) => Ok(system),
        Ok(Err(why)) => Err(wrong(why)),
        Err(_) => Err(wrong("its structures contradict each other".to_owned())),
    }
}

fn look<T: Read + Seek>(disk: &mut T, size: u64) -> Result<FileSystem, String> {
    let text = |error: NtfsError| error.to_string();
    let ntfs = Ntfs::new(disk).map_err(text)?;
    if ntfs.size() > size {
        return Err(format!("it says that it has {} bytes, and there are {size}", ntfs.size()));
    }
    if ntfs.file_record_size() > MOST_RECORD {
        return Err(format!("its records are said to have {} bytes", ntfs.file_record_size()));
    }
    let mut records = 0;
    for record in 0..OWN_RECORDS {
        ntfs.file(disk, record).map_err(|error| format!("record {record} of the master file table: {error}"))?;
        records += 1;
    }
    let label = match ntfs.volume_name(disk) {
        Some(Ok(name)) => name.name().to_string_lossy(),
        Some(Err(error)) => return Err(format!("its label: {error}")),
        None => String::new(),
    };
    let root = ntfs.root_directory(disk).map_err(text)?;
    // The library makes room for a record before it reads one.
    for attribute in root.attributes_raw() {
        let attribute = attribute.map_err(|error| format!("its root folder: {error}"))?;
        if attribute.ty().is_ok_and(|ty| ty == NtfsAttributeType::IndexRoot) {
            let head = attribute.resident_structured_value::<NtfsIndexRoot>();
            let record = head.map_err(|error| format!("its root folder: {error}"))?.index_record_size();
            if record > MOST_RECORD {
                return Err(format!("its root folder: its records are said to have {record} bytes"));
            }
        }
    }
    let index = root.directory_index(disk).map_err(|error| format!("its root folder: {error}"))?;
    let mut list = index.entries();
    let mut entries = 0;
    while entries < MOST_ENTRIES {
        let Some(entry) = list.next(disk) else { break };
        let entry = entry.map_err(|error| format!("its root folder: {error}"))?;
        entries += 1;
        let record = entry.file_reference().file_record_number();
        if record >= OWN_RECORDS {
            entry.to_file(&ntfs, disk).map_err(|error| format!("record {record} of the master file table: {error}"))?;
            records += 1;
        }
    }
    // Even an empty one lists the table and the other files of its own.
    if entries < OWN_RECORDS {
        return Err(format!("its root folder has only {entries} entries"));
    }
    Ok(FileSystem::Ntfs { label, records, entries })
}
