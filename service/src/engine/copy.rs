//! Copying one volume: from choosing where to read it to the committed version.
//!
//! Order, and why a crash at any point loses nothing and shows nothing half-made:
//!  1. The volume's lease is taken: nobody else copies it. It ends with this process.
//!  2. The vault learns of the volume; the attempt is recorded as open. A crash leaves an open attempt, which the next
//!     one closes as interrupted.
//!  3. Files are copied into the vault's incoming folder, with a journal; a crash leaves them there to be resumed.
//!  4. The source is looked at again: what changed meanwhile is thrown away, journal and all.
//!  5. The vault commits, after asking whether the lease is still ours. From here on the version exists.
//!  6. The catalog gets its row, the locations' baselines and the attempt's end. A crash between 5 and 6 leaves a version
//!     without a row, which the next start adds.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use stackferry_catalog::{
    AttemptEnd, AuditAction, Baseline, LastError, LeaseGuard, Outcome, Reason, Trigger, VersionRow,
};
use stackferry_discover::{State, Volume, VolumeLocation};
use stackferry_transfer::{CopyContext, OnUse, Progress, TransferError};
use stackferry_vault::{GenerationRecord, Incoming, IncomingSpec, Place, Vault, Version, VolumeSpec};
use stackferry_volume::descriptor::Descriptor;
use stackferry_volume::io::{Cancel, MAX_SMALL_READ, Source as _};
use stackferry_volume::manifest::{ByteCounts, FORMAT, FileRecord, FileRole, VerifyMethod};
use stackferry_volume::{Location, Manifest, TransferId, VersionId, VolumeId};

use super::attached::{self, When};
use super::files::{Copied, Job};
use super::incident;
use super::round::{self, Decision, RoundOutcome, VolumeResult};
use super::windows::{self, Watch};
use crate::app::{App, PROGRAM, Source, blocking};
use crate::problem::{Code, Problem};

/// How a copy is wanted.
#[derive(Clone)]
pub struct Wanted {
    /// Makes no version where the source equals the last one.
    pub if_changed: bool,
    /// Who wants it.
    pub trigger: Trigger,
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
        }
    }
}

