//! How the service is: `/readyz` and `/metrics`, for machines, without a token.
//!
//! What is asked here may be asked every second: each answer is bounded in time, and one scrape is made at a time. Nothing
//! here changes anything.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::Response;
use serde::Serialize;

use super::Web;
use crate::scrape;
use stackferry_problem::Problem;

/// How long the catalog may take to answer before the service counts as not ready.
const CATALOG_WAIT: Duration = Duration::from_secs(2);
/// How long a scrape may take: Prometheus gives up after 10 s, unless it is told otherwise.
const SCRAPE_WAIT: Duration = Duration::from_secs(9);

/// So many places that could not be looked at are named.
const NOT_SEEN_SHOWN: usize = 20;

/// Why the service is not ready.
#[derive(Debug, Serialize)]
struct NotReady {
    ready: bool,
    reasons: Vec<NotReadyReason>,
}

#[derive(Debug, Serialize)]
struct NotReadyReason {
    /// What is not ready: `catalog`, `vault`, `discovery`.
    part: &'static str,
    text: String,
}

pub(crate) async fn readyz(State(site): State<Web>) -> Response {
    let mut reasons = Vec::new();
    let mut no = |part, text: String| reasons.push(NotReadyReason { part, text });
    let app = &site.0.app;
    match tokio::time::timeout(CATALOG_WAIT, app.catalog().vault_id()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => no("catalog", Problem::from(error).message),
        Err(_) => no("catalog", format!("it did not answer for {} s", CATALOG_WAIT.as_secs())),
    }
    match site.space().await {
        Ok(Some(_)) => {}
        Ok(None) => no("vault", site.0.health.vault()),
        Err(problem) => no("vault", problem.message),
    }
    if let Some(why) = site.0.health.discovery() {
        no("discovery", why);
    }
    if reasons.is_empty() {
        // Copies go on where all else can be looked at, so it is ready; but it says what it does not see.
        let not_seen = site.0.health.not_seen();
        let lines: String = not_seen
            .iter()
            .take(NOT_SEEN_SHOWN)
            .map(|one| format!("not looked at: {}: {}\n", one.subject, one.text))
            .collect();
        return answer(StatusCode::OK, "text/plain; charset=utf-8", format!("ok\n{lines}"));
    }
    let body = serde_json::to_string(&NotReady { ready: false, reasons }).unwrap_or_default();
    answer(StatusCode::SERVICE_UNAVAILABLE, "application/json", body + "\n")
}

pub(crate) async fn metrics(State(site): State<Web>) -> Response {
    let app = &site.0.app;
    let gather = async {
        let _one = site.0.scraping.lock().await;
        // Without an answer its families are left out.
        let space = site.space().await.ok().flatten();
        scrape::render(app, space).await
    };
    match tokio::time::timeout(SCRAPE_WAIT, gather).await {
        Ok(Ok(text)) => answer(StatusCode::OK, scrape::CONTENT_TYPE, text),
        Ok(Err(problem)) => {
            tracing::error!(code = %problem.code, "metrics can't be told: {}", problem.message);
            answer(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", problem.message + "\n")
        }
        Err(_) => {
            let text = format!("gathering took longer than {} s\n", SCRAPE_WAIT.as_secs());
            answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", text)
        }
    }
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}
