//! Which blocks of a file being written are on the disk.
//!
//! One append-only file of 64-byte records; the first is the header. Numbers are little-endian.
//!
//! ```text
//! header: magic (8)  length of the file (8)  BLAKE3 of its name (32)                       check (16)
//! record: first block (8)  kind (1): 0 zero blocks, 1 data  0 (7)  count or digest (32)    check (16)
//! ```
//!
//! A record's check is the start of the BLAKE3 of the header, the record's place, and its first 48 bytes: a record that
//! is torn, changed, moved, or of another file does not pass. What follows such a record is not believed either.
//!
//! Order of a checkpoint:
//! 1. `fdatasync` of the file: the blocks are on the disk.
//! 2. Append the records, `fdatasync` of the journal.
//!
//! A crash before 2 forgets blocks that are there; they are copied again. A crash within 2 leaves a torn tail, which is
//! cut off when the journal is opened again, so that later records never come after one that is not believed.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use stackferry_volume::{BlockIndex, BlockMap, BlockState, Digest, FileName};

use crate::VaultError;
use crate::access::Permissions;
use crate::dir::Dir;
use crate::steps::step;

const MAGIC: &[u8; 8] = b"SFJRNL1\n";
pub(super) const RECORD: usize = 64;
const CHECKED: usize = 48;

type JournalRecord = [u8; RECORD];

#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    header: JournalRecord,
    /// How many records are believed, the header among them.
    count: u64,
    /// The length of the file that it belongs to, in bytes.
    bytes: u64,
}

impl Journal {
    /// Opens the journal of a file of `bytes`, or begins one. Also returns the blocks it records.
    pub(super) fn open(
        dir: &Dir,
        name: &FileName,
        bytes: u64,
        access: Permissions,
    ) -> Result<(Self, BlockMap), VaultError> {
        let path = dir.child(name.as_str());
        let shown = &path;
        let fail = |op| move |error: io::Error| VaultError::system(op, shown, error);
        let file = dir.file_to_write(name.as_str(), access)?;
        let header = header_of(name, bytes);
        let mut journal = Self { file, path: path.clone(), header, count: 0, bytes };
        let (count, map) = journal.scan().map_err(fail("read"))?;
        journal.count = count;
        step("cut", &path)?;
        if journal.count == 0 {
            journal.file.set_len(0).map_err(fail("cut"))?;
            journal.file.write_all_at(&header, 0).map_err(fail("write"))?;
            journal.count = 1;
        } else {
            journal.file.set_len(journal.end()).map_err(fail("cut"))?;
        }
        journal.file.sync_all().map_err(fail("sync"))?;
        Ok((journal, map))
    }

    fn end(&self) -> u64 {
        self.count.saturating_mul(RECORD as u64)
    }

    /// Reads the file from its start up to the first record that does not pass: how many records do, and what they
    /// tell.
    pub(super) fn scan(&self) -> io::Result<(u64, BlockMap)> {
        let mut map = BlockMap::new(self.bytes);
        let mut reader = BufReader::new(FileCursor { file: &self.file, offset: 0 });
        let mut count = 0;
        let mut record = [0u8; RECORD];
        while read_whole(&mut reader, &mut record)? {
            let passes = if count == 0 { record == self.header } else { self.apply(&record, count, &mut map) };
            if !passes {
                break;
            }
            count += 1;
        }
        Ok((count, map))
    }

    /// Applies a record to the map; false if it does not pass.
    fn apply(&self, record: &JournalRecord, place: u64, map: &mut BlockMap) -> bool {
        let Some((body, check)) = record.split_at_checked(CHECKED) else { return false };
        if check != check_of(&self.header, place, body) {
            return false;
        }
        let (Some((first, body)), blocks) = (body.split_first_chunk::<8>(), map.blocks()) else { return false };
        let (Some((kind, _)), Some(payload)) = (body.split_first_chunk::<8>(), body.last_chunk::<32>()) else {
            return false;
        };
        let first = BlockIndex(u64::from_le_bytes(*first));
        match u64::from_le_bytes(*kind) {
            0 => {
                let count = payload.first_chunk::<8>().map_or(0, |count| u64::from_le_bytes(*count));
                let fits = first.0.checked_add(count).is_some_and(|end| end <= blocks);
                if fits {
                    map.set_zero(first, count);
                }
                fits
            }
            1 if first.0 < blocks => {
                map.set(first, BlockState::Data(Digest::from(*payload)));
                true
            }
            _ => false,
        }
    }

