//! Incidents and the audit.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use stackferry_catalog::AuditRecord;
use utoipa::IntoParams;

use super::extract::{Natural, QueryParams};
use super::schema::AuditBody;
use crate::http::ApiProblem;
use crate::http::Web;
use stackferry_engine::finding::{Finding, KnownVersions};
use stackferry_problem::Problem;

/// A version whose content changed unexpectedly.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct IncidentBody {
    /// The volume.
    pub(crate) volume: String,
    /// The version that holds what was found.
    pub(crate) version: String,
    /// When it was copied.
    pub(crate) created: jiff::Timestamp,
    /// What is wrong.
    pub(crate) text: String,
    /// Whether the version is kept whatever retention says.
    pub(crate) pinned: bool,
    /// How bad that is, what is affected, what still works, and the next command; none where it was settled meanwhile.
    pub(crate) finding: Option<Finding>,
}

/// The incidents that stand: disks whose newest version differs from what it should be
#[utoipa::path(get, path = "/api/v1/incidents", tag = "records", responses((status = 200, body = [IncidentBody])))]
pub(super) async fn incidents(State(web): State<Web>) -> Result<Json<Vec<IncidentBody>>, ApiProblem> {
    Ok(standing(&web).await.map(Json)?)
}

pub(crate) async fn standing(web: &Web) -> Result<Vec<IncidentBody>, Problem> {
    let app = web.app();
    let mut bodies = Vec::new();
    for row in app.catalog().incidents().await? {
        bodies.push(IncidentBody {
            finding: KnownVersions::of(&app, &row.volume).await?.finding(&row.version),
            volume: row.volume.to_string(),
            version: row.version.to_string(),
            created: row.created,
            text: row.incident.unwrap_or_default(),
            pinned: row.pinned,
        });
    }
    Ok(bodies)
}

/// The longest page of the audit.
const MOST: u32 = 1000;

/// Which records are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditAsked {
    /// Records with a smaller number than this; the last of a page gives the next.
    #[param(value_type = Option<u64>)]
    before: Option<Natural>,
    /// Only of this action.
    action: Option<String>,
    /// Only about exactly this subject.
    subject: Option<String>,
    /// At most so many, 1 to 1000; what is beyond is taken as the nearest. Default 100.
    #[param(value_type = Option<i64>, minimum = 0, maximum = 4_294_967_295_i64)]
    limit: Option<u32>,
}

/// What was done, newest first
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "records", params(AuditAsked),
    responses((status = 200, body = [AuditBody]))
)]
pub(super) async fn audit(
    State(web): State<Web>,
    QueryParams(asked): QueryParams<AuditAsked>,
) -> Result<Json<Vec<AuditRecord>>, ApiProblem> {
    let limit = asked.limit.unwrap_or(100).clamp(1, MOST);
    let (action, subject) = (asked.action.as_deref(), asked.subject.as_deref());
    Ok(Json(
        web.app().catalog().audit_records_before(asked.before.map(|before| before.0), action, subject, limit).await?,
    ))
}
