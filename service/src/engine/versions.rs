//! What is done with versions that exist: reading them back, making the catalog anew from them.

use std::num::NonZeroUsize;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use stackferry_catalog::AuditAction;
use stackferry_transfer::Progress;
use stackferry_vault::{Damage, Vault, VersionEntry};
use stackferry_volume::{VersionId, VolumeId};

use super::find;
use super::finding::{Found, VersionFinding, of_damaged};
use crate::app::{self, Adopted, App, blocking, vault_volumes};
use crate::problem::Problem;

/// What reading versions back came to.
#[derive(Debug, Default)]
pub struct Verified {
    /// The versions that were read, and what is wrong with each.
    pub versions: Vec<(VolumeId, VersionId, Vec<Damage>)>,
    /// What that means, and what to do about it.
    pub findings: Vec<VersionFinding>,
}

/// A version's name as commands take it.
#[must_use]
pub fn named(volume: &VolumeId, version: &VersionId) -> String {
    format!("{volume}@{version}")
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

/// The newest version of a volume that can be relied on, or the newest at all where none can.
///
/// # Errors
/// `no_such_version`; the vault's.
pub async fn newest(app: &App, volume: &VolumeId) -> Result<VersionId, Problem> {
    let entries = list(app, volume).await?;
    let good = entries.iter().rev().find(|entry| entry.is_good());
    let newest = good.or(entries.last()).map(|entry| entry.id.clone());
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
    let mut versions: Vec<(VolumeId, VersionId)> = Vec::new();
    let volumes = match what {
        None => {
            let reading = vault.clone();
            let all = blocking(move || reading.volumes()).await??;
            if let Some(problem) = all.problems.first() {
                let message = format!("{}: {}", problem.path.display(), problem.why);
                tracing::error!(message, "a folder of the vault can't be read");
            }
            all.volumes.into_iter().map(|record| record.id).collect()
        }
        Some(text) => {
            let (volume, version) = find::volume_and_version(app, text).await?;
            match version {
                Some(version) => {
                    versions.push((volume, version));
                    Vec::new()
                }
                None => vec![volume],
            }
        }
    };
    for volume in volumes {
        versions.extend(list(app, &volume).await?.into_iter().map(|entry| (volume.clone(), entry.id)));
    }
    let mut verified = Verified::default();
    for (volume, version) in versions {
        let damage = verify_one(app, &vault, &volume, &version, actor, &progress).await?;
        verified.versions.push((volume, version, damage));
    }
    verified.findings = of_damaged(app, &verified.versions).await?;
    let damaged = verified.versions.iter().filter(|(_, _, damage)| !damage.is_empty()).count();
    let detail = json!({ "versions": verified.versions.len(), "damaged": damaged });
    app::note(app.catalog(), AuditAction::Verified, actor, what.unwrap_or("all"), &detail).await;
    Ok(verified)
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
                    let file = stackferry_volume::manifest::MANIFEST_NAME.to_owned();
                    let damage = Damage { file, block: None, why: stackferry_transfer::describe(&error) };
                    let found = Found::new(std::slice::from_ref(&damage), None);
                    return Ok((vec![damage], 0, found, Ok(())));
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
            let found = Found::new(&damage, Some(opened.manifest()));
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
    found: &Found,
) -> Result<(), Problem> {
    let catalog = app.catalog();
    let name = named(volume, version);
    if let Some(first) = damage.first() {
        let detail = json!({ "first": first.to_string(), "findings": damage.len() });
        catalog.audit(AuditAction::DamageFound, actor, &name, &detail).await?;
        tolerate_missing_row(catalog.mark_damaged(volume, version, &first.to_string()).await)?;
        catalog.keep_damage(volume, version, &serde_json::to_value(found).unwrap_or_default()).await?;
    } else {
        tolerate_missing_row(catalog.set_verified(volume, version, Timestamp::now(), true).await)?;
    }
    Ok(())
}

/// Why a row is marked as damaged whose version is not there.
pub(crate) const MISSING: &str = "the vault does not have this version";

/// A version that only the vault knows is checked all the same; the next start gives it its row.
pub(crate) fn tolerate_missing_row(result: Result<(), stackferry_catalog::CatalogError>) -> Result<(), Problem> {
    match result {
        Err(stackferry_catalog::CatalogError::NoSuchVersion { .. }) => Ok(()),
        other => Ok(other?),
    }
}

/// Makes the catalog anew from the vault.
///
/// # Errors
/// The vault's and the catalog's.
pub async fn rebuild(app: &App) -> Result<Adopted, Problem> {
    let vault = app.vault().await?;
    let reading = vault.clone();
    let (volumes, found) = blocking(move || vault_volumes(&reading)).await??;
    app.catalog().replace_all(&volumes).await?;
    app.catalog().bind_vault(&vault.id().to_string()).await?;
    Ok(found)
}
