//! Copying one volume: from choosing where to read it to the committed version.
//!
//! Order, and why a crash at any point loses nothing and shows nothing half-made:
//!  1. The volume's lease is taken: nobody else copies it. It ends with this process.
//!  2. The vault learns of the volume; the attempt is recorded as open. A crash leaves an open attempt, which the next
//!     one closes as interrupted.
//!  3. Files are copied into the vault's incoming folder, with a journal; a crash leaves them there to be resumed.
//!  4. The source is looked at again: what changed meanwhile is thrown away, journal and all.
//!  5. The vault commits, after asking whether the lease is still ours. From here on the version exists.
//!  6. The catalog gets its row, the locations' baselines and the attempt's end. What keeps it from being written leaves
//!     a version without a row, which the next round or the next copy of the volume adds: it begins with that ([`reconcile`]).

mod commit;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use stackferry_catalog::{
    AttemptEnd, AttemptId, AuditAction, CatalogError, LastError, LeaseGuard, Outcome, Reason, Trigger,
};
use stackferry_discover::{State, Volume, VolumeFile, VolumeLocation};
use stackferry_transfer::{CopyContext, OnUse, Progress, TransferError};
use stackferry_vault::{GenerationRecord, Incoming, IncomingSpec, Place, Vault, VaultError, VolumeSpec};
use stackferry_volume::fingerprint::is_known;
use stackferry_volume::io::Cancel;
use stackferry_volume::manifest::{ByteCounts, FileRecord, FileRole, LeftOut, VerifyMethod};
use stackferry_volume::{Digest, Kind, Location, TransferId, VersionId, VolumeId};

use super::attached::{self, When};
use super::files::{Copied, Job};
use super::reconcile;
use super::round::{self, Decision, RoundOutcome, VolumeResult};
use super::windows::{self, Watch};
use crate::app::{self, App, PROGRAM, Source, blocking, mounts};
use crate::metrics::{Phase, Phases};
use crate::problem::{Code, Problem};

/// How long a file has to have had its time, where times are whole seconds, for a later change to have another one.
const UNSEEN: SignedDuration = SignedDuration::from_secs(2);

/// How a copy is wanted.
#[derive(Clone)]
pub struct Wanted {
    /// Makes no version where the source equals the last one.
    pub if_changed: bool,
    /// What wants it.
    pub trigger: Trigger,
    /// The name of who wants it, for the audit.
    pub actor: String,
    /// How long to wait for another copy of the volume to end.
    pub wait: Duration,
    /// Is told how it goes.
    pub progress: Arc<dyn Progress>,
}

/// What a copy came to. One that failed is a [`Problem`].
#[derive(Debug, Clone)]
pub struct Done {
    /// `Copied`, `Unchanged` or `Deferred`.
    pub outcome: Outcome,
    /// The version that was made, or that the source equals.
    pub version: Option<VersionId>,
    /// The route's word.
    pub route: &'static str,
    /// Credentials that opened a file.
    pub credentials: u64,
    /// The bytes of this run.
    pub bytes: ByteCounts,
    /// Bytes that an interrupted copy had left.
    pub resumed: u64,
    /// How long it took.
    pub took: Duration,
    /// How the version's blocks were checked.
    pub verify_method: Option<VerifyMethod>,
    /// Why it was deferred.
    pub reason: Option<Reason>,
    /// Files beside the disk that the version does not hold.
    pub left_out: Vec<LeftOut>,
}

impl Done {
    fn deferred(reason: Reason) -> Self {
        Self::untouched(Outcome::Deferred, None, Some(reason))
    }

    /// It turned out that there is nothing to do now.
    fn left(left: VolumeResult) -> Self {
        let outcome = match left.outcome {
            RoundOutcome::Unchanged => Outcome::Unchanged,
            _ => Outcome::Deferred,
        };
        Self::untouched(outcome, left.version, left.reason)
    }

    fn untouched(outcome: Outcome, version: Option<VersionId>, reason: Option<Reason>) -> Self {
        Self {
            outcome,
            version,
            route: "",
            credentials: 0,
            bytes: ByteCounts::default(),
            resumed: 0,
            took: Duration::ZERO,
            verify_method: None,
            reason,
            left_out: Vec::new(),
        }
    }
}

