//! Brings the catalog, which is an index, in line with the vault, which is the truth: at the start, since a crash between
//! a commit and its row leaves a version without one.
//!
//! A version without a row gets one. A row without its version is told and marked as damaged, so that nobody takes its
//! volume for protected; nothing is ever deleted for it. Only the names of folders are compared first: manifests are read
//! where they differ.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use serde_json::json;
use stackferry_catalog::{AuditAction, CatalogError, VersionRow};
use stackferry_vault::{Vault, VaultError, VolumeRecord};
use stackferry_volume::{VersionId, VolumeId};

use crate::app::{App, PROGRAM, blocking, vault_volume};
use crate::engine::versions::{MISSING, tolerate_missing_row};
use crate::problem::Problem;

/// What was brought in line.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reconciled {
    /// Versions that got their row.
    pub adopted: u64,
    /// Rows whose version the vault does not have, and that were not known as such.
    pub missing: Vec<(VolumeId, VersionId)>,
}

/// Compares catalog and vault, and brings the catalog in line.
///
/// # Errors
/// The catalog's; the vault's folder of volumes can't be read. What can't be read of one volume is logged, and nothing is
/// concluded from it.
pub async fn reconcile(app: &App, vault: &Vault) -> Result<Reconciled, Problem> {
    // The rows first: a version that is committed meanwhile is one that the vault has and they have not, and its maker
    // holds the volume's lease until its row is there.
    let mut rows: BTreeMap<VolumeId, BTreeSet<VersionId>> = BTreeMap::new();
    for row in app.catalog().all_versions().await? {
        rows.entry(row.volume).or_default().insert(row.version);
    }
    let listing = vault.clone();
    let records = blocking(move || list(&listing)).await??;
    let mut volumes: BTreeMap<VolumeId, Option<VolumeRecord>> =
        rows.keys().map(|volume| (volume.clone(), None)).collect();
    let mut same = BTreeSet::new();
    for (record, names) in records {
        if rows.get(&record.id).unwrap_or(&BTreeSet::new()) == &names {
            same.insert(record.id.clone());
        }
        volumes.insert(record.id.clone(), Some(record));
    }
    let mut done = Reconciled::default();
    for (volume, record) in volumes.into_iter().filter(|(volume, _)| !same.contains(volume)) {
        one(app, vault, &volume, record, &mut done).await?;
    }
    Ok(done)
}

/// The vault's volumes with the names of their versions.
fn list(vault: &Vault) -> Result<Vec<(VolumeRecord, BTreeSet<VersionId>)>, VaultError> {
    let all = vault.volumes()?;
    for problem in &all.problems {
        tracing::error!(path = %problem.path.display(), "a folder of the vault can't be read: {}", problem.why);
    }
    // A folder that can't be listed here differs from its rows, and is looked at more closely.
    let listed = all.volumes.into_iter().map(|record| {
        let names = names(vault, &record.id).unwrap_or_default();
        (record, names)
    });
    Ok(listed.collect())
}

fn names(vault: &Vault, volume: &VolumeId) -> io::Result<BTreeSet<VersionId>> {
    let folder = vault.path().join("volumes").join(volume.kind().as_str()).join(volume.folder().as_str());
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        names.extend(entry?.file_name().to_str().and_then(|name| name.parse::<VersionId>().ok()));
    }
    Ok(names)
}

/// One volume whose rows differ from its folders, under its lease: nobody adds a version meanwhile.
async fn one(
    app: &App,
    vault: &Vault,
    volume: &VolumeId,
    record: Option<VolumeRecord>,
    done: &mut Reconciled,
) -> Result<(), Problem> {
    let lease = match app.catalog().hold_lease(&format!("volume/{volume}"), PROGRAM, Duration::ZERO).await {
        Ok(lease) => lease,
        // Somebody works on it, and adds the row himself.
        Err(CatalogError::LeaseBusy(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let result = under_lease(app, vault, volume, record, done).await;
    if let Err(error) = lease.release().await {
        tracing::warn!(%volume, error = %stackferry_transfer::describe(&error), "a lease could not be given back");
    }
    result
}

async fn under_lease(
    app: &App,
    vault: &Vault,
    volume: &VolumeId,
    record: Option<VolumeRecord>,
    done: &mut Reconciled,
) -> Result<(), Problem> {
    let (reading, id) = (vault.clone(), volume.clone());
    let read = blocking(move || match reading.versions(&id) {
        // Without its record there may still be versions in its folder.
        Err(error) if error.is_not_found() => match names(&reading, &id) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(Vec::new())),
            Ok(names) if names.is_empty() => Ok(Some(Vec::new())),
            _ => Ok(None),
        },
        other => other.map(Some),
    })
    .await?;
    let entries = match read {
        Ok(Some(entries)) => entries,
        Ok(None) => {
            tracing::error!(%volume, "its folder in the vault has lost its volume.json");
            return Ok(());
        }
        Err(error) => {
            tracing::error!(%volume, error = %stackferry_transfer::describe(&error), "its versions in the vault can't be read");
            return Ok(());
        }
    };
    let rows = app.catalog().versions(volume).await?;
    if let Some(record) = record {
        let added = app.catalog().adopt(&vault_volume(&record, &entries)).await?;
        if added > 0 {
            tracing::info!(%volume, versions = added, "versions that the catalog did not know are adopted");
        }
        done.adopted += added;
    }
    let lost = |row: &&VersionRow| !entries.iter().any(|entry| entry.id == row.version);
    // Their deletion was cut short after the vault had done it.
    for row in rows.iter().filter(lost).filter(|row| row.deleting.is_some()) {
        tolerate_missing_row(app.catalog().remove_version(volume, &row.version).await)?;
    }
    let lost = rows.iter().filter(lost).filter(|row| row.deleting.is_none() && row.damaged.is_none());
    for row in lost {
        let subject = format!("{volume}@{}", row.version);
        tracing::error!(version = subject, "the catalog lists a version that the vault does not have");
        app.catalog().audit(AuditAction::DamageFound, PROGRAM, &subject, &json!({ "why": MISSING })).await?;
        tolerate_missing_row(app.catalog().mark_damaged(volume, &row.version, MISSING).await)?;
        done.missing.push((volume.clone(), row.version.clone()));
    }
    Ok(())
}
