//! What is wrong with a version, as somebody has to hear it who did not expect it: how bad it is, what is affected, what
//! still works, and the command to type next.
//!
//! [`judge`] is the one place that answers. It knows only what it is given, promises nothing that was not looked at, and
//! never names a command that would be refused.

mod affected;
mod known;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stackferry_volume::{VersionId, VolumeId};

pub use affected::{Affected, ByteRange, DamageFound, DamagedExtent};
pub use known::{KnownVersions, VersionFinding, of_damaged};

use crate::missing::named;
use stackferry_problem::output::size;
use stackferry_problem::shell;

/// How bad it is for the volume, not for the one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Bytes of the disk are damaged or missing, and no other version of it is known to be good.
    Lost,
    /// This version can't be relied on; the disk itself can still be had.
    Degraded,
    /// What is there can't be told from here.
    Unknown,
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Degraded => "degraded",
            Self::Unknown => "unknown",
        }
    }
}

/// The four answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Finding {
    /// `lost`, `degraded` or `unknown`.
    pub severity: Severity,
    /// Which files and byte ranges; empty where that is not known.
    pub affected: Vec<Affected>,
    /// What can still be had, in words.
    pub still_works: String,
    /// The next command, as it can be pasted into a shell.
    pub next: String,
}

impl Finding {
    /// What is affected, in words.
    #[must_use]
    pub fn affected_text(&self) -> String {
        if self.affected.is_empty() {
            return "it is not known which part".to_owned();
        }
        let mut text: Vec<String> = self.affected.iter().take(AFFECTED_TOLD).map(ToString::to_string).collect();
        if let Some(more) = self.affected.len().checked_sub(AFFECTED_TOLD).filter(|more| *more > 0) {
            text.push(format!("{more} more files"));
        }
        text.join("; ")
    }
}

/// So many files are told in words.
const AFFECTED_TOLD: usize = 4;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FindingCause {
    /// It was read back, and is not what its manifest says; none where only a note of that is left.
    Damaged(Option<DamageFound>),
    /// The vault does not have it.
    Missing,
    /// Its bytes could not be used as a disk. Whether they were read back after they were copied and found right.
    NoDisk {
        /// So it was.
        read_back: bool,
    },
    /// A disk changed unexpectedly.
    Incident,
}

/// Another version of the volume's same life that is not known to be damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Good {
    /// The version.
    pub version: VersionId,
    /// When it was last read back and found whole.
    pub read_back: Option<Timestamp>,
}

/// What else is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindingFacts {
    /// The volume.
    pub volume: VolumeId,
    /// The version that something is wrong with.
    pub version: VersionId,
    /// The newest good version beside it. For an incident: the newest before it that is none.
    pub good: Option<Good>,
    /// Whether the disk is at its source and nothing is known to stand against copying it now.
    pub copyable: bool,
}

/// Answers the four questions.
#[must_use]
pub fn judge(trouble: &FindingCause, facts: &FindingFacts) -> Finding {
    let (severity, affected) = match trouble {
        FindingCause::Damaged(found) => (of_damage(found.as_ref(), facts), found.clone().map(|found| found.affected)),
        FindingCause::Missing => (if facts.good.is_some() { Severity::Degraded } else { Severity::Lost }, None),
        FindingCause::NoDisk { .. } if facts.good.is_some() => (Severity::Degraded, None),
        FindingCause::NoDisk { .. } | FindingCause::Incident => (Severity::Unknown, None),
    };
    Finding {
        severity,
        affected: affected.unwrap_or_default(),
        still_works: still_works(trouble, facts),
        next: next(trouble, facts),
    }
}

fn of_damage(found: Option<&DamageFound>, facts: &FindingFacts) -> Severity {
    if facts.good.is_some() {
        return Severity::Degraded;
    }
    match found {
        // Nobody can say what its files should hold.
        None => Severity::Unknown,
        Some(found) if found.extents.is_empty() => Severity::Unknown,
        Some(found) if found.extents_are_whole() => Severity::Degraded,
        Some(_) => Severity::Lost,
    }
}

fn still_works(trouble: &FindingCause, facts: &FindingFacts) -> String {
    let mut parts = Vec::new();
    if let Some(good) = &facts.good {
        let proof = match good.read_back {
            Some(at) => format!("read back {at:.0}"),
            None => "checked when it was made, not read back since".to_owned(),
        };
        let word = if matches!(trouble, FindingCause::Incident) { "the version before," } else { "version" };
        parts.push(format!("{word} {} is good ({proof})", good.version));
    }
    match trouble {
        FindingCause::Damaged(Some(found)) if !found.extents.is_empty() => parts.push(found.rest()),
        FindingCause::Damaged(Some(_)) => {
            parts.push("its files may be whole, but without what the manifest says nothing proves it".to_owned())
        }
        FindingCause::Damaged(None) => {
            parts.push("what was found was not kept: reading it back tells which part it is".to_owned());
        }
        FindingCause::NoDisk { read_back: true } => {
            parts.push("its bytes are those that were copied: the disk was so at its source".to_owned());
        }
        FindingCause::Incident => parts.push("the changed disk is kept as it was found".to_owned()),
        FindingCause::Missing | FindingCause::NoDisk { read_back: false } => {}
    }
    if facts.copyable {
        parts.push("the disk is at its source and can be copied again".to_owned());
    }
    if parts.is_empty() {
        return "nothing that is known here: look for another copy of the vault".to_owned();
    }
    parts.join("; ")
}

fn next(trouble: &FindingCause, facts: &FindingFacts) -> String {
    let volume = shell(&facts.volume);
    let this = shell(named(&facts.volume, &facts.version));
    let keep = |good: &Good| format!("stackferry pin {}", shell(named(&facts.volume, &good.version)));
    let newer = facts.good.as_ref().is_some_and(|good| good.version > facts.version);
    match (trouble, &facts.good) {
        // Before anything else, retention must not take what is left from before.
        (FindingCause::Incident, Some(good)) => keep(good),
        (FindingCause::Incident, None) => format!("stackferry versions {volume}"),
        (FindingCause::NoDisk { read_back: false }, _) => format!("stackferry verify {this}"),
        // Where one is damaged, others may be.
        (_, Some(_)) if newer => format!("stackferry verify {volume}"),
        _ if facts.copyable => format!("stackferry copy {volume}"),
        (_, Some(good)) => keep(good),
        // The vault's disk may not be the one that it was.
        (FindingCause::Missing, None) => "stackferry check".to_owned(),
        // A cable or a controller may be at fault: what is put right there is whole at the next reading.
        (_, None) => format!("stackferry verify {this}"),
    }
}

impl DamageFound {
    /// What of the version is not affected.
    fn rest(&self) -> String {
        let whole: Vec<&str> = self.whole_extents().map(|extent| extent.name.as_str()).collect();
        if self.extents_are_whole() {
            return format!(
                "the disk's own bytes ({}) are whole in this version: docs/restore-by-hand.md tells how to put them back",
                whole.join(", ")
            );
        }
        let of: u64 = self.extents.iter().map(|extent| extent.bytes).sum();
        let bad: u64 = self.affected.iter().filter(|one| self.is_extent(&one.file)).map(|one| one.bytes).sum();
        if self.cut {
            return format!(
                "at least {} of {} of this version's disk is damaged: reading was given up",
                size(bad),
                size(of)
            );
        }
        format!("all but {} of {} of this version's disk is as it was copied", size(bad), size(of))
    }
}

#[cfg(test)]
mod tests;
