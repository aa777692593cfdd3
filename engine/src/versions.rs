//! What is done with versions that exist: reading them back, making the catalog anew from them.

use crate::missing::MISSING;
use crate::missing::named;
use crate::missing::tolerate_missing_row;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use stackferry_catalog::{AuditAction, CatalogError};
use stackferry_transfer::Progress;
use stackferry_vault::{Damage, Vault, VaultError, VersionEntry};
use stackferry_volume::manifest::MANIFEST_NAME;
use stackferry_volume::{ManifestError, VersionId, VolumeId};

use super::find;
use super::finding::{DamageFound, VersionFinding, of_damaged};
use super::reconcile::{self, Reconciled};
use crate::adopt::{Adopted, vault_volumes};
use crate::app::App;
use crate::blocking::blocking;
use stackferry_problem::{Code, Problem};

/// What reading versions back came to.
#[derive(Debug, Default)]
pub struct Verified {
    /// The versions that were read, and what is wrong with each.
    pub versions: Vec<(VolumeId, VersionId, Vec<Damage>)>,
    /// What that means, and what to do about it.
    pub findings: Vec<VersionFinding>,
    /// Versions that the catalog lists and the vault does not have.
    pub missing: Vec<(VolumeId, VersionId)>,
    /// What could not be read, or was found to be lost beside the versions themselves, and why.
    pub unreadable: Vec<(String, String)>,
}

/// The versions of a volume, oldest first, from the vault.
///
/// # Errors
/// The vault's; a volume without versions has none.
pub async fn list(app: &App, volume: &VolumeId) -> Result<Vec<VersionEntry>, Problem> {
    let (vault, volume) = (app.vault().await?, volume.clone());
    match blocking(move || vault.versions(&volume)).await? {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        other => Ok(other?),
    }
}

/// The newest version of a volume that can be relied on, or the newest at all where none can. Where the disk lost its file
/// system (an incident) the version before that is the one that can.
///
/// # Errors
/// `no_such_version`; the vault's.
pub async fn newest(app: &App, volume: &VolumeId) -> Result<VersionId, Problem> {
    let entries = list(app, volume).await?;
    let content = |entry: &VersionEntry| entry.summary.as_ref().ok().and_then(|summary| summary.content.clone());
    let lost_its_content = |entry: &&VersionEntry| {
        let is_incident = entry.summary.as_ref().is_ok_and(|summary| summary.incident.is_some());
        let Some(own) = content(entry).filter(|own| is_incident && own.can_be_lost()) else { return false };
        let earlier = entries.iter().filter(|before| before.id.seq() < entry.id.seq());
        earlier.filter_map(content).any(|before| own.lost_since(&before).is_some())
    };
    let mut good = entries.iter().rev().filter(|entry| entry.is_good());
    let newest_good = good.clone().find(|entry| !lost_its_content(entry)).or_else(|| good.next());
    let newest = newest_good.or(entries.last()).map(|entry| entry.id.clone());
    newest.ok_or_else(|| Problem::no_such_version(volume, None))
}

/// Reads versions back: all, those of one volume, or one.
///
/// # Errors
/// `interrupted`; the vault's. Damage is no error here.
pub async fn verify(
    app: &App,
    what: Option<&str>,
    actor: &str,
    progress: Arc<dyn Progress>,
) -> Result<Verified, Problem> {
    let vault = app.vault().await?;
    let mut verified = Verified::default();
    let mut missing = BTreeSet::new();
    let versions = chosen(app, &vault, what, &mut verified.unreadable, &mut missing).await?;
    for (volume, version) in versions {
        match verify_one(app, &vault, &volume, &version, actor, &progress).await {
            Ok(damage) => verified.versions.push((volume, version, damage)),
            Err(problem) if matches!(problem.code, Code::NoSuchVersion | Code::NoSuchVolume) => {
                // It was deleted since, or it is lost.
                if is_lost(app, &vault, &volume, &version).await? {
                    missing.insert((volume, version));
                }
            }
            Err(problem) if is_of_version(problem.code) => {
                let name = named(&volume, &version);
                tracing::error!(version = name, code = %problem.code, "a version can't be read: {}", problem.message);
                verified.unreadable.push((name, problem.message));
            }
            Err(problem) => return Err(problem),
        }
    }
    verified.missing = missing.into_iter().collect();
    let lost = verified.missing.iter().map(|(volume, version)| (volume.clone(), version.clone(), vec![lost_version()]));
    let judged: Vec<_> = verified.versions.iter().cloned().chain(lost).collect();
    verified.findings = of_damaged(app, &judged).await?;
    let damaged = verified.versions.iter().filter(|(_, _, damage)| !damage.is_empty()).count();
    let mut detail = json!({ "versions": verified.versions.len(), "damaged": damaged });
    if !verified.missing.is_empty() || !verified.unreadable.is_empty() {
        let (missing, unreadable) = (verified.missing.len(), verified.unreadable.len());
        detail = json!({ "versions": verified.versions.len(), "damaged": damaged, "missing": missing, "unreadable": unreadable });
    }
    crate::audit::record(app.catalog(), AuditAction::Verified, actor, what.unwrap_or("all"), &detail).await;
    Ok(verified)
}

