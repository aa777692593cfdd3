//! The service works on the queue: claims what may begin, within the caps, does it, and writes down what it came to.
//!
//! A crash at any point loses no job and does none twice: a claim is durable before its work begins, a job of a process that is
//! no more is queued again, and a copy that was cut off goes on from its journal. Worker that was done but not yet written
//! down is done again: a copy then finds that nothing changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use stackferry_catalog::{CatalogError, Claim, Job, JobKind, JobState, LeaseGuard, StatusReason};
use stackferry_volume::Kind;
use tokio::task::{Id, JoinError, JoinSet};

use crate::about::PROGRAM;
use crate::app::App;
use crate::execute::{self, Ended, LatestScan};
use crate::jobs::{Begun, SERVICE_LEASE};
use crate::windows;
use stackferry_problem::progress::Reporter;
use stackferry_problem::{Code, Problem};

/// How long jobs may take to end when the service ends. One that reads from a disk that hangs is not waited for: it
/// leaves what the end of the machine would leave.
const DRAIN: Duration = Duration::from_secs(8);
/// How often jobs of processes that are no more are looked for, and the service's lease is asked for where another has it.
const TAKE_OVER: Duration = Duration::from_secs(5);
/// So many jobs that are no copies run beside the copies: they use the vault's disk, not the hosts.
const ASIDE: u32 = 2;
/// What runs beside the copies.
const KINDS_ASIDE: &[JobKind] = &[JobKind::Verify, JobKind::RestoreTest, JobKind::Prune];
/// So many restores run beside all that: somebody waits for each, and reading back all versions takes hours.
const RESTORES: u32 = 2;

/// Every kind of volume.
const KINDS: [Kind; 5] = [Kind::Appstack, Kind::Package, Kind::Writable, Kind::Template, Kind::Image];

/// What waits in the catalog, and what runs here.
pub struct Worker {
    app: App,
    reporter: Reporter,
    known: Option<Arc<LatestScan>>,
    running: JoinSet<Ended>,
    jobs: HashMap<Id, (Job, Begun)>,
    /// Jobs that ended, and whose end could not be written down yet.
    unwritten: Vec<(Job, Ended)>,
    lease: Option<LeaseGuard>,
    took_over: Option<Instant>,
}

type JoinedJob = Result<(Id, Ended), JoinError>;

impl Worker {
    /// Works for nobody yet.
    #[must_use]
    pub fn new(app: &App, reporter: &Reporter) -> Self {
        Self {
            app: app.clone(),
            reporter: reporter.clone(),
            known: None,
            running: JoinSet::new(),
            jobs: HashMap::new(),
            unwritten: Vec::new(),
            lease: None,
            took_over: None,
        }
    }

    /// What begins from now on works by this configuration.
    pub fn reconfigured(&mut self, app: &App) {
        self.app = app.clone();
    }

    /// A look at the sources ended.
    pub fn knows(&mut self, known: LatestScan) {
        self.known = Some(Arc::new(known));
    }

    /// Whether somebody wants a copy, and the sources were not looked at since.
    pub async fn needs_look(&self) -> bool {
        let Some(known) = &self.known else { return false };
        let wanted = self.app.catalog().is_copy_requested_after(known.job).await;
        wanted.inspect_err(|error| not_done("looking for wanted copies", error)).unwrap_or(false)
    }

    /// Waits until a job ends; for ever where none runs.
    pub async fn join(&mut self) -> JoinedJob {
        match self.running.join_next_with_id().await {
            Some(joined) => joined,
            None => std::future::pending().await,
        }
    }

