//! What a copy that did not fail came to.

use std::time::Duration;

use stackferry_catalog::{Outcome, StatusReason};
use stackferry_volume::VersionId;
use stackferry_volume::manifest::{ByteCounts, LeftOut, VerifyMethod};

use crate::decide::{RoundOutcome, VolumeResult};

/// What a copy came to. One that failed is a [`Problem`].
#[derive(Debug, Clone)]
pub struct CopyOutcome {
    /// `Copied`, `Unchanged` or `Deferred`.
    pub outcome: Outcome,
    /// The version that was made, or that the source equals.
    pub version: Option<VersionId>,
    /// The route's word.
    pub route: &'static str,
    /// Credentials that opened a file.
    pub credentials: u64,
    /// The bytes of this run.
    pub bytes: ByteCounts,
    /// Bytes that an interrupted copy had left.
    pub resumed: u64,
    /// How long it took.
    pub took: Duration,
    /// How the version's blocks were checked.
    pub verify_method: Option<VerifyMethod>,
    /// Why it was deferred.
    pub reason: Option<StatusReason>,
    /// Files beside the disk that the version does not hold.
    pub left_out: Vec<LeftOut>,
}

impl CopyOutcome {
    pub(super) fn deferred(reason: StatusReason) -> Self {
        Self::untouched(Outcome::Deferred, None, Some(reason))
    }

    /// It turned out that there is nothing to do now.
    pub(super) fn left(left: VolumeResult) -> Self {
        let outcome = match left.outcome {
            RoundOutcome::Unchanged => Outcome::Unchanged,
            _ => Outcome::Deferred,
        };
        Self::untouched(outcome, left.version, left.reason)
    }

    fn untouched(outcome: Outcome, version: Option<VersionId>, reason: Option<StatusReason>) -> Self {
        Self {
            outcome,
            version,
            route: "",
            credentials: 0,
            bytes: ByteCounts::default(),
            resumed: 0,
            took: Duration::ZERO,
            verify_method: None,
            reason,
            left_out: Vec::new(),
        }
    }
}
