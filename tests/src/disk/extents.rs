//! A disk's bytes behind its extents: reading, writing and copying at logical offsets, without its holes.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::descriptor::{ExtentSpec, extents_of};
use crate::check::data_ranges;
use crate::error::{IoContext, LabError};

/// How much is copied at a time, in bytes.
const CHUNK: u64 = 1 << 20;

/// The open extents of one disk.
#[derive(Debug)]
pub struct Extents {
    parts: Vec<ExtentPart>,
}

#[derive(Debug)]
struct ExtentPart {
    file: File,
    path: PathBuf,
    /// Where it begins on the disk, in bytes.
    start: u64,
    extent: ExtentSpec,
}

impl Extents {
    /// Opens a disk by its descriptor or its only extent.
    ///
    /// # Errors
    /// See [`extents_of`]; or an extent can't be opened.
    pub fn open(path: &Path, write: bool) -> Result<Self, LabError> {
        let mut parts = Vec::new();
        let mut start = 0;
        for extent in extents_of(path)? {
            let file = File::options().read(true).write(write).open(&extent.path).at("open", &extent.path)?;
            let bytes = extent.bytes;
            parts.push(ExtentPart { file, path: extent.path.clone(), start, extent });
            start += bytes;
        }
        Ok(Self { parts })
    }

    /// The disk's size, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.extent.bytes).sum()
    }

    /// The only extent, if the disk has no more.
    #[must_use]
    pub fn only(&self) -> Option<&ExtentSpec> {
        match self.parts.as_slice() {
            [part] => Some(&part.extent),
            _ => None,
        }
    }

    /// Reads from the disk.
    ///
    /// # Errors
    /// An extent can't be read, or ends too early.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), LabError> {
        let end = offset + buffer.len() as u64;
        for part in &self.parts {
            if let Some((range, at)) = part.overlap(offset..end)
                && let Some(piece) = buffer.get_mut(range)
            {
                part.file.read_exact_at(piece, at).at("read", &part.path)?;
            }
        }
        Ok(())
    }

    /// Writes to the disk; nothing is written past its end.
    ///
    /// # Errors
    /// An extent can't be written.
    pub fn write(&self, buffer: &[u8], offset: u64) -> Result<(), LabError> {
        let end = offset + buffer.len() as u64;
        for part in &self.parts {
            if let Some((range, at)) = part.overlap(offset..end)
                && let Some(piece) = buffer.get(range)
            {
                part.file.write_all_at(piece, at).at("write", &part.path)?;
            }
        }
        Ok(())
    }

    /// The logical ranges within `within` that the extents hold data for, in order.
    ///
    /// # Errors
    /// An extent's file system refuses to tell.
    pub fn data(&self, within: Range<u64>) -> Result<Vec<Range<u64>>, LabError> {
        let mut found = Vec::new();
        for part in &self.parts {
            for range in data_ranges(&part.file).at("find the data of", &part.path)? {
                let in_part =
                    range.start.max(part.extent.offset)..range.end.min(part.extent.offset + part.extent.bytes);
                if in_part.is_empty() {
                    continue;
                }
                let logical = |at: u64| at - part.extent.offset + part.start;
                let clipped = logical(in_part.start).max(within.start)..logical(in_part.end).min(within.end);
                if !clipped.is_empty() {
                    found.push(clipped);
                }
            }
        }
        Ok(found)
    }

    /// Copies a range's data out into a file; holes stay holes. Offset 0 of the file is the range's start.
    ///
    /// # Errors
    /// One of the two sides refuses.
    pub fn copy_out(&self, range: Range<u64>, file: &File, path: &Path) -> Result<(), LabError> {
        file.set_len(range.end - range.start).at("size", path)?;
        pieces(self.data(range.clone())?, |buffer, at| {
            self.read(buffer, at)?;
            file.write_all_at(buffer, at - range.start).at("write", path)
        })
    }

    /// Copies a file's data in, its beginning at `offset`; its holes leave the disk as it is.
    ///
    /// # Errors
    /// One of the two sides refuses.
    pub fn copy_in(&self, file: &File, path: &Path, offset: u64) -> Result<(), LabError> {
        pieces(data_ranges(file).at("find the data of", path)?, |buffer, at| {
            file.read_exact_at(buffer, at).at("read", path)?;
            self.write(buffer, at + offset)
        })
    }
}

impl ExtentPart {
    /// Which part of a buffer for `wanted` lies here, and where in the file.
    fn overlap(&self, wanted: Range<u64>) -> Option<(Range<usize>, u64)> {
        let range = wanted.start.max(self.start)..wanted.end.min(self.start + self.extent.bytes);
        let in_buffer = |at: u64| usize::try_from(at - wanted.start).ok();
        (!range.is_empty())
            .then(|| {
                Some((in_buffer(range.start)?..in_buffer(range.end)?, range.start - self.start + self.extent.offset))
            })
            .flatten()
    }
}

/// Hands out each range in pieces of at most [`CHUNK`], with a buffer of the piece's length.
fn pieces(
    ranges: Vec<Range<u64>>,
    mut each: impl FnMut(&mut [u8], u64) -> Result<(), LabError>,
) -> Result<(), LabError> {
    let mut buffer = vec![0; usize::try_from(CHUNK).unwrap_or_default()];
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            let bytes = (range.end - at).min(CHUNK);
            let Some(piece) = usize::try_from(bytes).ok().and_then(|bytes| buffer.get_mut(..bytes)) else { break };
            each(piece, at)?;
            at += bytes;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::new_file;
    use crate::disk::descriptor::DescriptorSpec;

    #[test]
    fn reads_and_writes_cross_extents() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.vmdk");
        for name in ["one", "two"] {
            new_file(&folder.path().join(name)).unwrap().set_len(1 << 20).unwrap();
        }
        let descriptor = DescriptorSpec::new("monolithicFlat", 1, "x").extent(1000, "FLAT", "one", Some(8)).extent(
            8,
            "FLAT",
            "two",
            Some(0),
        );
        std::fs::write(&path, descriptor.render()).unwrap();
        let disk = Extents::open(&path, true).unwrap();
        assert_eq!(disk.bytes(), 1008 * 512);
        disk.write(b"across the border", 1000 * 512 - 6).unwrap();
        let mut back = [0; 17];
        disk.read(&mut back, 1000 * 512 - 6).unwrap();
        assert_eq!(&back, b"across the border");
        assert_eq!(std::fs::read(folder.path().join("two")).unwrap()[..11], *b" the border");
        let data = disk.data(0..disk.bytes()).unwrap();
        assert!(data.iter().any(|range| range.contains(&(1000 * 512))), "{data:?}");

        let copy = folder.path().join("copy");
        let file = new_file(&copy).unwrap();
        disk.copy_out(0..disk.bytes(), &file, &copy).unwrap();
        disk.write(&[0; 17], 1000 * 512 - 6).unwrap();
        disk.copy_in(&file, &copy, 0).unwrap();
        disk.read(&mut back, 1000 * 512 - 6).unwrap();
        assert_eq!(&back, b"across the border");
    }
}
