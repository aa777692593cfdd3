//! Jobs: what is to be done, is being done and was done; taking one back; pausing what the clock brings.

use axum::extract::State;
use axum::{Extension, Json};
use serde::Deserialize;
use stackferry_catalog::{Job, JobFilter, JobId, JobKind, JobState};
use utoipa::IntoParams;

use super::extract::{PathParams, QueryParams, volume_id};
use super::schema::{JobKindWord, JobStateWord};
use super::volumes::known;
use crate::http::ApiProblem;
use crate::http::{Caller, Web};
use stackferry_engine::app::App;
use stackferry_engine::jobs::no_such_job;
use stackferry_engine::views::{CancelView, JobView, PausesView};
use stackferry_problem::Problem;

/// The longest page of jobs.
const MOST: u32 = 500;

/// Which jobs are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct JobsAsked {
    /// In this state: `queued`, `running`, `done`, `failed`, `cancelled`, `deferred`.
    #[param(inline, value_type = Option<JobStateWord>)]
    state: Option<JobState>,
    /// Of this kind: `copy`, `verify`, `restore`, `restore_test`, `prune`.
    #[param(inline, value_type = Option<JobKindWord>)]
    kind: Option<JobKind>,
    /// Of the volume with this id.
    volume: Option<String>,
    /// Jobs with a smaller number than this; the last of a page gives the next.
    before: Option<i64>,
    /// At most so many, 1 to 500; what is beyond is taken as the nearest. Default 100.
    #[param(value_type = Option<i64>, minimum = 0, maximum = 4_294_967_295_i64)]
    limit: Option<u32>,
}

/// The jobs that fit, newest first
#[utoipa::path(get, path = "/api/v1/jobs", tag = "jobs", params(JobsAsked), responses((status = 200, body = [JobView])))]
pub(super) async fn jobs(
    State(web): State<Web>,
    QueryParams(asked): QueryParams<JobsAsked>,
) -> Result<Json<Vec<JobView>>, ApiProblem> {
    let volume = asked.volume.map(|text| text.parse().map_err(|_| Problem::no_such_volume(&text, &[]))).transpose()?;
    let filter = JobFilter {
        states: asked.state.into_iter().collect(),
        kinds: asked.kind.into_iter().collect(),
        volume,
        before: asked.before.map(JobId),
        ..JobFilter::default()
    };
    Ok(list(&web.app(), &filter, asked.limit.unwrap_or(100).clamp(1, MOST)).await.map(Json)?)
}

/// The jobs that fit, each with how far it is.
pub(crate) async fn list(app: &App, filter: &JobFilter, limit: u32) -> Result<Vec<JobView>, Problem> {
    let jobs = app.catalog().jobs(filter, limit).await?;
    Ok(jobs.into_iter().map(|job| view(app, job)).collect())
}

pub(super) fn view(app: &App, job: Job) -> JobView {
    let progress = app.jobs().progress(job.id);
    JobView::new(job, progress)
}

/// One job
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}", tag = "jobs", params(("id" = i64, Path, description = "The job's number")),
    responses((status = 200, body = JobView))
)]
pub(super) async fn job(State(web): State<Web>, PathParams(id): PathParams<i64>) -> Result<Json<JobView>, ApiProblem> {
    Ok(stored(&web.app(), JobId(id)).await.map(Json)?)
}

/// A job as it stands.
///
/// # Errors
/// `no_such_job`; the catalog's.
pub(crate) async fn stored(app: &App, id: JobId) -> Result<JobView, Problem> {
    let job = app.catalog().job(id).await?.ok_or_else(|| no_such_job(id))?;
    Ok(view(app, job))
}

/// Takes a job back. One that runs ends within seconds; what it copied so far is kept
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/cancel", tag = "jobs", params(("id" = i64, Path, description = "The job's number")),
    responses((status = 200, body = CancelView))
)]
pub(super) async fn cancel(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    PathParams(id): PathParams<i64>,
) -> Result<Json<CancelView>, ApiProblem> {
    let cancelled = web.app().jobs().cancel(JobId(id), &caller.name).await?;
    Ok(Json(CancelView::new(JobId(id), cancelled)))
}

/// What is paused; that of all volumes is first
#[utoipa::path(get, path = "/api/v1/pauses", tag = "jobs", responses((status = 200, body = PausesView)))]
pub(super) async fn pauses(State(web): State<Web>) -> Result<Json<PausesView>, ApiProblem> {
    Ok(paused(&web).await?)
}

async fn paused(web: &Web) -> Result<Json<PausesView>, Problem> {
    Ok(Json(PausesView::new(web.app().jobs().pauses().await?)))
}

/// Planned copies begin no more. Those that run go on, and what somebody asks for is done
#[utoipa::path(put, path = "/api/v1/pause", tag = "jobs", responses((status = 200, body = PausesView)))]
pub(super) async fn pause(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<PausesView>, ApiProblem> {
    web.app().jobs().pause(None, &caller.name).await?;
    Ok(paused(&web).await?)
}

/// Planned copies begin again
#[utoipa::path(delete, path = "/api/v1/pause", tag = "jobs", responses((status = 200, body = PausesView)))]
pub(super) async fn resume(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<PausesView>, ApiProblem> {
    web.app().jobs().resume(None, &caller.name).await?;
    Ok(paused(&web).await?)
}

/// Planned copies of one volume begin no more
#[utoipa::path(
    put, path = "/api/v1/volumes/{kind}/{stem}/pause", tag = "jobs",
    params(("kind" = String, Path, description = "The kind"), ("stem" = String, Path, description = "The rest of the id")),
    responses((status = 200, body = PausesView))
)]
pub(super) async fn pause_volume(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    PathParams((kind, stem)): PathParams<(String, String)>,
) -> Result<Json<PausesView>, ApiProblem> {
    let row = known(&web.app(), &volume_id(&kind, &stem)?).await?;
    web.app().jobs().pause(Some(&row.id), &caller.name).await?;
    Ok(paused(&web).await?)
}

/// Planned copies of one volume begin again
#[utoipa::path(
    delete, path = "/api/v1/volumes/{kind}/{stem}/pause", tag = "jobs",
    params(("kind" = String, Path, description = "The kind"), ("stem" = String, Path, description = "The rest of the id")),
    responses((status = 200, body = PausesView))
)]
pub(super) async fn resume_volume(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    PathParams((kind, stem)): PathParams<(String, String)>,
) -> Result<Json<PausesView>, ApiProblem> {
    let row = known(&web.app(), &volume_id(&kind, &stem)?).await?;
    web.app().jobs().resume(Some(&row.id), &caller.name).await?;
    Ok(paused(&web).await?)
}
