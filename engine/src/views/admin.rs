//! What the commands for the administrator print: `check`, `rebuild`, `pin`, `unpin`, `audit`.

use serde::Serialize;
use stackferry_catalog::{AuditCheck, AuditRecord};
use stackferry_volume::{Digest, VersionId, VolumeId};

use stackferry_problem::output::{Grid, Side, Style, View, escape, fields};
use stackferry_problem::{Code, Exit, Problem};

/// One thing that `check` tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckItem {
    /// What was tried: `vault`, `datastore nfs01`.
    pub subject: String,
    /// Whether it works.
    pub ok: bool,
    /// The problem's word; none if it works.
    pub code: Option<Code>,
    /// What was found.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl CheckItem {
    /// Something that works.
    #[must_use]
    pub fn good(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { subject: subject.into(), ok: true, code: None, text: text.into(), hint: None }
    }

    /// Something that does not.
    #[must_use]
    pub fn bad(subject: impl Into<String>, problem: &Problem) -> Self {
        Self {
            subject: subject.into(),
            ok: false,
            code: Some(problem.code),
            text: problem.message.clone(),
            hint: problem.hint.clone(),
        }
    }
}

/// What `check` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckView {
    /// Whether all works.
    pub ok: bool,
    /// What was tried, in that order.
    pub checks: Vec<CheckItem>,
}

impl CheckView {
    /// The answer of these checks.
    #[must_use]
    pub fn new(checks: Vec<CheckItem>) -> Self {
        Self { ok: checks.iter().all(|check| check.ok), checks }
    }

    /// The exit code of `check`.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.ok { Exit::Done } else { Exit::Failed }
    }
}

impl View for CheckView {
    fn table(&self, _style: &Style) -> String {
        let mut text = String::new();
        for check in &self.checks {
            let mark = if check.ok { "ok  " } else { "FAIL" };
            text.push_str(&format!("{mark}  {}: {}\n", escape(&check.subject), escape(&check.text)));
            for line in check.hint.iter().flat_map(|hint| hint.lines()) {
                text.push_str(&format!("      {}\n", escape(line)));
            }
        }
        text
    }
}

/// Something that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathProblem {
    /// Where; bytes that are no UTF-8 are replaced.
    pub path: String,
    /// What is wrong.
    pub why: String,
}

impl From<stackferry_vault::VaultProblem> for PathProblem {
    fn from(problem: stackferry_vault::VaultProblem) -> Self {
        Self { path: problem.path.display().to_string(), why: problem.why }
    }
}

/// What `rebuild` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RebuildView {
    /// How many volumes the vault holds.
    pub volumes: u64,
    /// How many versions of them.
    pub versions: u64,
    /// How many of these versions are damaged.
    pub damaged: u64,
    /// What in the vault could not be read.
    pub problems: Vec<PathProblem>,
}

impl View for RebuildView {
    fn table(&self, _style: &Style) -> String {
        let mut text = format!("{} volumes, {} versions, {} damaged\n", self.volumes, self.versions, self.damaged);
        for problem in &self.problems {
            text.push_str(&format!("can't be read: {}: {}\n", escape(&problem.path), escape(&problem.why)));
        }
        text
    }
}

/// What `pin` and `unpin` print.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PinView {
    /// The volume.
    #[schema(value_type = String)]
    pub volume: VolumeId,
    /// The version.
    #[schema(value_type = String)]
    pub version: VersionId,
    /// Whether it is pinned now.
    pub pinned: bool,
    /// Why, in the words of who pinned it.
    pub note: Option<String>,
}

impl View for PinView {
    fn table(&self, _style: &Style) -> String {
        let what = if self.pinned { "pinned" } else { "not pinned" };
        let note = self.note.iter().map(|note| ("note", note.clone()));
        fields([(what, format!("{}@{}", self.volume, self.version))].into_iter().chain(note))
    }
}

/// What `audit show` prints: an array of records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct AuditView(pub Vec<AuditRecord>);

impl View for AuditView {
    fn table(&self, style: &Style) -> String {
        let mut grid = Grid::new(&[
            ("NUMBER", Side::Right),
            ("TIME", Side::Left),
            ("ACTION", Side::Left),
            ("ACTOR", Side::Left),
            ("SUBJECT", Side::Left),
            ("DETAIL", Side::Left),
        ]);
        for record in &self.0 {
            let detail = if record.detail.is_null() { String::new() } else { record.detail.to_string() };
            grid.row([
                record.id.to_string(),
                style.time(record.at),
                record.action.clone(),
                record.actor.clone(),
                record.subject.clone(),
                detail,
            ]);
        }
        grid.finish()
    }
}

/// The first audit record that is not in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BrokenRecord {
    /// Its number.
    pub record: u64,
    /// What is wrong with it.
    pub why: String,
}

/// What `audit verify` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditVerifyView {
    /// How many records are in order: all, or those before the first that is not.
    pub records: u64,
    /// How many older ones were cut off, since their time was over.
    pub cut: u64,
    /// Whether all are.
    pub ok: bool,
    /// The digest that seals the last of them. Kept elsewhere, it tells of a chain that was made anew.
    pub head: Option<Digest>,
    /// The first record that is not in order.
    pub broken: Option<BrokenRecord>,
}

impl From<AuditCheck> for AuditVerifyView {
    fn from(check: AuditCheck) -> Self {
        let broken = check.broken.map(|(record, why)| BrokenRecord { record, why });
        Self { records: check.records, cut: check.cut, ok: broken.is_none(), head: check.head, broken }
    }
}

impl AuditVerifyView {
    /// The exit code of `audit verify`.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.ok { Exit::Done } else { Exit::VerifyFailed }
    }
}

impl View for AuditVerifyView {
    fn table(&self, _style: &Style) -> String {
        let head = self.head.iter().map(|head| ("head", head.to_string()));
        let broken = self.broken.iter().map(|broken| ("broken", format!("record {}: {}", broken.record, broken.why)));
        let cut = (self.cut > 0).then(|| ("cut off before", self.cut.to_string()));
        fields([("records in order", self.records.to_string())].into_iter().chain(cut).chain(head).chain(broken))
    }
}
