//! Bringing one volume in line, under its lease. See [`super`] for the order.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::json;
use stackferry_catalog::{AuditAction, IndexChange, IndexedVolume, LeaseGuard, VaultVolume, VersionRow};
use stackferry_vault::{DamageMark, Marks, Outline, Pin, Vault, VaultError, VersionEntry, VolumeRecord};
use stackferry_volume::{ManifestError, VersionId, VolumeId};

use super::compare::{Difference, compare};
use super::{Depth, ReconcileError, Reconciled};
use crate::about::PROGRAM;
use crate::adopt::{vault_volume, version_row};
use crate::app::App;
use crate::blocking::blocking;
use crate::kinds::config_kind;
use crate::missing::{MISSING, named, tolerate_missing_row};
use crate::retention;
use crate::retention::as_held;
use stackferry_problem::Problem;

/// What a pin that only the catalog knew says.
const PIN_NOTE: &str = "its note was lost with volume.json";

pub(super) async fn under_lease(
    app: &App,
    vault: &Vault,
    volume: &VolumeId,
    lease: &LeaseGuard,
    depth: Depth,
    done: &mut Reconciled,
) -> Result<(), ReconcileError> {
    let mut outline = read_outline(vault, volume).await?;
    let mut known = rows_of(app, volume).await?;
    if outline.as_ref().is_some_and(|outline| outline.record.rebuilt.is_some()) {
        restore_marks(app, vault, volume, &known, done).await?;
        outline = read_outline(vault, volume).await?;
        known = rows_of(app, volume).await?;
    }
    let found = compare(outline.as_ref(), &known);
    if found.is_none() && depth == Depth::Marks {
        return Ok(());
    }
    let found = found.unwrap_or_default();
    let rows = app.catalog().versions(volume).await?;
    let Some(outline) = outline else {
        let missing = rows.iter().filter(|row| found.lost.contains(&row.version)).collect();
        return write(app, vault, lease, Work { missing, ..Work::of(volume, None, &rows, found, depth) }, done).await;
    };
    let wanted: BTreeSet<VersionId> = match depth {
        Depth::Manifests => outline.versions.iter().cloned().collect(),
        Depth::Marks => found.unknown.iter().chain(&found.doubtful).cloned().collect(),
    };
    keep_numbers(vault, volume, &rows, &outline.record).await?;
    let entries = read_entries(vault, volume, wanted).await?;
    mark_unreadable(vault, volume, &entries).await;
    let mut work = Work::of(volume, Some(&outline.record), &rows, found, depth);
    work.add(&outline, &entries, done);
    work.judge_lost(app, &outline.record);
    write(app, vault, lease, work, done).await
}

async fn rows_of(app: &App, volume: &VolumeId) -> Result<IndexedVolume, ReconcileError> {
    let mut rows = app.catalog().indexed(std::slice::from_ref(volume)).await?;
    Ok(rows.remove(volume).transpose()?.unwrap_or_default())
}

async fn read_outline(vault: &Vault, volume: &VolumeId) -> Result<Option<Outline>, ReconcileError> {
    let (vault, volume) = (vault.clone(), volume.clone());
    Ok(blocking(move || vault.outline(&volume)).await??)
}