/// The places where a volume may be read now, the best first: one of `preferred`, and among equals by the cheapest route.
fn in_order<'v>(app: &App, volume: &'v Volume, preferred: &[Location]) -> Vec<&'v VolumeLocation> {
    let mut usable: Vec<&VolumeLocation> = volume.usable().collect();
    // Stable: datastores keep their configured order where the route is the same.
    usable.sort_by_key(|place| {
        let datastore = app.datastore(&place.location.site, &place.location.datastore);
        (!preferred.contains(&place.location), datastore.map(|datastore| datastore.route.kind()))
    });
    usable
}

/// Where a volume would be read now: what caps are counted by. None where it can't be read.
///
/// # Errors
/// The catalog's.
pub async fn first_place<'v>(app: &App, volume: &'v Volume) -> Result<Option<&'v VolumeLocation>, Problem> {
    let mut usable = volume.usable();
    Ok(match (usable.next(), usable.next()) {
        (only, None) => only,
        _ => in_order(app, volume, &changed_places(app, volume).await?).into_iter().next(),
    })
}

/// Where a volume is read.
///
/// # Errors
/// None of its places may be read: why, for the last.
pub fn choose(app: &App, volume: &Volume, preferred: &[Location]) -> Result<(VolumeLocation, Source), Problem> {
    let mut last = None;
    for place in in_order(app, volume, preferred) {
        let Some(datastore) = app.datastore(&place.location.site, &place.location.datastore) else { continue };
        match app.source(datastore) {
            Ok(source) => return Ok((place.clone(), source)),
            Err(problem) => last = Some(problem),
        }
    }
    Err(last.unwrap_or_else(|| Problem::not_protectable(&volume.id, "no place it lies at can be read now", None)))
}

/// The places of a volume that are not as they were when they were last read or found equal to a version: what is new
/// can only be had there. Where the copies of one volume differ, each of them is read in its turn.
async fn changed_places(app: &App, volume: &Volume) -> Result<Vec<Location>, Problem> {
    let baselines = app.catalog().baselines(&volume.id).await?;
    let as_it_was = |place: &VolumeLocation| {
        let mut own = baselines.iter().filter(|baseline| baseline.location == place.location);
        own.any(|baseline| baseline.settled && baseline.fingerprint == place.fingerprint)
    };
    Ok(volume.usable().filter(|place| !as_it_was(place)).map(|place| place.location.clone()).collect())
}

/// Copies a volume as discovery just saw it. Every failure is counted, and marks the volume, however early it came.
///
/// # Errors
/// Why nothing was committed. What can be resumed is kept.
pub async fn copy(app: &App, volume: &Volume, wanted: Wanted) -> Result<Done, Problem> {
    let trigger = wanted.trigger;
    match try_copy(app, volume, wanted).await {
        Ok(done) => Ok(done),
        Err(failure) => {
            if !failure.is_recorded {
                record_failure(app, &volume.id, trigger, &failure.problem).await;
            }
            Err(failure.problem)
        }
    }
}

/// Why a copy failed, and whether its attempt is in the catalog already.
struct Failure {
    problem: Problem,
    is_recorded: bool,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { problem, is_recorded: false }
    }
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        Problem::from(error).into()
    }
}

impl From<CatalogError> for Failure {
    fn from(error: CatalogError) -> Self {
        Problem::from(error).into()
    }
}

/// Counts a copy that failed before its attempt began, and records it as one, so that the volume shows it. What only has
/// to wait, was interrupted or can't be protected is no failure.
pub(crate) async fn record_failure(app: &App, volume: &VolumeId, trigger: Trigger, problem: &Problem) {
    if matches!(problem.code, Code::Busy | Code::LeaseLost | Code::Interrupted | Code::NotProtectable) {
        return;
    }
    drop(app.metrics().copy_began(volume, 0));
    app.metrics().copy_failed(volume.kind(), problem.code);
    let end = AttemptEnd {
        outcome: Outcome::Failed,
        version: None,
        error: Some(LastError { code: problem.code.to_string(), text: problem.message.clone() }),
        bytes: ByteCounts::default(),
        took: Duration::ZERO,
    };
    let catalog = app.catalog();
    let recorded = match catalog.start_attempt(volume, "", trigger).await {
        Ok(attempt) => catalog.finish_attempt(attempt, &end).await,
        Err(error) => Err(error),
    };
    if let Err(error) = recorded {
        tracing::error!(%volume, error = %stackferry_transfer::describe(&error), "the catalog could not record that a copy failed");
    }
}

