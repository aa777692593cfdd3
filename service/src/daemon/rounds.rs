//! The service's loop: a round of discovery by the clock, and beside it copies of what is due. A copy that takes hours
//! does not hold up discovery, nor other copies.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stackferry_catalog::{Trigger, VolumeRow};
use stackferry_config::Kind;
use stackferry_discover::{ScanProblem, Volume};
use stackferry_volume::VolumeId;
use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use super::queue::{Queue, Waiting};
use super::reconcile::reconcile;
use super::upkeep::Upkeep;
use super::watch::watch;
use super::{Health, asked_to_end, shortest_interval};
use crate::app::{App, config_kind};
use crate::engine::round::{self, Decision, RoundOutcome, VolumeResult};
use crate::engine::{debts, inventory};
use crate::problem::{Code, Problem};
use crate::progress::Reporter;

/// How long copies may take to end when the service ends. One that reads from a disk that hangs is not waited for: it
/// leaves what the end of the machine would leave.
const DRAIN: Duration = Duration::from_secs(8);

/// Runs until the end is asked for, and until what runs has ended.
pub(super) async fn run(app: &App, reporter: &Reporter, health: &Arc<Health>) {
    let mut ticks = tokio::time::interval(shortest_interval(app.config()));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks: JoinSet<(Looker, Result<Looked, Problem>)> = JoinSet::new();
    let mut looker = Some(Looker::new(app, health));
    let mut copies = Copies::new(app, reporter);
    let changed = Arc::new(Notify::new());
    let _watching = watch(app, shortest_interval(app.config()), &changed);
    loop {
        tokio::select! {
            () = asked_to_end(app.cancel()) => break,
            _ = ticks.tick(), if looks.is_empty() => {
                let looker = looker.take().unwrap_or_else(|| Looker::new(app, health));
                looks.spawn(looker.round());
            }
            () = changed.notified(), if looks.is_empty() => {
                let mut looker = looker.take().unwrap_or_else(|| Looker::new(app, health));
                // Whatever changed may make a volume of any kind due, or free one that was held.
                looker.decided.clear();
                looks.spawn(looker.round());
            }
            Some(looked) = looks.join_next() => match looked {
                Ok((back, result)) => {
                    looker = Some(back);
                    match result {
                        Ok(looked) => copies.take_in(looked),
                        // The next round tries again: a vault that is mounted late, a database that was locked.
                        Err(problem) => tell("a round failed", None, &problem),
                    }
                }
                Err(error) => tracing::error!(%error, "a round failed; the next one begins afresh"),
            },
            Some(ended) = copies.running.join_next_with_id() => copies.ended(ended),
        }
        copies.start().await;
    }
    looks.abort_all();
    copies.drain().await;
}

fn tell(what: &str, volume: Option<&VolumeId>, problem: &Problem) {
    let volume = volume.map(tracing::field::display);
    tracing::error!(volume, code = %problem.code, hint = problem.hint, "{what}: {}", problem.message);
}

/// What discovery keeps from round to round.
struct Looker {
    app: App,
    health: Arc<Health>,
    upkeep: Upkeep,
    reconciled: bool,
    /// When volumes of each kind were last decided about.
    decided: HashMap<Kind, Instant>,
    /// What was told in the last round: the same is not told again.
    told: BTreeSet<(String, String)>,
}

/// What a round found.
struct Looked {
    due: Vec<Waiting>,
    kinds: BTreeSet<Kind>,
}

impl Looker {
    fn new(app: &App, health: &Arc<Health>) -> Self {
        Self {
            app: app.clone(),
            health: Arc::clone(health),
            upkeep: Upkeep::default(),
            reconciled: false,
            decided: HashMap::new(),
            told: BTreeSet::new(),
        }
    }

    async fn round(mut self) -> (Self, Result<Looked, Problem>) {
        let result = self.look().await;
        if let Err(problem) = &result {
            self.health.look_failed(&problem.message);
        }
        (self, result)
    }

    async fn look(&mut self) -> Result<Looked, Problem> {
        let vault = self.app.vault().await.inspect_err(|problem| self.health.vault_failed(&problem.message))?;
        self.upkeep.run(&self.app, &vault).await?;
        if !self.reconciled {
            reconcile(&self.app, &vault).await?;
            self.reconciled = true;
        }
        debts::pay(&self.app).await?;
        let round = inventory::look(&self.app).await?;
        match round.reachable {
            0 => self.health.look_failed("no datastore could be looked at"),
            _ => self.health.looked(),
        }
        self.tell_new(&round.problems);
        let kinds = self.kinds_due();
        let rows: HashMap<VolumeId, VolumeRow> =
            self.app.catalog().volumes().await?.into_iter().map(|row| (row.id.clone(), row)).collect();
        let (mut due, mut unchanged, mut left) = (Vec::new(), 0, 0);
        for volume in round.inventory.volumes {
            if !kinds.contains(&config_kind(volume.kind)) {
                continue;
            }
            let row = rows.get(&volume.id);
            match round::decide(&self.app, &volume, row).await? {
                Decision::Copy => due.push(self.waiting(volume, row)),
                Decision::Leave(result) => match result.outcome {
                    RoundOutcome::Unchanged => {
                        unchanged += 1;
                        self.app.metrics().skipped("unchanged");
                    }
                    _ => {
                        left += 1;
                        if let (RoundOutcome::Deferred, Some(reason)) = (result.outcome, &result.reason) {
                            self.app.metrics().skipped(&reason.code);
                        }
                    }
                },
                Decision::Forget => {}
            }
        }
        let (reachable, datastores) = (round.reachable, round.datastores);
        tracing::info!(due = due.len(), unchanged, left_alone = left, reachable, datastores, "a round has ended");
        Ok(Looked { due, kinds })
    }