    /// What is done now and then: what somebody wants to end is ended, what others left is taken over.
    pub async fn tick(&mut self) {
        match self.app.catalog().jobs_to_cancel().await {
            Ok(ids) => {
                let running = self.jobs.values().filter(|(job, _)| ids.contains(&job.id));
                running.for_each(|(_, begun)| begun.live().cancel().cancel());
            }
            Err(error) => not_done("looking for jobs to cancel", &error),
        }
        for (job, ended) in std::mem::take(&mut self.unwritten) {
            self.write(job, ended).await;
        }
        if self.took_over.is_none_or(|at| at.elapsed() >= TAKE_OVER) {
            self.took_over = Some(Instant::now());
            match self.app.catalog().requeue_abandoned_jobs().await {
                Ok(ids) => {
                    ids.iter().for_each(|id| tracing::info!(job = %id, "a job that was cut off is queued again"))
                }
                Err(error) => not_done("taking jobs over", &error),
            }
            self.hold_lease().await;
            self.app.metrics().leads(self.lease.as_ref().is_some_and(|lease| !lease.is_lost()));
        }
    }

    /// Commands see by it that a service runs. Where another service has it, that one is as good.
    async fn hold_lease(&mut self) {
        if self.lease.as_ref().is_some_and(|lease| !lease.is_lost()) {
            return;
        }
        match self.app.catalog().hold_lease(SERVICE_LEASE, PROGRAM, Duration::ZERO).await {
            Ok(lease) => self.lease = Some(lease),
            Err(CatalogError::LeaseBusy(_)) => {}
            Err(error) => not_done("taking the service's lease", &error),
        }
    }

    /// Begins what waits, as far as there is room.
    pub async fn start(&mut self) {
        if self.app.cancel().is_cancelled() {
            return;
        }
        let limits = self.app.config().limits.clone();
        for (kinds, most) in [(&[JobKind::Restore][..], RESTORES), (KINDS_ASIDE, ASIDE)] {
            let aside =
                Claim { kinds, most, per_host: most, per_datastore: None, planned: true, closed: &[], known: None };
            self.claim(&aside).await;
        }
        if let Some(known) = &self.known {
            let mut closed: Vec<Kind> = KINDS.into();
            closed.retain(|kind| windows::closed(self.app.config(), &self.app.local_time(), *kind).is_some());
            let copies = Claim {
                kinds: &[JobKind::Copy],
                most: limits.transfers.max(1),
                per_host: limits.per_host.max(1),
                per_datastore: limits.per_datastore,
                planned: true,
                closed: &closed,
                known: Some(known.job),
            };
            self.claim(&copies).await;
        }
        match self.app.catalog().queued_copies().await {
            Ok(waiting) => self.app.metrics().waiting(usize::try_from(waiting).unwrap_or(usize::MAX)),
            Err(error) => not_done("counting the queue", &error),
        }
    }

    async fn claim(&mut self, claim: &Claim<'_>) {
        loop {
            match self.app.catalog().claim_job(claim).await {
                Ok(Some(job)) => self.begin(job),
                Ok(None) => return,
                Err(error) => return not_done("claiming a job", &error),
            }
        }
    }

    fn begin(&mut self, job: Job) {
        let cancel = self.app.cancel().child();
        let app = self.app.with_cancel(cancel.clone());
        let begun = app.jobs().begin(&job, cancel);
        let (live, known, reporter) = (Arc::clone(begun.live()), self.known.clone(), self.reporter.clone());
        let task = {
            let job = job.clone();
            async move { execute::run(&app, &job, &live, known.as_deref(), &reporter).await }
        };
        self.jobs.insert(self.running.spawn(task).id(), (job, begun));
    }

    /// A job ended.
    pub async fn ended(&mut self, joined: JoinedJob) {
        let (id, ended) = match joined {
            Ok((id, ended)) => (id, ended),
            // The panic is in the log; the others go on.
            Err(error) => (error.id(), Ended::Again(Problem::internal(format!("a job failed: {error}")))),
        };
        let Some((job, begun)) = self.jobs.remove(&id) else { return };
        if ended.is_failure() {
            self.app.metrics().job_failed(job.kind);
        }
        tell(&job, &ended, begun.live().cancel().is_cancelled() && !self.app.cancel().is_cancelled());
        drop(begun);
        self.write(job, ended).await;
    }

