//! The running service: rounds of discovery by the clock, copies within the caps beside them, and the web address that
//! tells how it goes. It ends when it is asked to: nothing new begins, and what runs is given a moment to end; what was
//! copied so far is kept.

mod clock_guard;
mod maintenance;
mod reload;
mod rounds;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use stackferry_catalog::AuditAction;
use stackferry_volume::io::Cancel;

use stackferry_engine::about::PROGRAM;
use stackferry_engine::app::App;
use stackferry_engine::health::{Health, shortest_interval};
use stackferry_notify as notify;
use stackferry_problem::progress::Reporter;
use stackferry_problem::{Code, Problem};
use stackferry_web::http;

pub use reload::Reload;

/// How often it is looked whether the service should end.
const LOOK: Duration = Duration::from_millis(50);
/// How long it may take to end telling people of problems: a message, and a look at a disk that hangs.
const LAST_MESSAGES: Duration = Duration::from_secs(3);
/// How long requests that are being answered may take when the service ends.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// A service that has its address and was not started yet.
pub struct Daemon {
    app: App,
    reporter: Reporter,
    health: Arc<Health>,
    server: http::Server,
    reload: Option<Reload>,
}

impl Daemon {
    /// Takes the address.
    ///
    /// # Errors
    /// `cannot_listen`; `bad_config` without a datastore or a vault, or with what this version can't do.
    pub async fn bind(app: &App, reporter: &Reporter) -> Result<Self, Problem> {
        if app.config().datastores.is_empty() {
            return Err(Problem::new(Code::BadConfig, "the configuration names no datastore")
                .subject("datastore")
                .hint("add a [[datastore]] with name, route and path"));
        }
        app.config().vault()?;
        let server = http::Server::bind(app.config()).await?;
        let health = Arc::new(Health::new(shortest_interval(app.config())));
        Ok(Self { app: app.clone(), reporter: reporter.clone(), health, server, reload: None })
    }

    /// The same, reading the configuration again at SIGHUP in this way.
    #[must_use]
    pub fn reload_with(self, reload: Reload) -> Self {
        Self { reload: Some(reload), ..self }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Runs until it is asked to end.
    pub async fn run(self) {
        let Self { app, reporter, health, server, reload } = self;
        let address = server.address();
        let router = stackferry_web::router(app.clone(), Arc::clone(&health));
        let stop = app.cancel().clone();
        let server = tokio::spawn(server.serve(router, async move { asked_to_end(&stop).await }));
        tracing::info!(%address, datastores = app.config().datastores.len(), "the service has started");
        note(&app, AuditAction::ServiceStarted).await;
        let watchdog = tokio::spawn(watchdog(Arc::clone(&health)));
        let telling = tokio::spawn(notify::run(app.clone(), Arc::clone(&health)));
        tell_systemd(&[sd_notify::NotifyState::Ready]);
        rounds::run(&app, &reporter, &health, reload.as_ref()).await;
        let hangs = telling.abort_handle();
        if tokio::time::timeout(LAST_MESSAGES, telling).await.is_err() {
            hangs.abort();
        }
        tell_systemd(&[sd_notify::NotifyState::Stopping]);
        watchdog.abort();
        note(&app, AuditAction::ServiceStopped).await;
        // A client that reads slowly does not hold up the end.
        if let Ok(Err(error)) = tokio::time::timeout(LAST_ANSWERS, server).await {
            tracing::error!(%address, %error, "the web server failed");
        }
        tracing::info!("the service has ended");
    }
}

/// Waits until the end is asked for.
async fn asked_to_end(cancel: &Cancel) {
    while !cancel.is_cancelled() {
        tokio::time::sleep(LOOK).await;
    }
}

async fn note(app: &App, action: AuditAction) {
    let detail = json!({ "program": PROGRAM, "pid": std::process::id() });
    stackferry_engine::audit::record(app.catalog(), action, PROGRAM, "service", &detail).await;
}

/// Nobody may listen: then nothing is told.
fn tell_systemd(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be told");
    }
}

/// Tells systemd that the service's loop still turns, where its unit has a `WatchdogSec`. One that stands still is started
/// anew: nothing is lost by it, and a service that looks alive and copies nothing is the worst of all.
async fn watchdog(health: Arc<Health>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut told = true;
    loop {
        let alive = health.since_beat() < limit / 2;
        if alive {
            tell_systemd(&[sd_notify::NotifyState::Watchdog]);
        } else if told {
            tracing::error!(seconds = health.since_beat().as_secs(), "the service's loop stands still");
        }
        told = alive;
        tokio::time::sleep(limit / 4).await;
    }
}