/// Gives a record that was made anew what only the catalog still knows. Until that is done the vault deletes nothing of it.
async fn restore_marks(
    app: &App,
    vault: &Vault,
    volume: &VolumeId,
    known: &IndexedVolume,
    done: &mut Reconciled,
) -> Result<(), ReconcileError> {
    let at = Timestamp::now();
    let lock = app.config().vault().map_err(Problem::from)?.lock;
    let mut marks = Marks::default();
    for row in &known.versions {
        if row.pinned {
            marks.pins.insert(row.version.clone(), Pin { note: PIN_NOTE.to_owned(), at });
        }
        if let Some(why) = row.damaged.as_ref().filter(|why| *why != MISSING) {
            marks.damaged.insert(row.version.clone(), DamageMark { why: why.clone(), at });
        }
    }
    let (changing, id) = (vault.clone(), volume.clone());
    let put_back = blocking(move || {
        if let Some(lock) = lock {
            let names = changing.version_names(&id)?.into_iter();
            let until = |version: &VersionId| version.created()?.checked_add(lock.duration()).ok();
            marks.locks = names.filter_map(|version| Some((version.clone(), until(&version)?))).collect();
        }
        changing.restore_marks(&id, &marks)
    });
    if let Some(why) = put_back.await?? {
        tracing::error!(%volume, why, "a volume's record in the vault was lost; it is made anew from its versions, with pins and marks as the catalog knows them");
        done.rebuilt.push((volume.clone(), why));
    }
    Ok(())
}

/// Numbers that only the catalog knows of are not given again, whatever becomes of their rows.
async fn keep_numbers(
    vault: &Vault,
    volume: &VolumeId,
    rows: &[VersionRow],
    record: &VolumeRecord,
) -> Result<(), ReconcileError> {
    let next = rows.iter().map(|row| row.version.seq().saturating_add(1)).max().unwrap_or(0);
    if next > record.next_seq {
        let (vault, volume) = (vault.clone(), volume.clone());
        blocking(move || vault.start_numbers_at(&volume, next)).await??;
    }
    Ok(())
}

async fn read_entries(
    vault: &Vault,
    volume: &VolumeId,
    wanted: BTreeSet<VersionId>,
) -> Result<BTreeMap<VersionId, VersionEntry>, ReconcileError> {
    let (vault, volume) = (vault.clone(), volume.clone());
    let read = blocking(move || {
        let mut entries = BTreeMap::new();
        for version in wanted {
            if let Some(entry) = vault.entry(&volume, &version)? {
                entries.insert(version, entry);
            }
        }
        Ok::<_, VaultError>(entries)
    });
    Ok(read.await??)
}

/// A manifest that can't be read is damage, and is marked where the truth is. One of a newer program is none.
async fn mark_unreadable(vault: &Vault, volume: &VolumeId, entries: &BTreeMap<VersionId, VersionEntry>) {
    let is_newer =
        |error: &VaultError| matches!(error, VaultError::ManifestDamaged { source: ManifestError::Format(_), .. });
    let unreadable = entries.values().filter(|entry| entry.damaged.is_none()).filter_map(|entry| {
        let error = entry.summary.as_ref().err().filter(|error| error.is_damaged() && !is_newer(error))?;
        Some((entry.id.clone(), stackferry_transfer::describe(error)))
    });
    for (version, why) in unreadable {
        let (vault, volume) = (vault.clone(), volume.clone());
        let marked = blocking(move || vault.mark_damaged(&volume, &version, &why, Timestamp::now())).await;
        if let Ok(Err(error)) = marked {
            tracing::warn!(error = %stackferry_transfer::describe(&error), "damage could not be marked in the vault");
        }
    }
}

/// What is to be written for one volume.
struct Work<'a> {
    volume: &'a VolumeId,
    record: Option<&'a VolumeRecord>,
    rows: &'a [VersionRow],
    found: Difference,
    depth: Depth,
    added: Option<VaultVolume>,
    rewritten: Vec<VersionRow>,
    /// Rows without a version, which nobody deleted.
    missing: Vec<&'a VersionRow>,
    /// Rows without a version, which would be deleted now.
    pruned: Vec<&'a VersionRow>,
}

impl<'a> Work<'a> {
    fn of(
        volume: &'a VolumeId,
        record: Option<&'a VolumeRecord>,
        rows: &'a [VersionRow],
        found: Difference,
        depth: Depth,
    ) -> Self {
        let (added, rewritten, missing, pruned) = (None, Vec::new(), Vec::new(), Vec::new());
        Self { volume, record, rows, found, depth, added, rewritten, missing, pruned }
    }

