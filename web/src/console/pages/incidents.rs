//! Disks that changed unexpectedly.

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use stackferry_volume::VolumeId;

use super::volume::FindingLines;
use super::{Shell, answer};
use crate::api::records::{IncidentBody, standing};
use crate::console::text::{ShownTime, volume_path};
use crate::console::user::User;
use crate::http::Web;
use stackferry_problem::Problem;

struct IncidentLine {
    body: IncidentBody,
    href: String,
    at: ShownTime,
    finding: Option<FindingLines>,
}

#[derive(Template)]
#[template(path = "incidents.html")]
struct IncidentsPage {
    shell: Shell,
    lines: Vec<IncidentLine>,
}

pub(in crate::console) async fn page(State(web): State<Web>, Extension(user): Extension<User>) -> Response {
    answer(&user, make(&web, &user).await)
}

async fn make(web: &Web, user: &User) -> Result<IncidentsPage, Problem> {
    let now = web.app().catalog().clock().now();
    let lines = standing(web).await?.into_iter().map(|body| IncidentLine {
        href: body.volume.parse::<VolumeId>().map_or_else(|_| String::new(), |id| volume_path(&id)),
        at: ShownTime::new(body.created, now),
        finding: body.finding.clone().map(FindingLines::from),
        body,
    });
    Ok(IncidentsPage { shell: Shell::new(user, "incidents", "Incidents"), lines: lines.collect() })
}
