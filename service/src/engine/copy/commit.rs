//! What a copy is held against, and how it becomes a version: the last version that it may equal, the source as it is
//! afterwards, the commit, and the record of it. Steps 4 to 6 of [`super`].

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use serde_json::json;
use stackferry_catalog::{AuditAction, Baseline, VersionRow};
use stackferry_discover::{State, VolumeFile, VolumeLocation};
use stackferry_transfer::TransferError;
use stackferry_vault::{Incoming, Version};
use stackferry_volume::content::ContentRecord;
use stackferry_volume::descriptor::Descriptor;
use stackferry_volume::io::{MAX_SMALL_READ, Source as _};
use stackferry_volume::manifest::{FORMAT, FileRecord, FileRole, LeftOut, VerifyMethod};
use stackferry_volume::{Entry, FileName, Folder, Manifest, VersionId};

use super::{Done, Run, is_about_the_file, records};
use crate::app::{PROGRAM, Source};
use crate::engine::checkup::at_first;
use crate::engine::content;
use crate::engine::files::Copied;
use crate::engine::incident;
use crate::problem::{Code, Problem};

/// Whether a file is as long as it was. vSphere may call a descriptor as long as its disk; then its bytes tell.
fn is_as_long(folder: &dyn Folder, place: &VolumeLocation, file: &VolumeFile, now: &Entry) -> Result<bool, Problem> {
    let small = u64::try_from(MAX_SMALL_READ).unwrap_or(u64::MAX);
    if now.bytes == file.bytes || file.role != FileRole::Descriptor || file.bytes >= small || now.bytes <= small {
        return Ok(now.bytes == file.bytes);
    }
    let text = folder.read(&place.location.sibling(file.name.as_str()), MAX_SMALL_READ)?;
    Ok(u64::try_from(text.len()).is_ok_and(|bytes| bytes == file.bytes))
}

/// The file is what discovery saw.
fn unchanged(folder: &dyn Folder, place: &VolumeLocation, file: &VolumeFile) -> Result<(), Problem> {
    let name = file.name.as_str();
    let changed = |what: String| TransferError::SourceChanged { file: place.location.sibling(name), what };
    let now = folder.stat(&place.location.sibling(name))?.ok_or_else(|| changed("it is gone".to_owned()))?;
    if !is_as_long(folder, place, file, &now)? || now.mtime != file.mtime {
        return Err(changed(format!("it was changed at {}", now.mtime)).into());
    }
    Ok(())
}

