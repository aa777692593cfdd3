//! The steps of one copy, on a blocking thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use stackferry_catalog::{AttemptEnd, AuditAction, LeaseGuard, Outcome, StatusReason};
use stackferry_discover::{Volume, VolumeLocation};
use stackferry_transfer::{CopyContext, Progress};
use stackferry_vault::{FolderLocation, GenerationRecord, Incoming, IncomingSpec, Vault, VolumeSpec};
use stackferry_volume::io::Cancel;
use stackferry_volume::manifest::{ByteCounts, FileRole, VerifyMethod};
use stackferry_volume::{Location, TransferId};

use super::failure::{CopyFailure, about, failed, is_about_the_file, is_interrupted};
use super::file::{CopiedFile, FileCopier, note_used, records};
use super::location::choose;
use super::monitor::SourceMonitor;
use super::options::CopyOptions;
use super::outcome::CopyOutcome;
use super::window::WindowWatch;
use crate::app::{App, DatastoreAccess, mounts};
use crate::attached::{self, AttachmentCheck};
use crate::metrics::{Phase, Phases};
use crate::windows;
use stackferry_problem::{Code, Problem};

/// One copy, on a blocking thread.
pub(super) struct CopyRun<'a> {
    pub(super) app: &'a App,
    pub(super) vault: &'a Vault,
    pub(super) volume: &'a Volume,
    pub(super) changed: &'a [Location],
    pub(super) lease: &'a LeaseGuard,
    pub(super) wanted: &'a CopyOptions,
    pub(super) window: Option<WindowWatch>,
    pub(super) cancel: &'a Cancel,
    pub(super) phases: Phases,
    pub(super) reading: &'a SourceMonitor,
}

