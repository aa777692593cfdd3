//! Deleting versions that retention keeps no longer: the plan, and the plan carried out, volume by volume.
//!
//! The plan is made from the catalog, and from pins, locks and marks of damage as the vault notes them. The vault has the
//! last word: it refuses what is pinned, locked, read by somebody, or the last good version of its life.
//!
//! Versions are deleted in this order, some of one volume at a time, so that a crash at any point of it neither loses a row
//! nor raises an alarm:
//!  1. The catalog notes that they are being deleted.
//!  2. The vault deletes them (see `stackferry_vault`'s own order). Where it finds that a version which was to stay can't be
//!     read, that one is marked as damaged, and the plan is made anew.
//!  3. The catalog forgets them; the audit records are written.
//!
//! A crash after 1 leaves versions as they were, after 2 rows whose versions are gone: the note tells the next start that
//! this is no loss.

use crate::retention::as_held;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;
use stackferry_catalog::{AuditAction, LeaseGuard, VersionRow, VolumeRow, VolumeState};
use stackferry_config::Keep;
use stackferry_vault::{DeleteOutcome, DeleteRequest, Vault, VaultError};
use stackferry_volume::{VersionId, VolumeId};

use super::reconcile;
use super::retention::{self, KeepReason, RetainedVersion};
use crate::about::PROGRAM;
use crate::app::App;
use crate::blocking::blocking;
use crate::jobs::PruneFrozen;
use crate::kinds::config_kind;
use crate::missing::{named, tolerate_missing_row};
use stackferry_problem::{Code, Problem};

/// The time between two prunes of the running service.
pub const PRUNE_EVERY: std::time::Duration = std::time::Duration::from_secs(3600);

/// What becomes of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is kept, and why.
    Kept(Vec<KeepReason>),
    /// It goes: planned, but not done.
    Doomed,
    /// It is deleted.
    Deleted,
    /// It should go, but stays for now: why.
    Stays(String),
}

/// A version with what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The volume.
    pub volume: VolumeId,
    /// The version.
    pub version: VersionId,
    /// When it was made.
    pub created: Timestamp,
    /// What it takes in the vault, in bytes, as it was when it was made.
    pub stored: u64,
    /// What becomes of it.
    pub fate: Fate,
}

/// What a prune came to, or would.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Every version that goes or should; of a volume that was asked for, those that are kept, too. By volume, newest
    /// first.
    pub versions: Vec<Judged>,
    /// How many are kept.
    pub kept: u64,
    /// Versions that were found damaged before others were deleted, and what was found.
    pub damaged: Vec<(VolumeId, VersionId, String)>,
    /// Volumes of which nothing is deleted for now, and why; none where all are meant.
    pub held: Vec<(Option<VolumeId>, String)>,
}

impl Pruned {
    /// How many have this fate, and what they take.
    #[must_use]
    pub fn count(&self, fate: &Fate) -> (u64, u64) {
        let same = self.versions.iter().filter(|one| one.fate == *fate);
        same.fold((0, 0), |(number, bytes), one| (number + 1, bytes + one.stored))
    }
}

/// Whose versions, and whether they are deleted or only told.
#[derive(Debug, Clone, Copy)]
pub struct PruneRequest<'a> {
    /// One volume; all if none.
    pub volume: Option<&'a VolumeId>,
    /// Nothing is deleted.
    pub dry_run: bool,
    /// Who wants it, for the audit.
    pub actor: &'a str,
}

/// That there is a rule by which versions go at all.
///
/// # Errors
/// `bad_config`: there is none.
pub fn configured(app: &App) -> Result<(), Problem> {
    if app.config().retention != stackferry_config::Retention::default() {
        return Ok(());
    }
    Err(Problem::new(Code::BadConfig, "no [retention] is configured: all versions are kept")
        .subject("retention")
        .hint("say how many to keep, as [retention] last = 7, daily = 14; `prune --dry-run` tells what would go"))
}

/// Makes the plan and, unless it is a dry run, carries it out. Without retention in the configuration nothing is deleted.
///
/// # Errors
/// `busy` while another process prunes; `interrupted`; the catalog's. What the vault refuses of one version is told with
/// that version.
pub async fn prune(app: &App, what: PruneRequest<'_>) -> Result<Pruned, Problem> {
    let vault = app.vault().await?;
    let lease = match what.dry_run {
        true => None,
        false => Some(app.catalog().hold_lease("prune", PROGRAM, Duration::ZERO).await?),
    };
    let result = under_lease(app, &vault, what, lease.as_ref()).await;
    if let (Ok(pruned), false) = (&result, what.dry_run) {
        let (versions, bytes) = pruned.count(&Fate::Deleted);
        app.metrics().pruned(versions, bytes);
        // All volumes were looked at, and nothing stood against all of it.
        if what.volume.is_none() && pruned.held.iter().all(|(volume, _)| volume.is_some()) {
            note_last(app).await;
        }
    }
    if let Some(Err(error)) = match lease {
        Some(lease) => Some(lease.release().await),
        None => None,
    } {
        tracing::warn!(error = %stackferry_transfer::describe(&error), "the lease of pruning could not be given back");
    }
    result
}

