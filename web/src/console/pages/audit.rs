//! What was done, by whom, to what.

use askama::Template;
use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use stackferry_catalog::AuditAction;

use super::{Shell, answer};
use crate::console::text::{ShownTime, query};
use crate::console::user::User;
use crate::http::Web;
use stackferry_problem::Problem;

/// Records on a page.
const PAGE: u32 = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::console) struct AuditQuery {
    action: String,
    subject: String,
    before: String,
}

struct RecordLine {
    id: u64,
    at: ShownTime,
    action: String,
    actor: String,
    subject: String,
    detail: String,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    shell: Shell,
    wanted: AuditQuery,
    actions: Vec<(&'static str, bool)>,
    lines: Vec<RecordLine>,
    older: Option<String>,
}

pub(in crate::console) async fn page(
    State(web): State<Web>,
    Extension(user): Extension<User>,
    Query(wanted): Query<AuditQuery>,
) -> Response {
    answer(&user, make(&web, &user, wanted).await)
}

async fn make(web: &Web, user: &User, wanted: AuditQuery) -> Result<AuditPage, Problem> {
    let app = web.app();
    let catalog = app.catalog();
    let now = catalog.clock().now();
    let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let (action, subject) = (some(&wanted.action), some(&wanted.subject));
    let before = wanted.before.parse().ok();
    let records = catalog.audit_records_before(before, action.as_deref(), subject.as_deref(), PAGE).await?;
    let full = u32::try_from(records.len()).is_ok_and(|count| count == PAGE);
    let last = records.last().map(|record| record.id.to_string()).filter(|_| full);
    let older = last
        .map(|last| query("/audit", &[("action", &wanted.action), ("subject", &wanted.subject), ("before", &last)]));
    let lines = records.into_iter().map(|record| RecordLine {
        id: record.id,
        at: ShownTime::new(record.at, now),
        action: record.action,
        actor: record.actor,
        subject: record.subject,
        detail: told(&record.detail),
    });
    Ok(AuditPage {
        shell: Shell::new(user, "audit", "Audit"),
        actions: AuditAction::ALL.iter().map(|one| (one.as_str(), one.as_str() == wanted.action)).collect(),
        lines: lines.collect(),
        older,
        wanted,
    })
}

/// What else there is to say, as `key: value` pairs.
fn told(detail: &serde_json::Value) -> String {
    let Some(pairs) = detail.as_object() else {
        return if detail.is_null() { String::new() } else { detail.to_string() };
    };
    let pairs = pairs.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| match value.as_str() {
        Some(text) => format!("{key}: {text}"),
        None => format!("{key}: {value}"),
    });
    pairs.collect::<Vec<_>>().join(", ")
}
