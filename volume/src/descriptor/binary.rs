//! Disks that are one binary file instead of a text: recognised by their first bytes, so that a person reads what the file is
//! and not that it is a bad descriptor.

use std::fmt;

use super::SECTOR_BYTES;
use crate::reason::shown;

/// A format of a disk whose first bytes are no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryFormat {
    /// `KDMV`: VMware's hosted sparse format, streamOptimized among it.
    HostedSparse,
    /// `COWD`: a redo log of an ESXi snapshot.
    Cowd,
    /// A space-efficient ESXi snapshot.
    SeSparse,
}

impl fmt::Display for BinaryFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BinaryFormat::HostedSparse => "a hosted sparse disk",
            BinaryFormat::Cowd => "an ESXi redo log (COWD)",
            BinaryFormat::SeSparse => "an ESXi space-efficient snapshot (seSparse)",
        })
    }
}

/// The format that these first bytes of a file are of. The numbers are those of QEMU's `block/vmdk.c`: `VMDK4_MAGIC`,
/// `VMDK3_MAGIC`, `SESPARSE_CONST_HEADER_MAGIC` (little-endian 0xcafebabe).
pub(super) fn detect(head: &[u8]) -> Option<BinaryFormat> {
    match head.get(..4)? {
        b"KDMV" => Some(BinaryFormat::HostedSparse),
        b"COWD" => Some(BinaryFormat::Cowd),
        [0xbe, 0xba, 0xfe, 0xca] => Some(BinaryFormat::SeSparse),
        _ => None,
    }
}

/// The `createType` in the text that a hosted sparse disk holds, if that text is in these first bytes.
///
/// The header is that of "Virtual Disk Format 1.1": the text's offset at byte 28 and its length at byte 36, both in
/// sectors, 64 bits, little-endian.
pub(super) fn embedded_type(head: &[u8]) -> Option<String> {
    let number = |at: usize| -> Option<usize> {
        let bytes: [u8; 8] = head.get(at..at.checked_add(8)?)?.try_into().ok()?;
        usize::try_from(u64::from_le_bytes(bytes).checked_mul(SECTOR_BYTES)?).ok()
    };
    let (offset, length) = (number(28)?, number(36)?);
    let end = offset.checked_add(length)?.min(head.len());
    let text = String::from_utf8_lossy(head.get(offset..end)?);
    text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        let value = value.trim().trim_matches('"');
        (key.trim().eq_ignore_ascii_case("createType") && !value.is_empty()).then(|| shown(value))
    })
}
