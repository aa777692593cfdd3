//! What a job is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stackferry_volume::{VersionId, VolumeId};

use crate::attempts::Trigger;
use crate::convert::words;
use crate::process::Process;
use crate::volumes::StatusReason;

words! {
    /// What a job does.
    JobKind ("kind of job") {
        /// Copies a volume.
        Copy = "copy",
        /// Reads versions back and checks them.
        Verify = "verify",
        /// Puts a version back.
        Restore = "restore",
        /// Restores a version for a test, inspects it, and removes it again.
        RestoreTest = "restore_test",
        /// Deletes what retention no longer keeps.
        Prune = "prune",
    }
}

words! {
    /// How far a job is.
    JobState ("state of a job") {
        /// It waits for its turn.
        Queued = "queued",
        /// It runs.
        Running = "running",
        /// It was done.
        Done = "done",
        /// It went wrong.
        Failed = "failed",
        /// A person cancelled it.
        Cancelled = "cancelled",
        /// Its volume is postponed.
        Deferred = "deferred",
    }
}

impl JobState {
    /// Whether nothing will happen to the job any more.
    #[must_use]
    pub fn is_ended(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// A job's number: it only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub i64);

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for JobId {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Which job is done first. What a person waits for goes before what the clock brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Priority(pub i64);

impl Priority {
    /// A person or a script wants it.
    pub const REQUESTED: Self = Self(100);
    /// A volume without any version.
    pub const NEVER_COPIED: Self = Self(30);
    /// A volume that was not read for longer than its kind allows.
    pub const OVERDUE: Self = Self(20);
    /// A volume whose files changed.
    pub const CHANGED: Self = Self(10);
    /// What is done when there is time: planned checks.
    pub const MAINTENANCE: Self = Self(0);
}

/// A job that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// What it does.
    pub kind: JobKind,
    /// To which volume; none for all.
    pub volume: Option<VolumeId>,
    /// To which version; none for the newest good one, or for all.
    pub version: Option<VersionId>,
    /// What else it needs to know. Never a secret.
    pub detail: Value,
    /// Who or what wants it.
    pub trigger: Trigger,
    /// The name of who wants it, for people.
    pub actor: String,
    /// Which one is first.
    pub priority: Priority,
    /// When the volume was last tried: among equals the one whose try is longest ago is first.
    pub last_attempt: Option<Timestamp>,
    /// The host that would be read from; none if no cap per host holds.
    pub host: Option<String>,
    /// The datastore that would be read from, as `site/name`.
    pub datastore: Option<String>,
}

impl NewJob {
    /// A job that a person or a script wants, with nothing else said of it.
    #[must_use]
    pub fn requested(kind: JobKind, trigger: Trigger, actor: &str) -> Self {
        Self {
            kind,
            volume: None,
            version: None,
            detail: Value::Object(serde_json::Map::new()),
            trigger,
            actor: actor.to_owned(),
            priority: Priority::REQUESTED,
            last_attempt: None,
            host: None,
            datastore: None,
        }
    }
}

/// A job as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// What it does.
    pub kind: JobKind,
    /// To which volume.
    pub volume: Option<VolumeId>,
    /// To which version.
    pub version: Option<VersionId>,
    /// What else it needs to know.
    pub detail: Value,
    /// Who or what wants it.
    pub trigger: Trigger,
    /// The name of who wants it.
    pub actor: String,
    /// Which one is first.
    pub priority: Priority,
    /// The host that it reads from, where a cap holds for it.
    pub host: Option<String>,
    /// The datastore that it reads from, as `site/name`.
    pub datastore: Option<String>,
    /// How far it is.
    pub state: JobState,
    /// It does not begin before this.
    pub not_before: Option<Timestamp>,
    /// How often it was tried and failed.
    pub tries: u64,
    /// When it was put into the queue.
    pub created: Timestamp,
    /// When it last began; none where it never did.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The process that works on it, or did.
    pub process: Option<Process>,
    /// Whether somebody wants it to end.
    pub cancel_requested: bool,
    /// What it came to, in the words of its kind.
    pub outcome: Option<String>,
    /// Why it failed or was deferred, or why its last try failed.
    pub error: Option<StatusReason>,
    /// What it answered.
    pub result: Option<Value>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    /// One of the states that are an end.
    pub state: JobState,
    /// What it came to, in the words of its kind.
    pub outcome: Option<String>,
    /// Why it failed or was deferred.
    pub error: Option<StatusReason>,
    /// What it answers.
    pub result: Option<Value>,
}

/// What cancelling a job did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It waited, and will not be done.
    AtOnce,
    /// It runs, and is asked to end.
    Requested,
    /// It had ended before.
    Ended(JobState),
}
