//! In which points the rows of a volume differ from its folder: a pure function.

use std::collections::{BTreeMap, BTreeSet};

use stackferry_catalog::{IndexedVersion, IndexedVolume};
use stackferry_vault::Outline;
use stackferry_volume::VersionId;

use crate::missing::MISSING;

/// What differs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Folders without a row.
    pub(super) unknown: Vec<VersionId>,
    /// Rows without a folder, which are not known to be lost.
    pub(super) lost: Vec<VersionId>,
    /// Rows whose version was being deleted, and is.
    pub(super) deleted: Vec<VersionId>,
    /// Whether each is pinned, and why it is damaged, as the vault has it.
    pub(super) marked: Vec<(VersionId, bool, Option<String>)>,
    /// Versions whose manifest has to be read to know.
    pub(super) doubtful: Vec<VersionId>,
    /// The volume has another generation than the catalog knows.
    pub(super) renewed: bool,
    /// The vault's own record was lost.
    pub(super) rebuilt: bool,
}

/// None where the rows are in line with the folder. A volume without a folder has no outline.
pub(super) fn compare(outline: Option<&Outline>, known: &IndexedVolume) -> Option<Difference> {
    let mut found = Difference::default();
    let there: BTreeSet<&VersionId> = outline.iter().flat_map(|outline| &outline.versions).collect();
    let rows: BTreeMap<&VersionId, &IndexedVersion> = known.versions.iter().map(|row| (&row.version, row)).collect();
    found.unknown =
        there.iter().filter(|version| !rows.contains_key(*version)).map(|&version| version.clone()).collect();
    for row in known.versions.iter().filter(|row| !there.contains(&row.version)) {
        match (row.deleting, row.damaged.as_deref()) {
            (true, _) => found.deleted.push(row.version.clone()),
            (false, Some(MISSING)) => {}
            (false, _) => found.lost.push(row.version.clone()),
        }
    }
    if let Some(outline) = outline {
        marks(outline, &rows, &there, &mut found);
        found.rebuilt = outline.record.rebuilt.is_some();
        found.renewed = is_renewed(outline, known);
    }
    (found != Difference::default()).then_some(found)
}

fn marks(
    outline: &Outline,
    rows: &BTreeMap<&VersionId, &IndexedVersion>,
    there: &BTreeSet<&VersionId>,
    found: &mut Difference,
) {
    let record = &outline.record;
    for row in rows.values().filter(|row| there.contains(&row.version)) {
        let version = &row.version;
        let pinned = record.pins.contains_key(version);
        let damaged = record.damaged.get(version).map(|mark| mark.why.clone());
        let is_headless = outline.without_manifest.as_ref() == Some(version);
        // A record that was made anew knows of no marks: those of the catalog are put into it first.
        let is_blank = record.rebuilt.is_some();
        match (&damaged, row.damaged.as_deref()) {
            // The vault has no mark: either it took it off, or the catalog has one for a manifest that can't be read.
            (None, Some(_)) if !is_blank => found.doubtful.push(version.clone()),
            (None, None) if is_headless => found.doubtful.push(version.clone()),
            (Some(_), None | Some(MISSING)) => {
                found.marked.push((version.clone(), pinned || (is_blank && row.pinned), damaged))
            }
            _ if pinned != row.pinned && !(is_blank && row.pinned) => {
                found.marked.push((version.clone(), pinned, row.damaged.clone()));
            }
            _ => {}
        }
    }
}

/// A later generation, or another disk under the same number: the vault has versions of it, the catalog came from elsewhere.
fn is_renewed(outline: &Outline, known: &IndexedVolume) -> bool {
    let (Some((number, guid)), Some(last)) = (&known.generation, outline.record.generations.last()) else {
        return false;
    };
    let is_other = || matches!((guid, &last.guid), (Some(own), Some(other)) if own != other);
    last.number > *number || (last.number == *number && is_other())
}