    fn row(&self, version: &VersionId) -> Option<&'a VersionRow> {
        self.rows.iter().find(|row| row.version == *version)
    }

    /// The rows that are new, and those that have to be written anew.
    fn add(&mut self, outline: &Outline, entries: &BTreeMap<VersionId, VersionEntry>, done: &mut Reconciled) {
        let mut new = Vec::new();
        for version in &self.found.unknown {
            let twin = outline.versions.iter().find(|other| other.seq() == version.seq() && *other != version);
            match twin.filter(|twin| *twin > version || self.row(twin).is_some()) {
                // Of two that bear one number only one can be listed. Nothing is deleted for it.
                Some(twin) => {
                    let why = format!("the versions {twin} and {version} have one number; {version} is not listed");
                    done.failed.push((self.volume.clone(), why));
                }
                None => new.extend(entries.get(version)),
            }
        }
        for entry in entries.values() {
            let Some(row) = self.row(&entry.id) else { continue };
            let read = version_row(self.volume, entry);
            if !is_same(row, &read) {
                self.rewritten.push(read);
            }
        }
        if new.is_empty() && self.rewritten.is_empty() && self.depth == Depth::Marks {
            return;
        }
        let mut volume = vault_volume(&outline.record, &entries.values().collect::<Vec<_>>());
        volume.versions.retain(|row| new.iter().any(|entry| entry.id == row.version));
        self.added = Some(volume);
    }

    /// Which rows without a version are a loss: not those that retention would delete now. They may have been deleted after
    /// the state folder was saved that was put back since.
    fn judge_lost(&mut self, app: &App, record: &VolumeRecord) {
        let lost: Vec<&VersionRow> = self.found.lost.iter().filter_map(|version| self.row(version)).collect();
        let keep = app.config().retention.of(config_kind(self.volume.kind()));
        let (Some(keep), false) = (keep, lost.is_empty()) else {
            self.missing = lost;
            return;
        };
        let new = self.added.iter().flat_map(|volume| &volume.versions);
        let held: Vec<_> = self.rows.iter().chain(new).map(|row| as_held(row, record)).collect();
        let now = app.local_time();
        let kept = retention::decide(&held, keep, now.timestamp(), now.time_zone());
        (self.missing, self.pruned) = lost.into_iter().partition(|row| kept.contains_key(&row.version));
    }
}

/// Whether a row says what the vault says.
fn is_same(row: &VersionRow, read: &VersionRow) -> bool {
    let known = VersionRow {
        last_verified: read.last_verified,
        restore_test: read.restore_test.clone(),
        // A restore test may have seen more than the copy did.
        content: read.content.clone(),
        deleting: read.deleting,
        // Which of several findings is told is up to who found them.
        damaged: match (&row.damaged, &read.damaged) {
            (Some(own), Some(other)) if own != MISSING => Some(other.clone()),
            (own, _) => own.clone(),
        },
        ..row.clone()
    };
    known == *read
}

