//! Why a copy failed, and how that is recorded.

use std::time::Duration;

use stackferry_catalog::{AttemptEnd, CatalogError, Outcome, StatusReason, Trigger};
use stackferry_vault::VaultError;
use stackferry_volume::VolumeId;
use stackferry_volume::manifest::ByteCounts;

use crate::app::App;
use stackferry_problem::{Code, Problem};

/// Why a copy failed, and whether its attempt is in the catalog already.
pub(super) struct CopyFailure {
    pub(super) problem: Problem,
    pub(super) is_recorded: bool,
}

impl From<Problem> for CopyFailure {
    fn from(problem: Problem) -> Self {
        Self { problem, is_recorded: false }
    }
}

impl From<VaultError> for CopyFailure {
    fn from(error: VaultError) -> Self {
        Problem::from(error).into()
    }
}

impl From<CatalogError> for CopyFailure {
    fn from(error: CatalogError) -> Self {
        Problem::from(error).into()
    }
}

/// Counts a copy that failed before its attempt began, and records it as one, so that the volume shows it. What only has
/// to wait, was interrupted or can't be protected is no failure.
pub(crate) async fn record_failure(app: &App, volume: &VolumeId, trigger: Trigger, problem: &Problem) {
    if matches!(problem.code, Code::Busy | Code::LeaseLost | Code::Interrupted | Code::NotProtectable) {
        return;
    }
    drop(app.metrics().copy_began(volume, 0));
    app.metrics().copy_failed(volume.kind(), problem.code);
    let end = AttemptEnd {
        outcome: Outcome::Failed,
        version: None,
        error: Some(StatusReason { code: problem.code.to_string(), text: problem.message.clone() }),
        bytes: ByteCounts::default(),
        took: Duration::ZERO,
    };
    let catalog = app.catalog();
    let recorded = match catalog.start_attempt(volume, "", trigger).await {
        Ok(attempt) => catalog.finish_attempt(attempt, &end).await,
        Err(error) => Err(error),
    };
    if let Err(error) = recorded {
        tracing::error!(%volume, error = %stackferry_transfer::describe(&error), "the catalog could not record that a copy failed");
    }
}

pub(super) fn failed(problem: &Problem, took: Duration) -> AttemptEnd {
    AttemptEnd {
        outcome: Outcome::Failed,
        version: None,
        error: Some(StatusReason { code: problem.code.to_string(), text: problem.message.clone() }),
        bytes: ByteCounts::default(),
        took,
    }
}

/// Whether a problem is one of the file that was read alone, not of the datastore or the vault.
pub(super) fn is_about_the_file(problem: &Problem) -> bool {
    use Code::{PermissionDenied, SourceChanged, SourceMissing, SourceRefused, SourceUnreadable};
    matches!(problem.code, PermissionDenied | SourceChanged | SourceMissing | SourceRefused | SourceUnreadable)
}

/// Whether a copy that failed so was ended by a person or the system, and not by what it copied.
pub(super) fn is_interrupted(problem: &Problem) -> bool {
    problem.code == Code::Interrupted
}

/// A problem of one volume names it, if not as its subject then in its message.
pub(super) fn about(mut problem: Problem, volume: &VolumeId) -> Problem {
    let name = volume.to_string();
    match &problem.subject {
        None => problem.subject(name),
        Some(_) if problem.message.contains(&name) => problem,
        Some(_) => {
            problem.message = format!("{name}: {}", problem.message);
            problem
        }
    }
}
