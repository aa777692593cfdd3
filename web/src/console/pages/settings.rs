//! The configuration in force.

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;

use super::{Shell, answer};
use crate::console::user::User;
use crate::http::Web;
use stackferry_problem::Problem;

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage {
    shell: Shell,
    text: String,
}

pub(in crate::console) async fn page(State(web): State<Web>, Extension(user): Extension<User>) -> Response {
    let text = web.app().config().show().map_err(Problem::from);
    let made = text.map(|text| SettingsPage { shell: Shell::new(&user, "settings", "Settings"), text });
    answer(&user, made)
}