/// Where a volume is read: of the locations that may be read now one of `preferred`, and among equals by the cheapest
/// route.
///
/// # Errors
/// None may be read: why, for each.
pub fn choose(app: &App, volume: &Volume, preferred: &[Location]) -> Result<(VolumeLocation, Source), Problem> {
    let mut usable: Vec<&VolumeLocation> = volume.usable().collect();
    // Stable: datastores keep their configured order where the route is the same.
    usable.sort_by_key(|place| {
        let datastore = app.datastore(&place.location.site, &place.location.datastore);
        (!preferred.contains(&place.location), datastore.map(|datastore| datastore.route.kind()))
    });
    let mut last = None;
    for place in usable {
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

/// Copies a volume as discovery just saw it.
///
/// # Errors
/// Why nothing was committed. What can be resumed is kept.
pub async fn copy(app: &App, volume: &Volume, wanted: Wanted) -> Result<Done, Problem> {
    match volume.state {
        State::Unprotectable => {
            let why = volume.reason.as_ref().map_or("it can't be copied", |reason| reason.text.as_str());
            return Err(Problem::not_protectable(&volume.id, why, volume.remedy.as_deref()));
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
    // It may have waited for hours, and another process may have copied it meanwhile: only who holds the lease knows.
    if wanted.trigger == Trigger::Schedule
        && let Decision::Leave(left) = round::decide_again(app, volume).await?
    {
        release(&volume.id, lease).await;
        return Ok(Done::left(left));
    }
    let changed = changed_places(app, volume).await?;
    let cancel = app.cancel().child();
    let lost = watch_lease(&cancel, &lease);
    // What a person asks for is done at any time of the day.
    let window = (wanted.trigger == Trigger::Schedule).then(|| Watch::start(app, volume.kind, &cancel));
    let lease = Arc::new(lease);
    let result = {
        let (app, volume, lease) = (app.clone(), volume.clone(), Arc::clone(&lease));
        let work = move || {
            let (app, vault, volume) = (&app, &vault, &volume);
            let (changed, lease, wanted) = (&changed, &lease, &wanted);
            Run { app, vault, volume, changed, lease, wanted, window, cancel: &cancel }.copy()
        };
        blocking(work).await
    };
    lost.abort();
    if let Some(lease) = Arc::into_inner(lease) {
        release(&volume.id, lease).await;
    }
    result?
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
}

impl Run<'_> {
    fn catalog<T>(&self, work: impl Future<Output = T>) -> T {
        self.app.runtime().block_on(work)
    }

    fn copy(&self) -> Result<Done, Problem> {
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
        let metrics = self.app.metrics();
        let _running = metrics.copy_began(self.volume.kind);
        let mut result = self.guarded(&place, &source, started).or_else(|problem| self.unless_window_is_over(problem));
        if let Ok(done) = &mut result {
            done.took = began.elapsed();
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
            Err(problem) => AttemptEnd {
                outcome: Outcome::Failed,
                version: None,
                error: Some(LastError { code: problem.code.to_string(), text: problem.message.clone() }),
                bytes: ByteCounts::default(),
                took: began.elapsed(),
            },
        };
        let ended = self.catalog(catalog.finish_attempt(attempt, &end));
        let done = match result {
            Ok(done) => done,
            Err(problem) if is_interrupted(&problem) && self.lease.is_lost() => {
                return Err(Problem::new(Code::LeaseLost, "another process took this volume over")
                    .subject(&self.volume.id)
                    .hint("it copies the volume; if this machine was suspended or its clock set, try again"));
            }
            Err(problem) => {
                let detail = json!({ "code": problem.code.as_str(), "route": route });
                self.audit(AuditAction::CopyFailed, &detail);
                return Err(about(problem, &self.volume.id));
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

    /// A record that can't be written is logged: what it tells of has happened.
    fn audit(&self, action: AuditAction, detail: &serde_json::Value) {
        let subject = self.volume.id.to_string();
        let actor = self.wanted.trigger.to_string();
        if let Err(error) = self.catalog(self.app.catalog().audit(action, &actor, &subject, detail)) {
            tracing::error!(subject, error = %stackferry_transfer::describe(&error), "an audit record could not be written");
        }
    }

    /// The copy, with a writable disabled in App Volumes meanwhile where that is wanted.
    fn guarded(&self, place: &VolumeLocation, source: &Source, started: Timestamp) -> Result<Done, Problem> {
        let guarded = self.catalog(attached::guard(self.app, self.volume))?;
        let result = self.run(place, source, started);
        if let Some(guarded) = guarded {
            self.catalog(attached::unguard(self.app, guarded));
        }
        result
    }

    /// Why it may not be copied after all.
    fn held(&self, place: &VolumeLocation, when: When) -> Result<Option<Reason>, Problem> {
        self.catalog(attached::look_again(self.app, self.volume, place, when))
    }

    fn run(&self, place: &VolumeLocation, source: &Source, started: Timestamp) -> Result<Done, Problem> {
        if let Some(reason) = self.held(place, When::Before)? {
            return Ok(Done::deferred(reason));
        }
        let now = Timestamp::now();
        let fingerprint = place.fingerprint.digest();
        let resumable = self.vault.resumable(&self.volume.id, &fingerprint, now)?;
        let needed: u64 = place.files.iter().map(|file| file.allocated.unwrap_or(file.bytes).min(file.bytes)).sum();
        // What an interrupted copy wrote is there already; how much is known only after hashing it.
        self.vault.check_space(if resumable.is_some() { 0 } else { needed })?;
        let incoming = match resumable {
            Some(incoming) => incoming,
            None => self.vault.begin(
                &IncomingSpec {
                    volume: self.volume.id.clone(),
                    transfer: TransferId::new(rand::random()),
                    fingerprint,
                    fence: self.lease.fence(),
                },
                now,
            )?,
        };
        let base = self.base(source)?;
        let share = self.app.config().limits.memory.as_bytes() / u64::from(self.app.config().limits.transfers.max(1));
        let mut context = CopyContext::new(self.cancel.clone(), Arc::clone(&self.wanted.progress), share);
        context.throttle = self.app.throttle();
        context.used = Some(note_used(self.app));
        let job = Job { app: self.app, volume: &self.volume.id, place, source, context: &context, base: base.as_ref() };
        let mut copied = Vec::new();
        for file in &place.files {
            match job.copy(&incoming, file) {
                Ok(file) => copied.push(file),
                Err(problem) => return Err(self.give_up(incoming, problem)),
            }
        }
        if let Err(problem) = self.check_source(place, source, &copied) {
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
        };
        if let Some(base) = &base {
            let records = records(&copied)?;
            if self.wanted.if_changed && self.is_same(base.manifest(), &records, place) {
                drop(copied);
                incoming.discard()?;
                let version = base.manifest().version.clone();
                self.set_baselines(place, &version)?;
                done.outcome = Outcome::Unchanged;
                done.version = Some(version);
                done.verify_method = Some(VerifyMethod::Arrival);
                return Ok(done);
            }
            for file in &mut copied {
                let damaged = job.take_from_base(base, file)?;
                if !damaged.is_empty() {
                    self.mark_damaged(base, file, &damaged);
                }
            }
            done.bytes = counts(&copied);
            done.credentials = copied.iter().map(|file| file.outcome.credentials).sum();
            // Blocks may have been read at the source again.
            if let Err(problem) = self.check_source(place, source, &copied) {
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
        self.commit(place, started, incoming, copied, done)
    }

    /// The last good version of this life of the volume, where comparing with it saves something: a version that need
    /// not be made, or bytes that need not be sent.
    fn base(&self, source: &Source) -> Result<Option<Version>, Problem> {
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
    fn is_same(&self, base: &Manifest, records: &[FileRecord], place: &VolumeLocation) -> bool {
        if base.same_content(records) {
            return true;
        }
        let is_replica = self.volume.kind.is_replicated() && base.location != place.location;
        let without_descriptor = |files: &[FileRecord]| {
            let others = files.iter().filter(|file| file.role != FileRole::Descriptor);
            others.map(|file| (file.name.clone(), file.blake3)).collect::<std::collections::BTreeMap<_, _>>()
        };
        is_replica && without_descriptor(&base.files) == without_descriptor(records)
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

    /// The source is still what it was when discovery looked, and the descriptor that was copied is the one that
    /// discovery read.
    fn check_source(&self, place: &VolumeLocation, source: &Source, copied: &[Copied]) -> Result<(), Problem> {
        let folder = source.folder();
        let changed =
            |file: &str, what: String| TransferError::SourceChanged { file: place.location.sibling(file), what };
        for file in &place.files {
            let name = file.name.as_str();
            let now = folder.stat(&place.location.sibling(name))?;
            let now = now.ok_or_else(|| changed(name, "it is gone".to_owned()))?;
            if now.bytes != file.bytes || now.mtime != file.mtime {
                return Err(changed(name, format!("it was changed at {}", now.mtime)).into());
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
            let cid = Descriptor::parse(&text, &file.file.name).ok().map(|descriptor| descriptor.cid);
            if cid != place.fingerprint.cid {
                return Err(changed(file.file.name.as_str(), "its content id is another one".to_owned()).into());
            }
        }
        Ok(())
    }

    fn mark_damaged(&self, base: &Version, file: &Copied, blocks: &[stackferry_volume::BlockIndex]) {
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

    fn commit(
        &self,
        place: &VolumeLocation,
        started: Timestamp,
        mut incoming: Incoming,
        copied: Vec<Copied>,
        mut done: Done,
    ) -> Result<Done, Problem> {
        let files = records(&copied)?;
        // The vault commits only when nobody can write to the files any more.
        drop(copied);
        let ended = Timestamp::now();
        let settings = self.app.config().vault()?;
        let lock = settings.lock.and_then(|lock| ended.checked_add(lock.duration()).ok());
        let version = incoming.allocate(ended, lock)?;
        let read_back = settings.read_back;
        let verify_method = if read_back { VerifyMethod::ReadBack } else { VerifyMethod::Arrival };
        let incident = incident::found(self.vault, self.volume, &files)?;
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
        };
        let mut fence = || match self.catalog(self.lease.check()) {
            Ok(true) => Ok(()),
            Ok(false) => Err("its lease was taken over".into()),
            Err(error) => Err(error.into()),
        };
        incoming.commit(&manifest, &mut fence)?;
        self.catalog(self.app.catalog().add_version(&row))?;
        self.set_baselines(place, &version)?;
        let detail = json!({
            "version": version.to_string(), "route": done.route, "location": place.location.to_string(),
            "read": done.bytes.read, "wire": done.bytes.wire, "stored": done.bytes.stored,
        });
        self.audit(AuditAction::Copied, &detail);
        if let Some(why) = &manifest.incident {
            tracing::error!(volume = %self.volume.id, %version, why, "an incident: a read-only disk changed by no one's order; it is kept as a version of its own");
            self.audit(AuditAction::IncidentFound, &json!({ "version": version.to_string(), "why": why }));
            self.catalog(incident::mark(self.app, self.volume, &version, why))?;
        }
        done.version = Some(version);
        done.verify_method = Some(verify_method);
        Ok(done)
    }

    /// From now on an equal fingerprint at any of the places where the volume was seen means that nothing changed there:
    /// they were found to hold one disk.
    fn set_baselines(&self, place: &VolumeLocation, version: &VersionId) -> Result<(), Problem> {
        let seen = self.volume.locations.iter().filter(|other| {
            let agree = matches!(self.volume.state, State::Ready | State::Incident);
            other.location == place.location || (other.seen && agree)
        });
        let baselines: Vec<Baseline> = seen
            .map(|other| Baseline {
                location: other.location.clone(),
                fingerprint: other.fingerprint.clone(),
                version: version.clone(),
                settled: other.settled,
            })
            .collect();
        Ok(self.catalog(self.app.catalog().set_baselines(&self.volume.id, &baselines))?)
    }
}

/// Writes down that a credential was used, when it was: its time may be over long before the copy is. A failure to is
/// logged: the credential's issue is on record, and the copy itself is what it is.
fn note_used(app: &App) -> OnUse {
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
