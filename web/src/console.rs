//! The console at `/`: what the API tells, as pages for people. Made on the server, without anything from elsewhere, so that
//! it works in a network without internet; a small script (htmx, vendored) keeps what moves up to date, and every page works
//! without it.
//!
//! A browser logs in with a token and gets a session cookie. Nothing is changed but by a form of this console: each carries
//! the session's own word, and the request has to come from a page of this origin.

mod actions;
mod assets;
mod guard;
mod login;
mod notices;
mod pages;
mod text;
mod user;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use crate::http::Web;

/// The console's pages.
pub(crate) fn router(web: &Web) -> Router<Web> {
    let pages = Router::new()
        .route("/", get(pages::overview::page))
        .route("/parts/overview", get(pages::overview::part))
        .route("/volumes", get(pages::volumes::page))
        .route("/volumes/{kind}/{stem}", get(pages::volume::page))
        .route("/volumes/{kind}/{stem}/copy", post(actions::copy))
        .route("/volumes/{kind}/{stem}/verify", post(actions::verify))
        .route("/volumes/{kind}/{stem}/restore", post(actions::restore))
        .route("/volumes/{kind}/{stem}/pin", post(actions::pin))
        .route("/volumes/{kind}/{stem}/unpin", post(actions::unpin))
        .route("/volumes/{kind}/{stem}/pause", post(actions::pause))
        .route("/parts/volumes/{kind}/{stem}", get(pages::volume::part))
        .route("/jobs", get(pages::jobs::page))
        .route("/parts/jobs", get(pages::jobs::part))
        .route("/jobs/pause", post(actions::pause_all))
        .route("/jobs/{id}/cancel", post(actions::cancel))
        .route("/incidents", get(pages::incidents::page))
        .route("/audit", get(pages::audit::page))
        .route("/settings", get(pages::settings::page))
        .route("/logout", post(login::logout))
        .layer(from_fn_with_state(web.clone(), guard::guard));
    Router::new()
        .route("/login", get(login::page).post(login::login))
        .route("/assets/{name}", get(assets::asset))
        .merge(pages)
}
