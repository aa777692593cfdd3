//! Retention: what `prune` prints.

use jiff::Timestamp;
use serde::Serialize;
use stackferry_volume::{VersionId, VolumeId};

use crate::prune::{Fate, Judged, Pruned};
use stackferry_problem::Exit;
use stackferry_problem::output::{Grid, Side, Style, View, escape, size};

/// One version, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PruneItem {
    /// The volume.
    #[schema(value_type = String)]
    pub volume: VolumeId,
    /// The version.
    #[schema(value_type = String)]
    pub version: VersionId,
    /// When it was made.
    pub created: Timestamp,
    /// What it takes in the vault, in bytes, as it was when it was made.
    pub stored: u64,
    /// `deleted`, `would_delete` (a dry run), `kept`, or `stays`: it should go, but can't for now.
    #[schema(value_type = String)]
    pub outcome: &'static str,
    /// Which rules keep it; empty if none does.
    pub rules: Vec<String>,
    /// Why it stays.
    pub reason: Option<String>,
}

/// A volume of which nothing is deleted for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct HeldItem {
    /// The volume; none where all are meant.
    #[schema(value_type = Option<String>)]
    pub volume: Option<VolumeId>,
    /// Why.
    pub reason: String,
}

/// A version that was found damaged before others were deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PruneDamage {
    /// The volume.
    #[schema(value_type = String)]
    pub volume: VolumeId,
    /// The version.
    #[schema(value_type = String)]
    pub version: VersionId,
    /// What is wrong with it.
    pub why: String,
}

/// What `prune` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PruneView {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// How many versions were deleted.
    pub deleted: u64,
    /// How many would be, or should be and stay for now.
    pub planned: u64,
    /// How many are kept.
    pub kept: u64,
    /// What the deleted ones took, in bytes; in a dry run, what those take that would be.
    pub freed: u64,
    /// Versions that go; of a volume that was named, all.
    pub versions: Vec<PruneItem>,
    /// Versions that were found damaged: they count no longer, and a good one is kept for each.
    pub damaged: Vec<PruneDamage>,
    /// Volumes of which nothing is deleted for now.
    pub held: Vec<HeldItem>,
}

impl PruneView {
    /// What a prune came to.
    #[must_use]
    pub fn new(pruned: Pruned, dry_run: bool) -> Self {
        let (deleted, freed) = pruned.count(&Fate::Deleted);
        let (doomed, would_free) = pruned.count(&Fate::Doomed);
        let stay = pruned.versions.iter().filter(|one| matches!(one.fate, Fate::Stays(_))).count();
        let damaged = pruned.damaged.into_iter().map(|(volume, version, why)| PruneDamage { volume, version, why });
        let held = pruned.held.into_iter().map(|(volume, reason)| HeldItem { volume, reason });
        Self {
            dry_run,
            deleted,
            planned: doomed + stay as u64,
            kept: pruned.kept,
            freed: if dry_run { would_free } else { freed },
            versions: pruned.versions.into_iter().map(PruneItem::from).collect(),
            damaged: damaged.collect(),
            held: held.collect(),
        }
    }

    /// The exit code of `prune`.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let stays = self.versions.iter().any(|one| one.outcome == "stays");
        match self.dry_run {
            _ if !self.damaged.is_empty() => Exit::VerifyFailed,
            false if stays || self.planned > 0 => Exit::Partly,
            _ => Exit::Done,
        }
    }
}

impl From<Judged> for PruneItem {
    fn from(one: Judged) -> Self {
        let (outcome, rules, reason) = match one.fate {
            Fate::Kept(why) => ("kept", why.iter().map(ToString::to_string).collect(), None),
            Fate::Doomed => ("would_delete", Vec::new(), None),
            Fate::Deleted => ("deleted", Vec::new(), None),
            Fate::Stays(why) => ("stays", Vec::new(), Some(why)),
        };
        let Judged { volume, version, created, stored, .. } = one;
        Self { volume, version, created, stored, outcome, rules, reason }
    }
}

impl View for PruneView {
    fn table(&self, style: &Style) -> String {
        let mut text = String::new();
        if !self.versions.is_empty() {
            let mut grid = Grid::new(&[
                ("VOLUME", Side::Left),
                ("VERSION", Side::Left),
                ("CREATED", Side::Left),
                ("STORED", Side::Right),
                ("WHAT", Side::Left),
                ("WHY", Side::Left),
            ]);
            for one in &self.versions {
                let why = one.reason.clone().unwrap_or_else(|| one.rules.join(", "));
                grid.row([
                    one.volume.to_string(),
                    one.version.to_string(),
                    style.time(one.created),
                    size(one.stored),
                    one.outcome.replace('_', " "),
                    why,
                ]);
            }
            text = grid.finish() + "\n";
        }
        for damaged in &self.damaged {
            let PruneDamage { volume, version, why } = damaged;
            text.push_str(&format!("{volume}@{version} is damaged: {why}\n"));
        }
        for held in &self.held {
            let volume = held.volume.as_ref().map_or_else(|| "all volumes".to_owned(), ToString::to_string);
            text.push_str(&format!("{}: {}\n", escape(&volume), escape(&held.reason)));
        }
        let freed = size(self.freed);
        match self.dry_run {
            true => text.push_str(&format!(
                "{} would be deleted ({freed}), {} kept; nothing was done\n",
                self.planned, self.kept
            )),
            false => text.push_str(&format!(
                "{} deleted ({freed}), {} stay for now, {} kept\n",
                self.deleted, self.planned, self.kept
            )),
        }
        text
    }
}