async fn try_copy(app: &App, volume: &Volume, wanted: Wanted) -> Result<Done, Failure> {
    match volume.state {
        State::Unprotectable => {
            let why = volume.reason.as_ref().map_or("it can't be copied", |reason| reason.text.as_str());
            return Err(Problem::not_protectable(&volume.id, why, volume.remedy.as_deref()).into());
        }
        State::Deferred | State::Gone => {
            let reason = volume.reason.as_ref();
            return Ok(Done::deferred(Reason {
                code: reason.map_or_else(|| "missing".to_owned(), |reason| reason.code.to_string()),
                text: reason.map_or_else(|| "it is not at its source".to_owned(), |reason| reason.text.clone()),
            }));
        }
        State::Ready | State::Conflict | State::Incident => {}
    }
    let vault = app.vault().await?;
    let holder = format!("{PROGRAM} ({})", wanted.trigger);
    let lease = app.catalog().hold_lease(&format!("volume/{}", volume.id), &holder, wanted.wait).await?;
    // Whatever else is known of the volume rests on the catalog being in line with the vault: an earlier copy may have
    // committed a version and not have got its row written.
    reconcile::under_lease(app, &vault, &volume.id, &lease).await;
    // It may have waited for hours, and another process may have copied it meanwhile: only who holds the lease knows.
    if wanted.trigger == Trigger::Schedule
        && let Decision::Leave(left) = round::decide_again(app, volume).await?
    {
        release(&volume.id, lease).await;
        return Ok(Done::left(*left));
    }
    let changed = changed_places(app, volume).await?;
    let cancel = app.cancel().child();
    let lost = watch_lease(&cancel, &lease);
    // What a person asks for is done at any time of the day.
    let window = (wanted.trigger == Trigger::Schedule).then(|| Watch::start(app, volume.kind, &cancel));
    let lease = Arc::new(lease);
    let reading = Arc::new(Reading::default());
    let result = {
        let (copying, copied, lease) = (app.clone(), volume.clone(), Arc::clone(&lease));
        let (run_reading, run_cancel, kind, actor) =
            (Arc::clone(&reading), cancel.clone(), volume.kind, wanted.actor.clone());
        let work = move || {
            let (app, vault, volume) = (&copying, &vault, &copied);
            let (changed, lease, wanted, cancel, reading) = (&changed, &lease, &wanted, &run_cancel, &*run_reading);
            let phases = app.metrics().phases();
            Run { app, vault, volume, changed, lease, wanted, window, cancel, phases, reading }.copy()
        };
        let mut work = std::pin::pin!(blocking(work));
        tokio::select! {
            result = &mut work => result,
            problem = reading.stops_answering(app) => match reading.is_over.swap(true, Ordering::SeqCst) {
                // It ended in this very moment.
                true => work.await,
                // Its thread is left behind with the lease: until the mount answers nobody else begins. It commits nothing then.
                false => {
                    cancel.cancel();
                    let problem = about(problem, &volume.id);
                    reading.record_failure(app, kind, &volume.id, &actor, &problem).await;
                    Ok(Err(problem.into()))
                }
            },
        }
    };
    lost.abort();
    if let Some(lease) = Arc::into_inner(lease) {
        release(&volume.id, lease).await;
    }
    result?
}

/// What a copy reads from, seen from outside of its thread: a mount that does not answer holds the thread for ever.
#[derive(Default)]
struct Reading {
    mount: OnceLock<PathBuf>,
    attempt: OnceLock<AttemptId>,
    route: OnceLock<&'static str>,
    /// Whether what it came to is recorded: by its thread, or by who did not wait for that any more.
    is_over: AtomicBool,
}

impl Reading {
    /// Waits until the mount has not answered for too long. Never ends where none is read from.
    async fn stops_answering(&self, app: &App) -> Problem {
        loop {
            tokio::time::sleep(mounts::POLL_INTERVAL).await;
            let Some(mount) = self.mount.get() else { continue };
            let is_ending = app.cancel().is_cancelled();
            let within = if is_ending { mounts::NO_ANSWER_ENDING } else { mounts::NO_ANSWER_COPYING };
            match app.answers(mount, within) {
                Err(_) if is_ending => return Problem::interrupted("the copy"),
                Err(problem) => return problem,
                Ok(()) => {}
            }
        }
    }

    /// Records what its thread can't record.
    async fn record_failure(&self, app: &App, kind: Kind, volume: &VolumeId, actor: &str, problem: &Problem) {
        app.metrics().copy_failed(kind, problem.code);
        let end = failed(problem, Duration::ZERO);
        if let Some(attempt) = self.attempt.get()
            && let Err(error) = app.catalog().finish_attempt(*attempt, &end).await
        {
            tracing::error!(%volume, error = %stackferry_transfer::describe(&error), "the end of a copy could not be recorded");
        }
        let detail = json!({ "code": problem.code.as_str(), "route": self.route.get() });
        app::note(app.catalog(), AuditAction::CopyFailed, actor, &volume.to_string(), &detail).await;
    }
}

