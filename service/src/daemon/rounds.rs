//! The service's loop: a round of discovery by the clock, which puts what is due into the queue, and beside it the work on the
//! queue. A copy that takes hours does not hold up discovery, nor other copies.
//!
//! All intervals are counted by the monotonic clock: a clock that is set does neither freeze nor hurry the loop.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use stackferry_catalog::{JobFilter, JobKind, JobState, NewJob, Priority, Trigger, VolumeRow};
use stackferry_config::KindKey;
use stackferry_discover::{ScanProblem, Volume};
use stackferry_volume::{ReasonCode, VolumeId};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};

use super::clock_guard::ClockGuard;
use super::maintenance::Maintenance;
use super::reload::{self, Hangups, Reload};
use super::watch::watch;
use super::{Health, asked_to_end, shortest_interval};
use stackferry_engine::app::App;
use stackferry_engine::copy::first_place;
use stackferry_engine::decide::{Decision, RoundOutcome, decide};
use stackferry_engine::execute::LatestScan;
use stackferry_engine::housekeeping::Housekeeping;
use stackferry_engine::inventory::Round;
use stackferry_engine::kinds::config_kind;
use stackferry_engine::reconcile;
use stackferry_engine::round;
use stackferry_engine::worker::Worker;
use stackferry_engine::{cleanups, inventory};
use stackferry_problem::Problem;
use stackferry_problem::progress::Reporter;

/// How often the queue is looked at for what other processes put into it or want to end.
const POLL: Duration = Duration::from_millis(500);
/// So many wishes are placed after one look; more wait for the next.
const MOST_PLACED: u32 = 1000;
/// Looks for the sake of what somebody wants to have copied are so far apart at least.
const WISHES_APART: Duration = Duration::from_secs(1);

/// Runs until the end is asked for, and until what runs has ended.
pub(super) async fn run(app: &App, reporter: &Reporter, health: &Arc<Health>, reload: Option<&Reload>) {
    let mut app = app.clone();
    let mut ticks = rounds_of(&app);
    let mut polls = tokio::time::interval(POLL);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks: JoinSet<(Looker, Result<LatestScan, Problem>)> = JoinSet::new();
    let mut looker = Some(Looker::new(&app, health));
    let mut work = Worker::new(&app, reporter);
    let mut hangups = Hangups::listen();
    let mut clock_guard = ClockGuard::new(&app);
    let mut maintenance = Maintenance::default();
    let changed = Arc::new(Notify::new());
    let mut _watching = watch(&app, shortest_interval(app.config()), &changed);
    let mut looked = Instant::now();
    loop {
        let mut wanted = false;
        tokio::select! {
            () = asked_to_end(app.cancel()) => break,
            _ = ticks.tick(), if looks.is_empty() => {
                looked = Instant::now();
                let looker = looker.take().unwrap_or_else(|| Looker::new(&app, health));
                looks.spawn(looker.round());
            }
            () = changed.notified(), if looks.is_empty() => wanted = true,
            _ = polls.tick() => {
                health.beat();
                clock_guard.look(&app).await;
                app.set_bandwidth();
                work.tick().await;
                maintenance.tick(&app).await;
                wanted = looks.is_empty() && looked.elapsed() >= WISHES_APART && work.needs_look().await;
            }
            () = app.jobs().woken() => {}
            () = hangups.next(), if reload.is_some() => if let Some(next) = reload::reload(&app, reload).await {
                app = next;
                ticks = rounds_of(&app);
                health.set_every(shortest_interval(app.config()));
                _watching = watch(&app, shortest_interval(app.config()), &changed);
                looker = looker.map(|_| Looker::new(&app, health));
                work.reconfigured(&app);
            },
            Some(ended) = looks.join_next() => match ended {
                Ok((back, result)) => {
                    // One that looked by a configuration that is over is of no more use.
                    looker = back.is_of(&app).then_some(back);
                    match result {
                        Ok(known) => work.knows(known),
                        // The next round tries again: a vault that is mounted late, a database that was locked.
                        Err(problem) => tell("a round failed", None, &problem),
                    }
                }
                Err(error) => tracing::error!(%error, "a round failed; the next one begins afresh"),
            },
            joined = work.join() => work.ended(joined).await,
        }
        if wanted {
            looked = Instant::now();
            let mut looker = looker.take().unwrap_or_else(|| Looker::new(&app, health));
            // Whatever changed may make a volume of any kind due, or free one that was held.
            looker.decided.clear();
            looks.spawn(looker.round());
        }
        work.start().await;
    }
    looks.abort_all();
    work.drain().await;
}

