//! What is asked for: copying, checking, putting back, pinning. All but pinning take time, so they are jobs: the answer is
//! the job, and whoever asked watches it.

use std::path::Path;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use stackferry_catalog::Job;
use stackferry_engine::app::App;
use stackferry_engine::operations::{request_copy, request_restore, request_verify, set_pin};
use stackferry_engine::views::{JobView, PinView};

use super::extract::{JsonBody, OptionalJson, PathParams, volume_id};
use super::jobs::view;
use crate::http::{ApiProblem, Caller, Web};

/// How a copy is wanted.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CopyBody {
    /// Make no version where the source equals the last one. Default no.
    if_changed: bool,
}

/// Copies a volume now, whatever its schedule. The answer is the job
#[utoipa::path(
    post, path = "/api/v1/volumes/{kind}/{stem}/copy", tag = "volumes", request_body = CopyBody,
    params(("kind" = String, Path, description = "The kind"), ("stem" = String, Path, description = "The rest of the id")),
    responses((status = 202, body = JobView))
)]
pub(super) async fn copy(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    PathParams((kind, stem)): PathParams<(String, String)>,
    OptionalJson(asked): OptionalJson<CopyBody>,
) -> Result<Response, ApiProblem> {
    let app = web.app();
    Ok(accepted(&app, request_copy(&app, &volume_id(&kind, &stem)?, asked.if_changed, &caller.name).await?))
}

/// 202, and where the job can be looked at.
pub(super) fn accepted(app: &App, job: Job) -> Response {
    let job = view(app, job);
    let place = format!("/api/v1/jobs/{}", job.id);
    (StatusCode::ACCEPTED, [(header::LOCATION, place)], Json(job)).into_response()
}

/// Reads every version of every volume back, and checks every digest. The answer is the job
#[utoipa::path(post, path = "/api/v1/verify", tag = "volumes", responses((status = 202, body = JobView)))]
pub(super) async fn verify_all(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiProblem> {
    let app = web.app();
    Ok(accepted(&app, request_verify(&app, None, None, &caller.name).await?))
}

/// Reads every version of a volume back, and checks every digest. The answer is the job
#[utoipa::path(
    post, path = "/api/v1/volumes/{kind}/{stem}/verify", tag = "volumes",
    params(("kind" = String, Path, description = "The kind"), ("stem" = String, Path, description = "The rest of the id")),
    responses((status = 202, body = JobView))
)]
pub(super) async fn verify(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    PathParams((kind, stem)): PathParams<(String, String)>,
) -> Result<Response, ApiProblem> {
    let app = web.app();
    Ok(accepted(&app, request_verify(&app, Some(&volume_id(&kind, &stem)?), None, &caller.name).await?))
}

/// Reads one version back, and checks every digest. The answer is the job
#[utoipa::path(
    post, path = "/api/v1/volumes/{kind}/{stem}/versions/{version}/verify", tag = "volumes",
    params(
        ("kind" = String, Path, description = "The kind"), ("stem" = String, Path, description = "The rest of the id"),
        ("version" = String, Path, description = "The version")
    ),
    responses((status = 202, body = JobView))
)]
pub(super) async fn verify_version(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    PathParams((kind, stem, version)): PathParams<(String, String, String)>,
) -> Result<Response, ApiProblem> {
    let (app, id) = (web.app(), volume_id(&kind, &stem)?);
    Ok(accepted(&app, request_verify(&app, Some(&id), Some(&version), &caller.name).await?))
}

/// What is put back, and where to.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RestoreBody {
    /// The folder, absolute and below one of `[restore] roots`, made if it is missing; or `datastore:NAME/FOLDER`: new names
    /// only, in a folder of a datastore of the configuration.
    to: String,
    /// The version; the newest good one if none is named.
    #[serde(default)]
    version: Option<String>,
    /// Replace files of the same names. Default no.
    #[serde(default)]
    overwrite: bool,
}

/// Puts a version back into a folder below one of the roots, or onto a datastore. The answer is the job
#[utoipa::path(
    post, path = "/api/v1/volumes/{kind}/{stem}/restore", tag = "volumes", request_body = RestoreBody,
    params(("kind" = String, Path, description = "The kind"), ("stem" = String, Path, description = "The rest of the id")),
    responses((status = 202, body = JobView))
)]
pub(super) async fn restore(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    PathParams((kind, stem)): PathParams<(String, String)>,
    JsonBody(asked): JsonBody<RestoreBody>,
) -> Result<Response, ApiProblem> {
    let to = Path::new(&asked.to);
    let version = asked.version.as_deref();
    let (app, id) = (web.app(), volume_id(&kind, &stem)?);
    Ok(accepted(&app, request_restore(&app, &id, version, to, asked.overwrite, &caller.name).await?))
}

/// Why a version is pinned.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PinBody {
    /// For whoever reads it later, at most 500 characters.
    #[schema(max_length = 500)]
    note: String,
}

/// Keeps a version whatever retention says
#[utoipa::path(
    put, path = "/api/v1/volumes/{kind}/{stem}/versions/{version}/pin", tag = "volumes", request_body = PinBody,
    params(
        ("kind" = String, Path, description = "The kind"), ("stem" = String, Path, description = "The rest of the id"),
        ("version" = String, Path, description = "The version")
    ),
    responses((status = 200, body = PinView))
)]
pub(super) async fn pin(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    PathParams((kind, stem, version)): PathParams<(String, String, String)>,
    OptionalJson(asked): OptionalJson<PinBody>,
) -> Result<Json<PinView>, ApiProblem> {
    Ok(set_pin(&web.app(), &volume_id(&kind, &stem)?, &version, Some(&asked.note), &caller.name).await.map(Json)?)
}

/// Lets retention decide about a version again
#[utoipa::path(
    delete, path = "/api/v1/volumes/{kind}/{stem}/versions/{version}/pin", tag = "volumes",
    params(
        ("kind" = String, Path, description = "The kind"), ("stem" = String, Path, description = "The rest of the id"),
        ("version" = String, Path, description = "The version")
    ),
    responses((status = 200, body = PinView))
)]
pub(super) async fn unpin(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    PathParams((kind, stem, version)): PathParams<(String, String, String)>,
) -> Result<Json<PinView>, ApiProblem> {
    Ok(set_pin(&web.app(), &volume_id(&kind, &stem)?, &version, None, &caller.name).await.map(Json)?)
}