fn failed(problem: &Problem, took: Duration) -> AttemptEnd {
    AttemptEnd {
        outcome: Outcome::Failed,
        version: None,
        error: Some(LastError { code: problem.code.to_string(), text: problem.message.clone() }),
        bytes: ByteCounts::default(),
        took,
    }
}

/// It would end by itself; giving it back spares others the wait.
async fn release(volume: &VolumeId, lease: LeaseGuard) {
    if let Err(error) = lease.release().await {
        tracing::warn!(%volume, error = %stackferry_transfer::describe(&error), "a lease could not be given back");
    }
}

/// Without its lease a copy must not go on: another may have begun. What it would commit is refused anyway.
fn watch_lease(cancel: &Cancel, lease: &LeaseGuard) -> tokio::task::JoinHandle<()> {
    let (mut lost, cancel) = (lease.lost(), cancel.clone());
    tokio::spawn(async move {
        if lost.wait_for(|lost| *lost).await.is_ok() {
            cancel.cancel();
        }
    })
}

/// One copy, on a blocking thread.
struct Run<'a> {
    app: &'a App,
    vault: &'a Vault,
    volume: &'a Volume,
    changed: &'a [Location],
    lease: &'a LeaseGuard,
    wanted: &'a Wanted,
    window: Option<Watch>,
    cancel: &'a Cancel,
    phases: Phases,
    reading: &'a Reading,
}

impl Run<'_> {
    fn catalog<T>(&self, work: impl Future<Output = T>) -> T {
        self.app.runtime().block_on(work)
    }

    fn copy(&self) -> Result<Done, Failure> {
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
            place: Place {
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
                error: done.reason.clone().map(|reason| LastError { code: reason.code, text: reason.text }),
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
                return Err(Failure { problem: about(problem, &self.volume.id), is_recorded: ended.is_ok() });
            }
        };
        ended?;
        Ok(done)
    }

    /// A copy that was ended because its window is over goes on in the next one.
    fn unless_window_is_over(&self, problem: Problem) -> Result<Done, Problem> {
        let over = self.window.as_ref().is_some_and(Watch::is_over);
        match windows::closed(self.app, self.volume.kind) {
            Some(reason) if over && is_interrupted(&problem) && !self.app.cancel().is_cancelled() => {
                Ok(Done::deferred(reason))
            }
            _ => Err(problem),
        }
    }

    fn audit(&self, action: AuditAction, detail: &serde_json::Value) {
        let subject = self.volume.id.to_string();
        self.catalog(app::note(self.app.catalog(), action, &self.wanted.actor, &subject, detail));
    }

    /// The copy, with a writable disabled in App Volumes meanwhile where that is wanted.
    fn guarded(
        &self,
        place: &VolumeLocation,
        source: &Source,
        started: Timestamp,
        progress: Arc<dyn Progress>,
    ) -> Result<Done, Problem> {
        let guarded = self.catalog(attached::guard(self.app, self.volume))?;
        // However the copy ends, also by a panic.
        let _enabling = guarded.map(|guarded| attached::Enabling::new(self.app, guarded));
        self.run(place, source, started, progress)
    }

    /// Why it may not be copied after all.
    fn held(&self, place: &VolumeLocation, when: When) -> Result<Option<Reason>, Problem> {
        self.catalog(attached::look_again(self.app, self.volume, place, when))
    }

    fn run(
        &self,
        place: &VolumeLocation,
        source: &Source,
        started: Timestamp,
        progress: Arc<dyn Progress>,
    ) -> Result<Done, Problem> {
        if let Some(reason) = self.held(place, When::Before)? {
            return Ok(Done::deferred(reason));
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
        let job = Job { app: self.app, volume: &self.volume.id, place, source, context: &context, base: base.as_ref() };
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
        let counts = |copied: &[Copied]| {
            let mut all = ByteCounts::default();
            copied.iter().for_each(|file| all.add(&file.outcome.counts));
            all
        };
        let mut done = Done {
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
                self.set_baselines(place, waited, &version)?;
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
        if let Some(reason) = self.held(place, When::After)? {
            // Somebody may have written to it while it was read: it is of no single moment.
            drop(copied);
            incoming.discard()?;
            return Ok(Done { reason: Some(reason), outcome: Outcome::Deferred, ..done });
        }
        self.phases.enter(Phase::Commit);
        self.commit(place, waited, started, incoming, copied, done)
    }

    /// What an interrupted copy left that may be used, and whether the files were seen long enough before as they are now.
    ///
    /// What was read while a change could go unseen is thrown away: what would be read now may be another state of the
    /// disk. That it was seen so before says that no change goes unseen from now on.
    fn resumable(&self, fingerprint: &Digest, now: Timestamp) -> Result<(Option<Incoming>, bool), Problem> {
        let mut seen = false;
        while let Some(incoming) = self.vault.resumable(&self.volume.id, fingerprint, now)? {
            if incoming.is_settled() {
                return Ok((Some(incoming), true));
            }
            seen |= now.duration_since(incoming.started()) >= UNSEEN;
            tracing::info!(volume = %self.volume.id, "an interrupted copy was begun so soon after a change that a later one may have gone unseen; all is read again");
            incoming.discard()?;
        }
        Ok((None, seen))
    }

    /// Where a change right now could leave the files' times as they are, waits until it can't: what is read after that is
    /// of one state, or shows another time in the end. Gives whether it waited.
    fn wait_until_settled(&self, place: &VolumeLocation, source: &Source) -> Result<bool, Problem> {
        // Where times are not known, no waiting helps.
        let is_timed = place.files.iter().all(|file| is_known(file.mtime));
        if place.settled || !is_timed {
            return Ok(false);
        }
        self.check_disk(place, source)?;
        let until = Instant::now() + UNSEEN.unsigned_abs();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(true);
            }
            if self.cancel.is_cancelled() {
                return Err(TransferError::Cancelled.into());
            }
            std::thread::park_timeout(left.min(Duration::from_millis(50)));
        }
    }

    /// A file beside the disk that can't be had is no reason to have none of the disk.
    fn left_out(&self, file: &VolumeFile, problem: &Problem) -> LeftOut {
        let why = problem.message.clone();
        tracing::warn!(volume = %self.volume.id, file = %file.name, why, "a file beside the disk is left out of the version");
        LeftOut { file: file.name.clone(), why }
    }

    /// What a source that changed left is of no use; anything else may be resumed.
    fn give_up(&self, incoming: Incoming, problem: Problem) -> Problem {
        if matches!(problem.code, Code::SourceChanged | Code::SourceMissing)
            && let Err(error) = incoming.discard()
        {
            tracing::warn!(volume = %self.volume.id, error = %stackferry_transfer::describe(&error), "what was copied could not be thrown away; it is swept later");
        }
        problem
    }
}

