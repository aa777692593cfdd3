//! One module for each page: what it asks for, and what its template shows.

pub(super) mod audit;
pub(super) mod incidents;
pub(super) mod jobs;
pub(super) mod overview;
pub(super) mod settings;
pub(super) mod volume;
pub(super) mod volumes;

use askama::Template;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use stackferry_catalog::Role;

use super::user::User;
use stackferry_engine::about::PROGRAM;
use stackferry_problem::Problem;

/// What every page has around it.
pub(super) struct Shell {
    pub(super) title: String,
    /// The part of the menu that it belongs to.
    pub(super) active: &'static str,
    pub(super) program: &'static str,
    pub(super) name: String,
    pub(super) role: String,
    /// What every form carries.
    pub(super) word: String,
    pub(super) operator: bool,
    pub(super) admin: bool,
}

impl Shell {
    pub(super) fn new(user: &User, active: &'static str, title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            active,
            program: PROGRAM,
            name: user.caller.name.clone(),
            role: user.caller.role.to_string(),
            word: user.word.clone(),
            operator: user.may(Role::Operator),
            admin: user.may(Role::Admin),
        }
    }
}

/// A page of a template.
pub(super) fn show(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be made");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[derive(Template)]
#[template(path = "trouble.html")]
struct TroublePage<'a> {
    shell: Option<Shell>,
    problem: &'a Problem,
    program: &'static str,
}

/// A page that tells a problem.
pub(super) fn trouble(user: Option<&User>, problem: &Problem) -> Response {
    let status = crate::http::status(problem.code);
    let shell = user.map(|user| Shell::new(user, "", "Request failed"));
    show(status, &TroublePage { shell, problem, program: PROGRAM })
}

/// Shows what came of making a page.
pub(super) fn answer<P: Template>(user: &User, made: Result<P, Problem>) -> Response {
    match made {
        Ok(page) => show(StatusCode::OK, &page),
        Err(problem) => trouble(Some(user), &problem),
    }
}
