//! Looking at sparse files: what is allocated, where data is, whether two files hold the same bytes.
//!
//! Holes are never read: a disk of 20 GiB with 2 GiB of data costs 2 GiB of reading.

use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::error::{IoContext, LabError};

/// How much is read at a time, in bytes.
const CHUNK: usize = 1 << 20;

/// How many bytes a file really takes on its file system (`st_blocks` of 512 bytes).
///
/// # Errors
/// The file can't be looked at.
pub fn allocated_bytes(path: &Path) -> Result<u64, LabError> {
    Ok(fs::metadata(path).at("inspect", path)?.blocks() * 512)
}

/// The ranges of a file that its file system holds data for, in order, without its holes.
///
/// # Errors
/// The file system refuses `SEEK_DATA` or `SEEK_HOLE`.
pub fn data_ranges(file: &File) -> std::io::Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    loop {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(ranges),
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?;
        ranges.push(start..end);
        at = end;
    }
}

/// Whether two files are equally long and hold the same bytes.
///
/// # Errors
/// One of them can't be read.
pub fn same_bytes(a: &Path, b: &Path) -> Result<bool, LabError> {
    Ok(first_difference(a, b)?.is_none())
}

/// The offset of the first byte that differs between two files; the shorter one's length if it is where they part.
///
/// Only where one of the two has data is anything read.
///
/// # Errors
/// One of them can't be read.
pub fn first_difference(a: &Path, b: &Path) -> Result<Option<u64>, LabError> {
    let open = |path: &Path| -> Result<_, LabError> {
        let file = File::open(path).at("open", path)?;
        let bytes = file.metadata().at("inspect", path)?.len();
        let ranges = data_ranges(&file).at("find the data of", path)?;
        Ok((file, bytes, ranges))
    };
    let (file_a, len_a, ranges_a) = open(a)?;
    let (file_b, len_b, ranges_b) = open(b)?;
    let shorter = len_a.min(len_b);

    let (mut buffer_a, mut buffer_b) = (vec![0; CHUNK], vec![0; CHUNK]);
    for range in union(ranges_a, ranges_b) {
        let mut at = range.start;
        while at < range.end.min(shorter) {
            let bytes = usize::try_from(range.end.min(shorter) - at).unwrap_or(CHUNK).min(CHUNK);
            let (Some(part_a), Some(part_b)) = (buffer_a.get_mut(..bytes), buffer_b.get_mut(..bytes)) else { break };
            file_a.read_exact_at(part_a, at).at("read", a)?;
            file_b.read_exact_at(part_b, at).at("read", b)?;
            if part_a != part_b {
                let same = part_a.iter().zip(part_b.iter()).take_while(|(x, y)| x == y).count();
                return Ok(Some(at + same as u64));
            }
            at += bytes as u64;
        }
    }
    Ok((len_a != len_b).then_some(shorter))
}

/// Compares files with their namesakes in a folder, byte for byte; the folder must hold nothing else. Gives their lengths
/// together.
///
/// # Errors
/// Something differs, is missing or is too much; or can't be read.
pub fn same_files(files: &[PathBuf], folder: &Path) -> Result<u64, LabError> {
    let mut bytes = 0;
    for file in files {
        let other = folder.join(file.file_name().unwrap_or_default());
        if let Some(at) = first_difference(file, &other)? {
            let why = format!("it differs from {} at byte {at}", file.display());
            return Err(LabError::Content { path: other, why });
        }
        bytes += fs::metadata(&other).at("inspect", &other)?.len();
    }
    let found = fs::read_dir(folder).at("list", folder)?.count();
    if found != files.len() {
        let why = format!("it holds {found} files, and not {}", files.len());
        return Err(LabError::Content { path: folder.to_owned(), why });
    }
    Ok(bytes)
}

/// The bytes that are in either of two lists of ranges, in order.
fn union(mut a: Vec<Range<u64>>, b: Vec<Range<u64>>) -> Vec<Range<u64>> {
    a.extend(b);
    a.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(a.len());
    for range in a {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// Copies a file with its holes. The new file must not exist.
///
/// # Errors
/// One of the files can't be read or written.
pub fn copy_sparse(from: &Path, to: &Path) -> Result<(), LabError> {
    let source = File::open(from).at("open", from)?;
    let bytes = source.metadata().at("inspect", from)?.len();
    let target = new_file(to)?;
    target.set_len(bytes).at("size", to)?;
    let mut buffer = vec![0; CHUNK];
    for range in data_ranges(&source).at("find the data of", from)? {
        let mut at = range.start;
        while at < range.end {
            let bytes = usize::try_from(range.end - at).unwrap_or(CHUNK).min(CHUNK);
            let Some(part) = buffer.get_mut(..bytes) else { break };
            source.read_exact_at(part, at).at("read", from)?;
            target.write_all_at(part, at).at("write", to)?;
            at += bytes as u64;
        }
    }
    Ok(())
}

/// Opens a file that must not exist yet, for reading and writing.
pub(crate) fn new_file(path: &Path) -> Result<File, LabError> {
    File::options().read(true).write(true).create_new(true).open(path).at("create", path)
}

/// Writes a file that must not exist yet.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), LabError> {
    new_file(path)?.write_all(bytes).at("write", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sparse(path: &Path, bytes: u64, parts: &[(u64, &[u8])]) {
        let file = new_file(path).unwrap();
        file.set_len(bytes).unwrap();
        for (at, part) in parts {
            file.write_all_at(part, *at).unwrap();
        }
    }

    #[test]
    fn sparse_files_are_compared_by_content_not_by_layout() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        sparse(&path("a"), 100 << 20, &[(50 << 20, b"data")]);
        // The same bytes, but with zeros written where `a` has a hole.
        sparse(&path("b"), 100 << 20, &[(0, &[0; 8192]), (50 << 20, b"data")]);
        assert!(same_bytes(&path("a"), &path("b")).unwrap());
        assert!(allocated_bytes(&path("a")).unwrap() < allocated_bytes(&path("b")).unwrap());

        sparse(&path("c"), 100 << 20, &[(50 << 20, b"data"), (99 << 20, b"\0\0\x01")]);
        assert_eq!(first_difference(&path("a"), &path("c")).unwrap(), Some((99 << 20) + 2));
        assert_eq!(first_difference(&path("c"), &path("a")).unwrap(), Some((99 << 20) + 2));
        sparse(&path("d"), (100 << 20) + 1, &[(50 << 20, b"data")]);
        assert_eq!(first_difference(&path("a"), &path("d")).unwrap(), Some(100 << 20));
    }

    #[test]
    fn a_sparse_copy_keeps_the_holes() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        sparse(&a, 1 << 40, &[(5 << 30, b"far"), ((1 << 40) - 1, b"x")]);
        copy_sparse(&a, &b).unwrap();
        assert!(same_bytes(&a, &b).unwrap());
        assert!(allocated_bytes(&b).unwrap() < 1 << 20);
        assert!(copy_sparse(&a, &b).is_err(), "an existing file was overwritten");
    }
}