    /// Writes down what a job came to. Where that fails now, it is tried again: until then the job counts as running.
    async fn write(&mut self, job: Job, ended: Ended) {
        let catalog = self.app.catalog();
        let written = match &ended {
            Ended::Over(end, _) => catalog.finish_job(job.id, end).await,
            Ended::Back => catalog.requeue_job(job.id, None, None).await,
            Ended::Again(problem) => {
                let error = StatusReason { code: problem.code.to_string(), text: problem.message.clone() };
                let later = Ended::not_before(problem, &job, Timestamp::now());
                catalog.requeue_job(job.id, Some(&error), Some(later)).await
            }
        };
        if let Err(error) = written {
            not_done("recording how a job ended", &error);
            self.unwritten.push((job, ended));
            return;
        }
        if let Ended::Again(problem) = &ended {
            self.app.metrics().retried(problem.code);
        }
        let state = match ended {
            Ended::Over(end, _) => end.state,
            // It may have been cancelled meanwhile: who watches reads it.
            Ended::Back | Ended::Again(_) => JobState::Queued,
        };
        self.app.jobs().tell_of(&job, state);
    }

    /// The service ends: what runs is given a moment to end, and goes back into the queue.
    pub async fn drain(&mut self) {
        if !self.jobs.is_empty() {
            tracing::info!(running = self.jobs.len(), "the service ends; what was copied so far is kept");
        }
        let ended = async {
            while let Some(joined) = self.running.join_next_with_id().await {
                self.ended(joined).await;
            }
        };
        if tokio::time::timeout(DRAIN, ended).await.is_err() {
            for (job, _) in self.jobs.values() {
                tracing::warn!(job = %job.id, kind = %job.kind, "it did not end in time; the next start goes on with it");
            }
        }
        for (job, ended) in std::mem::take(&mut self.unwritten) {
            self.write(job, ended).await;
        }
        if let Some(lease) = self.lease.take()
            && let Err(error) = lease.release().await
        {
            not_done("giving the service's lease back", &error);
        }
    }
}

fn not_done(what: &str, error: &CatalogError) {
    tracing::error!(error = %stackferry_transfer::describe(error), "{what} failed; it is tried again");
}

fn tell(job: &Job, ended: &Ended, is_cancelled: bool) {
    let (id, kind) = (job.id, job.kind);
    let volume = job.volume.as_ref().map(tracing::field::display);
    match ended {
        Ended::Back if is_cancelled => tracing::info!(job = %id, %kind, volume, "it was cancelled"),
        Ended::Back => tracing::info!(job = %id, %kind, volume, "it was interrupted; it goes on from where it was"),
        Ended::Again(problem) if matches!(problem.code, Code::Busy | Code::LeaseLost) => {
            tracing::info!(job = %id, %kind, volume, "another process works on it");
        }
        Ended::Again(problem) => {
            let again = Ended::not_before(problem, job, Timestamp::now());
            let code = problem.code;
            tracing::error!(job = %id, %code, volume, hint = problem.hint, %again, "a {kind} failed: {}", problem.message);
        }
        Ended::Over(_, Some(problem)) => {
            let code = problem.code;
            tracing::error!(job = %id, %code, volume, hint = problem.hint, "a {kind} failed: {}", problem.message);
        }
        Ended::Over(end, None) => {
            let (outcome, why) = (end.outcome.as_deref(), end.error.as_ref());
            match (end.state, why) {
                (JobState::Failed, Some(why)) => {
                    tracing::error!(job = %id, code = why.code, volume, "a {kind} failed: {}", why.text);
                }
                (_, Some(why)) => {
                    tracing::info!(job = %id, volume, reason = why.code, "it is left for later: {}", why.text);
                }
                (_, None) => tracing::debug!(job = %id, %kind, volume, outcome, "a job is done"),
            }
        }
    }
}
