//! The list of volumes: search, filter, pages, and why each one stands as it does.

use askama::Template;
use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use stackferry_catalog::{Page, Standing, VolumeFilter, VolumeOrder, VolumeState};
use stackferry_volume::{Kind, ReasonCode};

use super::{Shell, answer};
use crate::api::volumes::{VolumeBody, find};
use crate::console::text::{ShownTime, number, query, remedy, size, standing, state_tone, tone, volume_path};
use crate::console::user::User;
use crate::http::Web;
use stackferry_problem::Problem;

/// Volumes on a page.
const PAGE: u32 = 50;

/// What the form asks for. An empty field asks for nothing; one that makes no sense is as good as empty.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub(in crate::console) struct VolumesQuery {
    text: String,
    kind: String,
    standing: String,
    state: String,
    reason: String,
    order: String,
    failing: String,
    damaged: String,
    page: String,
}

struct Choice {
    value: &'static str,
    label: &'static str,
    chosen: bool,
}

pub(super) struct VolumeLine {
    pub(super) href: String,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) owner: String,
    pub(super) size: String,
    pub(super) standing: &'static str,
    pub(super) tone: &'static str,
    pub(super) state: String,
    pub(super) state_tone: &'static str,
    pub(super) versions: u64,
    pub(super) damaged: u64,
    pub(super) last: Option<ShownTime>,
    pub(super) why: Option<String>,
    pub(super) todo: Option<String>,
}

#[derive(Template)]
#[template(path = "volumes.html")]
struct VolumesPage {
    shell: Shell,
    wanted: VolumesQuery,
    kinds: Vec<Choice>,
    standings: Vec<Choice>,
    states: Vec<Choice>,
    reasons: Vec<Choice>,
    orders: Vec<Choice>,
    lines: Vec<VolumeLine>,
    total: String,
    from: String,
    to: String,
    before: Option<String>,
    after: Option<String>,
}

pub(in crate::console) async fn page(
    State(web): State<Web>,
    Extension(user): Extension<User>,
    Query(wanted): Query<VolumesQuery>,
) -> Response {
    answer(&user, make(&web, &user, wanted).await)
}

async fn make(web: &Web, user: &User, wanted: VolumesQuery) -> Result<VolumesPage, Problem> {
    let filter = VolumeFilter {
        text: Some(wanted.text.trim().to_owned()).filter(|text| !text.is_empty()),
        kind: wanted.kind.parse().ok(),
        state: wanted.state.parse().ok(),
        standing: wanted.standing.parse().ok(),
        reason: Some(wanted.reason.clone()).filter(|reason| !reason.is_empty()),
        datastore: None,
        failing: wanted.failing == "true",
        damaged: wanted.damaged == "true",
    };
    let order = wanted.order.parse().unwrap_or(VolumeOrder::Id);
    // No site has so many that a page's number would not fit.
    let number_of_page = u64::from(wanted.page.parse::<u32>().unwrap_or(1).max(1));
    let page = Page { offset: number_of_page.saturating_sub(1).saturating_mul(u64::from(PAGE)), limit: PAGE };
    let (volumes, total) = find(&web.app(), &filter, order, page).await?;
    let now = web.app().catalog().clock().now();
    let lines: Vec<VolumeLine> = volumes.iter().map(|volume| line(volume, now)).collect();
    let shown = u64::try_from(lines.len()).unwrap_or(0);
    let end = page.offset.saturating_add(shown);
    let other = |page: u64| link(&wanted, page);
    Ok(VolumesPage {
        shell: Shell::new(user, "volumes", "Volumes"),
        kinds: choices(Kind::ALL.map(|kind| (kind.as_str(), kind.as_str())), &wanted.kind),
        standings: choices(Standing::ALL.iter().map(|one| (one.as_str(), standing(*one))), &wanted.standing),
        states: choices(VolumeState::ALL.iter().map(|one| (one.as_str(), one.as_str())), &wanted.state),
        reasons: choices(ReasonCode::ALL.map(|one| (one.as_str(), one.as_str())), &wanted.reason),
        orders: choices(
            [("id", "id"), ("name", "name"), ("oldest", "longest unprotected"), ("size", "largest")],
            &wanted.order,
        ),
        lines,
        total: number(total),
        from: number(page.offset.saturating_add(1).min(end)),
        to: number(end),
        before: (number_of_page > 1).then(|| other(number_of_page.saturating_sub(1))),
        after: (end < total).then(|| other(number_of_page.saturating_add(1))),
        wanted,
    })
}

fn choices(all: impl IntoIterator<Item = (&'static str, &'static str)>, chosen: &str) -> Vec<Choice> {
    all.into_iter().map(|(value, label)| Choice { value, label, chosen: value == chosen }).collect()
}

fn link(wanted: &VolumesQuery, page: u64) -> String {
    let page = page.to_string();
    let pairs = [
        ("text", wanted.text.as_str()),
        ("kind", &wanted.kind),
        ("standing", &wanted.standing),
        ("state", &wanted.state),
        ("reason", &wanted.reason),
        ("order", &wanted.order),
        ("failing", &wanted.failing),
        ("damaged", &wanted.damaged),
        ("page", &page),
    ];
    query("/volumes", &pairs)
}

fn line(body: &VolumeBody, now: jiff::Timestamp) -> VolumeLine {
    let volume = &body.volume.volume;
    let error = body.volume.last_error.as_ref().map(|error| format!("the last copy failed: {}", error.text));
    let reason = volume.reason.as_ref().map(|reason| reason.text.clone());
    VolumeLine {
        href: volume_path(&volume.id),
        id: volume.id.to_string(),
        name: volume.name.clone(),
        owner: volume.owner.clone().unwrap_or_default(),
        size: volume.size_bytes.map_or_else(String::new, size),
        standing: standing(body.standing),
        tone: tone(body.standing),
        state: volume.state.to_string(),
        state_tone: state_tone(volume.state),
        versions: body.volume.versions,
        damaged: body.volume.damaged_versions,
        last: ShownTime::maybe(body.volume.last_success, now),
        why: reason.or(error),
        todo: body.advice.clone().or_else(|| remedy(volume.remedy.as_ref(), volume.reason.as_ref())),
    }
}
