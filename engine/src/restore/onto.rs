//! Putting a version onto a datastore that is reached through a host: each file as a new one, by a credential of its own,
//! the descriptor last.
//!
//! 1. Nothing has any of the names.
//! 2. Each file is written under a temporary name and checked at the other side.
//! 3. All are named, the descriptor last, and then kept; see [`stackferry_transfer::restore`] for what a crash leaves.
//!
//! It must never be given a datastore's own file to write to: both sides make new ones only.

use std::sync::Arc;

use jiff::Timestamp;
use stackferry_catalog::{CredentialEnding, Direction, NewCredential};
use stackferry_transfer::restore::{self, Checked, FileRestore, Written};
use stackferry_transfer::{CopyContext, Progress, TransferError};
use stackferry_vault::{RestoreReport, Version};
use stackferry_volume::manifest::{FileRecord, FileRole};

use crate::app::{App, DatastoreAccess};
use crate::copy::note_used;
use stackferry_problem::{Code, Problem};

/// What was put onto a datastore.
pub(super) struct Onto {
    pub(super) report: RestoreReport,
    /// How it was checked there.
    pub(super) checked: Checked,
    /// How many credentials wrote a file.
    pub(super) credentials: u64,
}

/// Puts a version's files into a folder of a datastore. Blocks.
pub(super) fn put(
    app: &App,
    source: &DatastoreAccess,
    folder: &str,
    version: &Version,
    progress: Arc<dyn Progress>,
) -> Result<Onto, Problem> {
    let host = source.host();
    let manifest = version.manifest();
    let mut records: Vec<&FileRecord> = manifest.files.iter().collect();
    records.sort_by_key(|record| record.role == FileRole::Descriptor);
    let looking = source.folder();
    let path = |record: &FileRecord| format!("{folder}/{}", record.name);
    for record in &records {
        restore::refuse_existing(&*looking, &host, &path(record))?;
    }
    let mut context = CopyContext::new(app.cancel().clone(), progress, app.config().limits.memory.as_bytes());
    context.throttle = app.throttle();
    context.used = Some(note_used(app));
    let mut files = Vec::new();
    for record in records {
        let file = version.open(record.name.as_str())?;
        // A block may hold less than it is long.
        let takes = file.allocated().unwrap_or(u64::MAX).min(record.blocks.data_blocks().1);
        files.push((record, file, takes));
    }
    let mut needed: u64 = files.iter().map(|(_, _, takes)| *takes).sum();
    let mut onto = Onto { report: RestoreReport::default(), checked: Checked::Arrival, credentials: 0 };
    let mut placed = Vec::new();
    for (record, bytes, takes) in &files {
        let path = path(record);
        let file = FileRestore {
            path: &path,
            mtime: record.mtime,
            blocks: &record.blocks,
            blake3: record.blake3,
            source: bytes,
            needed,
        };
        let job = RestoreJob { app, source, volume: &manifest.volume, record, context: &context };
        let written = job.write(&file).map_err(|problem| about(version, record, problem))?;
        onto.credentials += 1;
        onto.checked = written.checked;
        onto.report.files += 1;
        onto.report.bytes += record.blocks.bytes();
        onto.report.stored += written.stored;
        needed = needed.saturating_sub(*takes);
        placed.push(written.placed);
    }
    if context.cancel.is_cancelled() {
        return Err(Problem::interrupted("restoring"));
    }
    restore::finish(placed)?;
    Ok(onto)
}

/// A damaged version is named with its file.
fn about(version: &Version, record: &FileRecord, problem: Problem) -> Problem {
    if problem.code != Code::Damaged {
        return problem;
    }
    let manifest = version.manifest();
    let name = super::named(&manifest.volume, &manifest.version);
    let message = format!("{name} is damaged: {}", problem.message);
    tracing::error!(version = name, file = %record.name, "a version that was to be restored is damaged");
    Problem { message, subject: Some(name), ..problem }
}

struct RestoreJob<'a> {
    app: &'a App,
    source: &'a DatastoreAccess,
    volume: &'a stackferry_volume::VolumeId,
    record: &'a FileRecord,
    context: &'a CopyContext,
}

impl<'a> RestoreJob<'a> {
    /// Writes one file, and writes its credential down before it is used.
    fn write(&self, file: &FileRestore<'_>) -> Result<Written<'a>, Problem> {
        let mut issued: Option<(String, Result<(), Problem>)> = None;
        let written = match self.source {
            DatastoreAccess::Endpoint { client, datastore } => {
                client.write(datastore, file, self.context, &mut |credential| {
                    let now = Timestamp::now();
                    let expires = now.checked_add(credential.life).unwrap_or(now);
                    issued = Some((credential.user.clone(), self.note(&credential.user, expires)));
                })
            }
            DatastoreAccess::Ssh(client) => client.write(file, self.context, &mut |certificate| {
                issued = Some((certificate.name.clone(), self.note(&certificate.name, certificate.expires)));
            }),
            DatastoreAccess::Local(_) | DatastoreAccess::Esxi(_) => {
                return Err(Problem::internal("this route has no restore of its own"));
            }
        };
        let Some((name, noted)) = issued else { return Ok(written?) };
        if let Err(error) = &written {
            self.note_ended(&name, error);
        }
        // Without its record no file counts; what was written is given up.
        noted?;
        Ok(written?)
    }

    fn note(&self, name: &str, expires: Timestamp) -> Result<(), Problem> {
        let new = NewCredential {
            name: name.to_owned(),
            volume: self.volume.clone(),
            file: self.record.name.to_string(),
            route: self.source.route().as_str().to_owned(),
            host: self.source.host(),
            direction: Direction::Write,
            standing: false,
            issued: Timestamp::now(),
            expires,
        };
        self.app.runtime().block_on(self.app.catalog().credential_issued(&new))?;
        self.app.metrics().credential_issued(&new.route);
        Ok(())
    }

    /// Writes down what became of a credential that was not used as it should be. A failure to is logged.
    fn note_ended(&self, name: &str, error: &TransferError) {
        let catalog = self.app.catalog();
        let is_refused = matches!(error, TransferError::LoginRefused { .. });
        if is_refused {
            self.app.metrics().credential_refused(self.source.route().as_str());
        }
        let written = self.app.runtime().block_on(async {
            if is_refused {
                catalog.credential_refused(name, "the host refused it").await?;
            }
            catalog.credential_ended(name, CredentialEnding::Revoked).await
        });
        if let Err(error) = written {
            tracing::error!(credential = name, error = %stackferry_transfer::describe(&error), "what became of a credential could not be recorded");
        }
    }
}
