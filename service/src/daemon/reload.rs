//! SIGHUP: the configuration is read again. A bad one is refused and told, and the old one goes on.
//!
//! What runs goes on by the configuration that it began with; what begins afterwards works by the new one. What is bound to the
//! process (where its state and its vault lie, where it listens) stays as it was until a restart, and that is told.

use std::sync::Arc;

use serde_json::json;
use stackferry_catalog::AuditAction;
use stackferry_config::Config;
use tokio::signal::unix::{Signal, SignalKind, signal};

use stackferry_engine::about::PROGRAM;
use stackferry_engine::app::App;
use stackferry_engine::blocking::blocking;
use stackferry_problem::Problem;

/// Reads the configuration as the program did at its start.
pub type Reload = Arc<dyn Fn() -> Result<Config, Problem> + Send + Sync>;

/// SIGHUP, as it comes.
pub(super) struct Hangups(Option<Signal>);

impl Hangups {
    pub(super) fn listen() -> Self {
        let signal = signal(SignalKind::hangup());
        if let Err(error) = &signal {
            tracing::error!(%error, "SIGHUP can't be listened for; the configuration is read at a restart only");
        }
        Self(signal.ok())
    }

    pub(super) async fn next(&mut self) {
        let came = match &mut self.0 {
            Some(signal) => signal.recv().await,
            None => None,
        };
        if came.is_none() {
            std::future::pending().await
        }
    }
}

/// Reads the configuration again. Gives the parts by the new one; none where it is refused.
pub(super) async fn reload(app: &App, read: Option<&Reload>) -> Option<App> {
    let read = Arc::clone(read?);
    let result = async {
        let mut config = blocking(move || read()).await??;
        config.vault()?;
        let kept = config.keep_bound(app.config());
        let next = app.reconfigure(config).await?;
        Ok::<_, Problem>((next, kept))
    };
    match result.await {
        Ok((next, kept)) => {
            app.metrics().config_reloaded(true);
            app.metrics().expect(next.config());
            for key in &kept {
                tracing::warn!(key, "a change of this takes effect at a restart only; the old value goes on");
            }
            // What kept jobs from being done may have been put right.
            if let Err(error) = next.catalog().end_job_delays().await {
                tracing::error!(error = %stackferry_transfer::describe(&error), "delays of jobs could not be ended");
            }
            tracing::info!(datastores = next.config().datastores.len(), "the configuration was read again");
            let detail = json!({ "kept": kept });
            stackferry_engine::audit::record(next.catalog(), AuditAction::ConfigReloaded, PROGRAM, "service", &detail)
                .await;
            Some(next)
        }
        Err(problem) => {
            let (code, subject, hint) = (problem.code, problem.subject, problem.hint);
            app.metrics().config_reloaded(false);
            tracing::error!(%code, subject, hint, "the configuration is refused, the old one goes on: {}", problem.message);
            None
        }
    }
}