/// Writes down that a credential was used, when it was: its time may be over long before the copy is. A failure to is
/// logged: the credential's issue is on record, and the copy itself is what it is.
pub(super) fn note_used(app: &App) -> OnUse {
    let app = app.clone();
    Arc::new(move |name| {
        if let Err(error) = app.runtime().block_on(app.catalog().credential_used(name)) {
            tracing::error!(credential = name, error = %stackferry_transfer::describe(&error), "the use of a credential could not be recorded");
        }
    })
}

fn records(copied: &[Copied]) -> Result<Vec<FileRecord>, Problem> {
    let records: Option<Vec<_>> = copied.iter().map(Copied::record).collect();
    records.ok_or_else(|| Problem::internal("a copy ended with blocks missing"))
}

/// Whether a problem is one of the file that was read alone, not of the datastore or the vault.
fn is_about_the_file(problem: &Problem) -> bool {
    use Code::{PermissionDenied, SourceChanged, SourceMissing, SourceRefused, SourceUnreadable};
    matches!(problem.code, PermissionDenied | SourceChanged | SourceMissing | SourceRefused | SourceUnreadable)
}

/// Whether a copy that failed so was ended by a person or the system, and not by what it copied.
#[must_use]
pub fn is_interrupted(problem: &Problem) -> bool {
    problem.code == Code::Interrupted
}

/// A problem of one volume names it, if not as its subject then in its message.
fn about(mut problem: Problem, volume: &VolumeId) -> Problem {
    let name = volume.to_string();
    match &problem.subject {
        None => problem.subject(name),
        Some(_) if problem.message.contains(&name) => problem,
        Some(_) => {
            problem.message = format!("{name}: {}", problem.message);
            problem
        }
    }
}

/// The bytes of a volume's files, for showing how far its copy is.
#[must_use]
pub fn choose_bytes(volume: &Volume) -> u64 {
    volume.usable().next().map_or(0, |place| place.files.iter().map(|file| file.bytes).sum())
}
