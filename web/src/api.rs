//! The API below `/api/v1`: what the command line answers, by HTTP, with the same objects and the same problems.
//!
//! Every route stands in the table of [`roles`] with the least role that may call it; a route that is not there can't be
//! called. Who may not call a route learns nothing of what it would have answered, not even whether something exists.

mod about;
pub(crate) mod actions;
mod events;
mod extract;
mod guard;
pub(crate) mod jobs;
mod openapi;
mod reasons;
pub(crate) mod records;
mod retention;
pub(crate) mod roles;
pub(crate) mod schema;
pub(crate) mod status;
pub(crate) mod volumes;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::any;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::{ApiProblem, Web};
use stackferry_problem::{Code, Problem};

pub use openapi::document;
pub(crate) use reasons::REASONS;
pub use roles::{ApiRoute, ROUTES};

/// What is answered below `/api/`.
pub(crate) fn router(web: &Web) -> Router<Web> {
    let (router, _) = routes().split_for_parts();
    router
        .route("/api/{*rest}", any(async || ApiProblem(no_such_page())))
        .layer(from_fn_with_state(web.clone(), guard::guard))
}

/// Every route of the API, with what it says of itself.
fn routes() -> OpenApiRouter<Web> {
    OpenApiRouter::new()
        .routes(routes!(about::whoami))
        .routes(routes!(about::settings))
        .routes(routes!(about::reasons))
        .routes(routes!(about::problems))
        .routes(routes!(about::tokens))
        .routes(routes!(openapi::openapi))
        .routes(routes!(status::status))
        .routes(routes!(volumes::volumes))
        .routes(routes!(volumes::volume))
        .routes(routes!(volumes::versions))
        .routes(routes!(volumes::attempts))
        .routes(routes!(actions::copy))
        .routes(routes!(actions::verify))
        .routes(routes!(actions::verify_version))
        .routes(routes!(actions::verify_all))
        .routes(routes!(actions::restore))
        .routes(routes!(actions::pin, actions::unpin))
        .routes(routes!(jobs::jobs))
        .routes(routes!(jobs::job))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::pauses))
        .routes(routes!(jobs::pause, jobs::resume))
        .routes(routes!(jobs::pause_volume, jobs::resume_volume))
        .routes(routes!(retention::plan, retention::run))
        .routes(routes!(events::events))
        .routes(routes!(records::incidents))
        .routes(routes!(records::audit))
}

fn no_such_page() -> Problem {
    Problem::new(Code::NoSuchPage, "the API has nothing at this address")
        .hint("/api/v1/openapi.json lists what there is")
}
