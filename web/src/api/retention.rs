//! Retention: what it would delete now, and having it carried out.

use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use stackferry_catalog::Trigger;

use super::actions::accepted;
use crate::http::ApiProblem;
use crate::http::{Caller, Web};
use stackferry_engine::app::App;
use stackferry_engine::jobs;
use stackferry_engine::operations::enqueue;
use stackferry_engine::prune::{self, PruneRequest};
use stackferry_engine::views::{JobView, PruneView};
use stackferry_problem::{Code, Problem};

/// What retention would delete now. Nothing is deleted
#[utoipa::path(get, path = "/api/v1/prune", tag = "retention", responses((status = 200, body = PruneView)))]
pub(super) async fn plan(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<PruneView>, ApiProblem> {
    let app = wanted(&web).await?;
    let what = PruneRequest { volume: None, dry_run: true, actor: &caller.name };
    Ok(Json(PruneView::new(prune::prune(&app, what).await?, true)))
}

/// Deletes what retention says. The answer is the job
#[utoipa::path(post, path = "/api/v1/prune", tag = "retention", responses((status = 202, body = JobView)))]
pub(super) async fn run(State(web): State<Web>, Extension(caller): Extension<Caller>) -> Result<Response, ApiProblem> {
    let app = wanted(&web).await?;
    Ok(accepted(&app, enqueue(&app, jobs::prune(Trigger::Api, &caller.name)).await?))
}

/// Without a rule there is nothing to be carried out, and it is an error to ask for it, as by the command.
async fn wanted(web: &Web) -> Result<App, Problem> {
    let app = web.app();
    // By HTTP a missing rule is no fault of the service.
    prune::configured(&app).map_err(|problem| Problem { code: Code::Refused, ..problem })?;
    app.vault().await?;
    Ok(app)
}
