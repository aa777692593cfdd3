//! Can a version be read? Answered without reading its data: each file is there, has the length that the manifest says,
//! takes as much of the disk as its data needs, and was not written to since it was committed. Only what leaves a doubt
//! is read back.

use rustix::fs::FileType;
use stackferry_volume::block::BLOCK_BYTES;
use stackferry_volume::io::Source as _;
use stackferry_volume::local::LocalSource;
use stackferry_volume::manifest::FileRecord;
use stackferry_volume::{BlockIndex, BlockState, Digest, Manifest};

use crate::dir::Dir;
use crate::{Damage, VaultError};

/// Zeros are left out at this grain when a version is written: each block with data takes at least this much.
const GRAIN: u64 = 4096;
/// File systems keep times with a grain of up to 2 s.
const TIME_GRAIN: u64 = 2;

/// What a check of a version's files, without reading their data, found.
#[derive(Debug)]
pub(crate) enum QuickCheck {
    /// They are as those of a whole version.
    Whole,
    /// Only reading them shows whether they are whole.
    Doubtful,
    /// They are certainly not what the manifest says.
    Broken(Damage),
    /// They can't be read.
    Unknown(VaultError),
}

/// Compares the files in a version's folder with its manifest.
pub(crate) fn quick_check(dir: &Dir, manifest: &Manifest) -> QuickCheck {
    let mut doubt = false;
    let mut allocated = Vec::new();
    for record in &manifest.files {
        match file(dir, record) {
            Ok(FileCheck { damage: Some(damage), .. }) => return QuickCheck::Broken(damage),
            Ok(seen) => {
                doubt |= seen.is_doubtful;
                allocated.push((record, seen.allocated));
            }
            Err(error) => return QuickCheck::Unknown(error),
        }
    }
    // Some file systems report for no file what it occupies.
    if allocated.iter().any(|(_, bytes)| *bytes > 0) {
        doubt |= allocated.iter().any(|(record, bytes)| *bytes < least(record));
    }
    if doubt { QuickCheck::Doubtful } else { QuickCheck::Whole }
}

/// Restores the committed times of files that were read back and found whole, so that the next check leaves
/// no doubt. What does not let us costs another reading, no more.
pub(crate) fn restore_times(dir: &Dir, manifest: &Manifest) {
    for record in &manifest.files {
        if let Ok(Some(file)) = dir.file(record.name.as_str()) {
            let times = std::fs::FileTimes::new().set_modified(std::time::SystemTime::from(record.mtime));
            let _ = file.set_times(times);
        }
    }
}

struct FileCheck {
    damage: Option<Damage>,
    is_doubtful: bool,
    allocated: u64,
}

fn file(dir: &Dir, record: &FileRecord) -> Result<FileCheck, VaultError> {
    let name = record.name.as_str();
    let damaged = |block: Option<u64>, why: String| {
        Ok(FileCheck { damage: Some(Damage { file: name.to_owned(), block, why }), is_doubtful: false, allocated: 0 })
    };
    match dir.stat(name)? {
        None => return damaged(None, "the file is missing".to_owned()),
        Some(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
            return damaged(None, "it is no regular file".to_owned());
        }
        Some(_) => {}
    }
    // OpenedFile, so that one that may not be read is noticed.
    let Some(opened) = dir.file(name)? else { return damaged(None, "the file is missing".to_owned()) };
    let fail = |error| VaultError::system("examine", &dir.child(name), error);
    let about = opened.metadata().map_err(fail)?;
    let (found, expected) = (about.len(), record.blocks.bytes());
    if found != expected {
        return damaged(None, format!("the file has {found} bytes, not {expected}"));
    }
    let allocated = std::os::unix::fs::MetadataExt::blocks(&about).saturating_mul(512);
    if expected <= BLOCK_BYTES {
        // Reading it costs no more than the manifest did.
        let block = BlockIndex(0);
        let mut bytes = vec![0; block.len_in(expected)];
        let source = LocalSource::new(opened).map_err(fail)?;
        if let Err(error) = source.read_at(0, &mut bytes) {
            return damaged(Some(0), format!("reading failed: {error}"));
        }
        let right = match record.blocks.get(block) {
            BlockState::Data(digest) => Digest::of(&bytes) == digest,
            _ => stackferry_volume::block::is_zero(&bytes),
        };
        return match right {
            true => Ok(FileCheck { damage: None, is_doubtful: false, allocated }),
            false => damaged(Some(0), "its digest does not match".to_owned()),
        };
    }
    let modified = std::os::unix::fs::MetadataExt::mtime(&about);
    // Whoever writes to it changes its time.
    let is_doubtful = modified.abs_diff(record.mtime.as_second()) > TIME_GRAIN;
    Ok(FileCheck { damage: None, is_doubtful, allocated })
}

/// The least that a file's data takes of the disk.
fn least(record: &FileRecord) -> u64 {
    let bytes = record.blocks.bytes();
    // A small one was read, and may lie in the inode.
    if bytes <= BLOCK_BYTES { 0 } else { record.blocks.data_blocks().0.saturating_sub(1).saturating_mul(GRAIN) }
}
