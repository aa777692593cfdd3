//! Inspecting a disk: could a machine use it, and does it hold what it is supposed to hold? Descriptor, partition table,
//! and of an NTFS its boot sector, its master file table and its root folder.
//!
//! Digests prove that a version is what was read; this says whether what was read is a disk. The answer is one of
//! [`ContentState`]: only what contradicts itself is damaged. What this reader can't follow (an encrypted file system, one
//! of another make, a structure that it does not know) is *not inspected*, and what it has no name for is *not
//! recognised*: a wiped disk and one that somebody encrypted look like that.
//!
//! The content is hostile input: whoever can write to the disk wrote it. What is read is bounded in bytes, and nothing
//! is written.

mod bytes;
mod disk;
mod model;
mod ntfs;
mod partition;
mod record;
mod signature;
#[cfg(test)]
mod tests;

use std::io;

use crate::descriptor::Descriptor;
use crate::io::Source;
use crate::name::FileName;
use disk::Disk;
use partition::{Partition, PartitionTable};
use signature::Signature;

pub use model::{Content, FileSystem, MAX_ENTRIES, PartitionContent};
pub use record::{ContentRecord, ContentState};

/// Inspects the disk that a descriptor describes. `open` opens the files of its extents.
///
/// # Errors
/// The disk's bytes can't be read.
pub fn inspect<S: Source>(
    descriptor: &Descriptor,
    open: impl FnMut(&FileName) -> io::Result<S>,
) -> io::Result<Content> {
    let disk = match Disk::new(descriptor, open) {
        Ok(disk) => disk,
        Err(content) => return Ok(content),
    };
    let Some(first) = disk.sectors::<512>(0)? else {
        return Ok(Content::NotRecognised("a disk that is too small for a file system"));
    };
    let whole = Partition::whole(disk.bytes());
    if let Some(system) = recognise(&disk, &whole)? {
        return Ok(Content::Partitions(vec![PartitionContent { number: 0, system }]));
    }
    let partitions = match partition::read(&disk, &first)? {
        PartitionTable::None if first.iter().all(|byte| *byte == 0) => {
            return Ok(Content::NotRecognised("no partition table: the disk begins with zeros"));
        }
        PartitionTable::None => {
            return Ok(Content::NotRecognised("no partition table and no file system that is known here"));
        }
        PartitionTable::Damaged(why) => return Ok(Content::Damaged(format!("the partition table: {why}"))),
        PartitionTable::Unknown(why) => return Ok(Content::NotInspected(format!("the partition table: {why}"))),
        PartitionTable::Partitions(partitions) => partitions,
    };
    if partitions.is_empty() {
        return Ok(Content::NotRecognised("a partition table without partitions"));
    }
    let mut volumes = Vec::new();
    for partition in partitions {
        let system = match recognise(&disk, &partition)? {
            Some(system) => system,
            None if partition.is_reserved => FileSystem::Reserved,
            None => unrecognised(&disk, &partition)?,
        };
        volumes.push(PartitionContent { number: partition.number, system });
    }
    Ok(Content::Partitions(volumes))
}

/// The file system that begins with a partition; none where there is none that is known.
fn recognise<S: Source>(disk: &Disk<S>, partition: &Partition) -> io::Result<Option<FileSystem>> {
    Ok(match Signature::read(disk, &partition.bytes)? {
        Signature::Ntfs => Some(ntfs::read(disk, partition.bytes.clone())?),
        Signature::Other(name) => {
            Some(FileSystem::NotInspected { name, why: "this program reads NTFS only".to_owned() })
        }
        Signature::Encrypted(name) => {
            Some(FileSystem::NotInspected { name, why: "its content is encrypted".to_owned() })
        }
        Signature::None if partition.is_container => Some(FileSystem::NotInspected {
            name: "an extended partition",
            why: "this program reads primary partitions only".to_owned(),
        }),
        Signature::None => None,
    })
}

fn unrecognised<S: Source>(disk: &Disk<S>, partition: &Partition) -> io::Result<FileSystem> {
    let Some(first) = disk.sectors::<512>(partition.bytes.start)? else {
        return Ok(FileSystem::NotRecognised(format!("{}, too small for a file system", partition.kind)));
    };
    let begins = if first.iter().all(|byte| *byte == 0) { "with zeros" } else { "with no file system known here" };
    Ok(FileSystem::NotRecognised(format!("{}, which begins {begins}", partition.kind)))
}
