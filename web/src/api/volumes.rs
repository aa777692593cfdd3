//! Volumes, their versions, and the attempts to copy them.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stackferry_catalog::{
    Attempt, FreshnessByKind, FreshnessLimit, Page, Standing, VolumeFilter, VolumeOrder, VolumeRow, VolumeState,
};
use stackferry_volume::{Kind, VolumeId};
use utoipa::IntoParams;

use super::extract::{Natural, PathParams, QueryParams};
use super::schema::{KindWord, OrderWord, StandingWord, StateWord};
use crate::http::ApiProblem;
use crate::http::Web;
use stackferry_engine::app::App;
use stackferry_engine::finding::KnownVersions;
use stackferry_engine::views::ReasonBody;
use stackferry_engine::views::{ProtectedView, VersionView};
use stackferry_engine::{attached_too_long, freshness};
use stackferry_problem::Problem;

/// A volume as the command line tells it, and how it is protected.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct VolumeBody {
    /// The volume.
    #[serde(flatten)]
    pub(crate) volume: ProtectedView,
    /// How it is protected: `protected`, `overdue`, `never_copied`, `unprotectable` or `gone`.
    #[schema(value_type = String)]
    pub(crate) standing: Standing,
    /// What a person should know, where waiting alone does not help.
    pub(crate) advice: Option<String>,
}

pub(crate) use super::extract::volume_id;

/// A page of volumes.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct VolumesBody {
    volumes: Vec<VolumeBody>,
    /// How many fit in all.
    total: u64,
    /// How many were passed over.
    offset: u64,
    /// How many a page has at most.
    limit: u32,
}

/// Which volumes are wanted: all that fit everything that is given.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct VolumesAsked {
    /// A part of the id, the name, the owner or the GUID.
    text: Option<String>,
    /// The kind: `appstack`, `package`, `writable`, `template`, `image`.
    #[param(inline, value_type = Option<KindWord>)]
    kind: Option<Kind>,
    /// How it stands at its source: `ready`, `deferred`, `unprotectable`, `gone`, `conflict`, `incident`.
    #[param(inline, value_type = Option<StateWord>)]
    state: Option<VolumeState>,
    /// How it is protected: `protected`, `overdue`, `never_copied`, `unprotectable`, `gone`.
    #[param(inline, value_type = Option<StandingWord>)]
    standing: Option<Standing>,
    /// The code of its reason; see `/api/v1/reasons`.
    reason: Option<String>,
    /// The name of a datastore where it lies.
    datastore: Option<String>,
    /// Only those whose last attempt failed.
    #[serde(default)]
    failing: bool,
    /// Only those that have a damaged version.
    #[serde(default)]
    damaged: bool,
    /// The order: `id` (the default), `name`, `oldest` (least lately protected first), `size` (largest first).
    #[param(inline, value_type = Option<OrderWord>)]
    order: Option<VolumeOrder>,
    /// How many to pass over. Default 0.
    #[serde(default)]
    #[param(value_type = u64)]
    offset: Natural,
    /// At most so many, 1 to 500; what is beyond is taken as the nearest. Default 100.
    #[param(value_type = Option<i64>, minimum = 0, maximum = 4_294_967_295_i64)]
    limit: Option<u32>,
}

/// The volumes that fit, a page of them
#[utoipa::path(
    get, path = "/api/v1/volumes", tag = "volumes", params(VolumesAsked),
    responses((status = 200, body = VolumesBody))
)]
pub(super) async fn volumes(
    State(web): State<Web>,
    QueryParams(asked): QueryParams<VolumesAsked>,
) -> Result<Json<VolumesBody>, ApiProblem> {
    let filter = VolumeFilter {
        text: asked.text.filter(|text| !text.is_empty()),
        kind: asked.kind,
        state: asked.state,
        standing: asked.standing,
        reason: asked.reason,
        datastore: asked.datastore,
        failing: asked.failing,
        damaged: asked.damaged,
    };
    let page = Page { offset: asked.offset.0, limit: asked.limit.unwrap_or(100).clamp(1, Page::MOST) };
    let (volumes, total) = find(&web.app(), &filter, asked.order.unwrap_or(VolumeOrder::Id), page).await?;
    Ok(Json(VolumesBody { volumes, total, offset: page.offset, limit: page.limit }))
}

/// A page of volumes, and how many fit in all.
pub(crate) async fn find(
    app: &App,
    filter: &VolumeFilter,
    order: VolumeOrder,
    page: Page,
) -> Result<(Vec<VolumeBody>, u64), Problem> {
    let now = app.catalog().clock().now();
    let found = app.catalog().find_volumes(filter, &fresh_kinds(app, now), order, page).await?;
    Ok((found.rows.iter().map(|(row, standing)| body(app, row, *standing, now)).collect(), found.total))
}

/// One volume
#[utoipa::path(
    get, path = "/api/v1/volumes/{kind}/{stem}", tag = "volumes",
    params(("kind" = String, Path, description = "The kind"), ("stem" = String, Path, description = "The rest of the id")),
    responses((status = 200, body = VolumeBody))
)]
pub(super) async fn volume(
    State(web): State<Web>,
    PathParams((kind, stem)): PathParams<(String, String)>,
) -> Result<Json<VolumeBody>, ApiProblem> {
    let (_, body) = one(&web.app(), &volume_id(&kind, &stem)?).await?;
    Ok(Json(body))
}