/// The note when retention was last carried out for all volumes.
const LAST: &str = "pruned";

/// When retention was last carried out for all volumes, by whomever; none if it never was.
///
/// # Errors
/// The catalog's.
pub async fn last(app: &App) -> Result<Option<Timestamp>, Problem> {
    Ok(app.catalog().marker(LAST).await?.and_then(|at| at.parse().ok()))
}

async fn note_last(app: &App) {
    if let Err(error) = app.catalog().set_marker(LAST, Some(&Timestamp::now().to_string())).await {
        tracing::warn!(error = %stackferry_transfer::describe(&error), "it could not be noted that retention was carried out");
    }
}

async fn under_lease(
    app: &App,
    vault: &Vault,
    what: PruneRequest<'_>,
    lease: Option<&LeaseGuard>,
) -> Result<Pruned, Problem> {
    let mut pruned = Pruned::default();
    if let Some(frozen) = app.jobs().prune_frozen().await? {
        pruned.held.push((None, clock_is_doubted(&frozen)));
        if !what.dry_run {
            return Ok(pruned);
        }
    }
    let volumes = match what.volume {
        Some(id) => app.catalog().volume(id).await?.into_iter().collect(),
        None => app.catalog().volumes().await?,
    };
    for volume in volumes {
        if app.cancel().is_cancelled() {
            return Err(Problem::interrupted("pruning"));
        }
        let Some(keep) = app.config().retention.of(config_kind(volume.id.kind())) else {
            pruned.kept += volume.versions;
            continue;
        };
        if let Some(why) = one(app, vault, what, lease, &volume, keep, &mut pruned).await? {
            pruned.held.push((None, why));
            break;
        }
    }
    Ok(pruned)
}

/// One volume. Gives why nothing more is deleted of any volume.
async fn one(
    app: &App,
    vault: &Vault,
    what: PruneRequest<'_>,
    lease: Option<&LeaseGuard>,
    volume: &VolumeRow,
    keep: Keep,
    pruned: &mut Pruned,
) -> Result<Option<String>, Problem> {
    // What was done, newest last.
    let mut done: Vec<Judged> = Vec::new();
    let (mut ends, mut found) = (None, BTreeSet::new());
    let judged = 'plan: loop {
        let Some(PrunePlan { mut judged, damaged }) = plan(app, vault, volume, keep).await? else {
            pruned.kept += volume.versions;
            pruned.held.push((Some(volume.id.clone()), INCIDENT.to_owned()));
            break Vec::new();
        };
        // What was tried before stands as it is.
        judged.retain(|one| !done.iter().any(|other| other.version == one.version));
        if what.dry_run {
            break judged;
        }
        // The oldest first: if a newer one turns out to be lost, the vault keeps the next good one before it.
        let doomed: Vec<Judged> = judged.iter().rev().filter(|one| one.fate == Fate::Doomed).cloned().collect();
        for batch in doomed.chunks(BATCH) {
            ends = match app.jobs().prune_frozen().await? {
                Some(frozen) => Some(clock_is_doubted(&frozen)),
                None => lease.is_some_and(LeaseGuard::is_lost).then(|| TAKEN_OVER.to_owned()),
            };
            if ends.is_some() {
                break 'plan judged;
            }
            let deleted = delete(app, vault, &volume.id, batch, &damaged, what.actor).await?;
            done.extend(deleted.tried);
            pruned.damaged.extend(deleted.damaged);
            if deleted.found.is_empty() {
                continue;
            }
            // Where nothing of it can be recorded, the same would be found for ever.
            if deleted.found.into_iter().fold(false, |new, version| found.insert(version) | new) {
                continue 'plan;
            }
            pruned.held.push((Some(volume.id.clone()), NOT_RECORDED.to_owned()));
            break;
        }
        judged.retain(|one| one.fate != Fate::Doomed);
        break judged;
    };
    done.extend(judged.into_iter().rev());
    let first = pruned.versions.len();
    // Of several volumes only what goes or should is told.
    for one in done {
        let is_kept = matches!(one.fate, Fate::Kept(_));
        pruned.kept += u64::from(is_kept);
        let waits = ends.is_some() && one.fate == Fate::Doomed;
        if !waits && (!is_kept || what.volume.is_some()) {
            pruned.versions.push(one);
        }
    }
    if let Some(own) = pruned.versions.get_mut(first..) {
        own.sort_by(|one, other| other.version.cmp(&one.version));
    }
    Ok(ends)
}

