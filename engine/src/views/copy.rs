//! Copies: what `copy` and `run --once` print.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stackferry_catalog::{Outcome, StatusReason};
use stackferry_discover::ScanProblem;
use stackferry_volume::manifest::{ByteCounts, LeftOut, VerifyMethod};
use stackferry_volume::{VersionId, VolumeId};

use crate::copy::CopyOutcome;
use stackferry_problem::output::{Grid, Side, Style, View, fields, none, or_none, seconds, size};
use stackferry_problem::{ErrorView, Exit, Problem};

/// What became of one copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CopyView {
    /// The volume.
    pub volume: VolumeId,
    /// The version that was made, or that the source was found equal to.
    pub version: Option<VersionId>,
    /// What it came to.
    pub outcome: Outcome,
    /// The route; none if none was taken.
    pub route: Option<String>,
    /// How many credentials opened a file in this run.
    pub credentials: u64,
    /// The bytes of this run.
    pub bytes: ByteCounts,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Whether every block was checked against its digest.
    pub verified: bool,
    /// How it was checked; none if nothing was copied.
    pub verify_method: Option<VerifyMethod>,
    /// The bytes that an interrupted copy had brought and that were found whole.
    pub resumed_bytes: u64,
    /// Why it was deferred.
    pub reason: Option<StatusReason>,
    /// Why it failed.
    pub error: Option<ErrorView>,
    /// Files beside the disk that could not be had and are not in the version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
}

impl CopyView {
    fn new(volume: &VolumeId, outcome: Outcome) -> Self {
        Self {
            volume: volume.clone(),
            version: None,
            outcome,
            route: None,
            credentials: 0,
            bytes: ByteCounts::default(),
            seconds: 0.0,
            verified: false,
            verify_method: None,
            resumed_bytes: 0,
            reason: None,
            error: None,
            left_out: Vec::new(),
        }
    }

    /// What the engine says of a copy that was not a failure.
    #[must_use]
    pub fn of(volume: &VolumeId, done: &CopyOutcome) -> Self {
        let method = done.verify_method.unwrap_or(VerifyMethod::Arrival);
        let view = match (done.outcome, &done.version, &done.reason) {
            (Outcome::Copied, Some(version), _) => Self::copied(volume, version, method),
            (Outcome::Deferred, _, Some(reason)) => Self::deferred(volume, reason.clone()),
            (_, version, _) => Self::unchanged(volume, version.as_ref()),
        };
        let mut view = match done.route {
            "" => view,
            route => view.cost(route, done.credentials, done.bytes, done.took),
        };
        view.resumed_bytes = done.resumed;
        view.left_out = done.left_out.clone();
        view
    }

    /// A version was made, every block of it checked.
    #[must_use]
    pub fn copied(volume: &VolumeId, version: &VersionId, method: VerifyMethod) -> Self {
        let view = Self::new(volume, Outcome::Copied);
        Self { version: Some(version.clone()), verified: true, verify_method: Some(method), ..view }
    }

    /// The source equals a committed version.
    #[must_use]
    pub fn unchanged(volume: &VolumeId, version: Option<&VersionId>) -> Self {
        Self { version: version.cloned(), ..Self::new(volume, Outcome::Unchanged) }
    }

    /// The volume was left alone.
    #[must_use]
    pub fn deferred(volume: &VolumeId, reason: StatusReason) -> Self {
        Self { reason: Some(reason), ..Self::new(volume, Outcome::Deferred) }
    }

    /// It went wrong.
    #[must_use]
    pub fn failed(volume: &VolumeId, problem: &Problem) -> Self {
        Self { error: Some(problem.into()), ..Self::new(volume, Outcome::Failed) }
    }

    /// The same with what it cost.
    #[must_use]
    pub fn cost(mut self, route: &str, credentials: u64, bytes: ByteCounts, took: Duration) -> Self {
        self.route = Some(route.to_owned());
        self.credentials = credentials;
        self.bytes = bytes;
        self.seconds = seconds(took);
        self
    }

    /// The exit code of a `copy` that ends so. A failed one has its problem's.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self.outcome {
            Outcome::Copied | Outcome::Unchanged => Exit::Done,
            Outcome::Deferred => Exit::Partly,
            _ => Exit::Failed,
        }
    }
}