/// A volume that is known.
///
/// # Errors
/// `no_such_volume`; the catalog's.
pub(crate) async fn known(app: &App, id: &VolumeId) -> Result<VolumeRow, Problem> {
    app.catalog().volume(id).await?.ok_or_else(|| Problem::no_such_volume(&id.to_string(), &[]))
}

/// A volume that is known, with how it is protected.
///
/// # Errors
/// `no_such_volume`; the catalog's.
pub(crate) async fn one(app: &App, id: &VolumeId) -> Result<(VolumeRow, VolumeBody), Problem> {
    let now = app.catalog().clock().now();
    let found = app.catalog().standing(id, &fresh_kinds(app, now)).await?;
    let (row, standing) = found.ok_or_else(|| Problem::no_such_volume(&id.to_string(), &[]))?;
    let body = body(app, &row, standing, now);
    Ok((row, body))
}

/// The versions of a volume, newest first
#[utoipa::path(
    get, path = "/api/v1/volumes/{kind}/{stem}/versions", tag = "volumes",
    params(("kind" = String, Path, description = "The kind"), ("stem" = String, Path, description = "The rest of the id")),
    responses((status = 200, body = [VersionView]))
)]
pub(super) async fn versions(
    State(web): State<Web>,
    PathParams((kind, stem)): PathParams<(String, String)>,
) -> Result<Json<Vec<VersionView>>, ApiProblem> {
    let id = volume_id(&kind, &stem)?;
    known(&web.app(), &id).await?;
    Ok(Json(VersionView::judged(&KnownVersions::of(&web.app(), &id).await?)))
}

/// One attempt to copy a volume.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct AttemptBody {
    /// Its number.
    pub(crate) id: i64,
    /// The route that it took.
    pub(crate) route: String,
    /// Why it was made: `schedule`, `command` or `api`.
    pub(crate) trigger: String,
    /// When it began.
    pub(crate) started: Timestamp,
    /// When it ended; none while it runs.
    pub(crate) ended: Option<Timestamp>,
    /// What it came to: `copied`, `unchanged`, `deferred` or `failed`.
    pub(crate) outcome: Option<String>,
    /// The version that was made, or that the source was found equal to.
    pub(crate) version: Option<String>,
    /// Why it failed or was deferred.
    #[schema(value_type = Option<ReasonBody>)]
    pub(crate) error: Option<stackferry_catalog::StatusReason>,
    /// The bytes of this run: `logical`, `read`, `zero`, `wire`, `stored`.
    #[schema(value_type = Option<Object>)]
    pub(crate) bytes: Option<stackferry_volume::manifest::ByteCounts>,
    /// How long it took, in seconds.
    pub(crate) seconds: Option<f64>,
}

impl From<Attempt> for AttemptBody {
    fn from(attempt: Attempt) -> Self {
        let Attempt { id, route, trigger, started, ended, end, .. } = attempt;
        let (outcome, version, error, bytes, seconds) = match end {
            Some(end) => (
                Some(end.outcome.to_string()),
                end.version.map(|version| version.to_string()),
                end.error,
                Some(end.bytes),
                Some(stackferry_problem::output::seconds(end.took)),
            ),
            None => (None, None, None, None, None),
        };
        let trigger = trigger.to_string();
        Self { id: id.0, route, trigger, started, ended, outcome, version, error, bytes, seconds }
    }
}

/// How many attempts are told.
const ATTEMPTS: u32 = 100;

/// The last attempts to copy a volume, newest first, at most 100
#[utoipa::path(
    get, path = "/api/v1/volumes/{kind}/{stem}/attempts", tag = "volumes",
    params(("kind" = String, Path, description = "The kind"), ("stem" = String, Path, description = "The rest of the id")),
    responses((status = 200, body = [AttemptBody]))
)]
pub(super) async fn attempts(
    State(web): State<Web>,
    PathParams((kind, stem)): PathParams<(String, String)>,
) -> Result<Json<Vec<AttemptBody>>, ApiProblem> {
    let id = volume_id(&kind, &stem)?;
    known(&web.app(), &id).await?;
    let attempts = web.app().catalog().attempts(&id, ATTEMPTS).await?;
    Ok(Json(attempts.into_iter().map(AttemptBody::from).collect()))
}

/// What counts as fresh now: the rule of `engine::freshness`, as the database applies it.
pub(crate) fn fresh_kinds(app: &App, now: Timestamp) -> FreshnessByKind {
    let of = |kind| FreshnessLimit {
        since: now.checked_sub(freshness::expected_interval(app.config(), kind).saturating_mul(2)).ok(),
        by_scan: attached_too_long::age(app.config(), kind).is_none(),
    };
    FreshnessByKind {
        appstack: of(Kind::Appstack),
        package: of(Kind::Package),
        writable: of(Kind::Writable),
        template: of(Kind::Template),
        image: of(Kind::Image),
    }
}

fn body(app: &App, row: &VolumeRow, standing: Standing, now: Timestamp) -> VolumeBody {
    let advice = attached_too_long::tell(app.config(), row, now).map(|told| format!("{} {}", told.state, told.remedy));
    VolumeBody { volume: row.into(), standing, advice }
}
