//! What is to be done, is being done, and was done.

use askama::Template;
use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;
use stackferry_catalog::{JobFilter, JobId, JobKind, JobState};

use super::{Shell, answer};
use crate::api::jobs::list;
use crate::console::notices::said;
use crate::console::text::{ShownTime, query, size, span, thousandths, volume_path};
use crate::console::user::User;
use crate::http::Web;
use stackferry_engine::jobs::JobProgress;
use stackferry_engine::views::JobView;
use stackferry_problem::Problem;

/// Jobs on a page.
const PAGE: u32 = 50;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::console) struct JobsQuery {
    before: String,
    said: String,
}

/// A job as a line of a list.
pub(in crate::console) struct JobLine {
    pub(in crate::console) id: i64,
    pub(in crate::console) what: &'static str,
    pub(in crate::console) subject: String,
    pub(in crate::console) href: Option<String>,
    pub(in crate::console) state: String,
    pub(in crate::console) tone: &'static str,
    pub(in crate::console) by: String,
    pub(in crate::console) at: ShownTime,
    /// How far it is, what it came to, or why it failed.
    pub(in crate::console) told: String,
    pub(in crate::console) thousandths: Option<u64>,
    pub(in crate::console) running: bool,
    pub(in crate::console) ended: bool,
    pub(in crate::console) stopping: bool,
}

#[derive(Template)]
#[template(path = "jobs.html")]
struct JobsPage {
    shell: Shell,
    said: Option<&'static str>,
    paused: bool,
    /// What runs is on the first page, which keeps itself up to date.
    is_first: bool,
    lines: Vec<JobLine>,
    older: Option<String>,
}

#[derive(Template)]
#[template(path = "jobs_part.html")]
struct JobsPart {
    shell: Shell,
    lines: Vec<JobLine>,
}

pub(in crate::console) async fn page(
    State(web): State<Web>,
    Extension(user): Extension<User>,
    Query(wanted): Query<JobsQuery>,
) -> Response {
    answer(&user, make(&web, &user, &wanted).await)
}

pub(in crate::console) async fn part(State(web): State<Web>, Extension(user): Extension<User>) -> Response {
    let made = first_page(&web).await;
    answer(&user, made.map(|(lines, _)| JobsPart { shell: Shell::new(&user, "jobs", "Jobs"), lines }))
}

async fn make(web: &Web, user: &User, wanted: &JobsQuery) -> Result<JobsPage, Problem> {
    let before: Option<JobId> = wanted.before.parse().ok();
    let (lines, last) = match before {
        None => first_page(web).await?,
        Some(_) => {
            let lines = lines(web, &JobFilter { before, ..JobFilter::default() }, PAGE).await?;
            let last = oldest(&lines);
            (lines, last)
        }
    };
    Ok(JobsPage {
        is_first: before.is_none(),
        shell: Shell::new(user, "jobs", "Jobs"),
        said: said(&wanted.said),
        paused: web.app().jobs().is_paused().await?,
        older: last.map(|last| query("/jobs", &[("before", &last)])),
        lines,
    })
}

/// What runs, whenever it was asked for, and then the newest of all others; and where the next page begins.
async fn first_page(web: &Web) -> Result<(Vec<JobLine>, Option<String>), Problem> {
    let running = JobFilter { states: vec![JobState::Running], ..JobFilter::default() };
    let mut all = lines(web, &running, PAGE).await?;
    let newest = lines(web, &JobFilter::default(), PAGE).await?;
    let last = oldest(&newest);
    all.extend(newest.into_iter().filter(|line| !line.running));
    Ok((all, last))
}

/// The number before which the next page begins; none where there is none.
fn oldest(lines: &[JobLine]) -> Option<String> {
    let is_full = u32::try_from(lines.len()).is_ok_and(|count| count >= PAGE);
    lines.last().map(|line| line.id.to_string()).filter(|_| is_full)
}

/// The jobs that fit, newest first.
pub(in crate::console) async fn lines(web: &Web, filter: &JobFilter, limit: u32) -> Result<Vec<JobLine>, Problem> {
    let app = web.app();
    let now = app.catalog().clock().now();
    Ok(list(&app, filter, limit).await?.into_iter().map(|job| line(job, now)).collect())
}

fn line(job: JobView, now: Timestamp) -> JobLine {
    let (running, ended) = (job.state == JobState::Running, job.state.is_ended());
    let part = job.progress.as_ref().filter(|one| one.expected > 0);
    let why = job.error.map(|error| error.message);
    let told = match (&job.progress, why, job.not_before.filter(|_| job.state == JobState::Queued)) {
        (Some(progress), _, _) if running => speed(progress),
        (_, Some(why), Some(at)) => format!("{why}; it is tried again {}", ShownTime::new(at, now).about),
        (_, Some(why), None) => why,
        _ => job.outcome.unwrap_or_default(),
    };
    let subject = match (&job.volume, &job.version) {
        (Some(volume), Some(version)) => format!("{volume}@{version}"),
        (Some(volume), None) => volume.to_string(),
        (None, _) => "everything".to_owned(),
    };
    JobLine {
        id: job.id.0,
        what: match job.kind {
            JobKind::Copy => "Copy",
            JobKind::Verify => "Verify",
            JobKind::Restore => "Restore",
            JobKind::RestoreTest => "Test restore",
            JobKind::Prune => "Prune",
            _ => "Job",
        },
        subject,
        href: job.volume.as_ref().map(volume_path),
        state: job.state.to_string(),
        tone: match job.state {
            JobState::Done => "good",
            JobState::Deferred | JobState::Cancelled => "warn",
            JobState::Failed => "bad",
            _ => "quiet",
        },
        by: job.actor,
        at: ShownTime::new(job.ended.or(job.started).unwrap_or(job.created), now),
        told,
        thousandths: part.map(|part| thousandths(part.done, part.expected)),
        running,
        ended,
        stopping: job.cancel_wanted && !ended,
    }
}

/// How far, how fast, and when it will end.
fn speed(progress: &JobProgress) -> String {
    let done = match progress.expected {
        0 => size(progress.done),
        expected => format!("{} of {}", size(progress.done.min(expected)), size(expected)),
    };
    // A rate is shown with three digits; what an integer can't hold is no rate.
    let rate = format!("{:.0}", progress.bytes_per_second.clamp(0.0, 1e15)).parse::<u64>().unwrap_or(0);
    match progress.eta_seconds {
        Some(eta) => format!("{done}, {}/s, {} left", size(rate), span(eta)),
        None if rate > 0 => format!("{done}, {}/s", size(rate)),
        None => done,
    }
}