fn rounds_of(app: &App) -> Interval {
    let mut ticks = tokio::time::interval(shortest_interval(app.config()));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn tell(what: &str, volume: Option<&VolumeId>, problem: &Problem) {
    let volume = volume.map(tracing::field::display);
    tracing::error!(volume, code = %problem.code, hint = problem.hint, "{what}: {}", problem.message);
}

/// What discovery keeps from round to round.
struct Looker {
    app: App,
    health: Arc<Health>,
    housekeeping: Housekeeping,
    /// What was compared with the vault.
    compared: reconcile::ReconcileWatch,
    /// When volumes of each kind were last decided about.
    decided: HashMap<KindKey, Instant>,
    /// What was told in the last round: the same is not told again.
    told: BTreeSet<(String, String)>,
}

impl Looker {
    fn new(app: &App, health: &Arc<Health>) -> Self {
        Self {
            app: app.clone(),
            health: Arc::clone(health),
            housekeeping: Housekeeping::default(),
            compared: reconcile::ReconcileWatch::default(),
            decided: HashMap::new(),
            told: BTreeSet::new(),
        }
    }

    /// Whether it looks by the configuration that holds.
    fn is_of(&self, app: &App) -> bool {
        std::ptr::eq(self.app.config(), app.config())
    }

    /// A look that fails is told to those who wait for it; the error is one of the catalog, which nobody can be told by.
    async fn round(mut self) -> (Self, Result<LatestScan, Problem>) {
        let job = match self.app.catalog().newest_job().await {
            Ok(job) => job,
            Err(error) => return (self, Err(error.into())),
        };
        let known = match self.look().await {
            Ok(round) => LatestScan { job, round: Some(round), failed: None },
            Err(problem) => {
                self.health.round_failed(&problem.message);
                tell("a round failed", None, &problem);
                LatestScan { job, round: None, failed: Some(problem) }
            }
        };
        (self, Ok(known))
    }

    async fn look(&mut self) -> Result<Round, Problem> {
        let vault = self.app.vault().await.inspect_err(|problem| self.health.vault_failed(&problem.message))?;
        self.housekeeping.run(&self.app, &vault).await?;
        self.compared.round(&self.app, &vault).await?;
        cleanups::run(&self.app).await?;
        let round = inventory::look(&self.app).await?;
        match round.reachable {
            0 => self.health.round_failed("no datastore could be looked at"),
            _ => self.health.round_succeeded(),
        }
        self.health.found(&round.problems);
        self.tell_new(&round.problems);
        let kinds = self.kinds_due();
        let rows: HashMap<VolumeId, VolumeRow> =
            self.app.catalog().volumes().await?.into_iter().map(|row| (row.id.clone(), row)).collect();
        let (mut due, mut unchanged, mut left) = (Vec::new(), Vec::new(), 0);
        // Due, and only kept from being copied for a time.
        let mut held = BTreeSet::new();
        for volume in &round.inventory.volumes {
            if !kinds.contains(&config_kind(volume.kind)) {
                continue;
            }
            let row = rows.get(&volume.id);
            match decide(&self.app, volume, row).await? {
                Decision::Copy(priority) => due.push(self.planned(volume, row, priority).await?),
                Decision::Leave(result) => match result.outcome {
                    RoundOutcome::Unchanged => {
                        unchanged.push(result.volume);
                        self.app.metrics().skipped("unchanged");
                    }
                    _ => {
                        left += 1;
                        if let (RoundOutcome::Deferred, Some(reason)) = (result.outcome, &result.reason) {
                            self.app.metrics().skipped(&reason.code);
                            if [ReasonCode::OutsideWindow, ReasonCode::Paused]
                                .iter()
                                .any(|code| code.as_str() == reason.code)
                            {
                                held.insert(result.volume);
                            }
                        }
                    }
                },
                Decision::Forget => {}
            }
        }
        self.app.catalog().confirm(&unchanged, Timestamp::now()).await?;
        let is_decided = |volume: &VolumeId| kinds.contains(&config_kind(volume.kind()));
        let new = self.app.catalog().plan_copies(&due, is_decided, |volume| held.contains(volume)).await?;
        self.place_wanted(&round).await?;
        let (reachable, datastores) = (round.reachable, round.datastores);
        tracing::info!(
            due = due.len(),
            new,
            unchanged = unchanged.len(),
            left_alone = left,
            reachable,
            datastores,
            "a round has ended"
        );
        Ok(round)
    }

    async fn planned(&self, volume: &Volume, row: Option<&VolumeRow>, priority: Priority) -> Result<NewJob, Problem> {
        let (host, datastore) = self.place(volume).await?;
        Ok(NewJob {
            volume: Some(volume.id.clone()),
            priority,
            last_attempt: row.and_then(|row| row.last_attempt),
            host,
            datastore,
            ..NewJob::requested(JobKind::Copy, Trigger::Schedule, "schedule")
        })
    }

    /// Where a volume would be read, for the caps.
    async fn place(&self, volume: &Volume) -> Result<(Option<String>, Option<String>), Problem> {
        let place = first_place(&self.app, volume).await?;
        // For disks that are mounted here only the cap of all transfers holds.
        let host = place.map(|place| round::host(&self.app, place)).filter(|host| host != "local");
        Ok((host, place.map(round::datastore)))
    }

    /// Who asks for a copy need not know where the volume lies; now it is known.
    async fn place_wanted(&self, round: &Round) -> Result<(), Problem> {
        let filter = JobFilter { states: vec![JobState::Queued], kinds: vec![JobKind::Copy], ..JobFilter::default() };
        let wanted = JobFilter { requested: true, ..filter };
        for job in self.app.catalog().jobs(&wanted, MOST_PLACED).await? {
            let volume = round.inventory.volumes.iter().find(|volume| Some(&volume.id) == job.volume.as_ref());
            if let Some(volume) = volume {
                let (host, datastore) = self.place(volume).await?;
                self.app.catalog().place_job(job.id, host.as_deref(), datastore.as_deref()).await?;
            }
        }
        Ok(())
    }

    /// The kinds whose volumes are decided about in this round. Rounds come at the shortest interval of all kinds, never
    /// quite on time: half of it early is on time.
    fn kinds_due(&mut self) -> BTreeSet<KindKey> {
        let (config, now) = (self.app.config(), Instant::now());
        let early = shortest_interval(config) / 2;
        let is_due = |kind: &KindKey| {
            let last = self.decided.get(kind);
            last.is_none_or(|last| now.duration_since(*last) + early >= config.schedule.of(*kind).every.duration())
        };
        let due: BTreeSet<KindKey> = KindKey::ALL.into_iter().filter(is_due).collect();
        self.decided.extend(due.iter().map(|kind| (*kind, now)));
        due
    }

    /// What a person should know goes to the log once, and again when it was away for a round.
    fn tell_new(&mut self, problems: &[ScanProblem]) {
        let name = |problem: &ScanProblem| (problem.subject.clone(), problem.text.clone());
        for problem in problems.iter().filter(|problem| !self.told.contains(&name(problem))) {
            tracing::warn!(subject = problem.subject, hint = problem.hint, "{}", problem.text);
        }
        self.told = problems.iter().map(name).collect();
    }
}
