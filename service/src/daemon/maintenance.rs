//! What is done with versions in idle time: retention once an hour, and versions read back and opened as disks as they become
//! due. Each is a job like any other, one at a time. Checks are put into the queue only while no copy runs; retention at any
//! time, since a copy may wait for the room that it makes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use stackferry_catalog::{JobId, JobKind, JobState, NewJob, Priority, Trigger};
use stackferry_volume::{VersionId, VolumeId};

use stackferry_engine::about::PROGRAM;
use stackferry_engine::app::App;
use stackferry_engine::checkup::{self, CheckDue};
use stackferry_engine::prune::PRUNE_EVERY;
use stackferry_problem::Problem;

/// How long nothing is asked for after nothing was due, or something failed.
const REST: Duration = Duration::from_secs(60);
/// How long a version whose check failed (it could not be read at all) is left alone, so that others get their turn.
const LEFT_ALONE: Duration = Duration::from_secs(3600);

/// What was last asked for.
#[derive(Default)]
pub(super) struct Maintenance {
    job: Option<(JobId, Option<CheckDue>)>,
    pruned: Option<Instant>,
    rests: Option<Instant>,
    left_alone: HashMap<(VolumeId, VersionId), Instant>,
    /// What was due when it was last asked, the next one last.
    waiting: Vec<CheckDue>,
}

impl Maintenance {
    /// Puts into the queue what is due, if there is time for it. What fails is logged, and tried again later.
    pub(super) async fn tick(&mut self, app: &App) {
        // The first round opens the vault, and says what is wrong with it.
        if app.opened_vault().is_none() {
            return;
        }
        if let Err(problem) = self.look(app).await {
            self.rests = Some(Instant::now());
            tracing::error!(code = %problem.code, "what is due for versions can't be told: {}", problem.message);
        }
    }

    async fn look(&mut self, app: &App) -> Result<(), Problem> {
        if let Some((id, due)) = self.job.take() {
            match app.catalog().job(id).await? {
                Some(job) if !job.state.is_ended() => {
                    self.job = Some((id, due));
                    return Ok(());
                }
                Some(job) if job.state == JobState::Failed => {
                    if let Some(CheckDue { volume, version, .. }) = due {
                        self.left_alone.insert((volume, version), Instant::now());
                    }
                }
                _ => {}
            }
        }
        let wants_prune = app.config().retention != stackferry_config::Retention::default();
        if wants_prune && self.pruned.is_none_or(|at| at.elapsed() >= PRUNE_EVERY) {
            self.pruned = Some(Instant::now());
            self.job = Some((app.jobs().enqueue(planned(JobKind::Prune)).await?, None));
            return Ok(());
        }
        if !app.metrics().is_idle() || self.rests.is_some_and(|at| at.elapsed() < REST) {
            return Ok(());
        }
        if self.waiting.is_empty() {
            self.left_alone.retain(|_, at| at.elapsed() < LEFT_ALONE);
            let is_left = |due: &CheckDue| self.left_alone.contains_key(&(due.volume.clone(), due.version.clone()));
            let due = checkup::due(app, self.left_alone.len()).await?;
            self.waiting = due.into_iter().rev().filter(|due| !is_left(due)).collect();
        }
        let Some(due) = self.waiting.pop() else {
            self.rests = Some(Instant::now());
            return Ok(());
        };
        let (volume, version) = (Some(due.volume.clone()), Some(due.version.clone()));
        let job = NewJob { volume, version, ..planned(due.kind) };
        self.job = Some((app.jobs().enqueue(job).await?, Some(due)));
        Ok(())
    }
}

fn planned(kind: JobKind) -> NewJob {
    NewJob { priority: Priority::MAINTENANCE, ..NewJob::requested(kind, Trigger::Schedule, PROGRAM) }
}