/// So many versions of a volume are deleted at once.
const BATCH: usize = 100;

/// Why this process stopped before the end.
const TAKEN_OVER: &str = "another process carries retention out now; it does the rest";

fn clock_is_doubted(frozen: &PruneFrozen) -> String {
    format!("{}; look at it, then run `stackferry prune --confirm-clock`", frozen.why)
}

/// What becomes of the versions of a volume.
struct PrunePlan {
    /// Each of them, newest first.
    judged: Vec<Judged>,
    /// Those that the catalog knows to be damaged.
    damaged: BTreeSet<VersionId>,
}

/// Why no more of a volume is deleted.
const NOT_RECORDED: &str = "what was found of its versions could not be recorded; see the log";

/// Why nothing of a volume is deleted for now.
const INCIDENT: &str = "an incident stands: look at it, then let the volume be copied in order again";

/// What becomes of each version, newest first; none while an incident stands, since what was good before it is what
/// somebody will want. That is told by the newest version: a volume that is gone or deferred meanwhile looks like others.
async fn plan(app: &App, vault: &Vault, known: &VolumeRow, keep: Keep) -> Result<Option<PrunePlan>, Problem> {
    let volume = &known.id;
    let rows = app.catalog().versions(volume).await?;
    if rows.is_empty() {
        // A volume that was never copied has no folder in the vault.
        return Ok(Some(PrunePlan { judged: Vec::new(), damaged: BTreeSet::new() }));
    }
    let newest = rows.iter().find(|row| row.generation == known.generation);
    if known.state == VolumeState::Incident || newest.is_some_and(|row| row.incident.is_some()) {
        return Ok(None);
    }
    let (reading, id) = (vault.clone(), volume.clone());
    let record = match blocking(move || reading.volume(&id)).await? {
        Ok(record) if record.rebuilt.is_none() => record,
        // Pins and locks may be lost with it, until it was brought in line with the catalog.
        Ok(record) => {
            let why = record.rebuilt.unwrap_or_default();
            tracing::error!(%volume, why, "retention skipped this volume: its record in the vault was lost");
            reconcile::volume(app, vault, volume).await;
            let stays = |row: VersionRow| judged(row, Fate::Kept(Vec::new()));
            return Ok(Some(PrunePlan { judged: rows.into_iter().map(stays).collect(), damaged: BTreeSet::new() }));
        }
        // Nothing is concluded from what can't be read.
        Err(error) => {
            let why = format!("its volume.json can't be read: {}", stackferry_transfer::describe(&error));
            let stays = |row: VersionRow| judged(row, Fate::Kept(Vec::new()));
            tracing::error!(%volume, why, "retention skipped this volume");
            return Ok(Some(PrunePlan { judged: rows.into_iter().map(stays).collect(), damaged: BTreeSet::new() }));
        }
    };
    let damaged = rows.iter().filter(|row| row.damaged.is_some()).map(|row| row.version.clone()).collect();
    let versions: Vec<RetainedVersion> = rows.iter().map(|row| as_held(row, &record)).collect();
    let zone: TimeZone = app.local_time().time_zone().clone();
    let mut kept: BTreeMap<_, _> = retention::decide(&versions, keep, app.local_time().timestamp(), &zone);
    let fate = |row: &VersionRow, kept: &mut retention::KeptVersion| match kept.remove(&row.version) {
        Some(why) => Fate::Kept(why.into_iter().collect()),
        None => Fate::Doomed,
    };
    let judge = |row: VersionRow| {
        let fate = fate(&row, &mut kept);
        judged(row, fate)
    };
    Ok(Some(PrunePlan { judged: rows.into_iter().map(judge).collect(), damaged }))
}

fn judged(row: VersionRow, fate: Fate) -> Judged {
    Judged { volume: row.volume, version: row.version, created: row.created, stored: row.stored, fate }
}

/// What became of a batch.
#[derive(Default)]
struct Deleted {
    tried: Vec<Judged>,
    damaged: Vec<(VolumeId, VersionId, String)>,
    /// Other versions of which something was found that changes what is to be deleted.
    found: Vec<VersionId>,
}