    /// Appends what is known of these blocks, runs of zero blocks as one record, and waits until it is on the disk.
    /// On failure the journal is as before.
    pub(super) fn append(&mut self, done: &[(BlockIndex, BlockState)]) -> io::Result<()> {
        let mut text = Vec::with_capacity(done.len().saturating_mul(RECORD));
        let mut count = self.count;
        let mut rest = done;
        while let Some((&(first, state), after)) = rest.split_first() {
            rest = after;
            let record = match state {
                BlockState::Unknown => continue,
                BlockState::Data(digest) => record_of(first, 1, digest.as_bytes()),
                BlockState::Zero => {
                    let mut run = 1u64;
                    while let Some((&(next, BlockState::Zero), after)) = rest.split_first()
                        && next.0 == first.0.saturating_add(run)
                    {
                        run += 1;
                        rest = after;
                    }
                    let mut payload = [0; 32];
                    if let Some(start) = payload.first_chunk_mut::<8>() {
                        *start = run.to_le_bytes();
                    }
                    record_of(first, 0, &payload)
                }
            };
            text.extend_from_slice(&record);
            text.extend_from_slice(&check_of(&self.header, count, &record));
            count += 1;
        }
        let end = self.end();
        let written = self.write(&text, end);
        match written {
            Ok(()) => self.count = count,
            // What was written of it must not stay where the next records would follow it. If even this fails the
            // next append begins at the same place.
            Err(_) => drop(self.file.set_len(end)),
        }
        written
    }

