//! How everything stands, in one answer: what the console's first page shows.
//!
//! The database counts; nothing here grows with the number of volumes.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use stackferry_catalog::{Standing, StandingCount, StatusReason, VolumeState};
use stackferry_volume::ReasonCode;

use super::reasons;
use super::volumes::fresh_kinds;
use crate::http::ApiProblem;
use crate::http::Web;
use stackferry_engine::about::PROGRAM;
use stackferry_engine::app::{App, reserve};
use stackferry_engine::jobs;
use stackferry_engine::metrics::DATASTORE;
use stackferry_engine::views::RunProblem;
use stackferry_problem::Problem;

/// How many volumes stand how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct Counts {
    /// All that were ever known.
    pub(crate) total: u64,
    /// With a good version that is young enough.
    pub(crate) protected: u64,
    /// With a good version that is too old.
    pub(crate) overdue: u64,
    /// Without a good version.
    pub(crate) never_copied: u64,
    /// That can't be copied as they are.
    pub(crate) unprotectable: u64,
    /// That are no longer at their source.
    pub(crate) gone: u64,
    /// That are postponed, whatever versions they have.
    pub(crate) deferred: u64,
    /// Whose last attempt failed.
    pub(crate) failing: u64,
    /// That have a version that is damaged.
    pub(crate) damaged: u64,
    /// That changed unexpectedly.
    pub(crate) incidents: u64,
    /// That sources disagree about.
    pub(crate) conflicts: u64,
    /// Their lengths together, in bytes.
    pub(crate) bytes: u64,
}

impl Counts {
    fn add(&mut self, count: &StandingCount) {
        let of = |sum: &mut u64, holds: bool| {
            if holds {
                *sum = sum.saturating_add(count.volumes);
            }
        };
        of(&mut self.total, true);
        of(&mut self.protected, count.standing == Standing::Protected);
        of(&mut self.overdue, count.standing == Standing::Overdue);
        of(&mut self.never_copied, count.standing == Standing::Never);
        of(&mut self.unprotectable, count.standing == Standing::Unprotectable);
        of(&mut self.gone, count.standing == Standing::Gone);
        of(&mut self.deferred, count.state == VolumeState::Deferred);
        of(&mut self.incidents, count.state == VolumeState::Incident);
        of(&mut self.conflicts, count.state == VolumeState::Conflict);
        self.failing = self.failing.saturating_add(count.failing);
        self.damaged = self.damaged.saturating_add(count.damaged);
        self.bytes = self.bytes.saturating_add(count.bytes);
    }
}

/// How many volumes have one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct ReasonCount {
    /// The word.
    pub(crate) code: String,
    /// How many volumes.
    pub(crate) volumes: u64,
    /// Since when the first of them has had it.
    pub(crate) since: Option<Timestamp>,
    /// What it means.
    pub(crate) meaning: String,
    /// What to do.
    pub(crate) remedy: String,
}

/// The file system that the vault lies on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct SpaceBody {
    /// Its size, in bytes.
    pub(crate) total: u64,
    /// What may still be written, in bytes.
    pub(crate) free: u64,
    /// What `vault.reserve` keeps free, in bytes: no copy begins while less is free.
    pub(crate) reserve: u64,
}

/// A system that rounds ask, and how that went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct SystemBody {
    /// `app_volumes` or `vsphere`.
    pub(crate) kind: String,
    /// Its name in the configuration.
    pub(crate) name: String,
    /// Whether it answered in full when it was last asked; none before the first time since the service's start.
    pub(crate) up: Option<bool>,
    /// When it last did since the service's start.
    pub(crate) last: Option<Timestamp>,
    /// Why it did not.
    pub(crate) problem: Option<CauseBody>,
}

/// Why something failed, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct CauseBody {
    /// The word of docs/troubleshooting.md.
    pub(crate) code: String,
    /// What happened.
    pub(crate) message: String,
    /// What to do.
    pub(crate) hint: Option<String>,
}

/// A job that failed and was not done since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct FailedJobBody {
    /// Its number.
    pub(crate) id: i64,
    /// What it was to do.
    pub(crate) kind: String,
    /// To which volume; none where it was for all.
    pub(crate) volume: Option<String>,
    /// When it ended.
    pub(crate) ended: Option<Timestamp>,
    /// Why it failed.
    pub(crate) code: String,
    /// The same for people.
    pub(crate) message: String,
}

