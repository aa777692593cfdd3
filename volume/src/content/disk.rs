//! A disk's bytes: its extents, one after the other.

use std::io;
use std::ops::Range;

use super::model::Content;
use crate::descriptor::{Descriptor, ExtentKind, SECTOR_BYTES};
use crate::io::Source;
use crate::name::FileName;
use crate::reason::shown;

/// One extent.
struct Piece<S> {
    /// Where it is on the disk, in bytes.
    on_disk: Range<u64>,
    /// Its file and where in it; none for zeros.
    file: Option<(S, u64)>,
}

/// A disk, opened.
pub(super) struct Disk<S> {
    pieces: Vec<Piece<S>>,
    bytes: u64,
}

impl<S: Source> Disk<S> {
    /// The disk of a descriptor, or why it can't be read as one.
    pub(super) fn new(
        descriptor: &Descriptor,
        mut open: impl FnMut(&FileName) -> io::Result<S>,
    ) -> Result<Self, Content> {
        let (mut pieces, mut bytes) = (Vec::new(), 0u64);
        for extent in &descriptor.extents {
            let length = extent.sectors.saturating_mul(SECTOR_BYTES);
            let end = bytes.saturating_add(length);
            let file = match (&extent.kind, extent.file_name()) {
                (ExtentKind::Zero, _) => None,
                (ExtentKind::Flat | ExtentKind::Vmfs, Some(name)) => {
                    let wrong = |why: String| Content::Damaged(format!("{}: {why}", shown(name.as_str())));
                    let source = open(name).map_err(|error| wrong(format!("it can't be opened: {error}")))?;
                    let needed = extent.end_bytes().unwrap_or(u64::MAX);
                    if source.bytes() < needed {
                        return Err(wrong(format!("it has {} bytes; the disk needs {needed}", source.bytes())));
                    }
                    Some((source, extent.offset_sectors.saturating_mul(SECTOR_BYTES)))
                }
                (kind, _) => {
                    let file = shown(descriptor.file.as_str());
                    let why = format!("{file}: this program does not read extents of type {kind}");
                    return Err(Content::NotInspected(why));
                }
            };
            pieces.push(Piece { on_disk: bytes..end, file });
            bytes = end;
        }
        Ok(Self { pieces, bytes })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// `N` bytes from `offset` on; none where the disk ends before.
    pub(super) fn sectors<const N: usize>(&self, offset: u64) -> io::Result<Option<[u8; N]>> {
        if offset.checked_add(N as u64).is_none_or(|end| end > self.bytes) {
            return Ok(None);
        }
        let mut sector = [0; N];
        self.read_at(offset, &mut sector)?;
        Ok(Some(sector))
    }

    /// Fills `buf` with the bytes from `offset` on.
    pub(super) fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            let at = self.pieces.partition_point(|piece| piece.on_disk.end <= offset);
            let piece = self.pieces.get(at).ok_or(io::ErrorKind::UnexpectedEof)?;
            let left = usize::try_from(piece.on_disk.end - offset).unwrap_or(usize::MAX).min(buf.len());
            let (now, later) = buf.split_at_mut(left);
            match &piece.file {
                Some((source, from)) => source.read_at(from.saturating_add(offset - piece.on_disk.start), now)?,
                None => now.fill(0),
            }
            offset += left as u64;
            buf = later;
        }
        Ok(())
    }
}
