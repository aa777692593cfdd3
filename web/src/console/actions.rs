//! What a form of the console has done. Each is the API's own, with the same roles; the answer is the page that it was asked
//! for on, with a word of what came of it.

use std::path::PathBuf;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};
use stackferry_catalog::{JobId, Role};

use super::guard::Posted;
use super::pages::trouble;
use super::text::volume_path;
use super::user::User;
use crate::api::volumes::{known, volume_id};
use crate::http::{Caller, Peer, Web};
use stackferry_engine::operations::{request_copy, request_restore, request_verify, set_pin};
use stackferry_problem::Problem;

/// Who does something, to what, by which form.
pub(super) struct Order {
    web: Web,
    user: User,
    peer: Peer,
}

impl FromRequestParts<Web> for Order {
    type Rejection = Response;
    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Response> {
        // Both are set before any page is asked: the one by the connection, the other by the guard.
        match (parts.extensions.get::<User>(), parts.extensions.get::<Peer>()) {
            (Some(user), Some(peer)) => Ok(Self { web: web.clone(), user: user.clone(), peer: *peer }),
            _ => Err(trouble(None, &Problem::internal("a form came in past the guard"))),
        }
    }
}

impl Order {
    /// Does what a role may, and shows `page` afterwards with a word of it.
    async fn done(
        self,
        least: Role,
        page: &str,
        work: impl AsyncFnOnce(&Web, &Caller) -> Result<&'static str, Problem>,
    ) -> Response {
        if let Err(problem) = self.user.caller.may(least) {
            self.web.auth().refused(self.peer, Some(&self.user.caller), page).await;
            return trouble(Some(&self.user), &problem);
        }
        match work(&self.web, &self.user.caller).await {
            Ok(word) => Redirect::to(&format!("{page}?said={word}")).into_response(),
            Err(problem) => trouble(Some(&self.user), &problem),
        }
    }
}

/// The page of a volume that is named in an address; the list where there can be none.
fn page_of(kind: &str, stem: &str) -> String {
    volume_id(kind, stem).map_or_else(|_| "/volumes".to_owned(), |id| volume_path(&id))
}

pub(super) async fn copy(order: Order, Path((kind, stem)): Path<(String, String)>, _form: Posted) -> Response {
    let work = async |web: &Web, caller: &Caller| {
        request_copy(&web.app(), &volume_id(&kind, &stem)?, false, &caller.name).await.map(|_| "copy")
    };
    order.done(Role::Operator, &page_of(&kind, &stem), work).await
}

pub(super) async fn verify(order: Order, Path((kind, stem)): Path<(String, String)>, form: Posted) -> Response {
    let version = Some(form.field("version")).filter(|text| !text.is_empty());
    let work = async |web: &Web, caller: &Caller| {
        request_verify(&web.app(), Some(&volume_id(&kind, &stem)?), version, &caller.name).await.map(|_| "verify")
    };
    order.done(Role::Operator, &page_of(&kind, &stem), work).await
}

pub(super) async fn restore(order: Order, Path((kind, stem)): Path<(String, String)>, form: Posted) -> Response {
    let to = PathBuf::from(form.field("root")).join(form.field("folder").trim_start_matches('/'));
    let version = form.field("version");
    let work = async |web: &Web, caller: &Caller| {
        request_restore(&web.app(), &volume_id(&kind, &stem)?, Some(version), &to, false, &caller.name)
            .await
            .map(|_| "restore")
    };
    order.done(Role::Admin, &page_of(&kind, &stem), work).await
}

pub(super) async fn pin(order: Order, Path((kind, stem)): Path<(String, String)>, form: Posted) -> Response {
    let work = async |web: &Web, caller: &Caller| {
        let (version, note) = (form.field("version"), form.field("note"));
        set_pin(&web.app(), &volume_id(&kind, &stem)?, version, Some(note), &caller.name).await.map(|_| "pin")
    };
    order.done(Role::Operator, &page_of(&kind, &stem), work).await
}

pub(super) async fn unpin(order: Order, Path((kind, stem)): Path<(String, String)>, form: Posted) -> Response {
    let work = async |web: &Web, caller: &Caller| {
        set_pin(&web.app(), &volume_id(&kind, &stem)?, form.field("version"), None, &caller.name).await.map(|_| "unpin")
    };
    order.done(Role::Admin, &page_of(&kind, &stem), work).await
}

pub(super) async fn pause(order: Order, Path((kind, stem)): Path<(String, String)>, form: Posted) -> Response {
    let work = async |web: &Web, caller: &Caller| {
        let app = web.app();
        let id = known(&app, &volume_id(&kind, &stem)?).await?.id;
        match form.field("pause") {
            "no" => app.jobs().resume(Some(&id), &caller.name).await.map(|_| "resume"),
            _ => app.jobs().pause(Some(&id), &caller.name).await.map(|_| "pause"),
        }
    };
    order.done(Role::Operator, &page_of(&kind, &stem), work).await
}

pub(super) async fn pause_all(order: Order, form: Posted) -> Response {
    let work = async |web: &Web, caller: &Caller| match form.field("pause") {
        "no" => web.app().jobs().resume(None, &caller.name).await.map(|_| "resume"),
        _ => web.app().jobs().pause(None, &caller.name).await.map(|_| "pause"),
    };
    order.done(Role::Operator, "/jobs", work).await
}

pub(super) async fn cancel(order: Order, Path(id): Path<i64>, _form: Posted) -> Response {
    let work = async |web: &Web, caller: &Caller| {
        let cancelled = web.app().jobs().cancel(JobId(id), &caller.name).await?;
        let ended = matches!(cancelled, stackferry_catalog::Cancelled::Ended(_));
        Ok(if ended { "ended" } else { "cancel" })
    };
    order.done(Role::Operator, "/jobs", work).await
}
