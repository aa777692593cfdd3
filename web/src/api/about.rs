//! What the service is and knows of itself: callers, settings, words, tokens.

use axum::extract::State;
use axum::{Extension, Json};
use serde::Serialize;

use super::REASONS;
use super::reasons::ReasonRow;
use crate::http::ApiProblem;
use crate::http::{Caller, Web};
use stackferry_engine::views::TokenView;
use stackferry_problem::{PROBLEMS, Problem};

/// Who calls.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct WhoBody {
    /// The name in the audit.
    name: String,
    /// The role: `viewer`, `operator` or `admin`.
    role: String,
}

/// Who calls, as the service knows them
#[utoipa::path(get, path = "/api/v1/whoami", tag = "service", responses((status = 200, body = WhoBody)))]
pub(super) async fn whoami(Extension(caller): Extension<Caller>) -> Json<WhoBody> {
    Json(WhoBody { name: caller.name, role: caller.role.to_string() })
}

/// The configuration in force, defaults filled in, secrets as the references that they are
#[utoipa::path(get, path = "/api/v1/settings", tag = "service", responses((status = 200, body = Object)))]
pub(super) async fn settings(State(web): State<Web>) -> Result<Json<serde_json::Value>, ApiProblem> {
    let settings = serde_json::to_value(web.app().config());
    Ok(settings.map(Json).map_err(|error| Problem::internal(format!("the configuration is no JSON: {error}")))?)
}

/// Every word that a volume's reason can have, with what to do about it
#[utoipa::path(get, path = "/api/v1/reasons", tag = "words", responses((status = 200, body = [ReasonRow])))]
pub(super) async fn reasons() -> Json<&'static [ReasonRow]> {
    Json(REASONS)
}

/// A word that a problem can have.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ProblemRow {
    /// The word.
    code: &'static str,
    /// What it means.
    meaning: &'static str,
    /// What to do.
    fix: &'static str,
    /// How a command ends with it.
    exit: u8,
    /// The HTTP status that it has here.
    status: u16,
}

/// Every word that a problem can have, with what to do about it
#[utoipa::path(get, path = "/api/v1/problems", tag = "words", responses((status = 200, body = [ProblemRow])))]
pub(super) async fn problems() -> Json<Vec<ProblemRow>> {
    let rows = PROBLEMS.iter().map(|row| ProblemRow {
        code: row.word,
        meaning: row.meaning,
        fix: row.fix,
        exit: row.exit.code(),
        status: crate::http::status(row.code).as_u16(),
    });
    Json(rows.collect())
}

/// Every token, without its secret
#[utoipa::path(get, path = "/api/v1/tokens", tag = "service", responses((status = 200, body = [TokenView])))]
pub(super) async fn tokens(State(web): State<Web>) -> Result<Json<Vec<TokenView>>, ApiProblem> {
    let rows = web.app().catalog().tokens().await?;
    Ok(Json(rows.into_iter().map(TokenView::from).collect()))
}