impl CopyRun<'_> {
    pub(super) fn catalog<T>(&self, work: impl Future<Output = T>) -> T {
        self.app.runtime().block_on(work)
    }

    pub(super) fn copy(&self) -> Result<CopyOutcome, CopyFailure> {
        let began = Instant::now();
        let started = Timestamp::now();
        let (place, source) = choose(self.app, self.volume, self.changed)?;
        let route = source.route().as_str();
        self.vault.ensure_volume(&VolumeSpec {
            id: self.volume.id.clone(),
            stem: self.volume.stem.clone(),
            generation: GenerationRecord {
                number: self.volume.generation,
                guid: self.volume.guid.clone(),
                began: started,
            },
            location: FolderLocation {
                site: place.location.site.clone(),
                datastore: place.location.datastore.clone(),
                folder: place.location.folder().to_owned(),
            },
        })?;
        let catalog = self.app.catalog();
        let attempt = self.catalog(catalog.start_attempt(&self.volume.id, route, self.wanted.trigger))?;
        let (_, _) = (self.reading.attempt.set(attempt), self.reading.route.set(route));
        let datastore = self.app.datastore(&place.location.site, &place.location.datastore);
        if let Some(mount) = datastore.and_then(mounts::mount) {
            let _ = self.reading.mount.set(mount.to_owned());
        }
        let metrics = self.app.metrics();
        let running = metrics.copy_began(&self.volume.id, place.files.iter().map(|file| file.bytes).sum());
        let progress = running.progress(&self.wanted.progress);
        let mut result =
            self.guarded(&place, &source, started, progress).or_else(|problem| self.unless_window_is_over(problem));
        if let Ok(done) = &mut result {
            done.took = began.elapsed();
        }
        if self.reading.is_over.swap(true, Ordering::SeqCst) {
            // Nobody waits for it any more, and what it came to is recorded.
            return Err(Problem::interrupted("the copy").into());
        }
        match &result {
            Ok(done) => {
                let reason = done.reason.as_ref().map(|reason| reason.code.as_str());
                metrics.copy_ended(done.outcome, route, &done.bytes, reason, done.took);
            }
            Err(problem) => metrics.copy_failed(self.volume.kind, problem.code),
        }
        let end = match &result {
            Ok(done) => AttemptEnd {
                outcome: done.outcome,
                version: done.version.clone(),
                error: done.reason.clone().map(|reason| StatusReason { code: reason.code, text: reason.text }),
                bytes: done.bytes,
                took: began.elapsed(),
            },
            Err(problem) => failed(problem, began.elapsed()),
        };
        let ended = self.catalog(catalog.finish_attempt(attempt, &end));
        let done = match result {
            Ok(done) => done,
            Err(problem) if is_interrupted(&problem) && self.lease.is_lost() => {
                metrics.lease_lost();
                return Err(Problem::new(Code::LeaseLost, "another process took this volume over")
                    .subject(&self.volume.id)
                    .hint("it copies the volume; if this machine was suspended or its clock set, try again")
                    .into());
            }
            Err(problem) => {
                let detail = json!({ "code": problem.code.as_str(), "route": route });
                self.audit(AuditAction::CopyFailed, &detail);
                return Err(CopyFailure { problem: about(problem, &self.volume.id), is_recorded: ended.is_ok() });
            }
        };
        ended?;
        Ok(done)
    }

    /// A copy that was ended because its window is over goes on in the next one.
    fn unless_window_is_over(&self, problem: Problem) -> Result<CopyOutcome, Problem> {
        let over = self.window.as_ref().is_some_and(WindowWatch::is_over);
        match windows::closed(self.app.config(), &self.app.local_time(), self.volume.kind) {
            Some(reason) if over && is_interrupted(&problem) && !self.app.cancel().is_cancelled() => {
                Ok(CopyOutcome::deferred(reason))
            }
            _ => Err(problem),
        }
    }

    pub(super) fn audit(&self, action: AuditAction, detail: &serde_json::Value) {
        let subject = self.volume.id.to_string();
        self.catalog(crate::audit::record(self.app.catalog(), action, &self.wanted.actor, &subject, detail));
    }

    /// The copy, with a writable disabled in App Volumes meanwhile where that is wanted.
    fn guarded(
        &self,
        place: &VolumeLocation,
        source: &DatastoreAccess,
        started: Timestamp,
        progress: Arc<dyn Progress>,
    ) -> Result<CopyOutcome, Problem> {
        let guarded = self.catalog(attached::guard(self.app, self.volume))?;
        // However the copy ends, also by a panic.
        let _enabling = guarded.map(|guarded| attached::Enabling::new(self.app, guarded));
        self.run(place, source, started, progress)
    }

    /// Why it may not be copied after all.
    fn held(&self, place: &VolumeLocation, when: AttachmentCheck) -> Result<Option<StatusReason>, Problem> {
        self.catalog(attached::look_again(self.app, self.volume, place, when))
    }

    fn run(
        &self,
        place: &VolumeLocation,
        source: &DatastoreAccess,
        started: Timestamp,
        progress: Arc<dyn Progress>,
    ) -> Result<CopyOutcome, Problem> {
        if let Some(reason) = self.held(place, AttachmentCheck::Before)? {
            return Ok(CopyOutcome::deferred(reason));
        }
        let now = Timestamp::now();
        let fingerprint = place.fingerprint.digest();
        let (resumable, seen) = self.resumable(&fingerprint, now)?;
        // What is left of other copies was read from what the source was before: the lease is ours, nobody resumes it.
        let keep = resumable.as_ref().map(Incoming::transfer);
        match self.vault.clear_interrupted(&self.volume.id, keep) {
            Ok(0) => {}
            Ok(cleared) => {
                tracing::info!(volume = %self.volume.id, cleared, "interrupted copies of an earlier source are removed")
            }
            Err(error) => {
                let error = stackferry_transfer::describe(&error);
                tracing::warn!(volume = %self.volume.id, error, "an interrupted copy of an earlier source is removed later");
            }
        }
        let needed: u64 = place.files.iter().map(|file| file.allocated.unwrap_or(file.bytes).min(file.bytes)).sum();
        let incoming = match resumable {
            Some(incoming) => incoming,
            None => {
                // Nothing is begun where it is plain that there is no room.
                self.vault.check_space(needed)?;
                self.vault.begin(
                    &IncomingSpec {
                        volume: self.volume.id.clone(),
                        transfer: TransferId::new(rand::random()),
                        fingerprint,
                        settled: place.quiet || seen,
                        fence: self.lease.fence(),
                    },
                    now,
                )?
            }
        };
        if let Err(error) = incoming.reserve(needed) {
            // What an interrupted copy wrote goes on once there is room.
            if !incoming.is_resumed() {
                incoming.discard()?;
            }
            return Err(error.into());
        }
        let waited = match self.wait_until_settled(place, source) {
            Ok(waited) => waited,
            Err(problem) => return Err(self.give_up(incoming, problem)),
        };
        let base = self.base(source)?;
        let share = self.app.config().limits.memory.as_bytes() / u64::from(self.app.config().limits.transfers.max(1));
        let mut context = CopyContext::new(self.cancel.clone(), progress, share);
        context.throttle = self.app.throttle();
        context.used = Some(note_used(self.app));
        let job = FileCopier {
            app: self.app,
            volume: &self.volume.id,
            place,
            source,
            context: &context,
            base: base.as_ref(),
        };
        let mut copied = Vec::new();
        self.phases.enter(Phase::Transfer);
        let mut left_out = Vec::new();
        for file in &place.files {
            match job.copy(&incoming, file) {
                Ok(file) => copied.push(file),
                Err(problem) if file.role == FileRole::Sidecar && is_about_the_file(&problem) => {
                    left_out.push(self.left_out(file, &problem));
                    incoming.leave_out(&file.name)?;
                }
                Err(problem) => return Err(self.give_up(incoming, problem)),
            }
        }
        self.phases.enter(Phase::Check);
        if let Err(problem) = self.check_source(place, source, &incoming, &mut copied, &mut left_out) {
            return Err(self.give_up(incoming, problem));
        }
        let counts = |copied: &[CopiedFile]| {
            let mut all = ByteCounts::default();
            copied.iter().for_each(|file| all.add(&file.outcome.counts));
            all
        };
        let mut done = CopyOutcome {
            outcome: Outcome::Copied,
            version: None,
            route: source.route().as_str(),
            credentials: copied.iter().map(|file| file.outcome.credentials).sum(),
            bytes: counts(&copied),
            resumed: copied.iter().map(|file| file.resumed).sum(),
            took: Duration::ZERO,
            verify_method: None,
            reason: None,
            left_out,
        };
        if let Some(base) = &base {
            let records = records(&copied)?;
            if self.wanted.if_changed && self.is_same(base.manifest(), &records, &done.left_out, place) {
                drop(copied);
                incoming.discard()?;
                let version = base.manifest().version.clone();
                self.set_baseline(place, waited, &version)?;
                done.outcome = Outcome::Unchanged;
                done.version = Some(version);
                done.verify_method = Some(VerifyMethod::Arrival);
                return Ok(done);
            }
            self.phases.enter(Phase::Transfer);
            for file in &mut copied {
                let damaged = job.take_from_base(base, file)?;
                if !damaged.is_empty() {
                    self.mark_damaged(base, file, &damaged);
                }
            }
            done.bytes = counts(&copied);
            done.credentials = copied.iter().map(|file| file.outcome.credentials).sum();
            self.phases.enter(Phase::Check);
            // Blocks may have been read at the source again.
            if let Err(problem) = self.check_source(place, source, &incoming, &mut copied, &mut done.left_out) {
                return Err(self.give_up(incoming, problem));
            }
        }
        drop(base);
        if let Some(reason) = self.held(place, AttachmentCheck::After)? {
            // Somebody may have written to it while it was read: it is of no single moment.
            drop(copied);
            incoming.discard()?;
            return Ok(CopyOutcome { reason: Some(reason), outcome: Outcome::Deferred, ..done });
        }
        self.phases.enter(Phase::Commit);
        self.commit(place, waited, started, incoming, copied, done)
    }
}