async fn delete(
    app: &App,
    vault: &Vault,
    volume: &VolumeId,
    batch: &[Judged],
    damaged: &BTreeSet<VersionId>,
    actor: &str,
) -> Result<Deleted, Problem> {
    let (catalog, now) = (app.catalog(), app.local_time().timestamp());
    let versions: Vec<VersionId> = batch.iter().map(|one| one.version.clone()).collect();
    catalog.set_all_deleting(volume, &versions, Timestamp::now()).await?;
    let outcome = {
        let (vault, volume, cancel, damaged) = (vault.clone(), volume.clone(), app.cancel().clone(), damaged.clone());
        blocking(move || {
            let request = DeleteRequest { versions: &versions, damaged: &damaged, now };
            vault.delete_versions(&volume, request, &cancel)
        })
        .await?
    };
    let outcome = match outcome {
        Ok(outcome) => outcome,
        // What became of each is seen below.
        Err(error) if !error.is_cancelled() => {
            let why = stackferry_transfer::describe(&error);
            tracing::error!(%volume, why, "versions of a volume could not be deleted");
            let failed = |one: &Judged| (one.version.clone(), Err(failed(&why)));
            DeleteOutcome { versions: batch.iter().map(failed).collect(), ..DeleteOutcome::default() }
        }
        Err(error) => {
            let kept: Vec<VersionId> = batch.iter().map(|one| one.version.clone()).collect();
            catalog.deletions_ended(volume, &[], &kept, actor).await?;
            return Err(error.into());
        }
    };
    let found = outcome.found.iter().map(|found| found.version.clone()).collect();
    let mut done = Deleted { found, ..Deleted::default() };
    let (mut gone, mut kept) = (Vec::new(), Vec::new());
    let mut results: BTreeMap<VersionId, Result<(), VaultError>> = outcome.versions.into_iter().collect();
    let is_lost = |error: &VaultError| matches!(error, VaultError::NoVersion { .. } | VaultError::NoVolume { .. });
    let has_lost = results.values().any(|result| result.as_ref().is_err_and(is_lost));
    for one in batch {
        let Some(result) = results.remove(&one.version) else {
            kept.push(one.version.clone());
            continue;
        };
        let fate = fate(vault, one, result).await?;
        match fate {
            Fate::Deleted => {
                let detail = json!({ "created": one.created, "stored": one.stored, "why": "retention" });
                gone.push((one.version.clone(), detail));
            }
            _ => kept.push(one.version.clone()),
        }
        done.tried.push(Judged { fate, ..one.clone() });
    }
    catalog.deletions_ended(volume, &gone, &kept, actor).await?;
    if has_lost {
        reconcile::volume(app, vault, volume).await;
    }
    for found in outcome.found {
        let name = named(volume, &found.version);
        if let Some(first) = found.damage.first() {
            let why = first.to_string();
            tracing::error!(
                version = name,
                why,
                "a version can't be read: it is marked as damaged, and a good one is kept for it"
            );
            let detail = json!({ "first": why, "findings": found.damage.len() });
            catalog.audit(AuditAction::DamageFound, actor, &name, &detail).await?;
            tolerate_missing_row(catalog.mark_damaged(volume, &found.version, &why).await)?;
            done.damaged.push((volume.clone(), found.version, why));
        } else {
            tracing::info!(version = name, "a version that was marked as damaged is whole: all of it was read back");
            tolerate_missing_row(catalog.set_verified(volume, &found.version, Timestamp::now(), true).await)?;
        }
    }
    if let Some(error) = outcome.not_recorded {
        let error = stackferry_transfer::describe(&error);
        tracing::error!(%volume, error, "what was found of versions could not be noted in the vault");
    }
    Ok(done)
}

fn failed(why: &str) -> VaultError {
    VaultError::Io { op: "delete versions", path: Default::default(), source: std::io::Error::other(why.to_owned()) }
}

/// What became of one version.
async fn fate(vault: &Vault, one: &Judged, result: Result<(), VaultError>) -> Result<Fate, Problem> {
    let name = named(&one.volume, &one.version);
    Ok(match result {
        Ok(()) => Fate::Deleted,
        // Somebody was faster, or it was lost: the row is an alarm then, and no deletion of ours.
        Err(error @ (VaultError::NoVersion { .. } | VaultError::NoVolume { .. })) => Fate::Stays(error.to_string()),
        // It went, and only what is left of it in the trash could not be removed: that is swept later.
        Err(error) if is_gone(vault, one).await? => {
            let why = stackferry_transfer::describe(&error);
            tracing::warn!(version = name, why, "what is left of a deleted version is removed later");
            Fate::Deleted
        }
        Err(error) => {
            let why = stackferry_transfer::describe(&error);
            if !error.is_busy() && !error.is_protected() {
                tracing::error!(version = name, why, "a version could not be deleted");
            }
            Fate::Stays(why)
        }
    })
}

async fn is_gone(vault: &Vault, one: &Judged) -> Result<bool, Problem> {
    let (vault, volume, version) = (vault.clone(), one.volume.clone(), one.version.clone());
    let opened = blocking(move || vault.version(&volume, &version).map(drop)).await?;
    Ok(opened.is_err_and(|error| error.is_not_found()))
}
