//! What the catalog knows of a volume's versions, as what is to be judged.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::Value;
use stackferry_catalog::{VersionRow, VolumeRow, VolumeState};
use stackferry_vault::Damage;
use stackferry_volume::{ReasonCode, VersionId, VolumeId};

use super::{DamageFound, Finding, FindingCause, FindingFacts, Good, judge};
use crate::app::App;
use crate::missing::{MISSING, named};
use stackferry_problem::Problem;

/// Reasons for which a round leaves a disk alone, and a copy that a person asks for does not.
const ONLY_PLANNED: [ReasonCode; 2] = [ReasonCode::OutsideWindow, ReasonCode::Paused];

/// A finding, and which version it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VersionFinding {
    /// The volume.
    pub volume: VolumeId,
    /// The version.
    pub version: VersionId,
    /// The four answers.
    #[serde(flatten)]
    pub finding: Finding,
}

impl VersionFinding {
    /// Tells it in the log; `what` says what was found.
    pub(crate) fn log(&self, what: &str) {
        let (version, severity) = (named(&self.volume, &self.version), self.finding.severity.as_str());
        let (affected, still_works) = (self.finding.affected_text(), &self.finding.still_works);
        let next = &self.finding.next;
        tracing::error!(version, severity, affected, still_works, next, "{what}");
    }
}

/// A volume and its versions.
pub struct KnownVersions {
    volume: Option<VolumeRow>,
    rows: Vec<VersionRow>,
    damages: HashMap<VersionId, Value>,
}

impl KnownVersions {
    /// A volume, as the catalog has it.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn of(app: &App, volume: &VolumeId) -> Result<Self, Problem> {
        let rows = app.catalog().versions(volume).await?;
        Self::with(app, volume, rows).await
    }

    /// A volume whose versions are these.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn with(app: &App, volume: &VolumeId, rows: Vec<VersionRow>) -> Result<Self, Problem> {
        let is_sound = |row: &VersionRow| {
            row.damaged.is_none() && row.incident.is_none() && row.restore_test.as_ref().is_none_or(|test| test.ok)
        };
        // Nearly always there is nothing to be judged, and nothing more to be asked.
        if rows.iter().all(is_sound) {
            return Ok(Self { volume: None, rows, damages: HashMap::new() });
        }
        let damages = app.catalog().damages(volume).await?;
        Ok(Self { volume: app.catalog().volume(volume).await?, rows, damages })
    }

    /// The versions.
    #[must_use]
    pub fn rows(&self) -> &[VersionRow] {
        &self.rows
    }

    /// What is wrong with a version; none if nothing is known to be.
    #[must_use]
    pub fn finding(&self, version: &VersionId) -> Option<Finding> {
        let row = self.rows.iter().find(|row| row.version == *version)?;
        let trouble = self.trouble(row)?;
        Some(judge(&trouble, &self.facts(row, &trouble)))
    }

    /// What was found when a version was read back.
    fn damaged(&self, volume: &VolumeId, version: &VersionId) -> Finding {
        self.finding(version).unwrap_or_else(|| {
            let (volume, version) = (volume.clone(), version.clone());
            judge(&FindingCause::Damaged(None), &FindingFacts { volume, version, good: None, copyable: false })
        })
    }

    fn trouble(&self, row: &VersionRow) -> Option<FindingCause> {
        match (&row.damaged, &row.restore_test, &row.incident) {
            (Some(why), ..) if why == MISSING => Some(FindingCause::Missing),
            (Some(_), ..) => {
                let found = self.damages.get(&row.version);
                Some(FindingCause::Damaged(
                    found.and_then(|found| serde_json::from_value::<DamageFound>(found.clone()).ok()),
                ))
            }
            // An older version is of use then, whatever became of this one.
            (None, _, Some(_)) => Some(FindingCause::Incident),
            (None, Some(test), None) if !test.ok => {
                let read_back = row.last_verified.is_some_and(|at| at >= test.at);
                Some(FindingCause::NoDisk { read_back })
            }
            (None, _, None) => None,
        }
    }

    fn facts(&self, row: &VersionRow, trouble: &FindingCause) -> FindingFacts {
        let is_good = |one: &&VersionRow| {
            one.generation == row.generation
                && one.version != row.version
                && self.trouble(one).is_none()
                && (*trouble != FindingCause::Incident || one.version < row.version)
        };
        let good = self.rows.iter().filter(is_good).max_by(|one, other| one.version.cmp(&other.version));
        let copyable = self.volume.as_ref().is_some_and(|volume| {
            let code = volume.reason.as_ref().and_then(|reason| reason.code.parse::<ReasonCode>().ok());
            let is_here = match volume.state {
                VolumeState::Ready => true,
                VolumeState::Deferred => code.is_some_and(|code| ONLY_PLANNED.contains(&code)),
                _ => false,
            };
            is_here && volume.protectable && volume.generation == row.generation
        });
        FindingFacts {
            volume: row.volume.clone(),
            version: row.version.clone(),
            good: good.map(|row| Good { version: row.version.clone(), read_back: row.last_verified }),
            copyable,
        }
    }
}

/// What the damage that was found in versions means, asked after all of them were read: only then it is known which are good.
///
/// # Errors
/// The catalog's.
pub async fn of_damaged(
    app: &App,
    versions: &[(VolumeId, VersionId, Vec<Damage>)],
) -> Result<Vec<VersionFinding>, Problem> {
    let mut findings = Vec::new();
    let mut last: Option<(&VolumeId, KnownVersions)> = None;
    for (volume, version, _) in versions.iter().filter(|(.., damage)| !damage.is_empty()) {
        let known = match last.take() {
            Some((of, known)) if of == volume => known,
            _ => KnownVersions::of(app, volume).await?,
        };
        let finding = known.damaged(volume, version);
        findings.push(VersionFinding { volume: volume.clone(), version: version.clone(), finding });
        last = Some((volume, known));
    }
    Ok(findings)
}
