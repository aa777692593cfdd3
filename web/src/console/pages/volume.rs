//! One volume: where it lies, its versions, what was tried, and what can be done with it.

use askama::Template;
use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde::Deserialize;
use stackferry_catalog::{Attempt, JobFilter, Outcome, VersionRow};
use stackferry_volume::VolumeId;
use stackferry_volume::content::ContentState;
use stackferry_volume::manifest::VerifyMethod;

use stackferry_config::Config;

use super::jobs::{JobLine, lines};
use super::{Shell, answer};
use crate::api::volumes::{one, volume_id};
use crate::console::notices::said;
use crate::console::text::{ShownTime, remedy, size, span, standing, state_tone, tone, volume_path};
use crate::console::user::User;
use crate::http::Web;
use stackferry_engine::finding::{Finding, KnownVersions};
use stackferry_engine::restore;
use stackferry_engine::views::LocationView;
use stackferry_problem::Problem;

/// So many jobs are looked through for those that matter.
const JOBS: u32 = 20;
/// So many attempts are shown.
const ATTEMPTS: u32 = 30;

pub(super) struct VersionLine {
    pub(super) version: String,
    pub(super) created: ShownTime,
    pub(super) bytes: String,
    pub(super) stored: String,
    pub(super) route: String,
    /// How it was checked before it was committed.
    pub(super) checked: &'static str,
    pub(super) verified: Option<ShownTime>,
    pub(super) tested: Option<Tested>,
    pub(super) pinned: bool,
    pub(super) damaged: Option<String>,
    pub(super) incident: Option<String>,
    pub(super) finding: Option<FindingLines>,
    /// A name for parts of the page that belong to it.
    pub(super) anchor: String,
}

/// What is wrong with a version, as a page shows it.
pub(super) struct FindingLines {
    pub(super) severity: &'static str,
    pub(super) affected: String,
    pub(super) still_works: String,
    pub(super) next: String,
}

impl From<Finding> for FindingLines {
    fn from(finding: Finding) -> Self {
        Self {
            severity: finding.severity.as_str(),
            affected: finding.affected_text(),
            still_works: finding.still_works,
            next: finding.next,
        }
    }
}

pub(super) struct Tested {
    /// When it was opened as a disk; none where it was only inspected when it was copied.
    pub(super) at: Option<ShownTime>,
    pub(super) tone: &'static str,
    pub(super) word: &'static str,
    pub(super) found: String,
}

pub(super) struct AttemptLine {
    pub(super) started: ShownTime,
    pub(super) outcome: String,
    pub(super) tone: &'static str,
    pub(super) what: String,
    pub(super) trigger: String,
}

#[derive(Template)]
#[template(path = "volume.html")]
struct VolumePage {
    shell: Shell,
    href: String,
    id: String,
    name: String,
    kind: String,
    owner: Option<String>,
    guid: Option<String>,
    generation: u32,
    size: Option<String>,
    attached: &'static str,
    state: String,
    state_tone: &'static str,
    standing: &'static str,
    tone: &'static str,
    reason: Option<String>,
    remedy: Option<String>,
    advice: Option<String>,
    since: Option<ShownTime>,
    error: Option<String>,
    last: Option<ShownTime>,
    locations: Vec<LocationView>,
    versions: Vec<VersionLine>,
    attempts: Vec<AttemptLine>,
    said: Option<&'static str>,
    paused: bool,
    jobs: Vec<JobLine>,
    /// Where the jobs come from that keep themselves up to date.
    part: String,
    /// Where a version may be put back to.
    places: Vec<LocationLine>,
}

/// Where a version may be put back to: a folder is made in it.
struct LocationLine {
    value: String,
    label: String,
}

/// The folders of the configuration, then its datastores.
fn places(config: &Config) -> Vec<LocationLine> {
    let roots = config.restore.roots.iter().map(|root| root.display().to_string());
    let roots = roots.map(|root| LocationLine { label: format!("folder {root}"), value: root });
    let named = restore::datastores(config).into_iter();
    let named = named.filter(|datastore| config.restore.datastores.contains(&datastore.name));
    let datastores = named.map(|datastore| LocationLine {
        value: format!("{}{}", restore::DATASTORE, datastore.name),
        label: format!("datastore {}", datastore.name),
    });
    roots.chain(datastores).collect()
}

/// The jobs of a volume that matter now.
#[derive(Template)]
#[template(path = "volume_jobs.html")]
struct VolumeJobsPart {
    jobs: Vec<JobLine>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::console) struct VolumeQuery {
    said: String,
}

pub(in crate::console) async fn page(
    State(web): State<Web>,
    Extension(user): Extension<User>,
    Path((kind, stem)): Path<(String, String)>,
    Query(wanted): Query<VolumeQuery>,
) -> Response {
    let made = make(&web, &user, &kind, &stem).await;
    answer(&user, made.map(|page| VolumePage { said: said(&wanted.said), ..page }))
}

pub(in crate::console) async fn part(
    State(web): State<Web>,
    Extension(user): Extension<User>,
    Path((kind, stem)): Path<(String, String)>,
) -> Response {
    let made = async { jobs_of(&web, &volume_id(&kind, &stem)?).await };
    answer(&user, made.await.map(|jobs| VolumeJobsPart { jobs }))
}