    fn waiting(&self, volume: Volume, row: Option<&VolumeRow>) -> Waiting {
        let host = Some(round::host(&self.app, &volume)).filter(|host| host != "local");
        Waiting { host, last_attempt: row.and_then(|row| row.last_attempt), volume }
    }

    /// The kinds whose volumes are decided about in this round. Rounds come at the shortest interval of all kinds, never
    /// quite on time: half of it early is on time.
    fn kinds_due(&mut self) -> BTreeSet<Kind> {
        let (config, now) = (self.app.config(), Instant::now());
        let early = shortest_interval(config) / 2;
        let is_due = |kind: &Kind| {
            let last = self.decided.get(kind);
            last.is_none_or(|last| now.duration_since(*last) + early >= config.schedule.of(*kind).every.duration())
        };
        let due: BTreeSet<Kind> = Kind::ALL.into_iter().filter(is_due).collect();
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

/// Copies that wait and copies that run.
struct Copies {
    app: App,
    reporter: Reporter,
    queue: Queue,
    running: JoinSet<Option<VolumeResult>>,
    names: HashMap<Id, VolumeId>,
}

type Ended = Result<(Id, Option<VolumeResult>), JoinError>;

impl Copies {
    fn new(app: &App, reporter: &Reporter) -> Self {
        let limits = &app.config().limits;
        let size = |number| usize::try_from(number).unwrap_or(1);
        Self {
            app: app.clone(),
            reporter: reporter.clone(),
            queue: Queue::new(size(limits.transfers), size(limits.per_host)),
            running: JoinSet::new(),
            names: HashMap::new(),
        }
    }

    fn take_in(&mut self, looked: Looked) {
        self.queue.replace(looked.due, |volume| looked.kinds.contains(&config_kind(volume.kind)));
    }

    /// Starts what waits, as far as there is room.
    async fn start(&mut self) {
        while !self.app.cancel().is_cancelled()
            && let Some(next) = self.queue.next()
        {
            let id = next.volume.id.clone();
            match self.is_still_due(&next.volume).await {
                Ok(true) => {
                    let (app, reporter) = (self.app.clone(), self.reporter.clone());
                    let copy = async move { round::copy_one(&app, next.volume, Trigger::Schedule, &reporter).await };
                    self.names.insert(self.running.spawn(copy).id(), id);
                }
                Ok(false) => self.queue.ended(&id),
                Err(problem) => {
                    self.queue.ended(&id);
                    tell("a copy could not be started", Some(&id), &problem);
                }
            }
        }
        self.app.metrics().waiting(self.queue.waiting());
    }

    /// It may have waited for hours: somebody else may have copied it, or its window may be over. The copy asks again,
    /// under its lease; here it costs nothing.
    async fn is_still_due(&self, volume: &Volume) -> Result<bool, Problem> {
        Ok(matches!(round::decide_again(&self.app, volume).await?, Decision::Copy))
    }

    fn ended(&mut self, ended: Ended) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some(volume) = self.names.remove(&id) else { return };
        self.queue.ended(&volume);
        match ended {
            Ok((_, Some(result))) => told(&result),
            Ok((_, None)) => {}
            // The panic is in the log; the others go on.
            Err(error) => tracing::error!(%volume, %error, "a copy failed"),
        }
    }

    async fn drain(&mut self) {
        let waiting = self.queue.waiting();
        if !self.running.is_empty() || waiting > 0 {
            tracing::info!(running = self.running.len(), waiting, "the service ends; what was copied so far is kept");
        }
        let ended = async {
            while let Some(ended) = self.running.join_next_with_id().await {
                self.ended(ended);
            }
        };
        if tokio::time::timeout(DRAIN, ended).await.is_err() {
            for volume in self.names.values() {
                tracing::warn!(%volume, "its copy did not end in time; the next start goes on from its journal");
            }
        }
    }
}

fn told(result: &VolumeResult) {
    let volume = &result.volume;
    match (&result.problem, &result.reason) {
        (Some(problem), _) if matches!(problem.code, Code::Busy | Code::LeaseLost) => {
            tracing::info!(%volume, "another process copies it");
        }
        (Some(problem), _) if problem.code == Code::Interrupted => {
            tracing::info!(%volume, "its copy was interrupted; it goes on from its journal");
        }
        (Some(problem), _) => tell("a copy failed", Some(volume), problem),
        (None, Some(reason)) => tracing::info!(%volume, reason = reason.code, "it is left for later: {}", reason.text),
        (None, None) => {}
    }
}