async fn write(
    app: &App,
    vault: &Vault,
    lease: &LeaseGuard,
    work: Work<'_>,
    done: &mut Reconciled,
) -> Result<(), ReconcileError> {
    let (volume, catalog) = (work.volume, app.catalog());
    let Work { found, rows, depth, missing, pruned, added, rewritten, record, .. } = work;
    let mut forgotten: Vec<VersionId> = found.deleted.clone();
    forgotten.extend(pruned.iter().map(|row| row.version.clone()));
    let new: Vec<VersionId> = added.iter().flat_map(|volume| &volume.versions).map(|row| row.version.clone()).collect();
    let mut marked: Vec<_> = found.marked.clone();
    marked.retain(|(version, ..)| !rewritten.iter().any(|row| row.version == *version));
    let takes_marks = marked.len() + rewritten.len();
    for row in &missing {
        match depth == Depth::Manifests || new.iter().any(|version| version.seq() == row.version.seq()) {
            true => forgotten.push(row.version.clone()),
            false => marked.push((row.version.clone(), row.pinned, Some(MISSING.to_owned()))),
        }
    }
    if depth == Depth::Manifests {
        let known = rows.iter().filter(|row| row.damaged.as_deref() == Some(MISSING));
        let is_there = |row: &&VersionRow| rewritten.iter().any(|read| read.version == row.version);
        forgotten.extend(known.filter(|row| !is_there(row)).map(|row| row.version.clone()));
    }
    // A lost version whose number was given again is in the way.
    let twins = rows.iter().filter(|row| row.damaged.as_deref() == Some(MISSING) && !forgotten.contains(&row.version));
    let twins = twins.filter(|row| new.iter().any(|version| version.seq() == row.version.seq()));
    let twins: Vec<VersionId> = twins.map(|row| row.version.clone()).collect();
    forgotten.extend(twins);
    let is_empty = added.is_none() && rewritten.is_empty() && marked.is_empty() && forgotten.is_empty();
    if is_empty && !found.renewed {
        return Ok(());
    }
    let change = IndexChange {
        volume: match added {
            Some(added) => added,
            None => bare(app, volume, record).await?,
        },
        rewritten,
        marked,
        forgotten: forgotten.clone(),
        renewed: found.renewed,
    };
    if !catalog.reconcile(lease, &change).await? {
        return Err(ReconcileError::Volume("another process took this volume over".to_owned()));
    }
    // What was pruned while the manifests were read must not come back.
    if !new.is_empty() {
        let (vault, id) = (vault.clone(), volume.clone());
        let names = blocking(move || vault.version_names(&id)).await??;
        for version in new.iter().filter(|version| !names.contains(version)) {
            tolerate_missing_row(catalog.remove_version(volume, version).await)?;
        }
    }
    if !new.is_empty() {
        tracing::info!(%volume, versions = new.len(), "versions that the catalog did not know are adopted");
    }
    if takes_marks > 0 {
        tracing::warn!(%volume, versions = takes_marks, "pins and marks of damage are taken over from the vault");
    }
    if found.renewed {
        let generation = change.volume.generation;
        tracing::warn!(%volume, %generation, "the catalog knew another generation of the volume than the vault");
    }
    for row in &missing {
        let subject = named(volume, &row.version);
        tracing::error!(version = subject, "the catalog lists a version that the vault does not have");
        catalog.audit(AuditAction::DamageFound, PROGRAM, &subject, &json!({ "why": MISSING })).await?;
    }
    for row in &pruned {
        let subject = named(volume, &row.version);
        tracing::info!(version = subject, "a version that retention no longer keeps is not in the vault");
    }
    done.adopted += u64::try_from(new.len()).unwrap_or(u64::MAX);
    done.marked += u64::try_from(takes_marks).unwrap_or(u64::MAX);
    done.missing.extend(missing.iter().map(|row| (volume.clone(), row.version.clone())));
    let gone = forgotten.into_iter().filter(|version| !missing.iter().any(|row| row.version == *version));
    done.forgotten.extend(gone.map(|version| (volume.clone(), version)));
    Ok(())
}

/// A volume of which no manifest was read.
async fn bare(app: &App, volume: &VolumeId, record: Option<&VolumeRecord>) -> Result<VaultVolume, ReconcileError> {
    if let Some(record) = record {
        return Ok(vault_volume(record, &[]));
    }
    // It has rows, so it is known; nothing of this is written.
    let row = app.catalog().volume(volume).await?;
    Ok(VaultVolume {
        id: volume.clone(),
        stem: row.as_ref().map_or_else(|| volume.folder().to_string(), |row| row.stem.clone()),
        name: row.as_ref().map_or_else(|| volume.folder().to_string(), |row| row.name.clone()),
        owner: None,
        guid: None,
        generation: row.map_or(stackferry_volume::Generation::FIRST, |row| row.generation),
        size_bytes: None,
        locations: Vec::new(),
        versions: Vec::new(),
        baselines: Vec::new(),
    })
}
