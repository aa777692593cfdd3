//! Deleting versions that retention keeps no longer: the plan, and the plan carried out, volume by volume.
//!
//! The plan is made from the catalog, and from pins, locks and marks of damage as the vault notes them. The vault has the
//! last word: it refuses what is pinned, locked, read by somebody, or the last good version of its life.
//!
//! One version is deleted in this order, so that a crash at any point of it neither loses a row nor raises an alarm:
//!  1. The catalog notes that it is being deleted.
//!  2. The vault deletes it (see `stackferry_vault`'s own order).
//!  3. The catalog forgets it; the audit record is written.
//!
//! A crash after 1 leaves a version as it was, after 2 a row whose version is gone: the note tells the next start that
//! this is no loss.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;
use stackferry_catalog::{AuditAction, LeaseGuard, VersionRow, VolumeRow, VolumeState};
use stackferry_config::Keep;
use stackferry_vault::{Vault, VaultError, VolumeRecord};
use stackferry_volume::{VersionId, VolumeId};

use super::retention::{self, Held, Why};
use super::versions::{named, tolerate_missing_row};
use crate::app::{App, PROGRAM, blocking, config_kind};
use crate::jobs::PruneFrozen;
use crate::problem::{Code, Problem};

/// What becomes of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is kept, and why.
    Kept(Vec<Why>),
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
pub struct What<'a> {
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
pub async fn prune(app: &App, what: What<'_>) -> Result<Pruned, Problem> {
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
    Ok(app.catalog().note(LAST).await?.and_then(|at| at.parse().ok()))
}

async fn note_last(app: &App) {
    if let Err(error) = app.catalog().set_note(LAST, Some(&Timestamp::now().to_string())).await {
        tracing::warn!(error = %stackferry_transfer::describe(&error), "it could not be noted that retention was carried out");
    }
}

async fn under_lease(app: &App, vault: &Vault, what: What<'_>, lease: Option<&LeaseGuard>) -> Result<Pruned, Problem> {
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
        let Some(judged) = plan(app, vault, &volume, keep).await? else {
            pruned.kept += volume.versions;
            pruned.held.push((Some(volume.id), INCIDENT.to_owned()));
            continue;
        };
        let first = pruned.versions.len();
        // The oldest first: if a newer one turns out to be lost, the vault keeps the next good one before it.
        for mut one in judged.into_iter().rev() {
            match &one.fate {
                Fate::Kept(_) => {
                    pruned.kept += 1;
                    if what.volume.is_none() {
                        continue;
                    }
                }
                Fate::Doomed if !what.dry_run => {
                    let ends = match app.jobs().prune_frozen().await? {
                        Some(frozen) => Some(clock_is_doubted(&frozen)),
                        None => lease.is_some_and(LeaseGuard::is_lost).then(|| TAKEN_OVER.to_owned()),
                    };
                    if let Some(why) = ends {
                        pruned.held.push((None, why));
                        return Ok(pruned);
                    }
                    one.fate = delete(app, vault, &one, what.actor).await?;
                }
                _ => {}
            }
            pruned.versions.push(one);
        }
        if let Some(own) = pruned.versions.get_mut(first..) {
            own.reverse();
        }
    }
    Ok(pruned)
}

/// Why this process stopped before the end.
const TAKEN_OVER: &str = "another process carries retention out now; it does the rest";

fn clock_is_doubted(frozen: &PruneFrozen) -> String {
    format!("{}; look at it, then run `stackferry prune --confirm-clock`", frozen.why)
}

/// Why nothing of a volume is deleted for now.
const INCIDENT: &str = "an incident stands: look at it, then let the volume be copied in order again";

