//! Numbers in little-endian bytes; 0 where the bytes end before them.

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let chunk = bytes.get(at..).and_then(<[u8]>::first_chunk).copied();
    u16::from_le_bytes(chunk.unwrap_or_default())
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let chunk = bytes.get(at..).and_then(<[u8]>::first_chunk).copied();
    u32::from_le_bytes(chunk.unwrap_or_default())
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let chunk = bytes.get(at..).and_then(<[u8]>::first_chunk).copied();
    u64::from_le_bytes(chunk.unwrap_or_default())
}

/// A length or an offset within a structure that is in memory.
pub(super) fn size_at(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u32_at(bytes, at)).unwrap_or(usize::MAX)
}
