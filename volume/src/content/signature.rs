//! What a file system's first bytes say that it is.

use std::io;
use std::ops::Range;

use super::bytes::u16_at;
use super::disk::Disk;
use crate::io::Source;

/// As far as the names of file systems at fixed places reach, but for btrfs.
const HEAD: usize = 4 << 10;

/// A file system, by its first bytes.
pub(super) enum Signature {
    Ntfs,
    /// One that is not read here.
    Other(&'static str),
    /// One that nobody reads without its key.
    Encrypted(&'static str),
    None,
}

impl Signature {
    pub(super) fn read<S: Source>(disk: &Disk<S>, bytes: &Range<u64>) -> io::Result<Self> {
        let mut head = [0; HEAD];
        let length = (bytes.end - bytes.start).min(HEAD as u64);
        let head = head.get_mut(..usize::try_from(length).unwrap_or(HEAD)).unwrap_or_default();
        if head.len() < 512 {
            return Ok(Signature::None);
        }
        disk.read_at(bytes.start, head)?;
        Ok(match Self::of(head) {
            // btrfs begins at 64 KiB, after nothing; ISO 9660 at 32 KiB.
            Signature::None => {
                let magic = |offset: u64| {
                    let at = bytes.start.saturating_add(offset);
                    if at >= bytes.end { Ok(None) } else { disk.sectors::<8>(at) }
                };
                if magic((64 << 10) + 64)?.as_ref() == Some(b"_BHRfS_M") {
                    Signature::Other("btrfs")
                } else if magic((32 << 10) + 1)?.is_some_and(|magic| magic.starts_with(b"CD001")) {
                    Signature::Other("ISO 9660")
                } else {
                    Signature::None
                }
            }
            known => known,
        })
    }

    fn of(head: &[u8]) -> Self {
        let is = |at: usize, magic: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(magic));
        let is_boot_sector = is(510, &[0x55, 0xaa]);
        // The names that file systems of Windows write after the jump at their start (Microsoft's documentation of each), then
        // those of other systems.
        if is(3, b"NTFS    ") {
            Signature::Ntfs
        } else if is(3, b"-FVE-FS-") {
            Signature::Encrypted("BitLocker")
        } else if is(3, b"EXFAT   ") {
            Signature::Other("exFAT")
        } else if is(3, b"ReFS\0") {
            Signature::Other("ReFS")
        } else if is_boot_sector && is(82, b"FAT32   ") {
            Signature::Other("FAT32")
        } else if is_boot_sector && is(54, b"FAT") {
            Signature::Other("FAT")
        } else if is(0, b"LUKS\xba\xbe") {
            Signature::Encrypted("LUKS")
        } else if is(0, b"XFSB") {
            Signature::Other("XFS")
        } else if u16_at(head, 1024 + 56) == 0xef53 {
            Signature::Other("ext2, ext3 or ext4")
        } else if is(512, b"LABELONE") {
            Signature::Other("LVM")
        } else if is(4086, b"SWAPSPACE2") {
            Signature::Other("Linux swap")
        } else {
            Signature::None
        }
    }
}
