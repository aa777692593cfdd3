//! Copying the files of one volume into the vault's incoming folder: whatever the route, each file goes through the
//! same steps.
//!
//! 1. What an interrupted copy left of the file is hashed again; what matches is not read.
//! 2. The blocks that are left are read. With a base (the last version), a block that equals the base's is only noted.
//! 3. If the volume differs from the base, the noted blocks are taken from the base's files. Each is hashed as it is
//!    read; one that does not match is read at the source again, and the base is reported as damaged.

use std::sync::Arc;

use jiff::Timestamp;
use stackferry_catalog::{CredentialEnding, Direction, NewCredential, PendingCleanup};
use stackferry_discover::{VolumeFile, VolumeLocation};
use stackferry_transfer::resume::resume;
use stackferry_transfer::{CopyContext, FileCopy, FileOutcome, OnUse, TransferError};
use stackferry_vault::{Incoming, VaultFile, Version};
use stackferry_volume::block::BLOCK_BYTES;
use stackferry_volume::manifest::{ByteCounts, FileRecord};
use stackferry_volume::{BlockIndex, BlockMap, BlockState, Digest, Source as _, VolumeId};

use crate::app::{App, DatastoreAccess};
use stackferry_problem::Problem;

/// What all files of one copy share.
pub(super) struct FileCopier<'a> {
    pub(super) app: &'a App,
    pub(super) volume: &'a VolumeId,
    pub(super) place: &'a VolumeLocation,
    pub(super) source: &'a DatastoreAccess,
    pub(super) context: &'a CopyContext,
    /// The last good version, to compare with.
    pub(super) base: Option<&'a Version>,
}

/// The credentials of one file's copy, and whether each was written down before it was used.
#[derive(Default)]
struct Notes {
    issued: Vec<String>,
    /// Those of which something stands at a host until it is removed.
    standing: Vec<String>,
    failed: Option<Problem>,
}

impl Notes {
    fn issued(&mut self, job: &FileCopier<'_>, file: &VolumeFile, name: &str, expires: Timestamp) {
        self.note(job, file, name, expires, false);
    }

    fn note(&mut self, job: &FileCopier<'_>, file: &VolumeFile, name: &str, expires: Timestamp, standing: bool) {
        match job.note_issued(file, name, expires, standing) {
            Ok(()) if standing => self.standing.push(name.to_owned()),
            Ok(()) => self.issued.push(name.to_owned()),
            Err(problem) => self.failed = Some(problem),
        }
    }

    /// Each lives for minutes and for this file only; without its record no copy counts.
    fn ended(self, job: &FileCopier<'_>, outcome: Result<FileOutcome, TransferError>) -> Result<FileOutcome, Problem> {
        // What failed, failed with the last one: those before it did what they were for.
        for (at, name) in self.issued.iter().enumerate() {
            let last = at + 1 == self.issued.len();
            job.note_ended(name, if last { outcome.as_ref().err() } else { None });
        }
        for name in &self.standing {
            job.note_removed(name);
        }
        match self.failed {
            Some(problem) => Err(problem),
            None => Ok(outcome?),
        }
    }
}

/// A file that was copied, but for the blocks that equal the base's.
pub(super) struct CopiedFile {
    pub(super) file: VolumeFile,
    pub(super) sink: Arc<VaultFile>,
    pub(super) outcome: FileOutcome,
    /// Bytes that an earlier run had copied.
    pub(super) resumed: u64,
}

impl CopiedFile {
    pub(super) fn record(&self) -> Option<FileRecord> {
        Some(FileRecord {
            name: self.file.name.clone(),
            role: self.file.role,
            mtime: self.file.mtime,
            hole_map: self.outcome.hole_map,
            blake3: self.outcome.blocks.file_digest()?,
            blocks: self.outcome.blocks.clone(),
        })
    }
}