/// How everything stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct StatusBody {
    /// The program and its version.
    pub(crate) program: String,
    /// The time by the service's clock.
    pub(crate) now: Timestamp,
    /// Why the vault can't be used; none while all is well.
    pub(crate) vault_problem: Option<String>,
    /// Why discovery does not work; none while all is well.
    pub(crate) discovery_problem: Option<String>,
    /// What the last round could not look at: what lies there may have changed, and is not copied.
    pub(crate) not_seen: Vec<RunProblem>,
    /// Who paused the planned copies of all volumes, and since when; none while they are not paused.
    pub(crate) paused: Option<String>,
    /// Why retention deletes nothing until the clock is confirmed; none while it may.
    pub(crate) prune_frozen: Option<String>,
    /// The room for versions; none while it is not known.
    pub(crate) space: Option<SpaceBody>,
    /// The App Volumes Managers and vSphere systems of the configuration.
    pub(crate) systems: Vec<SystemBody>,
    /// Verifications, restores and prunes that failed within a day and were not done since, newest first; at most 20.
    pub(crate) failed_jobs: Vec<FailedJobBody>,
    /// How the volumes stand.
    pub(crate) volumes: Counts,
    /// The same for each kind that there is.
    pub(crate) kinds: BTreeMap<String, Counts>,
    /// Why volumes are not copied, the most frequent reason first.
    pub(crate) reasons: Vec<ReasonCount>,
}

/// How everything stands
#[utoipa::path(get, path = "/api/v1/status", tag = "service", responses((status = 200, body = StatusBody)))]
pub(super) async fn status(State(web): State<Web>) -> Result<Json<StatusBody>, ApiProblem> {
    Ok(gather(&web).await.map(Json)?)
}

/// How everything stands: a few statements, and a look at the disk.
pub(crate) async fn gather(web: &Web) -> Result<StatusBody, Problem> {
    let app = &web.app();
    let now = app.catalog().clock().now();
    let (space, vault_problem) = match web.space().await {
        Ok(Some(space)) if !space.is_known() => (None, None),
        Ok(Some(space)) => {
            let kept = app.config().vault().map_or(0, |vault| reserve(vault.reserve).of(space.total));
            (Some(SpaceBody { total: space.total, free: space.free, reserve: kept }), None)
        }
        Ok(None) => (None, Some(web.health().vault())),
        Err(problem) => (None, Some(problem.message)),
    };
    let pause = app.jobs().pauses().await?.into_iter().find(|pause| pause.volume.is_none());
    let counted = app.catalog().standings(&fresh_kinds(app, now)).await?;
    let mut volumes = Counts::default();
    let mut kinds: BTreeMap<String, Counts> = BTreeMap::new();
    for count in &counted {
        volumes.add(count);
        kinds.entry(count.kind.clone()).or_default().add(count);
    }
    Ok(StatusBody {
        program: PROGRAM.to_owned(),
        now,
        vault_problem,
        discovery_problem: web.health().discovery(),
        not_seen: web.health().not_seen().iter().map(RunProblem::from).collect(),
        paused: pause.map(|pause| format!("by {} since {}", pause.actor, pause.since.strftime("%F %H:%MZ"))),
        prune_frozen: app.jobs().prune_frozen().await?.map(|frozen| frozen.why),
        space,
        systems: systems(app),
        failed_jobs: failed_jobs(app, now).await?,
        volumes,
        kinds,
        reasons: by_reason(&counted),
    })
}

fn systems(app: &App) -> Vec<SystemBody> {
    let standing = app.metrics().sources().status(app.config()).into_iter();
    let systems = standing.filter(|one| one.what != DATASTORE).map(|one| SystemBody {
        kind: one.what.to_owned(),
        name: one.name,
        up: one.up,
        last: one.last,
        problem: one.problem.map(|problem| CauseBody {
            code: problem.code.to_string(),
            message: problem.message,
            hint: problem.hint,
        }),
    });
    systems.collect()
}

async fn failed_jobs(app: &App, now: Timestamp) -> Result<Vec<FailedJobBody>, Problem> {
    let failed = jobs::failed(app.catalog(), now).await?.into_iter().map(|job| {
        let error = job.error.unwrap_or_else(|| StatusReason { code: String::new(), text: String::new() });
        FailedJobBody {
            id: job.id.0,
            kind: job.kind.to_string(),
            volume: job.volume.map(|volume| volume.to_string()),
            ended: job.ended,
            code: error.code,
            message: error.text,
        }
    });
    Ok(failed.collect())
}

fn by_reason(counted: &[StandingCount]) -> Vec<ReasonCount> {
    let mut reasons: BTreeMap<&str, (u64, Option<Timestamp>)> = BTreeMap::new();
    for count in counted.iter().filter(|count| count.state != VolumeState::Gone) {
        let Some(code) = &count.reason else { continue };
        let (volumes, since) = reasons.entry(code).or_default();
        *volumes = volumes.saturating_add(count.volumes);
        *since = [*since, count.deferred_since].into_iter().flatten().min();
    }
    let mut reasons: Vec<ReasonCount> = reasons
        .into_iter()
        .map(|(code, (volumes, since))| {
            let row = code.parse::<ReasonCode>().ok().map(reasons::row);
            ReasonCount {
                code: code.to_owned(),
                volumes,
                since,
                meaning: row.map_or("", |row| row.meaning).to_owned(),
                remedy: row.map_or("", |row| row.remedy).to_owned(),
            }
        })
        .collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.volumes));
    reasons
}