impl View for CopyView {
    fn table(&self, _style: &Style) -> String {
        let mut lines = vec![("volume", self.volume.to_string()), ("outcome", self.outcome.to_string())];
        if let Some(version) = &self.version {
            lines.push(("version", version.to_string()));
        }
        if let Some(reason) = &self.reason {
            lines.push(("reason", reason.text.clone()));
        }
        for left in &self.left_out {
            lines.push(("left out", format!("{}: {}", left.file, left.why)));
        }
        if let Some(error) = &self.error {
            lines.push(("error", error.message.clone()));
        }
        if let Some(route) = &self.route {
            let bytes = &self.bytes;
            lines.push(("route", route.clone()));
            lines.push(("credentials", self.credentials.to_string()));
            lines.push(("size", size(bytes.logical)));
            lines.push(("zeros", size(bytes.zero)));
            lines.push(("read", size(bytes.read)));
            lines.push(("over the wire", size(bytes.wire)));
            lines.push(("stored", size(bytes.stored)));
            if self.resumed_bytes > 0 {
                lines.push(("resumed", size(self.resumed_bytes)));
            }
            lines.push(("seconds", format!("{:.1}", self.seconds)));
        }
        if let Some(method) = self.verify_method {
            let how = match method {
                VerifyMethod::Arrival => "on arrival",
                VerifyMethod::ReadBack => "on arrival, and read back",
            };
            lines.push(("verified", how.to_owned()));
        }
        fields(lines)
    }
}

/// What a round did with a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// A version was made.
    Copied,
    /// Nothing changed.
    Unchanged,
    /// It was postponed.
    Deferred,
    /// It went wrong.
    Failed,
    /// It can't be copied as it is.
    Unprotectable,
}

impl RunOutcome {
    /// The word used in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RunOutcome::Copied => "copied",
            RunOutcome::Unchanged => "unchanged",
            RunOutcome::Deferred => "deferred",
            RunOutcome::Failed => "failed",
            RunOutcome::Unprotectable => "unprotectable",
        }
    }
}

/// One volume of a round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunItem {
    /// The volume.
    pub volume: VolumeId,
    /// What was done with it.
    pub outcome: RunOutcome,
    /// The version that was made, or that the source was found equal to.
    pub version: Option<VersionId>,
    /// Why it was not copied: a reason's code, or an error's.
    pub reason: Option<StatusReason>,
    /// Files beside the disk that could not be had and are not in the version.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
}

/// What one round of the service did: `run --once`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RunView {
    /// Volumes of which a version was made.
    pub copied: u64,
    /// Volumes that had not changed.
    pub unchanged: u64,
    /// Volumes that were postponed.
    pub deferred: u64,
    /// Volumes whose copy failed.
    pub failed: u64,
    /// Volumes that can't be copied as they are.
    pub unprotectable: u64,
    /// All of them.
    pub volumes: Vec<RunItem>,
    /// What else a person should know: what could not be looked at first of all.
    pub problems: Vec<RunProblem>,
}

/// Something that a round found beside volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct RunProblem {
    /// What kind of thing it is.
    pub code: &'static str,
    /// What it is about: a datastore, a folder or a file, as vSphere writes it.
    pub subject: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl From<&ScanProblem> for RunProblem {
    fn from(problem: &ScanProblem) -> Self {
        Self {
            code: problem.code.as_str(),
            subject: problem.subject.clone(),
            message: problem.text.clone(),
            hint: problem.hint.clone(),
        }
    }
}

impl RunView {
    /// Adds a volume and counts it.
    pub fn push(&mut self, item: RunItem) {
        let count = match item.outcome {
            RunOutcome::Copied => &mut self.copied,
            RunOutcome::Unchanged => &mut self.unchanged,
            RunOutcome::Deferred => &mut self.deferred,
            RunOutcome::Failed => &mut self.failed,
            RunOutcome::Unprotectable => &mut self.unprotectable,
        };
        *count += 1;
        self.volumes.push(item);
    }

    /// Adds what became of a copy.
    pub fn push_copy(&mut self, copy: &CopyView) {
        let outcome = match copy.outcome {
            Outcome::Copied => RunOutcome::Copied,
            Outcome::Unchanged => RunOutcome::Unchanged,
            Outcome::Deferred => RunOutcome::Deferred,
            _ => RunOutcome::Failed,
        };
        let error =
            copy.error.as_ref().map(|error| StatusReason { code: error.code.clone(), text: error.message.clone() });
        let reason = copy.reason.clone().or(error);
        let left_out = copy.left_out.clone();
        self.push(RunItem { volume: copy.volume.clone(), outcome, version: copy.version.clone(), reason, left_out });
    }

    /// The exit code of `run --once`. Unprotectable volumes do not change it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.failed + self.deferred > 0 { Exit::Partly } else { Exit::Done }
    }
}

impl View for RunView {
    fn table(&self, _style: &Style) -> String {
        let mut grid =
            Grid::new(&[("VOLUME", Side::Left), ("OUTCOME", Side::Left), ("VERSION", Side::Left), ("WHY", Side::Left)]);
        for item in &self.volumes {
            grid.row([
                item.volume.to_string(),
                item.outcome.as_str().to_owned(),
                or_none(item.version.as_ref()),
                item.reason.as_ref().map_or_else(none, |reason| reason.text.clone()),
            ]);
        }
        format!(
            "{}\n{} copied, {} unchanged, {} deferred, {} failed, {} unprotectable\n",
            grid.finish(),
            self.copied,
            self.unchanged,
            self.deferred,
            self.failed,
            self.unprotectable
        )
    }
}