/// What becomes of each version, newest first; none while an incident stands, since what was good before it is what
/// somebody will want. That is told by the newest version: a volume that is gone or deferred meanwhile looks like others.
async fn plan(app: &App, vault: &Vault, known: &VolumeRow, keep: Keep) -> Result<Option<Vec<Judged>>, Problem> {
    let volume = &known.id;
    let rows = app.catalog().versions(volume).await?;
    let newest = rows.iter().find(|row| row.generation == known.generation);
    if known.state == VolumeState::Incident || newest.is_some_and(|row| row.incident.is_some()) {
        return Ok(None);
    }
    let (reading, id) = (vault.clone(), volume.clone());
    let record = match blocking(move || reading.volume(&id)).await? {
        Ok(record) => record,
        // Nothing is concluded from what can't be read.
        Err(error) => {
            let why = format!("its volume.json can't be read: {}", stackferry_transfer::describe(&error));
            let stays = |row: VersionRow| judged(row, Fate::Kept(Vec::new()));
            tracing::error!(%volume, why, "nothing of it is deleted");
            return Ok(Some(rows.into_iter().map(stays).collect()));
        }
    };
    let versions: Vec<Held> = rows.iter().map(|row| as_held(row, &record)).collect();
    let zone: TimeZone = app.local_time().time_zone().clone();
    let mut kept: BTreeMap<_, _> = retention::decide(&versions, keep, app.local_time().timestamp(), &zone);
    let fate = |row: &VersionRow, kept: &mut retention::Kept| match kept.remove(&row.version) {
        Some(why) => Fate::Kept(why.into_iter().collect()),
        None => Fate::Doomed,
    };
    let judge = |row: VersionRow| {
        let fate = fate(&row, &mut kept);
        judged(row, fate)
    };
    Ok(Some(rows.into_iter().map(judge).collect()))
}

fn judged(row: VersionRow, fate: Fate) -> Judged {
    Judged { volume: row.volume, version: row.version, created: row.created, stored: row.stored, fate }
}

fn as_held(row: &VersionRow, record: &VolumeRecord) -> Held {
    Held {
        version: row.version.clone(),
        generation: row.generation,
        created: row.created,
        good: row.verified && row.damaged.is_none() && !record.damaged.contains_key(&row.version),
        pinned: row.pinned || record.pins.contains_key(&row.version),
        locked_until: record.locks.get(&row.version).copied(),
    }
}

async fn delete(app: &App, vault: &Vault, one: &Judged, actor: &str) -> Result<Fate, Problem> {
    let (catalog, now) = (app.catalog(), app.local_time().timestamp());
    tolerate_missing_row(catalog.set_deleting(&one.volume, &one.version, Some(Timestamp::now())).await)?;
    let done = {
        let (vault, volume, version) = (vault.clone(), one.volume.clone(), one.version.clone());
        blocking(move || vault.delete(&volume, &version, now)).await?
    };
    let name = named(&one.volume, &one.version);
    match done {
        Ok(()) => {}
        // Somebody was faster, or it was lost: the row is an alarm then, and no deletion of ours.
        Err(error @ (VaultError::NoVersion { .. } | VaultError::NoVolume { .. })) => {
            tolerate_missing_row(catalog.set_deleting(&one.volume, &one.version, None).await)?;
            return Ok(Fate::Stays(error.to_string()));
        }
        // It went, and only what is left of it in the trash could not be removed: that is swept later.
        Err(error) if is_gone(vault, one).await? => {
            let why = stackferry_transfer::describe(&error);
            tracing::warn!(version = name, why, "what is left of a deleted version is removed later");
        }
        Err(error) => {
            tolerate_missing_row(catalog.set_deleting(&one.volume, &one.version, None).await)?;
            let why = stackferry_transfer::describe(&error);
            if !error.is_busy() && !error.is_protected() {
                tracing::error!(version = name, why, "a version could not be deleted");
            }
            return Ok(Fate::Stays(why));
        }
    }
    tolerate_missing_row(catalog.remove_version(&one.volume, &one.version).await)?;
    let detail = json!({ "created": one.created, "stored": one.stored, "why": "retention" });
    catalog.audit(AuditAction::VersionDeleted, actor, &name, &detail).await?;
    Ok(Fate::Deleted)
}

async fn is_gone(vault: &Vault, one: &Judged) -> Result<bool, Problem> {
    let (vault, volume, version) = (vault.clone(), one.volume.clone(), one.version.clone());
    let opened = blocking(move || vault.version(&volume, &version).map(drop)).await?;
    Ok(opened.is_err_and(|error| error.is_not_found()))
}
