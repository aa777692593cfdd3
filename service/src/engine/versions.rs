//! What is done with versions that exist: reading them back, putting them back, making the catalog anew from them.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use stackferry_catalog::{AuditAction, Trigger};
use stackferry_config::Route;
use stackferry_transfer::Progress;
use stackferry_vault::{Damage, RestoreReport, Vault, VersionEntry};
use stackferry_volume::{VersionId, VolumeId};

use super::{find, steps};
use crate::app::{Adopted, App, blocking, vault_volumes};
use crate::problem::{Code, Problem};

/// What reading versions back came to.
#[derive(Debug, Default)]
pub struct Verified {
    /// The versions that were read, and what is wrong with each.
    pub versions: Vec<(VolumeId, VersionId, Vec<Damage>)>,
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

/// Reads versions back: all, those of one volume, or one.
///
/// # Errors
/// `interrupted`; the vault's. Damage is no error here.
pub async fn verify(app: &App, what: Option<&str>, progress: Arc<dyn Progress>) -> Result<Verified, Problem> {
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
        let damage = verify_one(app, &vault, &volume, &version, &progress).await?;
        verified.versions.push((volume, version, damage));
    }
    Ok(verified)
}

async fn verify_one(
    app: &App,
    vault: &Vault,
    volume: &VolumeId,
    version: &VersionId,
    progress: &Arc<dyn Progress>,
) -> Result<Vec<Damage>, Problem> {
    let damage = {
        let (vault, volume, version) = (vault.clone(), volume.clone(), version.clone());
        let (cancel, progress) = (app.cancel().clone(), Arc::clone(progress));
        blocking(move || {
            let opened = match vault.version(&volume, &version) {
                Ok(opened) => opened,
                // The manifest can't be believed: that is damage to the version as a whole.
                Err(error) if error.is_damaged() => {
                    let file = stackferry_volume::manifest::MANIFEST_NAME.to_owned();
                    return Ok(vec![Damage { file, block: None, why: stackferry_transfer::describe(&error) }]);
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
            match damage.first() {
                // Marked where the truth is: a version that is known to be damaged is never taken for a good one.
                Some(first) => vault.mark_damaged(&volume, &version, &first.to_string(), Timestamp::now())?,
                None => vault.clear_damage(&volume, &version)?,
            }
            Ok(damage)
        })
        .await??
    };
    let catalog = app.catalog();
    let name = named(volume, version);
    if let Some(first) = damage.first() {
        let detail = json!({ "first": first.to_string(), "findings": damage.len() });
        catalog.audit(AuditAction::DamageFound, "command", &name, &detail).await?;
        tolerate_missing_row(catalog.mark_damaged(volume, version, &first.to_string()).await)?;
    } else {
        tolerate_missing_row(catalog.set_verified(volume, version, Timestamp::now(), true).await)?;
    }
    Ok(damage)
}

/// A version that only the vault knows is checked all the same; the next start gives it its row.
fn tolerate_missing_row(result: Result<(), stackferry_catalog::CatalogError>) -> Result<(), Problem> {
    match result {
        Err(stackferry_catalog::CatalogError::NoSuchVersion { .. }) => Ok(()),
        other => Ok(other?),
    }
}

/// What putting a version back did.
#[derive(Debug)]
pub struct Restored {
    /// The volume.
    pub volume: VolumeId,
    /// The version.
    pub version: VersionId,
    /// The files, as they lie in the folder.
    pub files: Vec<String>,
    /// Their lengths, and what was written.
    pub report: RestoreReport,
    /// How long it took.
    pub took: Duration,
    /// What a person does next in App Volumes.
    pub next_steps: Vec<String>,
}

/// Where a version is put back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The folder here.
    pub folder: PathBuf,
    /// The datastore that it belongs to, where one was named.
    pub datastore: Option<String>,
}

/// The folder that `--to` means: one of this machine, or, as `datastore:NAME/FOLDER`, one of a datastore that is mounted
/// here.
///
/// # Errors
/// The working folder is gone; there is no such datastore; it is not one that is written to from here: what to do by hand.
pub fn destination(app: &App, to: &Path, overwrite: bool) -> Result<Destination, Problem> {
    let Some(named) = to.to_str().and_then(|text| text.strip_prefix("datastore:")) else {
        return Ok(Destination { folder: absolute(to)?, datastore: None });
    };
    let (name, folder) = named.split_once('/').unwrap_or((named, ""));
    let wrong = |text: String| Problem::new(Code::Usage, text).subject(named);
    let mut found = app.config().datastores.iter().filter(|datastore| datastore.name.as_str() == name);
    let datastore = found.next().ok_or_else(|| {
        wrong(format!("no datastore is named {name}")).hint("name one of the [[datastore]] of the configuration")
    })?;
    if found.next().is_some() {
        return Err(wrong(format!("several sites have a datastore {name}")).hint("name the folder where it is mounted"));
    }
    if overwrite {
        return Err(wrong("nothing on a datastore is overwritten".to_owned())
            .hint("restore beside it, under a folder of its own; exchange the files by hand"));
    }
    let parts = Path::new(folder).components();
    if folder.is_empty() || !parts.into_iter().all(|part| matches!(part, std::path::Component::Normal(_))) {
        return Err(wrong(format!("`{folder}` is no folder of a datastore"))
            .hint("write it as datastore:NAME/FOLDER, as datastore:nfs01/restored"));
    }
    match &datastore.route {
        Route::Local(local) => Ok(Destination { folder: local.path.join(folder), datastore: Some(name.to_owned()) }),
        other => Err(Problem::new(Code::Refused, format!("{name} is reached by route `{}`, which only reads", other.kind()))
            .subject(name)
            .hint(format!(
                "restore with --to DIR, then put the files into [{name}] {folder} by the datastore browser, or by scp or cp on \
                 a machine that mounts it; `restore` tells what follows in App Volumes"
            ))),
    }
}

/// Puts a version back into a folder: the one that is named, else the newest that can be relied on.
///
/// # Errors
/// `no_such_version`, `exists`, `damaged`, `no_space`, `interrupted`; the vault's.
pub async fn restore(
    app: &App,
    text: &str,
    to: &Path,
    overwrite: bool,
    progress: Arc<dyn Progress>,
) -> Result<Restored, Problem> {
    let began = Instant::now();
    // First of all: a vault that the catalog does not know yet is taken into it, and then the volume is known.
    let vault = app.vault().await?;
    let (volume, version) = find::volume_and_version(app, text).await?;
    let version = match version {
        Some(version) => version,
        None => {
            let entries = list(app, &volume).await?;
            let good = entries.iter().rev().find(|entry| entry.is_good());
            let last = good.or(entries.last()).map(|entry| entry.id.clone());
            last.ok_or_else(|| Problem::no_such_version(&volume, None))?
        }
    };
    let (files, report, next_steps) = {
        let (volume, version, to, cancel) = (volume.clone(), version.clone(), to.to_path_buf(), app.cancel().clone());
        blocking(move || {
            let opened = vault.version(&volume, &version)?;
            let mut before = 0;
            let mut tell = |done: u64| {
                progress.done(done.saturating_sub(before));
                before = done;
            };
            let report = opened.restore(&to, overwrite, &mut tell, &cancel)?;
            let files = opened.manifest().files.iter().map(|file| file.name.to_string()).collect::<Vec<_>>();
            let next_steps = steps::after_restore(opened.manifest());
            Ok::<_, stackferry_vault::VaultError>((files, report, next_steps))
        })
        .await??
    };
    let name = named(&volume, &version);
    let detail = json!({ "to": to.display().to_string(), "bytes": report.bytes });
    app.catalog().audit(AuditAction::Restored, &Trigger::Command.to_string(), &name, &detail).await?;
    Ok(Restored { volume, version, files, report, took: began.elapsed(), next_steps })
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

/// The folder that a person named, as an absolute path.
///
/// # Errors
/// The working folder is gone.
pub fn absolute(path: &Path) -> Result<PathBuf, Problem> {
    std::path::absolute(path).map_err(|error| Problem::io("find", path.display(), &error))
}
