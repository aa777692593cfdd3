//! The service's own web address: `/healthz`, `/readyz`, `/metrics`.
//!
//! What is asked here may be asked every second: each answer is bounded in time, and one scrape is made at a time. Nothing
//! here changes anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;
use stackferry_config::Config;
use stackferry_vault::Space;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use crate::app::{App, blocking};
use crate::daemon::Health;
use crate::metrics;
use crate::problem::{Code, Problem};

/// How long the catalog may take to answer before the service counts as not ready.
const CATALOG_WAIT: Duration = Duration::from_secs(2);
/// How long the vault's disk may take to tell its space. A mount that hangs does so for ever.
const VAULT_WAIT: Duration = Duration::from_secs(2);
/// How long a scrape may take: Prometheus gives up after 10 s, unless it is told otherwise.
const SCRAPE_WAIT: Duration = Duration::from_secs(9);

#[derive(Clone)]
struct Site(Arc<Parts>);

struct Parts {
    app: App,
    health: Arc<Health>,
    /// Held while metrics are gathered: many scrapes at once cost as much as one.
    scraping: Mutex<()>,
    /// Held while the vault's disk is asked, by the thread that asks: one that hangs is the only one that does.
    measuring: Arc<Mutex<()>>,
}

/// What is answered at the service's address.
pub fn router(app: App, health: Arc<Health>) -> Router {
    let site = Site(Arc::new(Parts { app, health, scraping: Mutex::default(), measuring: Arc::default() }));
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(site)
}

/// Takes the service's address.
///
/// # Errors
/// `cannot_listen`; `bad_config` where a certificate is configured, which this version can't show.
pub async fn bind(config: &Config) -> Result<(TcpListener, SocketAddr), Problem> {
    if config.http.tls.is_some() {
        return Err(Problem::new(Code::BadConfig, "this version can't serve HTTPS")
            .subject("http.tls")
            .hint("take `tls` out, listen on loopback, and put a proxy with a certificate in front"));
    }
    let address = config.http.listen.address();
    let cannot = |error: &std::io::Error| {
        Problem::new(Code::CannotListen, format!("can't listen on {address}: {error}"))
            .subject(address)
            .hint("is the service running already, or does another program use the port? See `http.listen`")
    };
    let listener = TcpListener::bind(address).await.map_err(|error| cannot(&error))?;
    let bound = listener.local_addr().map_err(|error| cannot(&error))?;
    Ok((listener, bound))
}

/// Why the service is not ready.
#[derive(Debug, Serialize)]
struct NotReady {
    ready: bool,
    reasons: Vec<Why>,
}

#[derive(Debug, Serialize)]
struct Why {
    /// What is not ready: `catalog`, `vault`, `discovery`.
    part: &'static str,
    text: String,
}

async fn readyz(State(site): State<Site>) -> Response {
    let mut reasons = Vec::new();
    let mut no = |part, text: String| reasons.push(Why { part, text });
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
        return answer(StatusCode::OK, "text/plain; charset=utf-8", "ok\n".to_owned());
    }
    let body = serde_json::to_string(&NotReady { ready: false, reasons }).unwrap_or_default();
    answer(StatusCode::SERVICE_UNAVAILABLE, "application/json", body + "\n")
}

async fn scrape(State(site): State<Site>) -> Response {
    let app = &site.0.app;
    let gather = async {
        let _one = site.0.scraping.lock().await;
        // Without an answer its families are left out.
        let space = site.space().await.ok().flatten();
        app.metrics().render(app, space).await
    };
    match tokio::time::timeout(SCRAPE_WAIT, gather).await {
        Ok(Ok(text)) => answer(StatusCode::OK, metrics::CONTENT_TYPE, text),
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

impl Site {
    /// The room on the vault's disk; none while the vault is not open.
    async fn space(&self) -> Result<Option<Space>, Problem> {
        let Some(vault) = self.0.app.opened_vault() else { return Ok(None) };
        let measuring = Arc::clone(&self.0.measuring);
        let measure = async {
            let one = measuring.lock_owned().await;
            blocking(move || {
                let space = vault.space();
                drop(one);
                space
            })
            .await?
            .map_err(Problem::from)
        };
        match tokio::time::timeout(VAULT_WAIT, measure).await {
            Ok(space) => space.map(Some),
            Err(_) => {
                let text = format!("its disk did not answer for {} s", VAULT_WAIT.as_secs());
                Err(Problem::new(Code::IoFailed, text))
            }
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
