//! Versions: what `versions` prints.

use jiff::Timestamp;
use serde::Serialize;
use stackferry_catalog::VersionRow;
use stackferry_problem::output::{Grid, Side, Style, View, none, size, yes};
use stackferry_volume::content::ContentState;
use stackferry_volume::manifest::VerifyMethod;
use stackferry_volume::{Generation, VersionId};

use super::verify::four_answers;
use crate::finding::{Finding, KnownVersions};

/// One version of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct VersionView {
    /// The version.
    #[schema(value_type = String)]
    pub version: VersionId,
    /// When its last byte was checked.
    pub created: Timestamp,
    /// The lengths of its files together, in bytes.
    pub bytes: u64,
    /// Whether the last check of its digests found every block right.
    pub verified: bool,
    /// Whether it is kept whatever retention says.
    pub pinned: bool,
    /// What it takes in the vault, in bytes.
    pub stored: u64,
    /// How it was checked before it was committed.
    #[schema(value_type = String)]
    pub verify_method: VerifyMethod,
    /// Why it is known to be damaged.
    pub damaged: Option<String>,
    /// Which life of the volume it is of.
    #[schema(value_type = u32)]
    pub generation: Generation,
    /// The route its bytes came by.
    pub route: String,
    /// Why it is an incident.
    pub incident: Option<String>,
    /// What its disk holds: `healthy`, `not_looked_into`, `not_recognised`, `damaged`; none where it was never inspected.
    #[schema(value_type = Option<String>)]
    pub content: Option<ContentState>,
    /// That as a sentence.
    pub content_text: Option<String>,
    /// When it was last read back from the vault and checked.
    pub last_verified: Option<Timestamp>,
    /// What is wrong with it, and what to do about it; none where nothing is known to be.
    pub finding: Option<Finding>,
}

impl From<&VersionRow> for VersionView {
    fn from(row: &VersionRow) -> Self {
        Self {
            version: row.version.clone(),
            created: row.created,
            bytes: row.bytes,
            verified: row.verified,
            pinned: row.pinned,
            stored: row.stored,
            verify_method: row.verify_method,
            damaged: row.damaged.clone(),
            generation: row.generation,
            route: row.route.clone(),
            incident: row.incident.clone(),
            content: row.content.as_ref().map(|content| content.state),
            content_text: row.content.as_ref().map(|content| content.text.clone()),
            last_verified: row.last_verified,
            finding: None,
        }
    }
}

impl VersionView {
    /// The versions of a volume, in the order of their rows.
    #[must_use]
    pub fn judged(known: &KnownVersions) -> Vec<Self> {
        let judged = known.rows().iter().map(|row| Self { finding: known.finding(&row.version), ..Self::from(row) });
        judged.collect()
    }
}

/// What `versions` prints: an array, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct VersionsView(pub Vec<VersionView>);

impl VersionsView {
    /// The versions of these rows, in their order.
    #[must_use]
    pub fn new(rows: &[VersionRow]) -> Self {
        Self(rows.iter().map(VersionView::from).collect())
    }
}

impl View for VersionsView {
    fn table(&self, style: &Style) -> String {
        let mut grid = Grid::new(&[
            ("VERSION", Side::Left),
            ("CREATED", Side::Left),
            ("SIZE", Side::Right),
            ("STORED", Side::Right),
            ("VERIFIED", Side::Left),
            ("LAST VERIFIED", Side::Left),
            ("PINNED", Side::Left),
            ("ROUTE", Side::Left),
            ("NOTE", Side::Left),
        ]);
        for row in &self.0 {
            let note = match (&row.damaged, &row.incident) {
                (Some(why), _) => format!("damaged: {why}"),
                (None, Some(why)) => format!("incident: {why}"),
                (None, None) => match &row.content_text {
                    Some(text) if row.content != Some(ContentState::Healthy) => text.clone(),
                    _ => none(),
                },
            };
            grid.row([
                row.version.to_string(),
                style.time(row.created),
                size(row.bytes),
                size(row.stored),
                yes(row.verified),
                style.maybe_time(row.last_verified),
                yes(row.pinned),
                row.route.clone(),
                note,
            ]);
        }
        let mut text = grid.finish();
        for row in &self.0 {
            if let Some(finding) = &row.finding {
                text.push_str(&format!("\n{}\n{}", row.version, four_answers(finding)));
            }
        }
        text
    }
}