/// What is told of a version that is not there.
#[must_use]
pub fn lost_version() -> Damage {
    Damage { file: MANIFEST_NAME.to_owned(), block: None, why: MISSING.to_owned() }
}

/// Whether it is this version that can't be read, and not the vault or the catalog as a whole.
fn is_of_version(code: Code) -> bool {
    matches!(code, Code::PermissionDenied | Code::VaultFailed | Code::RecordDamaged | Code::NewerFormat)
}

/// The volumes whose record in the vault was lost, or that could not be compared.
fn trouble(done: Reconciled) -> impl Iterator<Item = (String, String)> {
    done.rebuilt.into_iter().chain(done.failed).map(|(volume, why)| (volume.to_string(), why))
}

/// The versions that are to be read back. The catalog is brought in line with the vault first: what it lists and the vault
/// does not have is `missing`, and what was wrong with the vault's own records is told.
async fn chosen(
    app: &App,
    vault: &Vault,
    what: Option<&str>,
    unreadable: &mut Vec<(String, String)>,
    missing: &mut BTreeSet<(VolumeId, VersionId)>,
) -> Result<Vec<(VolumeId, VersionId)>, Problem> {
    let (volumes, only) = match what {
        None => {
            let reading = vault.clone();
            let all = blocking(move || reading.volumes()).await??;
            for problem in &all.problems {
                tracing::warn!(path = %problem.path.display(), "the vault holds what can't be read: {}", problem.why);
            }
            match reconcile::reconcile(app, vault).await {
                Ok(done) => unreadable.extend(trouble(done)),
                Err(problem) => {
                    tracing::warn!(code = %problem.code, "the catalog could not be brought in line with the vault: {}", problem.message);
                    let all = all.problems.into_iter();
                    unreadable.extend(all.map(|problem| (problem.path.display().to_string(), problem.why)));
                }
            }
            let mut volumes: BTreeSet<VolumeId> = all.volumes.into_iter().map(|record| record.id).collect();
            volumes.extend(app.catalog().indexed_volumes().await?);
            (volumes.into_iter().collect(), None)
        }
        Some(text) => {
            let (volume, version) = find::volume_and_version(app, text).await?;
            unreadable.extend(trouble(reconcile::volume(app, vault, &volume).await));
            (vec![volume], version)
        }
    };
    let mut versions = Vec::new();
    for volume in volumes {
        let (reading, id) = (vault.clone(), volume.clone());
        let there = match blocking(move || reading.version_names(&id)).await? {
            Ok(there) => there,
            Err(error) => {
                unreadable.push((volume.to_string(), stackferry_transfer::describe(&error)));
                continue;
            }
        };
        let rows = match app.catalog().versions(&volume).await {
            // What the vault holds of it is read back all the same.
            Err(error @ CatalogError::Row { .. }) => {
                let subject = volume.to_string();
                if !unreadable.iter().any(|(known, _)| *known == subject) {
                    unreadable.push((subject, stackferry_transfer::describe(&error)));
                }
                Vec::new()
            }
            rows => rows?,
        };
        let lost = rows.iter().filter(|row| row.deleting.is_none() && !there.contains(&row.version));
        let is_wanted = |version: &VersionId| only.as_ref().is_none_or(|only| only == version);
        let known = missing.len();
        missing.extend(lost.map(|row| (volume.clone(), row.version.clone())).filter(|(_, version)| is_wanted(version)));
        let own: Vec<_> = there.into_iter().filter(&is_wanted).collect();
        if let (Some(only), true, true) = (&only, own.is_empty(), missing.len() == known) {
            return Err(Problem::no_such_version(&volume, Some(only)));
        }
        versions.extend(own.into_iter().map(|version| (volume.clone(), version)));
    }
    Ok(versions)
}

