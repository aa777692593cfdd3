//! A sink whose journal is in memory, that can be made to fail and looks at what is done to it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use stackferry_volume::local::SparseFile;
use stackferry_volume::{BlockIndex, BlockMap, BlockState, Digest, FileName, HoleMapSource, Sink, Source};

type Hook = Box<dyn Fn(u64) + Send + Sync>;

pub(crate) struct TestSink {
    file: SparseFile,
    journal: Mutex<BTreeMap<u64, Digest>>,
    /// Bytes handed over to be written, and of those not recorded, now and at most.
    written: AtomicU64,
    pub(crate) unrecorded: Arc<Mutex<(u64, u64)>>,
    /// Recorded blocks whose bytes in the file were not those of the record.
    pub(crate) lies: Mutex<Vec<BlockIndex>>,
    pub(crate) writes: AtomicU64,
    /// The disk is full after so many bytes.
    pub(crate) room: u64,
    /// Writing at this offset fails.
    pub(crate) broken_at: Option<u64>,
    /// Checkpoints fail after so many.
    pub(crate) checkpoints: AtomicU64,
    /// Is called before each write, with the bytes written before.
    pub(crate) before_write: Option<Hook>,
    /// Is called before each checkpoint, with the number of blocks.
    pub(crate) before_checkpoint: Option<Hook>,
}

impl TestSink {
    pub(crate) fn new(folder: &Path, name: &str, bytes: u64) -> Self {
        let folder = File::open(folder).unwrap();
        let file = SparseFile::create_new(&folder, &FileName::new(name).unwrap(), bytes, 0o600).unwrap();
        Self {
            file,
            journal: Mutex::default(),
            written: AtomicU64::new(0),
            unrecorded: Arc::default(),
            lies: Mutex::default(),
            writes: AtomicU64::new(0),
            room: u64::MAX,
            broken_at: None,
            checkpoints: AtomicU64::new(u64::MAX),
            before_write: None,
            before_checkpoint: None,
        }
    }

    pub(crate) fn file(&self) -> &File {
        self.file.file()
    }

    /// The most bytes that were written and not recorded at a time.
    pub(crate) fn most_unrecorded(&self) -> u64 {
        self.unrecorded.lock().unwrap().1
    }

    pub(crate) fn records(&self) -> BTreeMap<u64, Digest> {
        self.journal.lock().unwrap().clone()
    }

    /// Records what was never written, as a damaged disk would have it.
    pub(crate) fn tamper(&self, block: u64, digest: Digest) {
        self.journal.lock().unwrap().insert(block, digest);
    }

    /// Like a restart: what fails fails no more, and nothing is unrecorded.
    pub(crate) fn heal(&mut self) {
        self.room = u64::MAX;
        self.broken_at = None;
        self.checkpoints = AtomicU64::new(u64::MAX);
        self.before_write = None;
        self.before_checkpoint = None;
        *self.unrecorded.lock().unwrap() = (0, 0);
        self.writes = AtomicU64::new(0);
        self.written = AtomicU64::new(0);
    }
}

impl Source for TestSink {
    fn bytes(&self) -> u64 {
        self.file.bytes()
    }
    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        self.file.next_data(from)
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buf)
    }
    fn hole_map(&self) -> HoleMapSource {
        HoleMapSource::Seek
    }
}

impl Sink for TestSink {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<u64> {
        let before = self.written.fetch_add(data.len() as u64, Ordering::SeqCst);
        if let Some(hook) = &self.before_write {
            hook(before);
        }
        if before + data.len() as u64 > self.room {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        if self.broken_at == Some(offset) {
            return Err(io::Error::other("a bad sector"));
        }
        self.writes.fetch_add(1, Ordering::SeqCst);
        let stored = self.file.write_at(offset, data)?;
        let mut unrecorded = self.unrecorded.lock().unwrap();
        unrecorded.0 += data.len() as u64;
        unrecorded.1 = unrecorded.1.max(unrecorded.0);
        Ok(stored)
    }

    fn clear(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.file.clear(offset, bytes)
    }

    fn checkpoint(&self, done: &[(BlockIndex, BlockState)]) -> io::Result<()> {
        if let Some(hook) = &self.before_checkpoint {
            hook(done.len() as u64);
        }
        if self.checkpoints.fetch_sub(1, Ordering::SeqCst) == 0 {
            return Err(io::Error::other("the journal's disk is gone"));
        }
        self.file.sync_data()?;
        let mut journal = self.journal.lock().unwrap();
        let mut bytes = 0;
        for (block, state) in done {
            let BlockState::Data(digest) = state else { continue };
            let mut content = vec![0; block.len_in(self.bytes())];
            journal.insert(block.0, *digest);
            let data = self.file.next_data(block.offset())?;
            if data.is_none_or(|data| data.start >= block.offset() + content.len() as u64) {
                // It was never written: it was recorded as equal to the base's.
                continue;
            }
            self.file.read_at(block.offset(), &mut content)?;
            bytes += content.len() as u64;
            if Digest::of(&content) != *digest {
                self.lies.lock().unwrap().push(*block);
            }
        }
        self.unrecorded.lock().unwrap().0 -= bytes;
        Ok(())
    }

    fn recorded(&self) -> io::Result<BlockMap> {
        let mut map = BlockMap::new(self.bytes());
        for (block, digest) in self.journal.lock().unwrap().iter() {
            map.set(BlockIndex(*block), BlockState::Data(*digest));
        }
        Ok(map)
    }
}
