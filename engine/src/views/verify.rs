//! Checking and putting back: what `verify` and `restore` print.

use std::time::Duration;

use serde::Serialize;
use stackferry_vault::{Damage, RestoreReport};
use stackferry_volume::{VersionId, VolumeId};

use super::PathProblem;
use crate::finding::{Finding, VersionFinding};
use crate::versions::{Verified, lost_version};
use stackferry_problem::Exit;
use stackferry_problem::output::{Grid, Side, Style, View, escape, fields, or_none, seconds, size};

/// One thing that is wrong with a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamageView {
    /// The volume.
    pub volume: VolumeId,
    /// The version.
    pub version: VersionId,
    /// The file's name.
    pub file: String,
    /// The block's index in it, from 0; none where the whole file is meant.
    pub block: Option<u64>,
    /// What is wrong with it.
    pub why: String,
}

/// What `verify` prints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyView {
    /// How many versions were read back.
    pub checked: u64,
    /// How many of them are whole.
    pub ok: u64,
    /// What is wrong with the others.
    pub damaged: Vec<DamageView>,
    /// What that means for each of them, and what to do about it. Not there where all are whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<VersionFinding>,
    /// How many of the versions in `damaged` could not be read back since the vault does not have them. Not there where it has
    /// all.
    #[serde(skip_serializing_if = "is_zero")]
    pub missing: u64,
    /// What could not be read, or was lost beside the versions themselves. Not there where nothing was.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<PathProblem>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde asks.
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl From<Verified> for VerifyView {
    fn from(verified: Verified) -> Self {
        let mut view = Self::new(verified.versions, verified.findings);
        for (volume, version) in verified.missing {
            view.missing += 1;
            view.damage(&volume, &version, vec![lost_version()]);
        }
        let unreadable = verified.unreadable.into_iter();
        view.unreadable = unreadable.map(|(path, why)| PathProblem { path, why }).collect();
        view
    }
}

impl VerifyView {
    /// Versions that were read back, with what was found, and what that means.
    #[must_use]
    pub fn new(versions: Vec<(VolumeId, VersionId, Vec<Damage>)>, findings: Vec<VersionFinding>) -> Self {
        let mut view = Self { findings, ..Self::default() };
        for (volume, version, damage) in versions {
            view.push(&volume, &version, damage);
        }
        view
    }

    /// Adds a version that was checked, with what was found.
    pub fn push(&mut self, volume: &VolumeId, version: &VersionId, damage: Vec<Damage>) {
        self.checked += 1;
        if damage.is_empty() {
            self.ok += 1;
        }
        self.damage(volume, version, damage);
    }

    fn damage(&mut self, volume: &VolumeId, version: &VersionId, damage: Vec<Damage>) {
        self.damaged.extend(damage.into_iter().map(|found| DamageView {
            volume: volume.clone(),
            version: version.clone(),
            file: found.file,
            block: found.block,
            why: found.why,
        }));
    }

    /// The exit code of `verify`.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.damaged.is_empty() && self.unreadable.is_empty() { Exit::Done } else { Exit::VerifyFailed }
    }
}

impl View for VerifyView {
    fn table(&self, _style: &Style) -> String {
        let mut summary = format!("{} checked, {} ok, {} damaged", self.checked, self.ok, self.checked - self.ok);
        if self.missing > 0 {
            summary.push_str(&format!(", {} missing", self.missing));
        }
        summary.push('\n');
        for problem in &self.unreadable {
            summary.push_str(&format!("can't be read: {}: {}\n", escape(&problem.path), escape(&problem.why)));
        }
        if self.damaged.is_empty() {
            return summary;
        }
        let mut grid = Grid::new(&[
            ("VOLUME", Side::Left),
            ("VERSION", Side::Left),
            ("FILE", Side::Left),
            ("BLOCK", Side::Right),
            ("WHY", Side::Left),
        ]);
        for found in &self.damaged {
            grid.row([
                found.volume.to_string(),
                found.version.to_string(),
                found.file.clone(),
                or_none(found.block),
                found.why.clone(),
            ]);
        }
        let mut text = format!("{}\n", grid.finish());
        for found in &self.findings {
            text.push_str(&format!("{}@{}\n", escape(&found.volume.to_string()), found.version));
            text.push_str(&four_answers(&found.finding));
            text.push('\n');
        }
        text + &summary
    }
}

/// A finding for a person.
pub(super) fn four_answers(finding: &Finding) -> String {
    let lines = [
        ("how bad", finding.severity.as_str().to_owned()),
        ("affected", finding.affected_text()),
        ("still works", finding.still_works.clone()),
        ("next", finding.next.clone()),
    ];
    fields(lines.to_vec())
}

/// What `restore` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RestoreView {
    /// The volume.
    pub volume: VolumeId,
    /// The version.
    pub version: VersionId,
    /// The folder that it was put into, or `[datastore] folder`; bytes that are no UTF-8 are replaced.
    pub to: String,
    /// The names of its files there.
    pub files: Vec<String>,
    /// Their lengths together, in bytes.
    pub bytes: u64,
    /// The bytes that were written; the rest are holes.
    pub stored: u64,
    /// How many credentials wrote a file: one for each where a datastore is reached through a host.
    pub credentials: u64,
    /// How it is known that the files hold what they should: `arrival` or `host_digest`.
    pub verify_method: &'static str,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What is not as it was though all bytes are: times that could not be set.
    pub warnings: Vec<String>,
    /// What a person does next in App Volumes, in this order.
    pub next_steps: Vec<String>,
}

impl RestoreView {
    /// A version that was put back.
    #[must_use]
    pub fn new(
        volume: &VolumeId,
        version: &VersionId,
        to: String,
        files: Vec<String>,
        report: &RestoreReport,
        took: Duration,
    ) -> Self {
        Self {
            volume: volume.clone(),
            version: version.clone(),
            to,
            files,
            bytes: report.bytes,
            stored: report.stored,
            credentials: 0,
            verify_method: "arrival",
            seconds: seconds(took),
            warnings: Vec::new(),
            next_steps: Vec::new(),
        }
    }

    /// The same, written by so many credentials and checked in this way.
    #[must_use]
    pub fn written_by(mut self, credentials: u64, verify_method: &'static str) -> Self {
        self.credentials = credentials;
        self.verify_method = verify_method;
        self
    }

    /// The same with what is not as it was.
    #[must_use]
    pub fn warned(mut self, warnings: Vec<String>) -> Self {
        self.warnings = warnings;
        self
    }

    /// The same with what follows.
    #[must_use]
    pub fn followed_by(mut self, steps: Vec<String>) -> Self {
        self.next_steps = steps;
        self
    }
}

impl View for RestoreView {
    fn table(&self, _style: &Style) -> String {
        let mut lines = vec![
            ("volume", self.volume.to_string()),
            ("version", self.version.to_string()),
            ("folder", self.to.clone()),
        ];
        lines.extend(self.files.iter().map(|file| ("file", file.clone())));
        lines.extend([
            ("size", size(self.bytes)),
            ("written", size(self.stored)),
            ("verified", self.verify_method.to_owned()),
            ("seconds", format!("{:.1}", self.seconds)),
        ]);
        lines.extend(self.warnings.iter().map(|warning| ("warning", warning.clone())));
        let mut text = fields(lines);
        if !self.next_steps.is_empty() {
            text.push_str("\nThen, in App Volumes:\n");
            for (at, step) in self.next_steps.iter().enumerate() {
                text.push_str(&format!("  {}. {}\n", at + 1, escape(step)));
            }
        }
        text
    }
}
