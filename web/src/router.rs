//! What is answered at the service's address: health, metrics, the API and the console.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use stackferry_engine::app::App;
use stackferry_engine::health::Health;

use crate::http::{Web, answer, health, limits};
use crate::{api, console};

/// The longest body of a request, in bytes: a form or a few words of JSON.
const MAX_BODY: usize = 64 << 10;

/// What is answered at the service's address.
pub fn router(app: App, health: Arc<Health>) -> Router {
    let web = Web::new(app, health);
    let open = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics));
    let limited = api::router(&web)
        .merge(console::router(&web))
        .layer(from_fn_with_state(web.clone(), limits::limit))
        .layer(DefaultBodyLimit::max(MAX_BODY));
    let nothing = async || StatusCode::NOT_FOUND;
    open.merge(limited).fallback(nothing).layer(from_fn(answer::harden)).with_state(web)
}