/// Reads one version back, and records what was found where it counts. `actor` is for the audit.
///
/// # Errors
/// As of [`verify`].
pub(crate) async fn verify_one(
    app: &App,
    vault: &Vault,
    volume: &VolumeId,
    version: &VersionId,
    actor: &str,
    progress: &Arc<dyn Progress>,
) -> Result<Vec<Damage>, Problem> {
    let (damage, bytes, found, marked) = {
        let (vault, volume, version) = (vault.clone(), volume.clone(), version.clone());
        let (cancel, progress) = (app.cancel().clone(), Arc::clone(progress));
        blocking(move || {
            let opened = match vault.version(&volume, &version) {
                Ok(opened) => opened,
                // The manifest can't be believed: that is damage to the version as a whole.
                Err(error) if error.is_damaged() => {
                    // A newer program may read it.
                    let is_newer =
                        matches!(&error, VaultError::ManifestDamaged { source: ManifestError::Format(_), .. });
                    let why = stackferry_transfer::describe(&error);
                    let marked = match is_newer {
                        true => Ok(()),
                        false => vault.mark_damaged(&volume, &version, &why, Timestamp::now()),
                    };
                    let file = stackferry_volume::manifest::MANIFEST_NAME.to_owned();
                    let damage = Damage { file, block: None, why };
                    let found = DamageFound::new(std::slice::from_ref(&damage), None);
                    return Ok((vec![damage], 0, found, marked));
                }
                Err(error) => return Err(error),
            };
            let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
            let mut before = 0;
            let mut tell = |done: u64| {
                progress.done(done.saturating_sub(before));
                before = done;
            };
            let damage = opened.verify(threads, &mut tell, &cancel)?;
            let marked = match damage.first() {
                // Marked where the truth is: a version that is known to be damaged is never taken for a good one.
                Some(first) => vault.mark_damaged(&volume, &version, &first.to_string(), Timestamp::now()),
                None => vault.clear_damage(&volume, &version),
            };
            let found = DamageFound::new(&damage, Some(opened.manifest()));
            Ok((damage, before, found, marked))
        })
        .await??
    };
    app.metrics().verified(damage.is_empty(), bytes);
    let name = named(volume, version);
    app.recorded(&name, record(app, volume, version, actor, &damage, &found).await)?;
    app.recorded(&name, marked)?;
    Ok(damage)
}

/// Records in the catalog what reading a version back found.
async fn record(
    app: &App,
    volume: &VolumeId,
    version: &VersionId,
    actor: &str,
    damage: &[Damage],
    found: &DamageFound,
) -> Result<(), Problem> {
    let catalog = app.catalog();
    let name = named(volume, version);
    if let Some(first) = damage.first() {
        let detail = json!({ "first": first.to_string(), "findings": damage.len() });
        catalog.audit(AuditAction::DamageFound, actor, &name, &detail).await?;
        tolerate_missing_row(catalog.mark_damaged(volume, version, &first.to_string()).await)?;
        catalog.record_damage(volume, version, &serde_json::to_value(found).unwrap_or_default()).await?;
    } else {
        tolerate_missing_row(catalog.set_verified(volume, version, Timestamp::now(), true).await)?;
    }
    Ok(())
}

/// How long a rebuild waits for somebody who works on a volume.
const REBUILD_WAIT: Duration = Duration::from_secs(10);

/// Makes the catalog anew from the vault, volume by volume, each under its lease: beside a running service nothing that it
/// commits or deletes meanwhile is lost or comes back. Rows of versions that the vault does not have go. Gives what was found,
/// and the volumes that were left as they were since somebody works on them.
///
/// # Errors
/// The vault's and the catalog's; `interrupted`.
pub async fn rebuild(app: &App) -> Result<(Adopted, Vec<VolumeId>), Problem> {
    let vault = app.vault().await?;
    let reading = vault.clone();
    let (volumes, mut found) = blocking(move || vault_volumes(&reading)).await??;
    let mut all: BTreeSet<VolumeId> = volumes.into_iter().map(|volume| volume.id).collect();
    all.extend(app.catalog().indexed_volumes().await?);
    let done = reconcile::thoroughly(app, &vault, all, REBUILD_WAIT).await?;
    found.damaged.extend(done.failed.into_iter().map(|(volume, why)| (volume.to_string(), why)));
    let missing = done.missing.iter().map(|(volume, version)| (named(volume, version), MISSING.to_owned()));
    found.damaged.extend(missing);
    Ok((found, done.busy))
}

/// Whether a version that is not in the vault is lost, after the catalog was brought in line: it may have been deleted.
///
/// # Errors
/// The catalog's.
pub(crate) async fn is_lost(app: &App, vault: &Vault, volume: &VolumeId, version: &VersionId) -> Result<bool, Problem> {
    reconcile::volume(app, vault, volume).await;
    let rows = app.catalog().versions(volume).await?;
    Ok(rows.iter().any(|row| row.version == *version && row.deleting.is_none()))
}