impl Run<'_> {
    /// The last good version of this life of the volume, where comparing with it saves something: a version that need
    /// not be made, or bytes that need not be sent.
    pub(super) fn base(&self, source: &Source) -> Result<Option<Version>, Problem> {
        if !self.wanted.if_changed && !matches!(source, Source::Endpoint { .. }) {
            return Ok(None);
        }
        let entries = self.vault.versions(&self.volume.id)?;
        let good = entries.iter().rev().filter(|entry| entry.is_good());
        let last = good
            .filter(|entry| entry.summary.as_ref().is_ok_and(|summary| summary.generation == self.volume.generation));
        for entry in last {
            match self.vault.version(&self.volume.id, &entry.id) {
                Ok(version) => return Ok(Some(version)),
                // It was deleted meanwhile, or found damaged: an older one does as well.
                Err(error) if error.is_not_found() || error.is_damaged() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Whether what was read equals a version. A replica's descriptor has a content id of its own.
    pub(super) fn is_same(
        &self,
        base: &Manifest,
        records: &[FileRecord],
        left_out: &[LeftOut],
        place: &VolumeLocation,
    ) -> bool {
        if base.same_content(records, left_out) {
            return true;
        }
        let is_replica = self.volume.kind.is_replicated() && base.location != place.location;
        let without_descriptor = |files: &[FileRecord]| {
            let is_left_out = |file: &&FileRecord| left_out.iter().any(|left| left.file == file.name);
            let others = files.iter().filter(|file| file.role != FileRole::Descriptor && !is_left_out(file));
            others.map(|file| (file.name.clone(), file.blake3)).collect::<std::collections::BTreeMap<_, _>>()
        };
        is_replica && without_descriptor(&base.files) == without_descriptor(records)
    }

    /// The disk's own files are still what they were when discovery looked.
    pub(super) fn check_disk(&self, place: &VolumeLocation, source: &Source) -> Result<(), Problem> {
        let folder = source.folder();
        let mut own = place.files.iter().filter(|file| file.role != FileRole::Sidecar);
        own.try_for_each(|file| unchanged(&*folder, place, file))
    }

    /// The source is still what it was when discovery looked, and the descriptor that was copied is the one that
    /// discovery read.
    pub(super) fn check_source(
        &self,
        place: &VolumeLocation,
        source: &Source,
        incoming: &Incoming,
        copied: &mut Vec<Copied>,
        left_out: &mut Vec<LeftOut>,
    ) -> Result<(), Problem> {
        let folder = source.folder();
        let changed =
            |file: &str, what: String| TransferError::SourceChanged { file: place.location.sibling(file), what };
        let is_left_out = |left_out: &[LeftOut], file: &VolumeFile| left_out.iter().any(|left| left.file == file.name);
        for file in &place.files {
            match unchanged(&*folder, place, file) {
                _ if is_left_out(left_out, file) => {}
                Err(problem) if file.role == FileRole::Sidecar && is_about_the_file(&problem) => {
                    left_out.push(self.left_out(file, &problem));
                    copied.retain(|copied| copied.file.name != file.name);
                    incoming.leave_out(&file.name)?;
                }
                other => other?,
            }
        }
        for file in copied.iter().filter(|file| file.file.role == FileRole::Descriptor) {
            // A descriptor that equals the base's is not in the sink yet; then it is compared block for block anyway.
            if !file.outcome.same_as_base.is_empty() {
                continue;
            }
            let len = usize::try_from(file.file.bytes).unwrap_or(usize::MAX).min(MAX_SMALL_READ);
            let mut text = vec![0u8; len];
            let read = |source| TransferError::Write { file: file.file.name.to_string(), source };
            file.sink.read_at(0, &mut text).map_err(read)?;
            let cid = Descriptor::parse(&text, &file.file.name).ok().and_then(|descriptor| descriptor.cid);
            if cid != place.fingerprint.cid {
                return Err(changed(file.file.name.as_str(), "its content id is another one".to_owned()).into());
            }
        }
        Ok(())
    }

    pub(super) fn mark_damaged(&self, base: &Version, file: &Copied, blocks: &[stackferry_volume::BlockIndex]) {
        let shown: Vec<String> = blocks.iter().take(5).map(ToString::to_string).collect();
        let why = format!("block {} of {} does not match its digest", shown.join(", "), file.file.name);
        let version = &base.manifest().version;
        tracing::error!(volume = %self.volume.id, %version, why, "an earlier version is damaged; its blocks were read at the source again");
        let detail = json!({ "version": version.to_string(), "why": why });
        self.audit(AuditAction::DamageFound, &detail);
        let marked = self.vault.mark_damaged(&self.volume.id, version, &why, Timestamp::now()).map_err(Problem::from);
        let marked =
            marked.and_then(|()| Ok(self.catalog(self.app.catalog().mark_damaged(&self.volume.id, version, &why))?));
        if let Err(problem) = marked {
            tracing::error!(volume = %self.volume.id, %version, error = problem.message, "the damage could not be recorded");
        }
    }

    /// What the disk holds that was just copied: what an intruder encrypted or wiped has to be known on that day.
    fn content(&self, files: &[FileRecord], copied: &[Copied]) -> Option<ContentRecord> {
        let open = |name: &FileName| {
            let file = copied.iter().find(|file| file.file.name == *name);
            file.map(|file| Arc::clone(&file.sink)).ok_or_else(|| std::io::ErrorKind::NotFound.into())
        };
        match content::inspect(files, open) {
            Ok(content) => Some(content),
            // The restore test inspects it again.
            Err(error) => {
                let error = error.to_string();
                tracing::warn!(volume = %self.volume.id, error, "what the copied disk holds could not be read");
                None
            }
        }
    }

    pub(super) fn commit(
        &self,
        place: &VolumeLocation,
        waited: bool,
        started: Timestamp,
        mut incoming: Incoming,
        copied: Vec<Copied>,
        mut done: Done,
    ) -> Result<Done, Problem> {
        let files = records(&copied)?;
        let content = self.content(&files, &copied);
        // The vault commits only when nobody can write to the files any more.
        drop(copied);
        let ended = Timestamp::now();
        let settings = self.app.config().vault()?;
        let lock = settings.lock.and_then(|lock| ended.checked_add(lock.duration()).ok());
        // A vault that was set back to an earlier state has forgotten numbers that the catalog knows.
        let known = self.catalog(self.app.catalog().versions(&self.volume.id))?;
        incoming.number_from(known.first().map_or(1, |row| row.version.seq().saturating_add(1)));
        let version = incoming.allocate(ended, lock)?;
        let read_back = settings.read_back;
        let verify_method = if read_back { VerifyMethod::ReadBack } else { VerifyMethod::Arrival };
        let incident = incident::found(self.vault, self.volume, &files, content.as_ref())?;
        let manifest = Manifest {
            format: FORMAT,
            volume: self.volume.id.clone(),
            kind: self.volume.kind,
            stem: self.volume.stem.clone(),
            generation: self.volume.generation,
            version: version.clone(),
            name: self.volume.name.clone(),
            owner: self.volume.owner.clone(),
            guid: self.volume.guid.clone(),
            location: place.location.clone(),
            datastore_type: place.datastore_type.clone(),
            fingerprint: place.fingerprint.clone(),
            files,
            route: done.route.to_owned(),
            bytes: done.bytes,
            credentials: done.credentials,
            app_volumes: self.volume.app_volumes.as_ref().map(incident::record),
            incident,
            left_out: done.left_out.clone(),
            content,
            program: PROGRAM.to_owned(),
            started,
            ended,
            verify_method,
        };
        if read_back {
            let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
            let damage = incoming.read_back(&manifest, threads, &mut |_| {}, self.cancel)?;
            if let Some(first) = damage.first() {
                return Err(Problem::new(Code::Damaged, format!("what was written was read back wrong: {first}"))
                    .subject(&self.volume.id)
                    .hint("the vault's disk or memory fails: check the system's log before trusting it with more"));
            }
        }
        let (content, restore_test) = at_first(manifest.content.as_ref(), ended);
        let row = VersionRow {
            volume: self.volume.id.clone(),
            version: version.clone(),
            generation: manifest.generation,
            created: ended,
            bytes: manifest.logical_bytes(),
            stored: done.bytes.stored,
            verified: true,
            verify_method,
            pinned: false,
            damaged: None,
            last_verified: None,
            route: manifest.route.clone(),
            incident: manifest.incident.clone(),
            content,
            restore_test,
            deleting: None,
        };
        let is_given_up = || self.reading.is_over.load(Ordering::SeqCst);
        let mut fence = || match self.catalog(self.lease.check()) {
            _ if is_given_up() => Err("its datastore did not answer, and the copy was given up".into()),
            Ok(true) => Ok(()),
            Ok(false) => Err("its lease was taken over".into()),
            Err(error) => Err(error.into()),
        };
        incoming.commit(&manifest, &mut fence)?;
        self.catalog(self.app.catalog().add_version(&row))?;
        self.set_baselines(place, waited, &version)?;
        let detail = json!({
            "version": version.to_string(), "route": done.route, "location": place.location.to_string(),
            "read": done.bytes.read, "wire": done.bytes.wire, "stored": done.bytes.stored,
        });
        self.audit(AuditAction::Copied, &detail);
        if let Some(why) = &manifest.incident {
            tracing::error!(volume = %self.volume.id, %version, why, "an incident: the disk is not what it should be; it is kept as a version of its own");
            self.audit(AuditAction::IncidentFound, &json!({ "version": version.to_string(), "why": why }));
            self.catalog(incident::mark(self.app, self.volume, &version, why))?;
        }
        done.version = Some(version);
        done.verify_method = Some(verify_method);
        Ok(done)
    }

    /// From now on an equal fingerprint at any of the places where the volume was seen means that nothing changed there:
    /// they were found to hold one disk. Where the copy waited for that, it proves that the place it read has not changed.
    pub(super) fn set_baselines(
        &self,
        place: &VolumeLocation,
        waited: bool,
        version: &VersionId,
    ) -> Result<(), Problem> {
        let seen = self.volume.locations.iter().filter(|other| {
            let agree = matches!(self.volume.state, State::Ready | State::Incident);
            other.location == place.location || (other.seen && agree)
        });
        let baselines: Vec<Baseline> = seen
            .map(|other| Baseline {
                location: other.location.clone(),
                fingerprint: other.fingerprint.clone(),
                version: version.clone(),
                settled: other.settled
                    || (waited && other.location == place.location && !other.fingerprint.is_fresh(other.observed)),
            })
            .collect();
        Ok(self.catalog(self.app.catalog().set_baselines(&self.volume.id, &baselines))?)
    }
}
