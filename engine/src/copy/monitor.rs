//! A watch over what a copy reads from: a mount that stops answering must not hold up the service.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde_json::json;
use stackferry_catalog::{AttemptId, AuditAction};
use stackferry_volume::{Kind, VolumeId};

use super::failure::failed;
use crate::app::{App, mounts};
use stackferry_problem::Problem;

/// What a copy reads from, seen from outside of its thread: a mount that does not answer holds the thread for ever.
#[derive(Default)]
pub(super) struct SourceMonitor {
    pub(super) mount: OnceLock<PathBuf>,
    pub(super) attempt: OnceLock<AttemptId>,
    pub(super) route: OnceLock<&'static str>,
    /// Whether what it came to is recorded: by its thread, or by who did not wait for that any more.
    pub(super) is_over: AtomicBool,
}

impl SourceMonitor {
    /// Waits until the mount has not answered for too long. Never ends where none is read from.
    pub(super) async fn stops_answering(&self, app: &App) -> Problem {
        loop {
            tokio::time::sleep(mounts::POLL_INTERVAL).await;
            let Some(mount) = self.mount.get() else { continue };
            let is_ending = app.cancel().is_cancelled();
            let within = if is_ending { mounts::NO_ANSWER_ENDING } else { mounts::NO_ANSWER_COPYING };
            match app.answers(mount, within) {
                Err(_) if is_ending => return Problem::interrupted("the copy"),
                Err(problem) => return problem,
                Ok(()) => {}
            }
        }
    }

    /// Records what its thread can't record.
    pub(super) async fn record_failure(
        &self,
        app: &App,
        kind: Kind,
        volume: &VolumeId,
        actor: &str,
        problem: &Problem,
    ) {
        app.metrics().copy_failed(kind, problem.code);
        let end = failed(problem, Duration::ZERO);
        if let Some(attempt) = self.attempt.get()
            && let Err(error) = app.catalog().finish_attempt(*attempt, &end).await
        {
            tracing::error!(%volume, error = %stackferry_transfer::describe(&error), "the end of a copy could not be recorded");
        }
        let detail = json!({ "code": problem.code.as_str(), "route": self.route.get() });
        crate::audit::record(app.catalog(), AuditAction::CopyFailed, actor, &volume.to_string(), &detail).await;
    }
}
