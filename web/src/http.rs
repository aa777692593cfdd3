//! The service's own web address: `/healthz`, `/readyz`, `/metrics`, the API below `/api/v1`, and the console at `/`.
//!
//! Who calls is found out in `auth`, what one caller may cost is bounded in `limits`, and connections come in by `server`:
//! TCP, TLS, or the socket in the state folder.

mod answer;
pub(crate) mod auth;
mod health;
mod limits;
mod server;
mod socket;
mod streams;
mod tls;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use stackferry_vault::Space;
use tokio::sync::Mutex;

use crate::api;
use crate::console;
use stackferry_engine::app::{App, Room};
use stackferry_engine::health::Health;
use stackferry_problem::Problem;

pub use answer::status;
pub(crate) use answer::{ApiProblem, ProblemBody};
pub use auth::{Caller, Peer};
pub use server::Server;
pub use socket::path as socket_path;
pub(crate) use streams::OpenStream;
use streams::Streams;

/// The longest body of a request, in bytes: a form or a few words of JSON.
const MAX_BODY: usize = 64 << 10;

/// What every page and every answer is made from. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Web(Arc<Parts>);

struct Parts {
    app: App,
    health: Arc<Health>,
    auth: auth::Auth,
    sessions: console::Sessions,
    limits: limits::Limits,
    /// Held while metrics are gathered: many scrapes at once cost as much as one.
    scraping: Mutex<()>,
    room: Room,
}

impl Web {
    fn new(app: App, health: Arc<Health>) -> Self {
        let auth = auth::Auth::new(app.catalog().clone());
        Self(Arc::new(Parts {
            app,
            health,
            auth,
            sessions: console::Sessions::default(),
            limits: limits::Limits::default(),
            scraping: Mutex::default(),
            room: Room::default(),
        }))
    }

    /// The program's parts, by the configuration of the last change.
    pub(crate) fn app(&self) -> App {
        self.0.app.latest()
    }

    pub(crate) fn health(&self) -> &Health {
        &self.0.health
    }

    pub(crate) fn auth(&self) -> &auth::Auth {
        &self.0.auth
    }

    pub(crate) fn sessions(&self) -> &console::Sessions {
        &self.0.sessions
    }

    /// Each stream of events that is open holds one of these.
    pub(crate) fn streams(&self) -> &Arc<Streams> {
        &self.0.limits.streams
    }

    /// The room on the vault's disk; none while the vault is not open.
    pub(crate) async fn space(&self) -> Result<Option<Space>, Problem> {
        self.0.room.space(&self.0.app).await
    }
}

/// What is answered at the service's address.
pub fn router(app: App, health: Arc<Health>) -> Router {
    let web = Web::new(app, health);
    let open = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics));
    let limited = api::router(&web)
        .merge(console::router(&web))
        .layer(from_fn_with_state(web.clone(), limits::limit))
        .layer(DefaultBodyLimit::max(MAX_BODY));
    let nothing = async || StatusCode::NOT_FOUND;
    open.merge(limited).fallback(nothing).layer(from_fn(answer::harden)).with_state(web)
}