impl FileCopier<'_> {
    /// Steps 1 and 2 for one file. Blocks.
    pub(super) fn copy(&self, incoming: &Incoming, file: &VolumeFile) -> Result<CopiedFile, Problem> {
        let sink = Arc::new(incoming.file(&file.name, file.bytes)?);
        let base = self.base.and_then(|base| base.manifest().file(file.name.as_str()));
        // A base of another length says nothing about the last blocks, and is not worth the special case.
        let base = base.map(|record| &record.blocks).filter(|blocks| blocks.bytes() == file.bytes);
        let mut done = BlockMap::new(file.bytes);
        let mut resumed = 0;
        let mut in_base = Vec::new();
        if incoming.is_resumed() {
            let left = resume(&*sink, base, self.context.workers, &self.context.cancel)
                .map_err(|source| TransferError::Write { file: file.name.to_string(), source })?;
            for block in &left.rejected {
                tracing::warn!(volume = %self.volume, file = %file.name, %block, "what an interrupted copy left of this block does not match its digest; it is read again");
            }
            resumed = (0..left.done.blocks())
                .map(BlockIndex)
                .filter(|block| left.done.get(*block) != BlockState::Unknown)
                .map(|block| block.len_in(file.bytes) as u64)
                .sum();
            self.context.progress.done(resumed);
            done = left.done;
            in_base = left.in_base;
        }
        let mut outcome = self.read(file, &sink, done, base)?;
        outcome.same_as_base.append(&mut in_base);
        outcome.same_as_base.sort_unstable();
        Ok(CopiedFile { file: file.clone(), sink, outcome, resumed })
    }

    /// Reads the blocks that are not done, by the volume's route.
    fn read(
        &self,
        file: &VolumeFile,
        sink: &VaultFile,
        done: BlockMap,
        base: Option<&BlockMap>,
    ) -> Result<FileOutcome, Problem> {
        let path = self.place.location.sibling(file.name.as_str());
        let copy = FileCopy { path: &path, bytes: file.bytes, mtime: file.mtime, sink, done, base };
        match self.source {
            DatastoreAccess::Local(folder) => Ok(stackferry_transfer::local::copy(folder, copy, self.context)?),
            DatastoreAccess::Endpoint { client, datastore } => {
                let mut notes = Notes::default();
                let outcome = client.copy(datastore, copy, self.context, &mut |credential| {
                    let now = Timestamp::now();
                    let expires = now.checked_add(credential.life).unwrap_or(now);
                    notes.issued(self, file, &credential.user, expires);
                });
                notes.ended(self, outcome)
            }
            DatastoreAccess::Ssh(client) => {
                let mut notes = Notes::default();
                let outcome = client.copy(copy, self.context, &mut |certificate| {
                    notes.issued(self, file, &certificate.name, certificate.expires);
                });
                notes.ended(self, outcome)
            }
            DatastoreAccess::Esxi(client) => {
                let mut notes = Notes::default();
                let outcome = client.copy(copy, self.context, &mut |credential| {
                    notes.note(self, file, &credential.name, credential.expires, credential.standing);
                });
                // What could not be put back at the host is the janitor's from now on.
                self.app.running_debts().copy_is_over();
                notes.ended(self, outcome)
            }
        }
    }

    /// Writes down that what stood for a credential at a host was removed; what is still owed there is the janitor's.
    fn note_removed(&self, name: &str) {
        let catalog = self.app.catalog();
        let written = self.app.runtime().block_on(async {
            let still =
                |row: &PendingCleanup| row.cleanup.detail.get("name").and_then(|own| own.as_str()) == Some(name);
            if !catalog.pending_cleanups().await?.iter().any(still) {
                self.end_revoked(name).await?;
            }
            Ok::<_, stackferry_catalog::CatalogError>(())
        });
        if let Err(error) = written {
            tracing::error!(credential = name, error = %stackferry_transfer::describe(&error), "a credential's removal could not be recorded");
        }
    }

    async fn end_revoked(&self, name: &str) -> Result<(), stackferry_catalog::CatalogError> {
        if self.app.catalog().credential_ended(name, CredentialEnding::Revoked).await? {
            self.app.metrics().credential_revoked();
        }
        Ok(())
    }

    fn note_issued(&self, file: &VolumeFile, name: &str, expires: Timestamp, standing: bool) -> Result<(), Problem> {
        let host = self.source.host();
        let now = Timestamp::now();
        let new = NewCredential {
            name: name.to_owned(),
            volume: self.volume.clone(),
            file: file.name.to_string(),
            route: self.source.route().as_str().to_owned(),
            host,
            direction: Direction::Read,
            standing,
            issued: now,
            expires,
        };
        self.app.runtime().block_on(self.app.catalog().credential_issued(&new))?;
        self.app.metrics().credential_issued(&new.route);
        Ok(())
    }

    /// Writes down what became of a credential that was not used as it should be; its use is written down when it logs
    /// in. A failure to is logged: the copy itself is what it is.
    fn note_ended(&self, name: &str, error: Option<&TransferError>) {
        let catalog = self.app.catalog();
        if let Some(TransferError::LoginRefused { .. }) = error {
            self.app.metrics().credential_refused(self.source.route().as_str());
        }
        let written = self.app.runtime().block_on(async {
            if let Some(TransferError::LoginRefused { .. }) = error {
                catalog.credential_refused(name, "the host refused it").await?;
            }
            if error.is_some() {
                self.end_revoked(name).await?;
            }
            Ok::<_, stackferry_catalog::CatalogError>(())
        });
        if let Err(error) = written {
            tracing::error!(credential = name, error = %stackferry_transfer::describe(&error), "what became of a credential could not be recorded");
        }
    }

    /// Step 3: takes the blocks that equal the base's from its files. Gives the blocks of the base that were damaged.
    /// Blocks.
    pub(super) fn take_from_base(&self, base: &Version, copied: &mut CopiedFile) -> Result<Vec<BlockIndex>, Problem> {
        let same = std::mem::take(&mut copied.outcome.same_as_base);
        if same.is_empty() {
            return Ok(Vec::new());
        }
        let source = base.open(copied.file.name.as_str())?;
        let mut damaged = Vec::new();
        let mut buffer = vec![0u8; usize::try_from(BLOCK_BYTES).unwrap_or(1 << 20)];
        for block in same {
            if self.context.cancel.is_cancelled() {
                return Err(TransferError::Cancelled.into());
            }
            let bytes = buffer.get_mut(..block.len_in(copied.file.bytes)).unwrap_or_default();
            let read = source.read_at(block.offset(), bytes);
            let expected = copied.outcome.blocks.get(block);
            if read.is_err() || BlockState::Data(Digest::of(bytes)) != expected {
                damaged.push(block);
                continue;
            }
            let write = |source| TransferError::Write { file: copied.file.name.to_string(), source };
            copied.outcome.counts.stored +=
                stackferry_volume::Sink::write_at(&*copied.sink, block.offset(), bytes).map_err(write)?;
        }
        if !damaged.is_empty() {
            let mut done = copied.outcome.blocks.clone();
            for block in &damaged {
                done.set(*block, BlockState::Unknown);
            }
            let again = self.read(&copied.file, &copied.sink, done, None)?;
            copied.outcome.counts = sum(&copied.outcome.counts, &again.counts);
            copied.outcome.credentials += again.credentials;
            copied.outcome.blocks = again.blocks;
        }
        Ok(damaged)
    }
}

/// Two runs over one file: its length counts once.
fn sum(one: &ByteCounts, other: &ByteCounts) -> ByteCounts {
    let mut both = *one;
    both.add(other);
    both.logical = one.logical;
    both
}

/// Writes down that a credential was used, when it was: its time may be over long before the copy is. A failure to is
/// logged: the credential's issue is on record, and the copy itself is what it is.
pub(crate) fn note_used(app: &App) -> OnUse {
    let app = app.clone();
    Arc::new(move |name| {
        if let Err(error) = app.runtime().block_on(app.catalog().credential_used(name)) {
            tracing::error!(credential = name, error = %stackferry_transfer::describe(&error), "the use of a credential could not be recorded");
        }
    })
}

pub(super) fn records(copied: &[CopiedFile]) -> Result<Vec<FileRecord>, Problem> {
    let records: Option<Vec<_>> = copied.iter().map(CopiedFile::record).collect();
    records.ok_or_else(|| Problem::internal("a copy ended with blocks missing"))
}