    fn write(&self, text: &[u8], at: u64) -> io::Result<()> {
        step("append", &self.path).map_err(io::Error::other)?;
        self.file.write_all_at(text, at)?;
        step("sync journal", &self.path).map_err(io::Error::other)?;
        self.file.sync_data()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn header_of(name: &FileName, bytes: u64) -> JournalRecord {
    let mut body = MAGIC.to_vec();
    body.extend_from_slice(&bytes.to_le_bytes());
    body.extend_from_slice(Digest::of(name.as_str().as_bytes()).as_bytes());
    let check = check_of(&[0; RECORD], 0, &body);
    body.extend_from_slice(&check);
    body.try_into().unwrap_or([0; RECORD])
}

fn record_of(first: BlockIndex, kind: u64, payload: &[u8; 32]) -> Vec<u8> {
    let mut body = first.0.to_le_bytes().to_vec();
    body.extend_from_slice(&kind.to_le_bytes());
    body.extend_from_slice(payload);
    body
}

fn check_of(header: &JournalRecord, place: u64, body: &[u8]) -> [u8; RECORD - CHECKED] {
    let mut text = header.to_vec();
    text.extend_from_slice(&place.to_le_bytes());
    text.extend_from_slice(body);
    let digest = Digest::of(&text);
    digest.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// Fills the record; false at the end of the file, be it within a record.
fn read_whole(reader: &mut impl Read, record: &mut JournalRecord) -> io::Result<bool> {
    match reader.read_exact(record) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads a file from an offset on without moving its position.
struct FileCursor<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for FileCursor<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buf, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stackferry_volume::BLOCK_BYTES;

    const BYTES: u64 = 100 * BLOCK_BYTES;

    struct Home {
        _keep: tempfile::TempDir,
        dir: Dir,
        name: FileName,
    }

    impl Home {
        fn new() -> Self {
            let keep = tempfile::tempdir().unwrap();
            let dir = Dir::at(keep.path()).unwrap().unwrap();
            Self { _keep: keep, dir, name: FileName::new("a-flat.vmdk").unwrap() }
        }
        fn open(&self) -> (Journal, BlockMap) {
            Journal::open(&self.dir, &self.name, BYTES, Permissions::new(None).unwrap()).unwrap()
        }
        fn path(&self) -> PathBuf {
            self.dir.child("a-flat.vmdk")
        }
    }

    fn data(block: u64) -> (BlockIndex, BlockState) {
        (BlockIndex(block), BlockState::Data(Digest::of(&block.to_le_bytes())))
    }

    fn zero(block: u64) -> (BlockIndex, BlockState) {
        (BlockIndex(block), BlockState::Zero)
    }

    fn known(map: &BlockMap) -> Vec<u64> {
        (0..100).filter(|at| map.get(BlockIndex(*at)) != BlockState::Unknown).collect()
    }

    #[test]
    fn what_was_recorded_is_told_again() {
        let home = Home::new();
        let (mut journal, map) = home.open();
        assert!(known(&map).is_empty());
        journal.append(&[data(3), zero(4), zero(5), zero(6), zero(8), data(99)]).unwrap();
        journal.append(&[]).unwrap();
        journal
            .append(&[(BlockIndex(3), BlockState::Data(Digest::of(b"newer"))), (BlockIndex(7), BlockState::Unknown)])
            .unwrap();
        assert_eq!(
            std::fs::metadata(home.path()).unwrap().len(),
            6 * RECORD as u64,
            "a run of zero blocks is one record"
        );
        let (_, map) = home.open();
        assert_eq!(known(&map), [3, 4, 5, 6, 8, 99]);
        assert_eq!(map.get(BlockIndex(3)), BlockState::Data(Digest::of(b"newer")));
        assert_eq!(map.get(BlockIndex(5)), BlockState::Zero);
        assert_eq!(map.get(BlockIndex(99)), data(99).1);
    }

    #[test]
    fn torn_at_any_byte_it_tells_the_whole_records_and_goes_on() {
        let home = Home::new();
        let (mut journal, _) = home.open();
        journal.append(&[data(0), data(1), zero(2)]).unwrap();
        let whole = std::fs::read(home.path()).unwrap();
        for cut in 0..=whole.len() {
            std::fs::write(home.path(), &whole[..cut]).unwrap();
            let (mut journal, map) = home.open();
            let expected: Vec<u64> = (0..3).take((cut / RECORD).saturating_sub(1)).collect();
            assert_eq!(known(&map), expected, "cut at {cut}");
            journal.append(&[data(50)]).unwrap();
            let (_, map) = home.open();
            assert_eq!(known(&map).len(), expected.len() + 1, "cut at {cut}");
        }
    }

    #[test]
    fn a_changed_record_ends_what_is_believed() {
        let home = Home::new();
        let (mut journal, _) = home.open();
        journal.append(&[data(0), data(1), zero(2), data(3)]).unwrap();
        let whole = std::fs::read(home.path()).unwrap();
        for at in 0..whole.len() {
            let mut other = whole.clone();
            other[at] ^= 0x10;
            std::fs::write(home.path(), &other).unwrap();
            let (_, map) = home.open();
            let expected: Vec<u64> = (0..4).take((at / RECORD).saturating_sub(1)).collect();
            assert_eq!(known(&map), expected, "byte {at}");
        }
        // Two whole records that changed places.
        let mut other = whole.clone();
        other.copy_within(2 * RECORD..3 * RECORD, RECORD);
        std::fs::write(home.path(), &other).unwrap();
        assert!(known(&home.open().1).is_empty());
    }

    #[test]
    fn the_journal_of_another_file_is_not_believed() {
        let home = Home::new();
        let (mut journal, _) = home.open();
        journal.append(&[data(0)]).unwrap();
        let access = Permissions::new(None).unwrap();
        let (_, map) = Journal::open(&home.dir, &home.name, BYTES - 1, access).unwrap();
        assert_eq!(map.data_blocks().0, 0);
        assert!(known(&home.open().1).is_empty(), "it was begun anew");
    }

    #[test]
    fn a_failed_append_leaves_it_as_it_was() {
        let home = Home::new();
        let (mut journal, _) = home.open();
        journal.append(&[data(0)]).unwrap();
        for left in 0..2 {
            let trace = crate::steps::Trace::start(Some(left));
            assert!(journal.append(&[data(1)]).is_err());
            drop(trace);
            assert_eq!(known(&journal.scan().unwrap().1), [0]);
        }
        journal.append(&[data(2)]).unwrap();
        assert_eq!(known(&home.open().1), [0, 2]);
    }
}
