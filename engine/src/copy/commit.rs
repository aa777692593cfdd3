//! How a copy becomes a version: the commit, and the record of it. Steps 5 and 6 of [`super`].

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use serde_json::json;
use stackferry_catalog::{AuditAction, Baseline, VersionRow};
use stackferry_discover::VolumeLocation;
use stackferry_vault::Incoming;
use stackferry_volume::content::ContentRecord;
use stackferry_volume::manifest::{FORMAT, FileRecord, VerifyMethod};
use stackferry_volume::{FileName, Manifest, VersionId};

use super::file::{CopiedFile, records};
use super::outcome::CopyOutcome;
use super::run::CopyRun;
use crate::about::PROGRAM;
use crate::adopt::at_first;
use crate::content;
use crate::incident;
use stackferry_problem::{Code, Problem};

impl CopyRun<'_> {
    /// What the disk holds that was just copied: what an intruder encrypted or wiped has to be known on that day.
    fn content(&self, files: &[FileRecord], copied: &[CopiedFile]) -> Option<ContentRecord> {
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
        copied: Vec<CopiedFile>,
        mut done: CopyOutcome,
    ) -> Result<CopyOutcome, Problem> {
        let files = records(&copied)?;
        let content = self.content(&files, &copied);
        // The vault commits only when nobody can write to the files any more.
        drop(copied);
        let ended = Timestamp::now();
        let settings = self.app.config().vault()?;
        let lock = settings.lock.and_then(|lock| ended.checked_add(lock.duration()).ok());
        // A vault that was set back to an earlier state has forgotten numbers that the catalog knows.
        let known = self.catalog(self.app.catalog().versions(&self.volume.id))?;
        incoming.start_numbers_at(known.first().map_or(1, |row| row.version.seq().saturating_add(1)));
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
        self.set_baseline(place, waited, &version)?;
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

    /// From now on an equal fingerprint at the location that was read means that nothing changed there. Other locations of
    /// the volume are read on their own: equal stamps do not prove equal bytes. Where the copy waited for the files' times
    /// to settle, an equal fingerprint proves it too.
    pub(super) fn set_baseline(
        &self,
        place: &VolumeLocation,
        waited: bool,
        version: &VersionId,
    ) -> Result<(), Problem> {
        let baseline = Baseline {
            location: place.location.clone(),
            fingerprint: place.fingerprint.clone(),
            version: version.clone(),
            settled: place.settled || (waited && !place.fingerprint.is_fresh(place.observed)),
        };
        Ok(self.catalog(self.app.catalog().set_baselines(&self.volume.id, &[baseline]))?)
    }
}
