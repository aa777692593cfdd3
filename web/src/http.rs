//! The service's own web address: `/healthz`, `/readyz`, `/metrics`, the API below `/api/v1`, and the console at `/`.
//!
//! Who calls is found out in `auth`, what one caller may cost is bounded in `limits`, and connections come in by `server`:
//! TCP, TLS, or the socket in the state folder.

pub(crate) mod answer;
pub(crate) mod auth;
pub(crate) mod health;
pub(crate) mod limits;
mod server;
pub(crate) mod sessions;
mod socket;
mod streams;
mod tls;

use std::sync::Arc;

use stackferry_vault::Space;
use tokio::sync::Mutex;

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

/// What every page and every answer is made from. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Web(Arc<WebParts>);

struct WebParts {
    app: App,
    health: Arc<Health>,
    auth: auth::Auth,
    sessions: sessions::Sessions,
    limits: limits::RequestLimits,
    /// Held while metrics are gathered: many scrapes at once cost as much as one.
    scraping: Mutex<()>,
    room: Room,
}

impl Web {
    pub(crate) fn new(app: App, health: Arc<Health>) -> Self {
        let auth = auth::Auth::new(app.catalog().clone());
        Self(Arc::new(WebParts {
            app,
            health,
            auth,
            sessions: sessions::Sessions::default(),
            limits: limits::RequestLimits::default(),
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

    pub(crate) fn sessions(&self) -> &sessions::Sessions {
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
