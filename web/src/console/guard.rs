//! Stands before every page: whose session is it, and does a request that changes something come from a form of that session?

use std::collections::HashMap;

use axum::Extension;
use axum::extract::{Form, FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::pages::trouble;
use super::user::User;
use crate::http::sessions::is_word;
use crate::http::{Peer, Web};
use stackferry_problem::{Code, Problem};

/// The name of the session's cookie. With TLS it has a prefix that browsers give special care: never sent without
/// encryption, never set by another host.
pub(super) fn cookie_name(peer: Peer) -> &'static str {
    match peer {
        Peer::Tcp { tls: true, .. } => "__Host-stackferry",
        _ => "stackferry",
    }
}

pub(super) async fn guard(
    State(web): State<Web>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    // A page that keeps itself up to date asks for parts; that is nobody's hand.
    let by_hand = !request.uri().path().starts_with("/parts/");
    let Some(cookie) = cookie(request.headers(), cookie_name(peer)) else { return to_login(&request) };
    let Some(found) = web.sessions().find(&cookie, by_hand) else { return to_login(&request) };
    let caller = match web.auth().again(&found.token).await {
        Ok(Some(caller)) => caller,
        Ok(None) => {
            web.sessions().end(&cookie);
            return to_login(&request);
        }
        Err(problem) => return trouble(None, &problem),
    };
    let user = User { caller, word: found.word };
    if !matches!(*request.method(), Method::GET | Method::HEAD) && !is_same_origin(request.headers()) {
        let what = format!("{} {} from another origin", request.method(), request.uri().path());
        web.auth().refused(peer, Some(&user.caller), &what).await;
        return trouble(Some(&user), &foreign());
    }
    request.extensions_mut().insert(user);
    next.run(request).await
}

/// The value of a cookie.
pub(super) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    pairs.find_map(|pairs| {
        pairs.split(';').find_map(|pair| {
            let (own, value) = pair.trim().split_once('=')?;
            (own == name).then(|| value.to_owned())
        })
    })
}

/// Whether a browser says that a page of this service asks. One that says nothing is not believed.
pub(super) fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    match (text(header::ORIGIN), text(header::HOST)) {
        (Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, own)| own.eq_ignore_ascii_case(host)),
        _ => false,
    }
}

fn to_login(request: &Request) -> Response {
    if request.headers().contains_key("hx-request") {
        // The whole page goes to the login, not a part of it.
        return (StatusCode::UNAUTHORIZED, [("hx-redirect", "/login")]).into_response();
    }
    Redirect::to("/login").into_response()
}

fn foreign() -> Problem {
    Problem::new(Code::Forbidden, "the request does not come from a page of this console")
        .hint("go back to the console and try again from there")
}

/// A form of the console, sent from a page of the session that it is sent in.
pub(super) struct Posted(HashMap<String, String>);

impl Posted {
    /// What stands in a field; nothing where there is no such field.
    pub(super) fn field(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |text| text.trim())
    }
}

impl FromRequest<Web> for Posted {
    type Rejection = Response;
    async fn from_request(request: Request, web: &Web) -> Result<Self, Response> {
        let user = request.extensions().get::<User>().cloned();
        let form = Form::<HashMap<String, String>>::from_request(request, web).await;
        let Form(fields) = form.map_err(|error| trouble(user.as_ref(), &Problem::usage(error.body_text())))?;
        let word = fields.get("word").map_or("", String::as_str);
        match user {
            Some(user) if is_word(word, &user.word) => Ok(Self(fields)),
            user => Err(trouble(user.as_ref(), &foreign())),
        }
    }
}
