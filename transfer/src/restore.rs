//! Writing new files to a remote datastore: what the routes `endpoint` and `ssh` share.
//!
//! A volume's files are written one after the other, each with a credential of its own, under temporary names. Each stays
//! open at the other side until [`finish`] has named them all, in their order, and only then keeps them. So:
//!  - an error before that leaves nothing under a final name: dropping a [`Written`] discards its file, and the other side
//!    removes it, which it also does when the connection breaks;
//!  - an error during naming removes those that already have their names;
//!  - a connection that breaks between the first and the last [`PendingFile::keep`] may leave some of them. Each is whole,
//!    and the descriptor comes last: what is left is no disk yet.
//!
//! It must never replace an existing file: both sides refuse a name that is taken, and naming is atomic.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use jiff::Timestamp;
use stackferry_volume::block::{BLOCK_BYTES, BlockIndex, BlockMap, BlockState, Digest, is_zero};
use stackferry_volume::io::Cancel;
use stackferry_volume::{Folder, Source};

use crate::error::TransferError;

/// Blocks waiting to be sent.
const QUEUE: usize = 3;

/// One file of a version to write.
pub struct FileRestore<'a> {
    /// Its path on the datastore, where no file exists yet.
    pub path: &'a str,
    /// Its time of last change.
    pub mtime: Timestamp,
    /// Its length and blocks, as the manifest has them.
    pub blocks: &'a BlockMap,
    /// The digest of the whole file, as the manifest has it.
    pub blake3: Digest,
    /// Its bytes. Each block is checked before it is sent.
    pub source: &'a dyn Source,
    /// The bytes that will be written into this folder, by this file and those that follow it.
    pub needed: u64,
}

/// How a file's content was verified at the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// Every block was checked against its digest as it arrived.
    Arrival,
    /// The host read back what it had written, bypassing its cache where it could, and returned its digest.
    HostDigest,
}

impl Checked {
    /// The word for it in JSON: `arrival`, `host_digest`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Arrival => "arrival",
            Self::HostDigest => "host_digest",
        }
    }
}

/// A file that is whole at the other side, under a temporary name. Dropping it discards the file.
pub trait PendingFile {
    /// Renames it to its final name.
    ///
    /// # Errors
    /// `Exists` where a file of that name exists now; see [`TransferError`].
    fn name(&mut self) -> Result<(), TransferError>;

    /// Keeps it.
    ///
    /// # Errors
    /// See [`TransferError`]: the other side may have removed it.
    fn keep(self: Box<Self>) -> Result<(), TransferError>;
}

/// The outcome of writing a file.
pub struct Written<'c> {
    /// The file.
    pub placed: Box<dyn PendingFile + 'c>,
    /// The bytes that were written at the other side; the rest are holes.
    pub stored: u64,
    /// Bytes of the channel in both directions.
    pub wire: u64,
    /// How it was verified there.
    pub checked: Checked,
}

impl std::fmt::Debug for Written<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Written").field("stored", &self.stored).field("wire", &self.wire).finish_non_exhaustive()
    }
}

/// Refuses a path that exists, before anything is written. Creating the file checks again.
///
/// # Errors
/// `Exists`, `Folder`.
pub fn refuse_existing(folder: &dyn Folder, host: &str, path: &str) -> Result<(), TransferError> {
    match folder.stat(path) {
        Ok(None) | Err(stackferry_volume::FolderError::NotFound { .. }) => Ok(()),
        Ok(Some(_)) => Err(TransferError::Exists { host: host.to_owned(), file: path.to_owned() }),
        Err(error) => Err(error.into()),
    }
}

/// Gives all files their final names, in this order, and then keeps them.
///
/// # Errors
/// See [`TransferError`]; all are discarded then, except as the module's documentation says.
pub fn finish<'c>(files: Vec<Box<dyn PendingFile + 'c>>) -> Result<(), TransferError> {
    let mut files = files;
    if let Some(error) = files.iter_mut().find_map(|file| file.name().err()) {
        // The last first: no descriptor is ever visible without its extents.
        while files.pop().is_some() {}
        return Err(error);
    }
    for file in files {
        file.keep()?;
    }
    Ok(())
}

/// A part of a file, in order.
pub(crate) enum FilePart {
    /// These blocks are zero.
    Zero(BlockIndex, u64),
    /// A block, and its digest, which was checked.
    Data(BlockIndex, Vec<u8>, Digest),
}

/// Reads and checks a file's blocks in order on a thread of its own, and passes them to `send` on this one.
pub(crate) fn read_ahead(
    file: &FileRestore<'_>,
    cancel: &Cancel,
    mut send: impl FnMut(FilePart) -> Result<(), TransferError>,
) -> Result<(), TransferError> {
    let (pieces, queue): (SyncSender<_>, Receiver<_>) = sync_channel(QUEUE);
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let result = read_all(file, cancel, &mut |piece| match pieces.send(Ok(piece)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            });
            if let Err(error) = result {
                // The receiver has failed already.
                let _ = pieces.send(Err(error));
            }
        });
        let mut result = Ok(());
        for piece in queue {
            result = if cancel.is_cancelled() { Err(TransferError::Cancelled) } else { piece.and_then(&mut send) };
            if result.is_err() {
                break;
            }
        }
        match reading.join() {
            Ok(()) => result,
            Err(_) => Err(TransferError::Worker { file: file.path.to_owned() }),
        }
    })
}

fn read_all(
    file: &FileRestore<'_>,
    cancel: &Cancel,
    emit: &mut dyn FnMut(FilePart) -> ControlFlow<()>,
) -> Result<(), TransferError> {
    let damaged = |block, why: String| TransferError::VersionDamaged { file: file.path.to_owned(), block, why };
    let bytes = file.blocks.bytes();
    if file.source.bytes() != bytes {
        return Err(damaged(None, format!("the file has {} bytes, not {bytes}", file.source.bytes())));
    }
    for run in file.blocks.runs() {
        if cancel.is_cancelled() {
            return Err(TransferError::Cancelled);
        }
        let piece = match run.state {
            BlockState::Data(digest) => {
                let read = read_block(file, run.first, |block| Digest::of(block) == digest);
                let block = read.map_err(|why| damaged(Some(run.first), why))?;
                FilePart::Data(run.first, block, digest)
            }
            BlockState::Zero => {
                let end = BlockIndex(run.first.0.saturating_add(run.count)).offset().min(bytes);
                let mut at = run.first.offset();
                while at < end && !cancel.is_cancelled() {
                    let block = match file.source.next_data(at) {
                        Ok(Some(data)) if data.start < end => BlockIndex::at(data.start),
                        Ok(_) => break,
                        // Reading the block reports the error.
                        Err(_) => BlockIndex::at(at),
                    };
                    read_block(file, block, is_zero).map_err(|why| damaged(Some(block), why))?;
                    at = block.offset().saturating_add(BLOCK_BYTES);
                }
                FilePart::Zero(run.first, run.count)
            }
            BlockState::Unknown => return Err(damaged(Some(run.first), "the manifest does not list it".to_owned())),
        };
        if emit(piece).is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads one block. A mismatch is read once more: a bit that flipped in memory is no damage of the version.
fn read_block(file: &FileRestore<'_>, block: BlockIndex, right: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; block.len_in(file.blocks.bytes())];
    let mut why = String::new();
    for _ in 0..2 {
        match file.source.read_at(block.offset(), &mut bytes) {
            Ok(()) if right(&bytes) => return Ok(bytes),
            Ok(()) => why = "its bytes differ from what was committed".to_owned(),
            Err(error) => why = format!("reading failed: {error}"),
        }
    }
    Err(why)
}
