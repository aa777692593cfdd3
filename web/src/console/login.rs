//! Logging in with a token, and out again.

use std::collections::HashMap;

use askama::Template;
use axum::Extension;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::json;
use stackferry_catalog::AuditAction;

use super::guard::{Posted, cookie, cookie_name, is_same_origin};
use super::pages::{show, trouble};
use crate::http::sessions::LIFE;
use crate::http::{Peer, Web};
use stackferry_engine::about::PROGRAM;
use stackferry_engine::audit;

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    program: &'static str,
    wrong: bool,
}

pub(super) async fn page() -> Response {
    show(StatusCode::OK, &LoginPage { program: PROGRAM, wrong: false })
}

pub(super) async fn login(
    State(web): State<Web>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Form(fields): Form<HashMap<String, String>>,
) -> Response {
    let token = fields.get("token").map_or("", |token| token.trim());
    let known = match is_same_origin(&headers) {
        true => web.auth().bearer(token).await,
        // Nobody is logged in by a page of somebody else.
        false => Ok(None),
    };
    match known {
        Err(problem) => trouble(None, &problem),
        Ok(Some(caller)) => {
            let detail = json!({ "from": peer.place(), "role": caller.role });
            audit::record(web.app().catalog(), AuditAction::LoggedIn, &caller.name, "console", &detail).await;
            let cookie = web.sessions().begin(&caller.token.unwrap_or_default());
            ([(header::SET_COOKIE, set(peer, &cookie, LIFE.as_secs()))], Redirect::to("/")).into_response()
        }
        Ok(None) => {
            web.auth().refused(peer, None, "login to the console").await;
            show(StatusCode::UNAUTHORIZED, &LoginPage { program: PROGRAM, wrong: true })
        }
    }
}

pub(super) async fn logout(
    State(web): State<Web>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    _form: Posted,
) -> Response {
    if let Some(cookie) = cookie(&headers, cookie_name(peer)) {
        web.sessions().end(&cookie);
    }
    ([(header::SET_COOKIE, set(peer, "", 0))], Redirect::to("/login")).into_response()
}

/// The cookie: no script sees it, and no page of another site has it sent.
fn set(peer: Peer, value: &str, seconds: u64) -> String {
    let secure = if matches!(peer, Peer::Tcp { tls: true, .. }) { "; Secure" } else { "" };
    format!("{}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}", cookie_name(peer))
}
