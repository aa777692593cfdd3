//! What is done with versions so that nobody has to: each is read back within `verify.every`, and of each volume the newest
//! good one is opened as a disk within `verify.restore_test`.
//!
//! Which one is next is asked of the catalog: who waits longest. So nothing is planned, and a restart forgets nothing.

use crate::adopt::tested;
use crate::versions::is_lost;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use stackferry_catalog::{AuditAction, CatalogError, JobKind, RestoreTest, VersionRow};
use stackferry_config::Period;
use stackferry_transfer::Progress;
use stackferry_vault::{Damage, VaultError};
use stackferry_volume::content::ContentState;
use stackferry_volume::manifest::MANIFEST_NAME;
use stackferry_volume::{VersionId, VolumeId};

use super::content;
use super::versions::verify_one;
use crate::about::PROGRAM;
use crate::app::App;
use crate::blocking::blocking;
use crate::missing::{MISSING, named};
use stackferry_problem::{Code, Problem};

/// So many of those that wait are told at once: one that can't be read keeps no other waiting.
const MOST: u32 = 100;

/// What is to be done with a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckDue {
    /// `Verify` or `RestoreTest`.
    pub kind: JobKind,
    /// The volume.
    pub volume: VolumeId,
    /// The version.
    pub version: VersionId,
}

/// What is due now, who waits longest first; nothing if everything was looked at in time. Of each kind at most a hundred,
/// and so many `more`: those that the caller leaves alone must not hide the others.
///
/// # Errors
/// The catalog's.
pub async fn due(app: &App, more: usize) -> Result<Vec<CheckDue>, Problem> {
    let (config, catalog) = (&app.config().verify, app.catalog());
    let due = |kind, rows: Vec<VersionRow>| -> Vec<CheckDue> {
        rows.into_iter().map(|row| CheckDue { kind, volume: row.volume, version: row.version }).collect()
    };
    let most = MOST.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
    let mut found = Vec::new();
    // First, since each takes a moment only.
    if let Some(before) = before(config.restore_test) {
        found.extend(due(JobKind::RestoreTest, catalog.longest_untested(before, most).await?));
    }
    if let Some(before) = before(config.every) {
        found.extend(due(JobKind::Verify, catalog.longest_unverified(before, most).await?));
    }
    Ok(found)
}

/// Before when something was last looked at that is due; none where it is never due.
fn before(every: Period) -> Option<Timestamp> {
    let every: Duration = every.duration();
    if every.is_zero() {
        return None;
    }
    Some(Timestamp::now().checked_sub(every).unwrap_or(Timestamp::MIN))
}

/// Reads back a version that is due.
///
/// # Errors
/// `interrupted`; the vault's and the catalog's. Damage is no error: it is recorded.
pub async fn read_back(
    app: &App,
    volume: &VolumeId,
    version: &VersionId,
    progress: &Arc<dyn Progress>,
) -> Result<Vec<Damage>, Problem> {
    let vault = app.vault().await?;
    match verify_one(app, &vault, volume, version, PROGRAM, progress).await {
        Err(problem) if matches!(problem.code, Code::NoSuchVersion | Code::NoSuchVolume) => {
            match is_lost(app, &vault, volume, version).await? {
                true => Ok(vec![Damage { file: MANIFEST_NAME.to_owned(), block: None, why: MISSING.to_owned() }]),
                false => Err(problem),
            }
        }
        other => other,
    }
}

/// Opens a version as a disk, and records what was found.
///
/// # Errors
/// The vault's, where nothing is known of the version for them: it is read by nobody's leave, or not there.
pub async fn restore_test(app: &App, volume: &VolumeId, version: &VersionId) -> Result<RestoreTest, Problem> {
    let (vault, name) = (app.vault().await?, named(volume, version));
    let found = {
        let (vault, volume, version) = (vault.clone(), volume.clone(), version.clone());
        blocking(move || match vault.version(&volume, &version) {
            Ok(opened) => Ok(content::of(&opened).map_err(|error| error.to_string())),
            Err(error) if error.is_damaged() => Ok(Err(stackferry_transfer::describe(&error))),
            Err(error) => Err(error),
        })
        .await?
    };
    let found = match found {
        Err(error @ (VaultError::NoVersion { .. } | VaultError::NoVolume { .. })) => {
            match is_lost(app, &vault, volume, version).await? {
                true => Err(MISSING.to_owned()),
                false => return Err(error.into()),
            }
        }
        other => other?,
    };
    let test = tested(Timestamp::now(), found);
    match app.catalog().set_restore_tested(volume, version, &test).await {
        Err(CatalogError::NoSuchVersion { .. }) => {}
        other => other?,
    }
    app.metrics().restore_tested(test.ok);
    let content = test.content.map(ContentState::as_str);
    let detail = json!({ "ok": test.ok, "found": test.found, "content": content });
    app.catalog().audit(AuditAction::RestoreTested, PROGRAM, &name, &detail).await?;
    Ok(test)
}