/// What is to be done with a volume, what is being done, and what was done last.
async fn jobs_of(web: &Web, id: &VolumeId) -> Result<Vec<JobLine>, Problem> {
    let filter = JobFilter { volume: Some(id.clone()), ..JobFilter::default() };
    let jobs = lines(web, &filter, JOBS).await?;
    let mut ended = false;
    // Of those that ended only the newest is told.
    let matters = jobs.into_iter().filter(|job| !job.ended || !std::mem::replace(&mut ended, true));
    Ok(matters.collect())
}

async fn make(web: &Web, user: &User, kind: &str, stem: &str) -> Result<VolumePage, Problem> {
    let app = &web.app();
    let catalog = app.catalog();
    let (row, body) = one(app, &volume_id(kind, stem)?).await?;
    let now = catalog.clock().now();
    let known = KnownVersions::of(app, &row.id).await?;
    let attempts = catalog.attempts(&row.id, ATTEMPTS).await?;
    let volume = body.volume.volume;
    Ok(VolumePage {
        shell: Shell::new(user, "volumes", volume.name.clone()),
        href: volume_path(&volume.id),
        id: volume.id.to_string(),
        kind: volume.kind.to_string(),
        owner: volume.owner,
        guid: volume.guid,
        generation: volume.generation.0,
        size: volume.size_bytes.map(size),
        attached: match volume.attached {
            Some(true) => "yes",
            Some(false) => "no",
            None => "not known",
        },
        state: volume.state.to_string(),
        state_tone: state_tone(volume.state),
        standing: standing(body.standing),
        tone: tone(body.standing),
        remedy: remedy(volume.remedy.as_ref(), volume.reason.as_ref()),
        reason: volume.reason.map(|reason| reason.text),
        advice: body.advice,
        since: ShownTime::maybe(volume.deferred_since, now),
        error: body.volume.last_error.map(|error| error.text),
        last: ShownTime::maybe(body.volume.last_success, now),
        locations: volume.locations,
        versions: known.rows().iter().map(|row| version_line(row, known.finding(&row.version), now)).collect(),
        attempts: attempts.into_iter().map(|attempt| attempt_line(attempt, now)).collect(),
        name: volume.name,
        said: None,
        paused: app.jobs().pauses().await?.iter().any(|pause| pause.volume.as_ref() == Some(&row.id)),
        jobs: jobs_of(web, &row.id).await?,
        part: format!("/parts{}", volume_path(&row.id)),
        places: places(app.config()),
    })
}

fn version_line(row: &VersionRow, finding: Option<Finding>, now: jiff::Timestamp) -> VersionLine {
    VersionLine {
        version: row.version.to_string(),
        created: ShownTime::new(row.created, now),
        bytes: size(row.bytes),
        stored: size(row.stored),
        route: row.route.clone(),
        checked: match row.verify_method {
            VerifyMethod::ReadBack => "read back from the disk",
            _ => "on arrival",
        },
        verified: ShownTime::maybe(row.last_verified, now),
        tested: tested(row, now),
        pinned: row.pinned,
        damaged: row.damaged.clone(),
        incident: row.incident.clone(),
        finding: finding.map(FindingLines::from),
        anchor: format!("v{}", row.version),
    }
}

/// What its restore test came to; before that, what was found when it was copied.
fn tested(row: &VersionRow, now: jiff::Timestamp) -> Option<Tested> {
    let state = row.content.as_ref().map(|content| content.state);
    let (tone, word) = match state {
        Some(ContentState::NotRecognised | ContentState::NotInspected) => {
            ("warn", state.map_or("", ContentState::text))
        }
        Some(ContentState::Damaged) => ("bad", "failed"),
        _ if row.restore_test.as_ref().is_some_and(|test| !test.ok) => ("bad", "failed"),
        _ => ("good", "passed"),
    };
    match (&row.restore_test, &row.content) {
        (Some(test), _) => {
            Some(Tested { at: Some(ShownTime::new(test.at, now)), tone, word, found: test.found.clone() })
        }
        (None, Some(content)) if content.state != ContentState::Healthy => {
            Some(Tested { at: None, tone, word, found: content.text.clone() })
        }
        (None, _) => None,
    }
}

fn attempt_line(attempt: Attempt, now: jiff::Timestamp) -> AttemptLine {
    let (outcome, tone, what) = match attempt.end {
        None => ("running".to_owned(), "quiet", String::new()),
        Some(end) => {
            let took = span(end.took.as_secs());
            let what = match (&end.error, end.outcome) {
                (Some(error), _) => error.text.clone(),
                (None, Outcome::Copied) => {
                    format!("{} read, {} stored, in {took}", size(end.bytes.read), size(end.bytes.stored))
                }
                (None, _) => format!("{} read in {took}", size(end.bytes.read)),
            };
            let tone = match end.outcome {
                Outcome::Copied | Outcome::Unchanged => "good",
                Outcome::Deferred => "warn",
                _ => "bad",
            };
            (end.outcome.to_string(), tone, what)
        }
    };
    AttemptLine {
        started: ShownTime::new(attempt.started, now),
        outcome,
        tone,
        what,
        trigger: attempt.trigger.to_string(),
    }
}
